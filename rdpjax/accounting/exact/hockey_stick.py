"""Exact delta at epsilon, and epsilon at delta, where a closed form or one integral gives them.

The hockey-stick divergence of P from Q at epsilon is E_P[(1 - exp(epsilon - L))_+], with L the
logarithm of P / Q. Notation as in `divergence.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Deltas(NamedTuple):
    """Delta for a record removed (with it against without), and for one added."""

    remove: float
    add: float


def gaussian_delta(mu: float, epsilon: float) -> float:
    """Compute delta of the Gaussian mechanism at mu = sensitivity / noise.

    The mu of several steps at q = 1 is sqrt(steps) / sigma.

    Examples:
      >>> f"{gaussian_delta(1.0, 4.37718):.3e}"
      '1.000e-05'

    References:
      Balle and Wang 2018 (arXiv 1805.06530), Theorem 8.
    """
    from scipy.special import erfcx, ndtr

    # exp(epsilon) times the tail beyond mu / 2 + epsilon / mu, without its large factors.
    middle = mu / 2 - epsilon / mu
    tail = 0.5 * erfcx((mu / 2 + epsilon / mu) / math.sqrt(2)) * math.exp(-0.5 * middle * middle)
    return max(0.0, float(ndtr(middle) - tail))


def one_step_deltas(rate: float, sigma: float, epsilon: float) -> Deltas:
    """Compute both deltas of one subsampled Gaussian step, by the output at which L is epsilon.

    Args:
      rate: Sampling rate q, in (0, 1].
      sigma: Noise multiplier, above 0.
      epsilon: 0 or more.

    Examples:
      >>> f"{one_step_deltas(0.01, 1.0, 0.1).remove:.6e}, {one_step_deltas(0.01, 1.0, 0.1).add}"
      '7.290038e-05, 0.0'
    """
    at = np.array([epsilon])
    return Deltas(float(_remove(rate, sigma, at)[0]), float(_add(rate, sigma, at)[0]))


def two_step_deltas(
    first: tuple[float, float], second: tuple[float, float], epsilon: float
) -> Deltas:
    """Compute both deltas of two steps, each (q, sigma), by an integral of one step's delta.

    Losses of independent draws add, so delta(epsilon) = E[delta_2(epsilon - L_1)]. The integrand
    is smooth and decays like a Gaussian: 4000 points reach float64 precision.

    Examples:
      >>> two, both = two_step_deltas((1.0, 2.0), (1.0, 2.0), 1.0), gaussian_delta(0.5**0.5, 1.0)
      >>> [f"{delta / both:.9f}" for delta in two]
      ['1.000000000', '1.000000000']
    """
    rate, sigma = first
    x = np.linspace(-13 * sigma, 1 + 13 * sigma, 4001)
    width = x[1] - x[0]
    without = np.exp(-0.5 * (x / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
    loss = _loss(rate, sigma, x)
    shifted = np.exp(-0.5 * ((x - 1) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
    record = (1 - rate) * without + rate * shifted
    return Deltas(
        float(np.sum(record * _remove(*second, epsilon - loss)) * width),
        float(np.sum(without * _add(*second, epsilon + loss)) * width),
    )


def exact_epsilon(steps: Sequence[tuple[float, float, int]], delta: float) -> float | None:
    """Compute epsilon of a plan at delta, where it can be had exactly.

    Args:
      steps: (q, sigma, steps) each.
      delta: In (0, 1).

    Returns:
      Epsilon to 1e-9; None for a plan that samples in more than two steps.

    Examples:
      >>> round(exact_epsilon([(1.0, 10.0, 100)], 1e-5), 4)
      4.3772
      >>> exact_epsilon([(0.5, 1.0, 3)], 1e-5) is None
      True
    """
    laws = [(rate, sigma) for rate, sigma, count in steps for _ in range(min(count, 3))]
    if not laws:
        return 0.0
    if all(rate == 1 for rate, _ in laws):
        mu = math.sqrt(math.fsum(count / sigma**2 for _, sigma, count in steps))
        return least_epsilon(lambda epsilon: gaussian_delta(mu, epsilon), delta)
    if len(laws) == 1:
        return least_epsilon(lambda epsilon: max(one_step_deltas(*laws[0], epsilon)), delta)
    if len(laws) == 2:
        first, second = laws
        return least_epsilon(lambda epsilon: max(two_step_deltas(first, second, epsilon)), delta)
    return None


def least_epsilon(delta_at: Callable[[float], float], delta: float) -> float:
    """Find the epsilon at which the falling `delta_at` comes down to `delta`; to 1e-9."""
    if delta_at(0.0) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while delta_at(high) > delta:
        low, high = high, 2 * high
    while high - low > 1e-9 * max(1.0, high):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_at(middle) > delta else (low, middle)
    return high


def _loss(rate: float, sigma: float, x: Floats) -> Floats:
    """Compute the privacy loss log r(x) of output x, for the record against its absence."""
    loss: Floats = np.log1p(rate * np.expm1((2 * x - 1) / (2 * sigma**2)))
    return loss


def _remove(rate: float, sigma: float, epsilon: Floats) -> Floats:
    """Compute the hockey-stick of M from P, any real epsilon: below log(1 - q) every x counts."""
    from scipy.special import log_ndtr, ndtr

    some = np.expm1(epsilon) > -rate  # as it is added below, so that the sum is above 0
    at = np.where(some, epsilon, 0.0)
    t = sigma**2 * np.log((np.expm1(at) + rate) / rate) + 0.5
    with_record = (1 - rate) * ndtr(-t / sigma) + rate * ndtr((1 - t) / sigma)
    # exp(epsilon) may overflow where its product with the tail does not.
    found: Floats = with_record - np.exp(at + log_ndtr(-t / sigma))
    return np.where(some, np.maximum(found, 0.0), -np.expm1(epsilon))


def _add(rate: float, sigma: float, epsilon: Floats) -> Floats:
    """Compute the hockey-stick of P from M, for any real epsilon: 0 from -log(1 - q) on."""
    from scipy.special import log_ndtr, ndtr

    some = np.expm1(-epsilon) > -rate
    at = np.where(some, epsilon, 0.0)
    t = sigma**2 * np.log((np.expm1(-at) + rate) / rate) + 0.5
    stay = math.log1p(-rate) if rate < 1 else -math.inf
    with_record = np.logaddexp(
        stay + log_ndtr(t / sigma), math.log(rate) + log_ndtr((t - 1) / sigma)
    )
    found: Floats = ndtr(t / sigma) - np.exp(at + with_record)
    return np.where(some, np.maximum(found, 0.0), 0.0)
