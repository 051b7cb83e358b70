"""Raking (IPF): reweight generated records so that one-way marginals match the noisy ones.

Maximum entropy: among all distributions with the measured one-way marginals, the nearest to the
generator's own has density proportional to a product of multipliers, one per histogram bin
(Csiszar 1975; iterative proportional fitting). The multipliers are fitted on generated records and
noisy shares alone: post-processing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_LIMIT = 10.0  # bound on |log multiplier|: a bin of noisy share 0 is made rare, not impossible


@dataclass(frozen=True)
class Tilt:
    """Raking multipliers, and what the rejection costs.

    Attributes:
      log_multipliers: (columns, width).
      log_cap: largest log weight; heavier records are capped at it.
      effective: effective sample size of the pool over its size, in (0, 1].
      acceptance: share of generated records that are kept.
    """

    log_multipliers: np.ndarray
    log_cap: float
    effective: float
    acceptance: float

    @staticmethod
    def none(columns: int, width: int) -> Tilt:
        """Return multipliers that keep every record as it was generated.

        Examples:
          >>> Tilt.none(1, 2).accept(np.array([[0], [1]]), np.array([0.0, 0.999])).tolist()
          [True, True]
        """
        return Tilt(np.zeros((columns, width)), 0.0, 1.0, 1.0)

    def accept(self, codes: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Accept or reject: bool (rows,), for codes (rows, columns) and uniforms (rows,)."""
        columns = np.arange(codes.shape[1])
        weights = self.log_multipliers[columns, codes].sum(axis=1)
        kept: np.ndarray = np.log(np.maximum(uniforms, 1e-300)) < weights - self.log_cap
        return kept


def fit_tilt(
    codes: np.ndarray,
    shares: np.ndarray,
    *,
    sweeps: int = 40,
    cap: float = 5.0,
    least: float = 0.3,
) -> Tilt:
    """Fit multipliers by iterative proportional fitting on a pool of generated records.

    Args:
      codes: the pool, (rows, columns).
      shares: noisy share of every code, (columns, width).
      sweeps: passes over the columns at most.
      cap: largest weight, in units of the mean before capping; bounds the work of rejection.
      least: fitting stops before the effective sample size falls below this share of the pool.

    Examples:
      >>> codes = np.array([[0], [0], [0], [1]])
      >>> tilt = fit_tilt(codes, np.array([[0.5, 0.5]]))
      >>> ratio = np.exp(np.diff(tilt.log_multipliers[0]))
      >>> round(float(ratio[0]), 3), round(tilt.effective, 3)
      (3.0, 0.75)
    """
    rows, columns = codes.shape
    multipliers = np.zeros(shares.shape)
    logs = np.zeros(rows)
    weights, log_cap = _capped(logs, cap)

    for _ in range(sweeps):
        before, before_logs = multipliers.copy(), logs
        for j in range(columns):
            found = np.bincount(codes[:, j], weights, minlength=shares.shape[1])
            step = np.log(np.maximum(shares[j], 1e-9) / np.maximum(found, 1e-9))
            step = np.where(found > 0, np.clip(step, -1, 1), 0)
            step = np.clip(multipliers[j] + step, -_LIMIT, _LIMIT) - multipliers[j]
            multipliers[j] += step
            logs = logs + step[codes[:, j]]
            weights, log_cap = _capped(logs, cap)
        if _effective(weights) < least:
            part = _largest_part(before_logs, logs, cap, least)
            multipliers = before + part * (multipliers - before)
            logs = before_logs + part * (logs - before_logs)
            weights, log_cap = _capped(logs, cap)
            break
        if np.abs(multipliers - before).max() < 1e-4:
            break
    kept = np.exp(np.minimum(logs - log_cap, 0)).mean()
    return Tilt(multipliers, log_cap, _effective(weights), float(kept))


def _largest_part(before: np.ndarray, after: np.ndarray, cap: float, least: float) -> float:
    """Find the fraction of a sweep that keeps the effective sample size, by bisection.

    With many columns a full sweep may lower it below `least`; the fraction 0 changes nothing.
    """
    low, high = 0.0, 1.0
    for _ in range(10):
        middle = (low + high) / 2
        weights, _ = _capped(before + middle * (after - before), cap)
        low, high = (low, middle) if _effective(weights) < least else (middle, high)
    return low


def _capped(logs: np.ndarray, cap: float) -> tuple[np.ndarray, float]:
    """Cap weights at `cap` times their mean; return them with sum 1, and the log of the ceiling."""
    top = logs.max()
    weights = np.exp(logs - top)
    ceiling = min(1.0, cap * float(weights.mean()))
    weights = np.minimum(weights, ceiling)
    return weights / weights.sum(), float(top + np.log(ceiling))


def _effective(weights: np.ndarray) -> float:
    return float(1 / (len(weights) * np.square(weights).sum()))
