"""Noisy histograms of every variable's readings, and the normal scores derived from them.

One Gaussian mechanism measures all of them; a patient's contribution has a public bound that does
not depend on the stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np

from rdpjax.data.grid import on_grid
from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import LONGEST, VARIABLES, readable
from rdpjax.data.tokenizer import project

AGE_CELLS = 101
ADMISSION_EDGES = np.concatenate(
    [
        [0, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, *range(1, 10), 10.5, 12, 15, 18, 21, 24, 30, 36],
        [48, 60, 72, 96, 120, 168, 240, 336, 504, 720, 1440, 2880, 8760],
    ]
)
"""Edges of the bins of hours from hospital admission to intensive care."""

_SIZES = (*(v.cells for v in VARIABLES), LONGEST, AGE_CELLS, len(ADMISSION_EDGES) - 1)
VALUE_NUMBERS = sum(_SIZES)
"""Length of `values_vector`."""


@dataclass(frozen=True)
class Window:
    """Modelled hours of patients: the first `hours` rows of each.

    Attributes:
      values: readings after `readable`, float32 `[rows, 34]`.
      patient: index of the patient of each row, int64 `[rows]`.
      row: index of the row within its stay, from 0, int64 `[rows]`.
      patients: number of patients.
      hours: most rows of a patient.
    """

    values: np.ndarray
    patient: np.ndarray
    row: np.ndarray
    patients: int
    hours: int

    @staticmethod
    def of(patients: Patients, hours: int) -> Window:
        row = patients.row
        kept = row < min(hours, LONGEST)
        patient = np.repeat(np.arange(len(patients)), patients.stays)[kept]
        values = readable(patients.values[kept]).astype(np.float32)
        return Window(values, patient, row[kept], len(patients), hours)

    @cached_property
    def counts(self) -> np.ndarray:
        """Number of measured hours of each variable, int64 `[patients, 34]`."""
        return self.sums((~np.isnan(self.values)).astype(np.int64)).astype(np.int64)

    def sums(self, amounts: np.ndarray) -> np.ndarray:
        """Sum `[rows, k]` by patient, float64 `[patients, k]`; NaN counts as 0.

        Each patient's rows are summed separately, in order, so the rounding of a patient's sum
        depends on that patient alone. (Differences of one cumulative sum over all rows would round
        by the others.)
        """
        clean = np.nan_to_num(amounts.astype(np.float64))
        columns = [np.bincount(self.patient, c, self.patients) for c in clean.T]
        return np.stack(columns, axis=1)

    def cells(self, j: int) -> np.ndarray:
        """Return the histogram bin of variable j in each row, -1 where it was not measured."""
        values, edges = self.values[:, j], VARIABLES[j].edges
        inside = np.clip(np.searchsorted(edges, values, "right") - 1, 0, len(edges) - 2)
        return np.where(np.isnan(values), -1, inside)

    def scores(self, values: Values) -> np.ndarray:
        """Map every reading to its normal score, float32 `[rows, 34]`, NaN where unmeasured."""
        out = np.full(self.values.shape, np.nan, np.float32)
        for j in range(len(VARIABLES)):
            cells = self.cells(j)
            out[:, j] = np.where(cells < 0, np.nan, values.scores[j][cells])
        return out

    def means(self, values: Values) -> np.ndarray:
        """Average normal scores, `[patients, 34]`, NaN for a variable that was never measured."""
        totals = self.sums(self.scores(values))
        return np.where(self.counts > 0, totals / np.maximum(self.counts, 1), np.nan)


def value_weights(counts: np.ndarray, hours: int) -> np.ndarray:
    """Compute the weight of one reading in its variable's histogram, `[patients, 34]`.

    A patient's readings of a variable have the total weight min(n / cap, 1), where the cap is the
    variable's public number of readings in the modelled hours (of two days at most).

    Examples:
      >>> value_weights(np.array([[24], [48]]), 24)[:, :1].round(4).tolist()
      [[0.0417], [0.0208]]
    """
    caps = np.array([max(1.0, v.daily * min(hours, 48) / 24) for v in VARIABLES[: counts.shape[1]]])
    together = np.minimum(counts / caps, 1.0) * (1 - 1e-9)  # margin for rounding
    weights: np.ndarray = together / np.maximum(counts, 1)
    return weights


def values_vector(patients: Patients, hours: int) -> np.ndarray:
    """Sum histograms of readings, of the length of stay, of age and of hours before admission.

    Args:
      patients: as read.
      hours: number of modelled hours.

    Returns:
      float64 vector: the bins of each variable, 336 lengths, ages, hours before admission.

    Guarantees:
      A patient adds to each of the 34 variables' histograms a vector of L1, hence L2, norm at most
      1, and one 1 to each of the three other histograms: L2 norm at most
      `values_sensitivity()`, whatever the stay and its values. What it adds depends on that patient
      alone and is summed without rounding (`on_grid`). No patients give zeros.
    """
    total = np.zeros(VALUE_NUMBERS)
    for block in patients.blocks():
        total += _block_vector(block, hours)
    return total


def _block_vector(patients: Patients, hours: int) -> np.ndarray:
    window = Window.of(patients, hours)
    weights = on_grid(value_weights(window.counts, hours))
    parts = []
    for j, variable in enumerate(VARIABLES):
        cells = window.cells(j)
        seen = cells >= 0
        parts.append(
            np.bincount(cells[seen], weights[window.patient[seen], j], minlength=variable.cells)
        )
    stays = np.clip(patients.stays, 1, LONGEST)
    age = np.clip(np.nan_to_num(np.rint(patients.statics[:, 0]), nan=0), 0, AGE_CELLS - 1)
    before = np.nan_to_num(-patients.statics[:, 4], nan=0.0)
    admission = np.searchsorted(ADMISSION_EDGES, before, "right") - 1
    last = len(ADMISSION_EDGES) - 2
    parts.append(np.bincount(stays - 1, minlength=LONGEST).astype(float))
    parts.append(np.bincount(age.astype(int), minlength=AGE_CELLS).astype(float))
    parts.append(np.bincount(np.clip(admission, 0, last), minlength=last + 1).astype(float))
    return np.concatenate(parts)


def values_sensitivity() -> float:
    """Return the L2 sensitivity of `values_vector` to one patient, rounded up."""
    return float(np.nextafter(np.sqrt(len(VARIABLES) + 3), np.inf))


@dataclass(frozen=True)
class Values:
    """Noisy shares of the bins of every variable, of stays, ages and hours before admission."""

    variables: tuple[np.ndarray, ...]
    lengths: np.ndarray
    ages: np.ndarray
    admissions: np.ndarray

    @staticmethod
    def of(noisy: np.ndarray) -> Values:
        """Compute shares from a noisy `values_vector`; post-processing."""
        parts = [
            project(part, max(float(part.sum()), 1.0))
            for part in np.split(np.asarray(noisy, float), np.cumsum(_SIZES)[:-1])
        ]
        *variables, lengths, ages, admissions = parts
        return Values(tuple(variables), lengths, ages, admissions)

    @cached_property
    def scores(self) -> tuple[np.ndarray, ...]:
        """Normal score of each variable's bins: that of the mid-rank, clipped to [-3, 3]."""
        return tuple(_normal_scores(np.cumsum(s) - s / 2) for s in self.variables)

    @property
    def medians(self) -> np.ndarray:
        """Noisy median of each variable, in its unit, `[34]`."""
        middle = [int(np.searchsorted(np.cumsum(s), 0.5)) for s in self.variables]
        centres = [
            (v.edges[k] + v.edges[k + 1]) / 2 for v, k in zip(VARIABLES, middle, strict=True)
        ]
        return np.array(centres)


def _normal_scores(ranks: np.ndarray) -> np.ndarray:
    quantile = NormalDist().inv_cdf
    return np.clip([quantile(min(max(rank, 1e-9), 1 - 1e-9)) for rank in ranks], -3.0, 3.0)
