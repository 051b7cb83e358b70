"""Convert the numbers of one patient's file to a stay on a grid of whole hours.

- The hour is `ICULOS`. Missing hours become rows of NaN. Where an hour repeats, the last measured
  value counts, for each variable separately.
- A missing label repeats the one before it; before the first known label, it is 0.
- Where a static value changes within a file, the last known one counts, and that is noted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rdpjax.data.stays.sepsis import COLUMNS, LONGEST, STATICS, VARIABLES
from rdpjax.errors import UserError

HOURLY = slice(0, len(VARIABLES))
STATIC = slice(len(VARIABLES), len(VARIABLES) + len(STATICS))
HOUR, LABEL = COLUMNS.index("ICULOS"), COLUMNS.index("SepsisLabel")
OLDEST = 120
"""Largest `Age`, in years."""
FLAGS = ("Gender", "Unit1", "Unit2")
"""Static columns that hold 0 or 1."""


@dataclass(frozen=True)
class Stay:
    """Stay of one patient on a grid of whole hours; the attributes are those of `Patients`.

    Attributes:
      values: float32 `[rows, variables]`, NaN where nothing was measured.
      first: `ICULOS` of the first row.
      onset: number of rows before the label turns positive, -1 for never.
      statics: float32 `[statics]`, NaN where missing.
      notes: irregularities that were accepted.
      gaps: number of hours between the first and the last that the file lacks.
      repeats: number of rows that repeat an hour.
    """

    values: np.ndarray
    first: int
    onset: int
    statics: np.ndarray
    notes: tuple[str, ...]
    gaps: int = 0
    repeats: int = 0


def static_fits(name: str, values: np.ndarray) -> np.ndarray:
    """Return whether each value of a static column is valid, or missing.

    Examples:
      >>> static_fits("Gender", np.array([0, 0.5, np.nan])).tolist()
      [True, False, True]
    """
    fits = np.ones(len(values), bool)
    if name in FLAGS:
        fits = np.isnan(values) | (values == 0) | (values == 1)
    elif name == "Age":
        fits = np.isnan(values) | ((values >= 0) & (values <= OLDEST))
    return fits


def stay_of(rows: np.ndarray, lines: np.ndarray, name: str, notes: tuple[str, ...] = ()) -> Stay:
    """Align the rows of a file to their hours.

    Args:
      rows: float64 `[rows, 41]` in the order of `COLUMNS`, finite or NaN, 1 or more.
      lines: line number of each row in the file, `[rows]`.
      name: the file's name in messages.
      notes: irregularities accepted before.

    Raises:
      UserError: `ICULOS` missing, not whole, below 1, above `LONGEST` or falling; `SepsisLabel`
        missing throughout, neither 0 nor 1, or 0 after a 1; an invalid static value.

    Examples:
      >>> rows = np.full((3, 41), np.nan); rows[:, HOUR] = 3, 5, 5; rows[:, LABEL] = 0, 0, 1
      >>> rows[1:, 0] = 80, np.nan
      >>> stay = stay_of(rows, np.arange(2, 5), "p1.psv")
      >>> stay.values[:, 0].tolist(), stay.first, stay.onset, stay.gaps, stay.repeats
      ([nan, nan, 80.0], 3, 2, 1, 1)
    """
    table = _Table(rows, lines, name)
    hours = table.hours()
    ill = np.flatnonzero(table.labels() == 1)
    statics, changed = table.statics()
    values = np.full((hours[-1] - hours[0] + 1, len(VARIABLES)), np.nan, np.float32)
    at = hours - hours[0]
    if (np.diff(at) > 0).all():
        values[at] = rows[:, HOURLY]
    else:
        for row, measured in zip(at, rows[:, HOURLY], strict=True):
            values[row] = np.where(np.isnan(measured), values[row], measured)
    return Stay(
        values,
        int(hours[0]),
        int(hours[ill[0]] - hours[0]) if ill.size else -1,
        statics,
        notes + changed,
        gaps=len(values) - len(np.unique(hours)),
        repeats=len(hours) - len(np.unique(hours)),
    )


@dataclass(frozen=True)
class _Table:
    rows: np.ndarray
    lines: np.ndarray
    name: str

    def hours(self) -> np.ndarray:
        hours = self.rows[:, HOUR]
        self._refuse(HOUR, np.isnan(hours), "missing; every row needs its hour")
        self._refuse(HOUR, hours % 1 != 0, "{:g} is no whole hour; correct it")
        self._refuse(HOUR, hours < 1, "{:.0f} is below 1, the first hour; correct it")
        longest = f"beyond {LONGEST}, the longest stay; cut the file there"
        self._refuse(HOUR, hours > LONGEST, "{:.0f} is " + longest)
        fallen = np.diff(hours, prepend=1) < 0
        self._refuse(HOUR, fallen, "{:.0f} comes after a later hour; put the rows in order")
        return hours.astype(np.int64)

    def labels(self) -> np.ndarray:
        labels = self.rows[:, LABEL]
        missing = np.isnan(labels)
        wrong = ~(missing | (labels == 0) | (labels == 1))
        self._refuse(LABEL, wrong, "{:g} is neither 0 nor 1; correct it")
        self._refuse(
            LABEL, missing & missing.all(), "missing in every row; a patient needs a label"
        )
        known = np.flatnonzero(~missing)
        fallen = np.zeros(len(labels), bool)
        fallen[known] = np.diff(labels[known], prepend=0) < 0
        self._refuse(LABEL, fallen, "0 after a 1, but the label never turns back; correct it")
        return labels  # only the first 1 matters, so missing labels need no imputation

    def statics(self) -> tuple[np.ndarray, tuple[str, ...]]:
        found = np.full(len(STATICS), np.nan, np.float32)
        changed = []
        for i, name in enumerate(STATICS):
            column = self.rows[:, STATIC.start + i]
            wanted = "0 or 1" if name in FLAGS else f"0 to {OLDEST}"
            wrong = ~static_fits(name, column)
            self._refuse(
                STATIC.start + i, wrong, "{:g} is not " + wanted + "; correct it or write NaN"
            )
            known = column[~np.isnan(column)]
            if known.size:
                found[i] = known[-1]
                if (known != known[-1]).any():
                    changed.append(f"{name} changes within a stay: the last value counts")
        return found, tuple(changed)

    def _refuse(self, column: int, where: np.ndarray, problem: str) -> None:
        """Raise UserError at the first row of `where`; `problem` has a place for its value."""
        if where.any():
            at = int(np.argmax(where))
            shown = problem.format(self.rows[at, column])
            place = f"{self.name}: line {self.lines[at]}, column {COLUMNS[column]!r}"
            raise UserError(f"{place}: {shown}")
