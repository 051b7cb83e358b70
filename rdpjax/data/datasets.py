"""The data sets that commands know by name: how each is opened and how its files are written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rdpjax.data import cardio
from rdpjax.data.forms import Form, PatientForm, TableForm
from rdpjax.data.simulate import simulate_cardio
from rdpjax.data.stays.patient_files import read_patients
from rdpjax.data.stays.patient_release import write_patients
from rdpjax.data.stays.patient_table import Label
from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import COLUMNS, MISSING, SEPARATOR, VARIABLES, readable
from rdpjax.data.stays.simulate_sepsis import simulated_table
from rdpjax.errors import UserError, nearest
from rdpjax.io.atomic import write_file
from rdpjax.io.delimited import parse_table, read_table, verbatim
from rdpjax.io.layout import Layout
from rdpjax.io.table_file import table_file


@dataclass(frozen=True)
class Reading:
    """How files are read: what a user can say about them.

    Attributes:
      age_unit: of the age column.
      height_unit: of the height column.
      recursive: look for a patient's file in a folder's folders too.
      skip_bad: go on without files that cannot be read.
      folder_ids: a patient's id names the folders of its file too.
    """

    age_unit: cardio.AgeUnit = "auto"
    height_unit: cardio.HeightUnit = "auto"
    recursive: bool = False
    skip_bad: bool = False
    folder_ids: bool = False


@dataclass(frozen=True)
class Source:
    """Private records as they were found.

    Attributes:
      records: canonical records, a frame or patients.
      keys: what a record is kept out by: its id, or its text.
      format: the file's format, declared public.
      origin: "file" or "simulated".
      notes: what the curator should hear; may come from the data.
      fingerprint: hash of the content; internal.
      keep: writes the records of a mask, as they stood, in a folder: the hold-out.
      facts: exact figures of what was read; internal.
    """

    records: Any
    keys: Sequence[str]
    format: Mapping[str, Any]
    origin: str
    notes: tuple[str, ...]
    fingerprint: str
    keep: Callable[[np.ndarray, Path], object]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Output:
    """What is written where generated records go.

    Attributes:
      rows: how many records.
      format: the file's format.
      derived: columns to append.
      hours: how many hours are modelled.
      medians: of every variable, to fill cells with that were not measured; None writes no such
        file.
      overwrite: replace an older file.
    """

    rows: int
    format: Mapping[str, Any]
    derived: Sequence[Any] = ()
    hours: int = 24
    medians: np.ndarray | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Dataset:
    """One data set.

    Attributes:
      form: how its records become a table, given the modelled hours and the label.
      derived: columns that can be appended to a release.
      open: from a path (None: look in the usual places, else simulate), the environment, how to
        read, a private folder for caches, and who hears of progress.
      take: the records of a mask.
      write: generated records, block by block, to a file or into a folder.
      file: what a release calls it, if `write` writes a single file.
    """

    form: Callable[[int, Label], Form]
    derived: tuple[str, ...]
    open: Callable[..., Source]
    take: Callable[[Any, np.ndarray], Any]
    write: Callable[[Path, Iterable[Any], Output], None]
    file: str | None = None


def open_cardio(
    path: Path | None,
    environ: Mapping[str, str],
    reading: Reading,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Source:
    """The cardio table from a file, or the simulated cohort where there is none."""
    found = cardio.find_cardio(path, environ)
    if found is None:
        table = parse_table(simulate_cardio().encode(), "simulated cohort")
    else:
        table = read_table(found)
    records = cardio.parse_cardio(table, age_unit=reading.age_unit, height_unit=reading.height_unit)
    digest = hashlib.blake2b(table.header_text.encode(), digest_size=16)
    for block in table.texts.blocks():
        digest.update("\n".join(["", *block]).encode())
    # Only the texts: the cells as strings would stay in memory all through the training.
    text = partial(verbatim, table.header_text, table.texts)

    def keep(mask: np.ndarray, folder: Path) -> None:
        write_file(folder / "holdout.csv", text(mask))

    return Source(
        records=records.frame,
        keys=records.keys,
        format=records.layout.to_dict(),
        origin="simulated" if found is None else "file",
        notes=tuple(records.notes),
        fingerprint=digest.hexdigest(),
        keep=keep,
    )


def write_cardio(path: Path, blocks: Iterable[pd.DataFrame], output: Output) -> None:
    """Stream generated rows to a file with the input's columns, in bounded memory."""
    layout, first = Layout.from_dict(output.format), 1
    with table_file(path, layout.separator, overwrite=output.overwrite) as write:
        for frame in blocks:
            write(cardio.cardio_columns(frame, layout, derived=output.derived, first=first))
            first += len(frame)


def open_sepsis(
    path: Path | None,
    environ: Mapping[str, str],
    reading: Reading,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Source:
    """Patients from a folder or an archive, or a simulated cohort where there is none."""
    named = path or environ.get("RDPJAX_DATA")
    found = Path(named) if named else next((p for p in _USUAL if p.exists()), None)
    if found is None:
        table = simulated_table()
    else:
        table = read_patients(
            found,
            recursive=reading.recursive,
            skip_bad=reading.skip_bad,
            folder_ids=reading.folder_ids,
            cache=cache,
            progress=progress,
        )
    notes = table.notes
    if table.skipped:
        notes = (f"{table.path}: {table.skipped} files could not be read, and were skipped", *notes)
    return Source(
        records=table.patients,
        keys=table.patients.ids,
        format={"separator": SEPARATOR, "missing": MISSING, "columns": list(COLUMNS)},
        origin="simulated" if found is None else "file",
        notes=notes,
        fingerprint=table.fingerprint,
        keep=lambda mask, folder: table.copy_files(mask, folder / "holdout"),
        facts={
            "skipped files": table.skipped,
            "out of bounds": _slips(table.patients),
            "notes": list(table.notes),
        },
    )


_USUAL = tuple(Path(p) for p in ("physionet_sepsis", "data/physionet_sepsis"))
"""Where the original toolkit looks for the challenge's files."""


def _slips(patients: Patients) -> dict[str, dict[str, int]]:
    """How many readings of each variable lie outside its bounds: clipped, or left out."""
    clipped, lost = np.zeros((2, len(VARIABLES)), int)
    for block in patients.blocks():
        kept = readable(block.values)
        clipped += ((kept != block.values) & ~np.isnan(kept)).sum(axis=0)
        lost += (np.isnan(kept) & ~np.isnan(block.values)).sum(axis=0)
    return {
        v.name: {"clipped": int(c), "left out": int(n)}
        for v, c, n in zip(VARIABLES, clipped, lost, strict=True)
        if c or n
    }


def write_sepsis(folder: Path, blocks: Iterable[Patients], output: Output) -> None:
    """Stream generated patients to files, a table and an array, in bounded memory."""
    write_patients(folder, blocks, count=output.rows, hours=output.hours, medians=output.medians)


DATASETS = {
    "cardio": Dataset(
        form=lambda hours, label: TableForm(cardio.CARDIO),
        derived=("bmi", "pp"),
        open=open_cardio,
        take=lambda frame, mask: frame[mask].reset_index(drop=True),
        write=write_cardio,
        file="synthetic.csv",
    ),
    "sepsis": Dataset(
        form=PatientForm,
        derived=(),
        open=open_sepsis,
        take=Patients.take,
        write=write_sepsis,
    ),
}


def find_dataset(name: str) -> Dataset:
    """The data set called `name`; UserError with the nearest name if there is none."""
    if name not in DATASETS:
        raise UserError(
            f"dataset: unknown {name!r}{nearest(name, list(DATASETS))}; "
            f"known are {', '.join(DATASETS)}"
        )
    return DATASETS[name]
