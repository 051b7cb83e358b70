"""Neighbouring data sets, which differ in one record, for any kind of records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rdpjax.codecs.codec import Codec
from rdpjax.datasets.dataset import Dataset


@dataclass(frozen=True)
class Neighbourhood:
    """A data set and its neighbours.

    Attributes:
      base: canonical records.
      added: the base with one record appended, by a word for that record.
      removed: the base without the record at `place`.
      place: an index in the middle.
    """

    base: Any
    added: Mapping[str, Any]
    removed: Any
    place: int


def neighbourhood(records: Any, dataset: Dataset, codec: Codec, most: int) -> Neighbourhood:
    """Make neighbours of at most `most` of the records.

    Up to half are of positive label, as many as there are: a pipeline that refuses a single class
    must run on few records.

    Args:
      records: canonical records of the data set, two or more.
      dataset: takes, joins and crafts records.
      codec: codec of the records.
      most: largest number of records, two or more.

    Examples:
      >>> import pandas as pd
      >>> from rdpjax.datasets.registry import find_dataset
      >>> cardio = find_dataset("cardio")
      >>> codec = cardio.codec(cardio.settings())
      >>> table = cardio.crafted(4, np.random.default_rng(0)).assign(cardio=[0, 0, 0, 1])
      >>> found = neighbourhood(table, cardio, codec, 2)
      >>> found.base["cardio"].tolist(), len(found.removed), list(found.added)
      ([0, 1], 1, ['typical', 'extreme', 'out of range'])
      >>> float(found.added["extreme"]["height"].iloc[-1])
      210.0
    """
    taken, other = _chosen(dataset.positive(records, codec), most)
    base = dataset.take(records, taken)
    typical = {"typical": dataset.take(records, np.array([other]))}
    rows = typical | dict(dataset.extremes(base, records, codec))
    place = len(base) // 2
    removed = dataset.take(base, np.delete(np.arange(len(base)), place))
    added = {what: dataset.join(base, row) for what, row in rows.items()}
    return Neighbourhood(base, added, removed, place)


def _chosen(positive: np.ndarray, most: int) -> tuple[np.ndarray, int]:
    """Return indices of up to `most` records, rising, and that of one more.

    Positive ones first, up to half; if all are taken, the last of them is the one more.
    """
    first = np.flatnonzero(positive)[: most // 2]
    rest = np.setdiff1d(np.arange(len(positive)), first)[: most + 1 - len(first)]
    taken, other = np.sort(np.concatenate([first, rest[:-1]])), int(rest[-1])
    return taken, other
