"""DP hourly profiles of a stay: measurement times, spreads and autocorrelations.

One clipped vector a patient, one Gaussian mechanism. Rare laboratory values have a low signal, so
the estimates are shrunk to public defaults in proportion to the noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np

from rdpjax.data.grid import on_grid
from rdpjax.data.stays.hour_values import Values, Window
from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import VARIABLES, Panel

PANELS = get_args(Panel)
PANEL_OF = np.array([PANELS.index(variable.panel) for variable in VARIABLES])
HOURS = (*range(24), 24, 28, 32, 36, 40, 44, *range(48, 336, 24))
"""First row of each bin of the hours at which a panel is taken."""
MONITORED = tuple(j for j, v in enumerate(VARIABLES) if v.panel in ("monitor", "temperature"))
"""Variables whose residuals of the same hour are correlated: seven vital signs."""
HOURLY = tuple(j for j, v in enumerate(VARIABLES) if v.daily > 4)
"""Variables measured often enough to estimate an autocorrelation at lag 1."""
PAIRS = tuple((a, b) for i, a in enumerate(MONITORED) for b in MONITORED[:i])
_SIZES = (
    len(PANELS) * len(HOURS),
    len(PANELS),
    len(VARIABLES),
    len(VARIABLES),
    len(HOURLY),
    len(HOURLY),
    len(PAIRS),
)
PROFILE_NUMBERS = sum(_SIZES)
"""Length of `profiles_vector`."""

BOUND = 4.0
"""L2 norm to which a patient's vector is clipped."""
SPREAD, SEVERAL = 0.5, 0.15
"""Weights of the mean squares, and of the indicators beside them; all other entries weigh 1."""
DEFAULT_WITHIN, DEFAULT_LAG, DEFAULT_PART = 0.4, 0.8, 0.1
"""Public defaults: variance within a stay, in normal scores; correlation with the next hour;
share of the hours in which a panel is taken."""


def profiles_vector(patients: Patients, hours: int, values: Values) -> np.ndarray:
    """Sum clipped per-patient vectors of measurement times, spreads, and (auto)correlations.

    Of one patient: for each panel, its measured hours as shares that sum to 1, and the measured
    share of the stay; for each variable read twice or more, the mean square of the residuals
    (reading minus the patient's mean, in normal scores, clipped to [-1.5, 1.5]) and a 1; for each
    variable of `HOURLY` read in two consecutive hours, the mean product of those residuals and
    their mean square; for each pair of vital signs taken together, the mean product.

    Args:
      patients: as read.
      hours: number of modelled hours.
      values: noisy histograms, which map every reading to its normal score.

    Returns:
      float64 vector.

    Guarantees:
      A patient adds a vector of L2 norm at most `BOUND`, whatever the stay and its values: it is
      clipped at `BOUND` (1 - 1e-9), and counts as zero where it is not finite. It depends on that
      patient and `values` alone and is summed without rounding (`on_grid`). No patients give zeros.
    """
    total = np.zeros(PROFILE_NUMBERS)
    for block in patients.blocks():
        total += clipped(_vectors(Window.of(block, hours), values)).sum(axis=0)
    return total


def clipped(vectors: np.ndarray) -> np.ndarray:
    """Scale rows to a norm of at most `BOUND`, on the grid; non-finite rows become zero."""
    with np.errstate(over="ignore"):  # an overflowing norm counts as non-finite
        norms = np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))
    sound, bound = np.isfinite(norms), BOUND * (1 - 1e-9)
    scales = bound / np.maximum(np.where(sound, norms, bound), bound)
    return on_grid(np.where(sound, scales * vectors, 0.0))


def _vectors(window: Window, values: Values) -> np.ndarray:
    """Compute the vectors before clipping, `[patients, PROFILE_NUMBERS]`."""
    scores, n = window.scores(values), window.patients
    taken = ~np.isnan(scores)
    cells = np.searchsorted(HOURS, window.row, "right") - 1
    times, part = np.zeros((n, len(PANELS), len(HOURS))), np.zeros((n, len(PANELS)))
    length = np.maximum(np.bincount(window.patient, minlength=n), 1)
    for panel in range(len(PANELS)):
        seen = taken[:, panel == PANEL_OF].any(axis=1)
        rows = window.patient[seen]
        share = 1 / np.maximum(np.bincount(rows, minlength=n), 1)
        np.add.at(times[:, panel], (rows, cells[seen]), share[rows])
        part[:, panel] = np.bincount(rows, minlength=n) / length

    means = window.means(values)
    residuals = np.clip(scores - means[window.patient], -1.5, 1.5)
    several = window.counts >= 2
    squares = window.sums(residuals**2) / np.maximum(window.counts, 1)
    spread = [SPREAD * np.where(several, squares, 0), SEVERAL * several]

    following = np.zeros(len(window.patient), bool)  # whether the next row is of the same patient
    following[:-1] = window.patient[1:] == window.patient[:-1]
    hourly = residuals[:, HOURLY]
    after = np.roll(hourly, -1, axis=0)
    both = following[:, None] & ~np.isnan(hourly) & ~np.isnan(after)
    number = np.maximum(window.sums(both), 1)
    product = window.sums(np.where(both, hourly * after, 0)) / number
    square = window.sums(np.where(both, (hourly**2 + after**2) / 2, 0)) / number

    joint = []
    for a, b in PAIRS:
        pair = residuals[:, a] * residuals[:, b]
        count = np.maximum(window.sums(~np.isnan(pair)[:, None]), 1)
        joint.append(window.sums(pair[:, None]) / count)
    parts = [part, *spread, product, square, np.hstack(joint)]
    return np.hstack([times.reshape(n, -1), *parts])


@dataclass(frozen=True)
class Profiles:
    """Noisy estimates of the hourly profiles.

    Attributes:
      odds: odds of measurement in a row, given a patient in whom the panel is ever measured,
        `[panels, LONGEST]`.
      within: variance within a stay of each variable, in normal scores, `[34]`.
      lag: correlation of a residual with the next hour's, `[34]`.
      correlation: correlations of the residuals of vital signs in one hour, `[7, 7]`, positive
        definite.
    """

    odds: np.ndarray
    within: np.ndarray
    lag: np.ndarray
    correlation: np.ndarray

    @staticmethod
    def of(noisy: np.ndarray, deviation: float, lengths: np.ndarray, hours: int) -> Profiles:
        """Estimate the profiles from a noisy `profiles_vector`; post-processing.

        Args:
          noisy: the noisy vector.
          deviation: standard deviation of the noise on each entry.
          lengths: noisy shares of the lengths of stay.
          hours: number of modelled hours.
        """
        times, part, squares, several, product, square, joint = np.split(
            np.asarray(noisy, float), np.cumsum(_SIZES)[:-1]
        )
        # Shrink to public defaults with a pseudo-count of 4 noise standard deviations.
        made = 4 * max(deviation, 1e-9)
        squares = np.maximum(squares, 0) / SPREAD + made * DEFAULT_WITHIN
        within = squares / (np.maximum(several, 0) / SEVERAL + made)
        base = np.maximum(square, 0) + made * DEFAULT_WITHIN
        lag = np.full(len(VARIABLES), DEFAULT_LAG)
        lag[list(HOURLY)] = (product + made * DEFAULT_WITHIN * DEFAULT_LAG) / base
        return Profiles(
            odds=_odds(times.reshape(len(PANELS), -1), part, made, lengths, hours),
            within=np.clip(within, 0.02, 2.0),
            lag=np.clip(lag, 0.0, 0.98),
            correlation=_correlation(joint, squares),
        )


def _odds(
    times: np.ndarray, part: np.ndarray, made: float, lengths: np.ndarray, hours: int
) -> np.ndarray:
    """Estimate odds by row: shares over the patients still present, scaled to the measured part."""
    there = np.maximum(1 - np.concatenate([[0], np.cumsum(lengths)])[: len(lengths)], 1e-3)
    exposed = np.add.reduceat(there, HOURS) * (np.asarray(HOURS) < hours)
    flat = exposed / exposed.sum()
    taken = np.maximum(times, 0) * (exposed > 0)
    total = taken.sum(axis=1, keepdims=True) + made * len(flat)
    rates = (taken + made * len(flat) * flat) / total / np.maximum(flat, 1e-12)  # 1 on average
    mean = (np.maximum(part, 0) + made * DEFAULT_PART) / (np.maximum(times.sum(axis=1), 0) + made)
    chance = np.clip(rates * mean[:, None], 0.002, 0.985) * (exposed > 0)
    width = np.diff([*HOURS, len(lengths)])
    return np.repeat(np.maximum(chance / (1 - chance), 1e-6), width, axis=1)


def _correlation(joint: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Estimate correlations of residuals, shrunk until they are positive definite."""
    n = len(MONITORED)
    matrix = np.eye(n)
    for (a, b), product in zip(PAIRS, joint, strict=True):
        i, k = MONITORED.index(a), MONITORED.index(b)
        found = np.clip(product / np.sqrt(squares[a] * squares[b]), -0.95, 0.95)
        matrix[i, k] = matrix[k, i] = found
    least = np.linalg.eigvalsh(matrix)[0]
    shrink = 1.0 if least >= 0.02 else (1 - 0.02) / (1 - least)
    return np.eye(n) + shrink * (matrix - np.eye(n))
