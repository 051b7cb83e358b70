"""Rényi divergences of one sampled Gaussian step from first principles, to 40 digits.

Nothing here shares a formula with dp-accounting: accountants are verified against it.

A step draws the record with probability q and adds noise of standard deviation sigma, in units of
the clip norm. P = N(0, sigma^2) is its output without the record, M = (1 - q) P + q N(1, sigma^2)
with it, and r(x) = M(x) / P(x) = 1 - q + q exp((2x - 1) / (2 sigma^2)). Then

    (a - 1) D_a(M || P) = log E_P[r^a],        (a - 1) D_a(P || M) = log E_P[r^(1 - a)].
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_DIGITS = 50  # working digits; 40 are guaranteed
_REACH = 14.5  # standard deviations: what lies beyond is below 1e-45 of any of the integrals


class Both(NamedTuple):
    """Rényi divergences of one order.

    Attributes:
      remove: D_a(M || P), of the output with the record from the one without.
      add: D_a(P || M), the other way round.
    """

    remove: float
    add: float


def renyi_by_quadrature(rate: float, sigma: float, orders: Sequence[float]) -> dict[float, Both]:
    """Compute both Rényi divergences of one step, by summing the module docstring's integrals.

    The integrands are analytic and decay like a Gaussian, so that the trapezoidal rule gains digits
    exponentially as its step shrinks (Trefethen and Weideman 2014, SIAM Review 56(3)). Two grids,
    one between the points of the other, must agree.

    Guarantees:
      40 significant digits of the expectations, from which the float64 results are rounded.

    Args:
      rate: Sampling rate q, in (0, 1].
      sigma: Noise multiplier, above 0.
      orders: Rényi orders, all above 1.

    Returns:
      The divergences, by order.

    Raises:
      ArithmeticError: The two grids disagree, so that the value cannot be trusted.

    Examples:
      >>> both = renyi_by_quadrature(0.01, 1.0, [8])[8]
      >>> f"{both.remove:.6e} {both.add:.6e}"
      '8.936439e-04 5.723889e-04'
    """
    from mpmath import mp

    with mp.workdps(_DIGITS):
        q, s, most = mp.mpf(rate), mp.mpf(sigma), float(max(orders))
        # The strip of analyticity of fractional and negative powers of r ends at pi sigma^2.
        step = math.pi**2 * sigma**2 / (100 + 1.5 * sigma**2)
        count = math.ceil((most + _REACH * sigma) / step)
        grids = []
        for shift in (0.0, 0.5):
            # In 50 digits: rounded to float64, the points would not be evenly spaced.
            points = [(k + shift) * mp.mpf(step) for k in range(-count, count + 1)]
            weights = [mp.exp(-x * x / (2 * s * s)) * step / (s * mp.sqrt(2 * mp.pi))
                       for x in points]  # fmt: skip
            exponents = [(2 * x - 1) / (2 * s * s) for x in points]
            # At q = 1 the loss is the exponent itself: exp, then log would lose its digits.
            losses = exponents if q == 1 else [mp.log1p(q * mp.expm1(e)) for e in exponents]
            grids.append(list(zip(weights, losses, strict=True)))

        def expectation(power: float) -> Any:
            """Compute E_P[r^power]; its mass lies between the means 0 and `power`."""
            low, high = min(0.0, power) - _REACH * sigma, max(0.0, power) + _REACH * sigma
            part = slice(max(0, count + math.floor(low / step)), count + math.ceil(high / step) + 1)
            once, twice = (
                mp.fsum(weight * mp.exp(power * loss) for weight, loss in grid[part])
                for grid in grids
            )
            if not abs(once - twice) < mp.mpf(10) ** -40 * once:
                raise ArithmeticError(f"quadrature of order {power:g} at q={rate}, sigma={sigma}")
            return (once + twice) / 2

        return {
            a: Both(*(float(mp.log(expectation(power)) / (a - 1)) for power in (a, 1 - a)))
            for a in orders
        }


def renyi_on_lattice(rate: float, sigma: float, shift: int, order: int) -> Both:
    """Compute both Rényi divergences of a discrete Gaussian step, by exact summation.

    Args:
      rate: Sampling rate q, in (0, 1].
      sigma: Parameter of the discrete Gaussian, in lattice units.
      shift: What the record adds, in lattice units.
      order: Rényi order, above 1.

    Returns:
      The divergences; the noise multiplier that they belong to is sigma / shift.

    Examples:
      >>> both = renyi_on_lattice(0.1, 3.0, 2, 4)
      >>> f"{both.remove:.9f} {renyi_at_integers(0.1, 1.5, [4])[0]:.9f}"
      '0.012622657 0.012622657'

    References:
      Canonne, Kamath, Steinke 2020 (arXiv 2004.00010), Definition 1.
    """
    from mpmath import mp

    with mp.workdps(_DIGITS):
        q, s = mp.mpf(rate), mp.mpf(sigma)
        edge = order * shift + math.ceil(_REACH * sigma)
        points = range(-edge, edge + 1)
        masses = [mp.exp(-(mp.mpf(x) ** 2) / (2 * s * s)) for x in points]
        ratios = [1 - q + q * mp.exp(mp.mpf(2 * x * shift - shift**2) / (2 * s * s))
                  for x in points]  # fmt: skip
        total = mp.fsum(masses)

        def divergence(power: int) -> float:
            moment = mp.fsum(m * r**power for m, r in zip(masses, ratios, strict=True)) / total
            return float(mp.log(moment) / (order - 1))

        return Both(divergence(order), divergence(1 - order))


@functools.lru_cache(maxsize=256)
def _log_binomials(order: int) -> NDArray[np.float64]:
    from scipy.special import gammaln

    k = np.arange(order + 1)
    logs: NDArray[np.float64] = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
    return logs


def log_mixture(rate: float, sigma: float, order: int) -> NDArray[np.float64]:
    """Return log[binom(a, k) (1 - q)^(a - k) q^k exp((k^2 - k) / (2 sigma^2))] for k = 0 to a.

    Their exponentials sum to E_P[r^a]; they are the weights of N(k, sigma^2) in the law P r^a.

    Args:
      rate: Sampling rate q, in (0, 1].
      sigma: Noise multiplier, above 0.
      order: a, 1 or more.

    Returns:
      float64, [order + 1].

    Examples:
      >>> float(np.exp(log_mixture(0.25, 1.0, 1)).sum())
      1.0
    """
    k = np.arange(order + 1)
    stay = np.log1p(-rate) * (order - k) if rate < 1 else np.where(k == order, 0.0, -np.inf)
    logs: NDArray[np.float64] = (
        _log_binomials(order) + stay + k * math.log(rate) + (k * k - k) / (2 * sigma**2)
    )
    return logs


def renyi_at_integers(rate: float, sigma: float, orders: Sequence[int]) -> NDArray[np.float64]:
    """Compute D_a(M || P) at integer orders, by the binomial theorem, in float64.

    Args:
      rate: Sampling rate q, in (0, 1].
      sigma: Noise multiplier, above 0.
      orders: Rényi orders, above 1.

    Returns:
      float64, [orders].

    Examples:
      >>> float(renyi_at_integers(1.0, 3.0, [9])[0])
      0.5

    References:
      Mironov, Talwar, Zhang 2019 (arXiv 1908.10530), section 3.3.
    """
    from scipy.special import logsumexp

    return np.array([logsumexp(log_mixture(rate, sigma, a)) / (a - 1) for a in orders])


def classic_epsilon(curve: Sequence[float], orders: Sequence[float], delta: float) -> float:
    """Convert RDP to epsilon by Mironov's original bound: valid, looser than today's.

    Args:
      curve: Rényi divergences, infinite where unknown.
      orders: Their orders, all above 1.
      delta: In (0, 1).

    Returns:
      The least of D_a + log(1 / delta) / (a - 1).

    Examples:
      >>> round(classic_epsilon([0.5 * a for a in (2, 4, 6, 8)], (2, 4, 6, 8), 1e-5), 3)
      5.303

    References:
      Mironov 2017 (arXiv 1702.07476), Proposition 3.
    """
    at = np.asarray(orders, np.float64)
    return float(np.min(np.asarray(curve, np.float64) + math.log(1 / delta) / (at - 1)))
