"""Delta of a plan of any length by importance sampling, with a rigorous confidence band.

Large privacy losses are far too rare for plain Monte Carlo. So outputs are drawn from P r^a,
normalised, in place of M (notation of `divergence.py`): at an integer order a this is a mixture of
Gaussians with means 0 to a, and each draw is weighted by the likelihood ratio.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rdpjax.accounting.exact.divergence import log_mixture, renyi_at_integers

Step = tuple[float, float, int]
ORDERS = tuple(range(2, 64))


class Band(NamedTuple):
    """A confidence interval around an estimate."""

    low: float
    estimate: float
    high: float


def delta_band(
    steps: Sequence[Step],
    epsilon: float,
    *,
    order: int,
    draws: int = 20_000,
    seed: int = 0,
    miss: float = 1e-6,
) -> Band:
    """Estimate delta of a plan at epsilon, for a record removed, with a confidence band.

    delta = E_P[(R - exp(epsilon))_+] with R the product of all r, so that in draws weighed by R^a
    it is the mean of M_a (1 - exp(epsilon) / R)_+ R^(1 - a), M_a = E_P[R^a]. These numbers lie
    between 0 and a known bound, which at the best order is the one that Rényi accountants quote.

    Guarantees:
      The band covers delta with probability 1 - `miss` over the seeds, for any plan and number of
      draws: it is no normal approximation. Delta for a record *added* may be larger still, so `low`
      bounds the delta of the plan from below in any case.

    Args:
      steps: (q, sigma, steps) each.
      epsilon: 0 or more.
      order: Any integer above 1 is valid; the best order of a Rényi accountant is sharp.
      draws: Number of simulated runs of the plan.
      seed: Seed of the draws.
      miss: Probability that the band misses delta.

    Returns:
      The band.

    Examples:
      >>> band = delta_band([(1.0, 10.0, 100)], 2.0, order=4, draws=4000)  # 0.02092 exactly
      >>> band.low < 0.02092 < band.high < 2 * band.low
      True

    References:
      Maurer and Pontil 2009 (arXiv 0907.3740), Theorem 4: the band.
    """
    losses, log_moment = _losses(tuple(steps), order, draws, seed)
    worth = np.zeros(draws)
    some = losses > epsilon
    worth[some] = -np.expm1(epsilon - losses[some]) * np.exp(
        log_moment + (1 - order) * losses[some]
    )
    # The largest value of one draw, at R = exp(epsilon) a / (a - 1).
    peak = (1 - order) * (epsilon - math.log1p(-1 / order)) - math.log(order)
    most = math.exp(log_moment + peak)
    mean, odds = float(worth.mean()), math.log(4 / miss)
    half = math.sqrt(2 * float(worth.var(ddof=1)) * odds / draws) + 7 * most * odds / (
        3 * (draws - 1)
    )
    return Band(max(0.0, mean - half), mean, mean + half)


def best_order(steps: Sequence[Step], delta: float) -> int:
    """Return the integer order at which the plan's RDP gives the smallest epsilon at delta.

    Examples:
      >>> best_order([(0.01, 1.0, 1000)], 1e-5)
      8
    """
    a = np.array(ORDERS)
    proved = integer_curve(steps) + np.log1p(-1 / a) - np.log(delta * a) / (a - 1)
    return int(a[np.argmin(proved)])


def integer_curve(steps: Sequence[Step]) -> NDArray[np.float64]:
    """Compute Rényi divergences of a plan at `ORDERS`."""
    total = np.zeros(len(ORDERS))
    for rate, sigma, count in steps:
        total = total + count * _one_step(rate, sigma)
    return total


@functools.lru_cache(maxsize=1024)
def _one_step(rate: float, sigma: float) -> NDArray[np.float64]:
    curve = renyi_at_integers(rate, sigma, ORDERS)
    curve.setflags(write=False)
    return curve


@functools.lru_cache(maxsize=32)
def _losses(
    steps: tuple[Step, ...], order: int, draws: int, seed: int
) -> tuple[NDArray[np.float64], float]:
    """Simulate runs under the tilted distribution; return their losses log R, and log M_a."""
    random = np.random.default_rng(seed)
    losses, log_moment = np.zeros(draws), 0.0
    for rate, sigma, count in steps:
        logs = log_mixture(rate, sigma, order)
        top = logs.max()
        ends = np.cumsum(np.exp(logs - top))
        log_moment += count * (top + math.log(ends[-1]))
        for _ in range(count):
            means = np.searchsorted(ends, random.random(draws) * ends[-1], side="right")
            x = means + sigma * random.standard_normal(draws)
            losses += np.log1p(rate * np.expm1((2 * x - 1) / (2 * sigma**2)))
    losses.setflags(write=False)
    return losses, log_moment
