"""Simulated intensive care cohort in the challenge's file format, for runs without files.

Every constant here is a round number chosen by hand from general medical knowledge. Nothing is
fitted to records.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from rdpjax.data.stays.patient_files import PatientTable, read_source
from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.psv_writing import format_patients
from rdpjax.data.stays.sepsis import BOUNDS, LONGEST, STATICS, VARIABLES
from rdpjax.io.archive import Member, Source

BATCH = 500
SHORTEST = 8
MEMORY = 0.9
"""Lag-1 autocorrelation of a reading's deviation."""

# Per variable: usual level, spread between patients, spread within a patient, and change per unit
# of severity.
_EVEN = {
    "HR": (84, 13, 6, 6), "O2Sat": (97, 1.5, 1.2, -0.5), "Temp": (36.9, 0.35, 0.3, 0.2),
    "SBP": (122, 15, 10, -4), "MAP": (82, 10, 7, -4), "DBP": (62, 9, 6, -2.5),
    "Resp": (18, 3, 2.5, 1.5), "EtCO2": (34, 4, 3, -1),
    "BaseExcess": (0, 3, 1.5, -1), "HCO3": (24, 3, 1.2, -0.8), "FiO2": (0.45, 0.12, 0.06, 0.04),
    "pH": (7.38, 0.05, 0.03, -0.01), "PaCO2": (41, 7, 4, 0), "SaO2": (97, 1.5, 1.2, -0.4),
    "Calcium": (8.4, 0.5, 0.2, -0.1), "Chloride": (105, 4, 1.5, 0), "Magnesium": (2, 0.3, 0.1, 0),
    "Potassium": (4.1, 0.4, 0.25, 0), "Hct": (32, 4.5, 1.2, -0.5), "Hgb": (10.7, 1.5, 0.4, -0.2),
}  # fmt: skip
# The same for log-normal variables, on the log scale.
_SKEWED = {
    "AST": (35, 0.8, 0.2, 0.15), "BUN": (20, 0.5, 0.1, 0.15), "Alkalinephos": (80, 0.4, 0.1, 0.1),
    "Creatinine": (1, 0.5, 0.1, 0.15), "Bilirubin_direct": (0.3, 0.8, 0.2, 0.15),
    "Glucose": (130, 0.2, 0.2, 0.05), "Lactate": (1.7, 0.4, 0.2, 0.2),
    "Phosphate": (3.4, 0.25, 0.1, 0.05), "Bilirubin_total": (0.8, 0.7, 0.15, 0.15),
    "TroponinI": (0.1, 1.5, 0.3, 0.2), "PTT": (33, 0.25, 0.1, 0.05), "WBC": (11, 0.35, 0.1, 0.12),
    "Fibrinogen": (280, 0.35, 0.1, 0.05), "Platelets": (200, 0.4, 0.1, -0.05),
}  # fmt: skip
_NAMES = [variable.name for variable in VARIABLES]
_LEVEL, _BETWEEN, _WITHIN, _CHANGE = np.array([(_EVEN | _SKEWED)[name] for name in _NAMES], float).T
_IS_SKEWED = np.array([name in _SKEWED for name in _NAMES])
_STEP = np.array([variable.step for variable in VARIABLES])

# Per panel: share of the patients in whom it is ever measured, and times a day.
_PANELS = {
  "monitor": (1, 24), "temperature": (1, 8), "capnography": (0.1, 18), "gas": (0.35, 3),
  "chemistry": (1, 2), "liver": (0.5, 0.7), "blood": (1, 1.5), "clotting": (0.5, 1),
  "lactate": (0.35, 2), "troponin": (0.25, 1), "glucose": (1, 5),
}  # fmt: skip
_PANEL = np.array([list(_PANELS).index(variable.panel) for variable in VARIABLES])
_LABORATORY = {variable.panel for variable in VARIABLES if variable.kind == "laboratory"}
_DRAWN = np.array([panel in _LABORATORY for panel in _PANELS])

_TIES = {"SBP": "MAP", "DBP": "MAP", "Hgb": "Hct", "Bilirubin_direct": "Bilirubin_total"}
"""Variables that are mostly measured together with another."""


def simulate_sepsis(patients: int = 4000, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Simulate a cohort as files, one a patient.

    Each patient has a latent severity. Heart and breathing rates, temperature, white cells,
    lactate, the frequency of blood samples and the risk of sepsis rise with it, the pressures fall:
    6 % get sepsis, in the last ten hours of their file, a fifth of them from its first hour on.
    Gradient boosting on summaries of the first 24 hours predicts it with an AUROC of about 0.8.

    Args:
      patients: number of patients.
      seed: of the pseudo-random numbers; equal arguments give equal files.

    Yields:
      Name and content, `p000001.psv` first.

    Examples:
      >>> name, content = next(simulate_sepsis(1, seed=1))
      >>> name, content.decode().splitlines()[0][:14]
      ('p000001.psv', 'HR|O2Sat|Temp|')
    """
    for start in range(0, patients, BATCH):
        rng = np.random.default_rng([seed, start])
        batch = _batch(rng, start, min(BATCH, patients - start))
        for id, content in zip(batch.ids, format_patients(batch), strict=True):
            yield f"{id}.psv", content


def simulated_table(patients: int = 4000, seed: int = 0) -> PatientTable:
    """Simulate the cohort and parse it as files would be; its path is None."""
    return read_source(
        Source(None, "simulated cohort: ", patients, partial(_members, patients, seed))
    )


def _members(patients: int, seed: int) -> Iterator[Member]:
    for i, (name, content) in enumerate(simulate_sepsis(patients, seed), start=1):
        yield Member(name, name.removesuffix(".psv"), content, i)


def _batch(rng: np.random.Generator, before: int, patients: int) -> Patients:
    severity = rng.standard_normal(patients)
    first = np.where(rng.random(patients) < 0.9, 1, rng.integers(2, 7, patients))
    stays, onset = _stays(rng, severity, LONGEST + 1 - first)
    starts = np.concatenate([[0], np.cumsum(stays)])
    patient = np.repeat(np.arange(patients), stays)
    row = np.arange(len(patient)) - starts[patient]
    # Severity rises by one unit over half a day, from six hours before the label on.
    worse = np.where(onset[patient] < 0, 0, np.clip((row - onset[patient] + 6) / 12, 0, 1))
    severities = severity[patient] + worse
    values = _values(rng, severities, patient, row)
    values[~_measured(rng, severities, patient, row)] = np.nan
    return Patients(
        values.astype(np.float32),
        starts,
        first.astype(np.int32),
        onset.astype(np.int32),
        _statics(rng, patients),
        tuple(f"p{before + i:06d}" for i in range(1, patients + 1)),
    )


def _stays(
    rng: np.random.Generator, severity: np.ndarray, longest: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the hours of each stay, and the rows before the label turns positive (-1: never)."""
    patients = len(severity)
    ill = rng.random(patients) < 1 / (1 + np.exp(3.5 - 1.4 * severity))
    hours = 38 * np.exp(0.15 * severity + 0.6 * rng.standard_normal(patients))
    at_once = ill & (rng.random(patients) < 0.2)
    hours[at_once] = rng.integers(SHORTEST, 11, at_once.sum())
    stay = np.clip(np.rint(hours).astype(int), SHORTEST, longest)
    positive = np.where(at_once, stay, rng.integers(1, 11, patients))
    return stay, np.where(ill, np.maximum(stay - positive, 0), -1)


def _values(
    rng: np.random.Generator, severities: np.ndarray, patient: np.ndarray, row: np.ndarray
) -> np.ndarray:
    """Draw a value for each hour and variable, `[rows, 34]`, rounded and within the bounds."""
    between = rng.standard_normal((patient[-1] + 1, len(VARIABLES)))
    within = rng.standard_normal((len(row), len(VARIABLES)))
    by_row = np.argsort(row, kind="stable")
    for now in np.split(by_row, np.cumsum(np.bincount(row))[:-1])[1:]:
        within[now] = MEMORY * within[now - 1] + np.sqrt(1 - MEMORY**2) * within[now]
    for name, other in _TIES.items():
        for part in (between, within):
            part[:, _NAMES.index(name)] *= 0.6
            part[:, _NAMES.index(name)] += 0.8 * part[:, _NAMES.index(other)]
    change = _BETWEEN * between[patient] + _WITHIN * within + _CHANGE * severities[:, None]
    values = _LEVEL + change
    values[:, _IS_SKEWED] = (_LEVEL * np.exp(change * _IS_SKEWED))[:, _IS_SKEWED]
    rounded: np.ndarray = np.clip(np.rint(values / _STEP) * _STEP, *BOUNDS.T)
    return rounded + 0.0  # avoids -0


def _measured(
    rng: np.random.Generator, severities: np.ndarray, patient: np.ndarray, row: np.ndarray
) -> np.ndarray:
    """Draw which readings are taken, bool `[rows, 34]`: whole panels, with a few gaps."""
    patients = patient[-1] + 1
    share, daily = np.array([*_PANELS.values()]).T
    watched = rng.random((patients, len(daily))) < share
    habit = np.exp(0.3 * rng.standard_normal(patients)[patient] + 0.2 * severities)
    rate = daily / 24 * np.where(_DRAWN, habit[:, None], 1)
    taken: np.ndarray = (rng.random(rate.shape) < rate) & watched[patient]
    # Monitors are mostly not yet connected in the first hour.
    taken[row == 0] &= rng.random((patients, 1)) < 0.1
    return taken[:, _PANEL] & (rng.random((len(row), len(VARIABLES))) < 0.9)


def _statics(rng: np.random.Generator, patients: int) -> np.ndarray:
    known, surgical = rng.random(patients) < 0.7, rng.random(patients) < 0.5
    columns = {
        "Age": np.clip(np.rint(62 + 16 * rng.standard_normal(patients)), 18, 89),
        "Gender": (rng.random(patients) < 0.55).astype(float),
        "Unit1": np.where(known, 1.0 - surgical, np.nan),
        "Unit2": np.where(known, 1.0 * surgical, np.nan),
        "HospAdmTime": -np.clip(
            np.round(np.exp(1.5 + 2 * rng.standard_normal(patients)), 2), 0.01, 8760
        ),
    }
    return np.stack([columns[name] for name in STATICS], axis=1).astype(np.float32)
