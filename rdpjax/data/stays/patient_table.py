"""Patient table: stay and sepsis, statics, counts and mean levels of readings, in public bins.

The first of the codec's two levels. Networks are trained on this table; the hours of a patient are
decoded from it by `rdpjax.data.stays.filling`. All bins are fixed here, from clinical knowledge:
intensive care counts stays in days and parts of days, laboratory values are taken once to a few
times a day, monitors are read every hour.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from rdpjax.data.schema import Categorical, Schema
from rdpjax.data.stays.hour_values import Values, Window
from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import LONGEST, VARIABLES
from rdpjax.errors import UserError

Label = Literal["window", "stay"]

LENGTHS = (1, 9, 13, 17, 21, 25, 29, 33, 37, 41, 45, 49, 61, 73, 121, 193)
"""First hour of each bin of lengths of stay; the last one ends with `LONGEST`."""
TAILS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 25)
"""First value of each bin of hours from onset to the end of the record."""
AGES = (0, 25, 35, 45, 50, 55, 60, 65, 70, 75, 80, 85, 90)
"""First year of each bin of ages; the challenge writes 100 for 90 and above."""
ADMISSIONS = (0.0, 0.1, 1, 3, 6, 9, 12, 18, 24, 48, 96, 168, 720)
"""First value of each bin of hours from hospital admission to intensive care."""
OFFSETS = (1, 2, 3, 4, 7, 13, 25, 49, 97)
"""First value of each bin of the hour (`ICULOS`) at which the record begins."""
COUNTS = (0, 1, 2, 3, 4, 6, 9, 13, 19, 25, 49, 97, 193)
"""First value of each bin of measured hours (of missed hours, for monitored variables)."""
LEVELS = (-np.inf, -1.5, -1.0, -0.6, -0.3, 0.0, 0.3, 0.6, 1.0, 1.5)
"""First value of each bin of a patient's mean normal score."""

UNITS = ("unknown", "Unit1", "Unit2")
STAY_WEIGHT = 5.0
"""Weight of stay and sepsis: everything else depends on them, hence five times the precision."""

_SOURCE = "public bins, chosen from clinical knowledge"


def patient_schema(hours: int = 24, label: Label = "window") -> Schema:
    """Build the schema of the patient table.

    Args:
      hours: number of modelled hours of a record, 1 to `LONGEST`.
      label: what counts as positive: onset within the modelled hours, or in any hour.

    Raises:
      UserError: hours out of range.

    Examples:
      >>> schema = patient_schema(24)
      >>> len(schema.columns), schema.names[:4], schema.names[-2:]
      (75, ('stay', 'tail', 'Age', 'Gender'), ('count Platelets', 'level Platelets'))
    """
    if not 1 <= hours <= LONGEST:
        raise UserError(f"max_hours is {hours}; it must lie between 1 and {LONGEST}")
    statuses = stay_levels(hours)
    names = tuple(f"{status} {_span(LENGTHS, i, LONGEST)} h" for status, i in statuses)
    runs = tuple(sum(s == status for s, _ in statuses) for status in STATUSES)
    wanted = {"window": ("within",), "stay": ("within", "after")}[label]
    counted = sum(first <= hours for first in COUNTS)
    columns = [
        Categorical(
            "stay", names, _SOURCE, runs=tuple(run for run in runs if run),
            scale=tuple(float(i) for _, i in statuses), weight=STAY_WEIGHT,
        ),
        _binned("tail", TAILS, LONGEST, apart="no sepsis"),
        _binned("Age", AGES, 100, apart="missing"),
        Categorical("Gender", ("missing", "0", "1"), _SOURCE, runs=(1, 2)),
        Categorical("Unit", UNITS, _SOURCE, runs=(1, 2)),
        _binned("HospAdmTime", ADMISSIONS, np.inf, apart="missing"),
        _binned("offset", OFFSETS, LONGEST),
    ]  # fmt: skip
    for variable in VARIABLES:
        dense = variable.panel == "monitor"
        bins = COUNTS[:counted] if dense else COUNTS[1:counted]
        columns.append(_binned(f"count {variable.name}", bins, hours, apart="never"))
        columns.append(_binned(f"level {variable.name}", LEVELS, np.inf, apart="never"))
    return Schema(
        name="sepsis",
        columns=tuple(columns),
        label="stay",
        positive=tuple(n for n, (s, _) in zip(names, statuses, strict=True) if s in wanted),
        given="stay",
        unit_of_privacy="one file = one stay of one patient (a person with several stays is "
        "several units)",
    )


STATUSES = ("never", "after", "within")
"""Sepsis never, after the modelled hours, or within them: ordered groups of the column `stay`."""


def stay_levels(hours: int) -> list[tuple[str, int]]:
    """List levels of the column `stay`: status and bin of the length, possible pairs only."""
    ends = (*LENGTHS[1:], LONGEST + 1)
    return [
        (status, i)
        for status in STATUSES
        for i in range(len(LENGTHS))
        if status != "after" or ends[i] - 1 > hours
    ]


def encode_patients(patients: Patients, hours: int, values: Values) -> np.ndarray:
    """Encode patients as tokens: the level of every column of `patient_schema(hours)`.

    Args:
      patients: as read.
      hours: number of modelled hours.
      values: noisy histograms, which map every reading to its normal score.

    Returns:
      uint8 `[patients, 75]`.

    Guarantees:
      A patient's tokens depend on that patient, public bins and noisy histograms alone. Whatever
      the values (NaN, infinite, out of bounds), every column has a valid token.
    """
    blocks = [_encode(block, hours, values) for block in patients.blocks()]
    return np.concatenate(blocks) if blocks else np.zeros((0, 7 + 2 * len(VARIABLES)), np.uint8)


def _encode(patients: Patients, hours: int, values: Values) -> np.ndarray:
    window = Window.of(patients, hours)
    stays = np.minimum(patients.stays, LONGEST)
    onset = patients.onset
    positive = (onset >= 0) & (onset < stays)
    status = np.where(positive, np.where(onset < hours, 2, 1), 0)
    table = np.zeros((len(STATUSES), len(LENGTHS)), np.uint8)
    for place, (name, i) in enumerate(stay_levels(hours)):
        table[STATUSES.index(name), i] = place
    age, gender, unit1, unit2, admission = patients.statics.T
    columns = [
        table[status, _bin(LENGTHS, stays)],
        np.where(positive, 1 + _bin(TAILS, stays - onset), 0),
        np.where(np.isnan(age), 0, 1 + _bin(AGES, age)),
        np.where(gender == 0, 1, np.where(gender == 1, 2, 0)),
        np.where((unit1 == 1) & (unit2 != 1), 1, np.where((unit2 == 1) & (unit1 != 1), 2, 0)),
        np.where(np.isnan(admission), 0, 1 + _bin(ADMISSIONS, -admission)),
        _bin(OFFSETS, patients.first),
    ]
    counts, levels = window.counts, window.means(values)
    lengths = np.minimum(stays, hours)
    for j, variable in enumerate(VARIABLES):
        measured = counts[:, j] > 0
        dense = variable.panel == "monitor"
        code = _bin(COUNTS, lengths - counts[:, j]) + 1 if dense else _bin(COUNTS, counts[:, j])
        columns.append(np.where(measured, code, 0))
        columns.append(np.where(measured, 1 + _bin(LEVELS, np.nan_to_num(levels[:, j])), 0))
    return np.stack(columns, axis=1).astype(np.uint8)


def _bin(firsts: tuple[float, ...], values: np.ndarray) -> np.ndarray:
    """Return the bin of each value; values below the first bin are put in it."""
    return np.clip(np.searchsorted(firsts, values, side="right") - 1, 0, len(firsts) - 1)


def _binned(name: str, firsts: tuple[float, ...], last: float, apart: str = "") -> Categorical:
    """Build a column of ordered bins, after a separate level for values that have no bin."""
    spans = tuple(_span(firsts, i, last) for i in range(len(firsts)))
    if not apart:
        return Categorical(name, spans, _SOURCE, runs=(len(spans),))
    return Categorical(name, (apart, *spans), _SOURCE, runs=(1, len(spans)))


def _span(firsts: tuple[float, ...], i: int, last: float) -> str:
    """Format a bin: `4-5`, `7`, `from 720`."""
    first, after = firsts[i], firsts[i + 1] if i + 1 < len(firsts) else last + 1
    if np.isinf(first):
        return f"below {after:g}"
    if np.isinf(after):
        return f"from {first:g}"
    if not all(float(f).is_integer() for f in firsts):
        return f"{first:g} to {after:g}"
    return f"{first:g}" if first == after - 1 else f"{first:g}-{after - 1:g}"
