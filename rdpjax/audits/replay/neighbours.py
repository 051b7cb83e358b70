"""Data sets that differ in one record, for any kind of records."""

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
      added: the base with one record more, at its end, by what that record is.
      removed: the base without the record at `place`.
      place: an index in the middle.
    """

    base: Any
    added: Mapping[str, Any]
    removed: Any
    place: int


def neighbourhood(records: Any, dataset: Dataset, codec: Codec, most: int) -> Neighbourhood:
    """Make neighbours of at most `most` of the records.

    As many of those as there are, up to half, are of positive label: few records must do for a
    pipeline that refuses one class.

    Args:
      records: canonical records of the data set, two or more.
      dataset: takes, joins and crafts them.
      codec: of the records.
      most: how many to take, two or more.

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
    """Indices of up to `most` records, rising, and that of one more.

    Positive ones first, up to half; where all are taken, the last of them is the one more.
    """
    first = np.flatnonzero(positive)[: most // 2]
    rest = np.setdiff1d(np.arange(len(positive)), first)[: most + 1 - len(first)]
    taken, other = np.sort(np.concatenate([first, rest[:-1]])), int(rest[-1])
    return taken, other
