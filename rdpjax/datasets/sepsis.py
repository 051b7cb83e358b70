"""PhysioNet 2019 sepsis: one file per intensive care stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rdpjax.codecs.codec import Codec
from rdpjax.codecs.two_level import PatientEncoding, TwoLevelCodec
from rdpjax.data.stays.crafted import extreme_patients, join_patients, patient_canaries
from rdpjax.data.stays.patient_files import read_patients
from rdpjax.data.stays.patient_release import write_patients
from rdpjax.data.stays.patient_table import Label
from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import COLUMNS, MISSING, SEPARATOR, VARIABLES, readable
from rdpjax.data.stays.simulate_sepsis import simulated_table
from rdpjax.datasets.dataset import Dataset, Evaluation, Output, Settings, Source
from rdpjax.flags import Switch

HELD_OUT = "holdout"


@dataclass(frozen=True)
class SepsisSettings(Settings):
    """Settings of the data set sepsis.

    Attributes:
      max_hours: hours of a patient's stay that are modelled, from its first, 1 to 336.
      label: what makes a patient positive: onset within the modelled hours, or in any hour.
      dense: release the patients' hours with missing values filled in too.
      recursive: look for patients' files in the folder's folders too.
      skip_bad: go on without patients' files that cannot be read.
      folder_ids: make a patient's id from the names of folders and file, where two hospitals number
        alike.
    """

    max_hours: int = 24
    label: Label = "window"
    dense: Switch = False
    recursive: Switch = False
    skip_bad: Switch = False
    folder_ids: Switch = False

    def __post_init__(self) -> None:
        TwoLevelCodec(self.max_hours, self.label)


def open_sepsis(
    path: Path | None,
    environ: Mapping[str, str],
    settings: SepsisSettings,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Source:
    """Read patients from a folder or an archive, or simulate a cohort where there is none."""
    named = path or environ.get("RDPJAX_DATA")
    found = Path(named) if named else next((p for p in _USUAL if p.exists()), None)
    if found is None:
        table = simulated_table()
    else:
        table = read_patients(
            found,
            recursive=settings.recursive,
            skip_bad=settings.skip_bad,
            folder_ids=settings.folder_ids,
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
        keep=lambda mask, folder: table.copy_files(mask, folder / HELD_OUT),
        facts={
            "skipped files": table.skipped,
            "out of bounds": _slips(table.patients),
            "notes": list(table.notes),
        },
    )


_USUAL = tuple(Path(p) for p in ("physionet_sepsis", "data/physionet_sepsis"))
"""Default places of the challenge's files, as in the original toolkit."""


def _slips(patients: Patients) -> dict[str, dict[str, int]]:
    """Count each variable's readings outside its bounds: clipped, or dropped as absurd."""
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
    assert isinstance(output.encoding, PatientEncoding)
    medians = output.encoding.filling.values.medians if output.settings.dense else None
    write_patients(
        folder, blocks, count=output.rows, hours=output.settings.max_hours, medians=medians
    )


def positive(patients: Patients, codec: Codec) -> np.ndarray:
    """Return the mask of patients with an onset within the modelled hours."""
    assert isinstance(codec, TwoLevelCodec)
    mask: np.ndarray = (patients.onset >= 0) & (patients.onset < codec.hours)
    return mask


def sepsis_evaluation() -> Evaluation:
    """Build the evaluation (scores and figures) of patients."""
    from rdpjax.datasets.sepsis_evaluation import SEPSIS_EVALUATION

    return SEPSIS_EVALUATION


SEPSIS = Dataset(
    codec=lambda settings: TwoLevelCodec(settings.max_hours, settings.label),
    open=open_sepsis,
    take=Patients.take,
    join=join_patients,
    write=write_sepsis,
    crafted=patient_canaries,
    extremes=lambda base, records, codec: extreme_patients(base, records),
    positive=positive,
    evaluation=sepsis_evaluation,
    shares={"values": 0.08, "profiles": 0.06, "marginals": 0.12},
    settings=SepsisSettings,
    released="psv",
    held_out=HELD_OUT,
    noun="patients",
)
