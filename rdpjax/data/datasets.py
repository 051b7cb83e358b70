"""The data sets that commands know by name: how each is opened and how its files are written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from rdpjax.data import cardio
from rdpjax.data.layout import Layout
from rdpjax.data.reading import parse_table, read_table, verbatim
from rdpjax.data.schema import Schema
from rdpjax.data.simulate import simulate_cardio
from rdpjax.errors import UserError, nearest


@dataclass(frozen=True)
class Source:
    """Private records as they were found.

    Attributes:
      frame: canonical records.
      keys: what a record is kept out by: its id, or its text.
      layout: the file's format, declared public.
      origin: "file" or "simulated".
      notes: what the curator should hear; may come from the data.
      fingerprint: hash of the content; internal.
      verbatim: the header and the chosen records, as they stood in the file.
    """

    frame: pd.DataFrame
    keys: Sequence[str]
    layout: Layout
    origin: str
    notes: tuple[str, ...]
    fingerprint: str
    verbatim: Callable[[Any], str]


@dataclass(frozen=True)
class Dataset:
    """One data set: its public schema, how it is opened, how its rows are written.

    Attributes:
      schema: public columns.
      derived: columns that can be appended to a release.
      open: from a path (None: look in the usual places, else simulate) and options.
      header: first line of a released file.
      format: rows of a released file.
    """

    schema: Schema
    derived: tuple[str, ...]
    open: Callable[..., Source]
    header: Callable[[Layout, Sequence[Any]], bytes]
    format: Callable[..., bytes]


def open_cardio(
    path: Path | None,
    environ: Mapping[str, str],
    *,
    age_unit: cardio.AgeUnit = "auto",
    height_unit: cardio.HeightUnit = "auto",
) -> Source:
    """The cardio table from a file, or the simulated cohort where there is none."""
    found = cardio.find_cardio(path, environ)
    if found is None:
        table = parse_table(simulate_cardio().encode(), "simulated cohort")
    else:
        table = read_table(found)
    records = cardio.parse_cardio(table, age_unit=age_unit, height_unit=height_unit)
    digest = hashlib.blake2b(table.header_text.encode(), digest_size=16)
    for block in table.texts.blocks():
        digest.update("\n".join(["", *block]).encode())
    return Source(
        frame=records.frame,
        keys=records.keys,
        layout=records.layout,
        origin="simulated" if found is None else "file",
        notes=tuple(records.notes),
        fingerprint=digest.hexdigest(),
        # Only the texts: the cells as strings would stay in memory all through the training.
        verbatim=partial(verbatim, table.header_text, table.texts),
    )


DATASETS = {
    "cardio": Dataset(
        cardio.CARDIO, ("bmi", "pp"), open_cardio, cardio.cardio_header, cardio.format_cardio
    )
}


def find_dataset(name: str) -> Dataset:
    """The data set called `name`; UserError with the nearest name if there is none."""
    if name not in DATASETS:
        raise UserError(
            f"dataset: unknown {name!r}{nearest(name, list(DATASETS))}; "
            f"known are {', '.join(DATASETS)}"
        )
    return DATASETS[name]
