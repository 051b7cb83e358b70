"""Scores and figures of patients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rdpjax.data.schema import Schema
from rdpjax.data.stays.patient_files import read_patients
from rdpjax.data.stays.patients import Patients
from rdpjax.datasets.dataset import Evaluation, Say
from rdpjax.evaluation import patient_plots
from rdpjax.evaluation.patient_printout import as_patient_table
from rdpjax.evaluation.patients import score_patients
from rdpjax.evaluation.training_rows import training_patients


def _read(path: Path, folder_ids: bool) -> Patients:
    return read_patients(path, folder_ids=folder_ids).patients


def _rest(path: Path, held_out: Patients, folder_ids: bool) -> Patients:
    # Files that the run skipped as bad were not in its training set either.
    source = read_patients(path, skip_bad=True, folder_ids=folder_ids)
    return training_patients(source.patients, held_out)


def _score(synthetic: Patients, real: Patients, train: Patients | None, say: Say) -> dict[str, Any]:
    return score_patients(synthetic, real, real_train=train, progress=say)


def _draw(
    real: Patients, synthetic: Patients, schema: Schema, folder: Path, settings: Any, title: str
) -> None:
    hours = settings.max_hours
    patient_plots.plot_patients(real, synthetic, folder / "patients.png", hours, title)
    patient_plots.plot_missingness(real, synthetic, folder / "missing.png", hours, title)
    patient_plots.plot_patient_densities(real, synthetic, folder / "densities.png", hours, title)
    patient_plots.plot_stays(real, synthetic, folder / "stays.png", title)


SEPSIS_EVALUATION = Evaluation(
    read=_read, rest=_rest, score=_score, show=as_patient_table, draw=_draw, shown=4_000
)
