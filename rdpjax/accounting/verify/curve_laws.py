"""Properties of the subsampled Gaussian's Rényi curve, checked on an accountant."""

from __future__ import annotations

import functools
import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rdpjax.accounting.exact.divergence import Both, renyi_at_integers, renyi_by_quadrature
from rdpjax.accounting.exact.loss_sampling import Step
from rdpjax.accounting.verify.candidate import Candidate, Fault
from rdpjax.accounting.verify.properties import Cases, Check
from rdpjax.privacy.events import round_up_rate

RATES = tuple(round_up_rate(rate) for rate in (0.001, 0.01, 0.1, 0.5, 1.0))
SIGMAS = (0.5, 0.7, 1.0, 2.0, 4.0)
INTEGERS = (2.0, 3.0, 5.0, 8.0, 16.0, 32.0)
FRACTIONS = (1.1, 1.5, 2.5, 6.5)
POINTS = 200
GRID = tuple((rate, sigma) for rate in RATES for sigma in SIGMAS)


@functools.cache
def quadrature(rate: float, sigma: float) -> dict[float, Both]:
    """Compute both divergences at all orders of the grid; takes a second per (q, sigma)."""
    return renyi_by_quadrature(rate, sigma, (*INTEGERS, *FRACTIONS))


def curve_checks(candidate: Candidate) -> list[Check]:
    """Return the checks of an accountant that exposes its Rényi curve.

    Equality, monotonicity and convexity are required at integer orders. At fractional orders many
    accountants give upper bounds, or infinity where their series fails; there the exact value is
    the lower limit. The upper limit, at orders above 2, is 1.2 times it; infinity is allowed, and
    so is a value no better than that of the next integer order, since no epsilon comes of it. Below
    2 dp-accounting may be several times too high: valid, but loose.
    """

    def exact(rate: float, sigma: float, order: float) -> float:
        return max(quadrature(rate, sigma)[order])

    def integers() -> Cases:
        for rate, sigma in GRID:
            curve = candidate.rdp([(rate, sigma, 1)], INTEGERS)
            for order, found in zip(INTEGERS, curve, strict=True):
                true = exact(rate, sigma, order)
                yield _at(rate, sigma, order), abs(found - true) / true

    def drawn_integers() -> Cases:
        for rate, sigma, steps in _drawn():
            curve = candidate.rdp([(rate, sigma, steps)], INTEGERS) / steps
            true = renyi_at_integers(rate, sigma, [int(order) for order in INTEGERS])
            # Both have absolute rounding errors of 1e-15: the smallest values have few digits.
            off = np.max(abs(curve - true) / np.maximum(true, 1e-4))
            yield f"{_at(rate, sigma)}, {steps} steps", float(off)

    def drawn_fractions() -> Cases:
        for rate, sigma, steps in _drawn():
            curve = candidate.rdp([(rate, sigma, steps)], FRACTIONS) / steps
            floors = least(rate, sigma)
            off = np.max((floors - curve) / np.maximum(floors, 1e-8))
            yield f"{_at(rate, sigma)}, {steps} steps", float(off)

    def floor() -> Cases:
        for rate, sigma in GRID:
            curve = candidate.rdp([(rate, sigma, 1)], FRACTIONS)
            for order, found in zip(FRACTIONS, curve, strict=True):
                yield _at(rate, sigma, order), 1 - found / exact(rate, sigma, order)

    def ceiling() -> Cases:
        orders = [order for order in FRACTIONS if order > 2]
        for rate, sigma in GRID:
            curve = candidate.rdp([(rate, sigma, 1)], orders)
            beaten = renyi_at_integers(rate, sigma, [math.ceil(order) for order in orders])
            for order, found, next_order in zip(orders, curve, beaten, strict=True):
                over = found / exact(rate, sigma, order) - 1
                yield _at(rate, sigma, order), 0.0 if found >= next_order else over

    def full_batch() -> Cases:
        orders = (*FRACTIONS, *INTEGERS)
        for sigma in SIGMAS:
            curve = candidate.rdp([(1.0, sigma, 1)], orders)
            for order, found in zip(orders, curve, strict=True):
                off = abs(found / (order / (2 * sigma**2)) - 1)
                yield _at(1.0, sigma, order), 0.0 if order % 1 and math.isinf(found) else off

    def order_two() -> Cases:
        for rate, sigma in GRID:
            true = math.log1p(rate**2 * math.expm1(sigma**-2))
            found = candidate.rdp([(rate, sigma, 1)], [2.0])[0]
            yield _at(rate, sigma, 2.0), abs(found / true - 1)

    def nothing_drawn() -> Cases:
        try:
            curve = candidate.rdp([(0.0, 1.0, 10)], INTEGERS)
        except Fault:
            yield "refused", 0.0
        else:
            yield "q 0, sigma 1, 10 steps", float(np.max(curve))

    def rising() -> Cases:
        for rate, sigma in GRID:
            curve = candidate.rdp([(rate, sigma, 1)], INTEGERS)
            for (low, before), (_, after) in pairwise(zip(INTEGERS, curve, strict=True)):
                yield _at(rate, sigma, low), before / after - 1

    def convex() -> Cases:
        # (a - 1) D_a is the logarithm of a moment, which is convex in a and 0 at a = 1.
        for rate, sigma in GRID:
            moments = candidate.rdp([(rate, sigma, 1)], INTEGERS) * (np.array(INTEGERS) - 1)
            points = [(1.0, 0.0), *zip(INTEGERS, moments, strict=True)]
            for (a, x), (b, y), (c, z) in zip(points, points[1:], points[2:], strict=False):
                yield _at(rate, sigma, b), y / (x + (z - x) * (b - a) / (c - a)) - 1

    def monotone() -> Cases:
        for sigma in SIGMAS:
            curves = [candidate.rdp([(rate, sigma, 1)], INTEGERS) for rate in RATES]
            for rate, (less, more) in zip(RATES, pairwise(curves), strict=False):
                yield f"q above {rate:g}, sigma {sigma:g}", float(np.max(less / more)) - 1
        for rate in RATES:
            curves = [candidate.rdp([(rate, sigma, 1)], INTEGERS) for sigma in SIGMAS]
            for sigma, (more, less) in zip(SIGMAS, pairwise(curves), strict=False):
                yield f"q {rate:g}, sigma above {sigma:g}", float(np.max(less / more)) - 1

    def folds() -> Cases:
        for rate, sigma in ((RATES[1], 1.0), (RATES[3], 2.0), (1.0, 4.0)):
            once = candidate.rdp([(rate, sigma, 1)], INTEGERS)
            for count in (2, 3, 1000):
                at_once = candidate.rdp([(rate, sigma, count)], INTEGERS)
                yield f"q {rate:g}, {count} steps", float(np.max(abs(at_once / once / count - 1)))
            apart = candidate.rdp([(rate, sigma, 1), (rate, sigma, 2)], INTEGERS)
            yield f"q {rate:g}, 1 and 2 steps", float(np.max(abs(apart / once / 3 - 1)))
        parts = [(RATES[1], 1.0, 1), (RATES[3], 2.0, 2), (1.0, 4.0, 5)]
        together = candidate.rdp(parts, INTEGERS)
        summed = sum(candidate.rdp([part], INTEGERS) for part in parts)
        yield "three stages", float(np.max(abs(together / summed - 1)))

    return [
        Check("RDP at integer orders is the quadrature's", 1e-10, integers),
        Check(f"RDP at integer orders of {POINTS} random plans is exact", 1e-10, drawn_integers),
        Check(
            f"RDP at fractional orders of {POINTS} random plans is not low", 1e-6, drawn_fractions
        ),
        Check("RDP at fractional orders is at least the quadrature's", 1e-6, floor),
        Check("RDP at fractional orders above 2 is at most 1.2 times it", 0.2, ceiling),
        Check("RDP at q = 1 is a / (2 sigma^2)", 1e-12, full_batch),
        Check("RDP at order 2 is log(1 + q^2 (exp(1 / sigma^2) - 1))", 1e-10, order_two),
        Check("RDP at q = 0 is 0, or refused", 0.0, nothing_drawn),
        Check("RDP never falls with the order", 1e-12, rising),
        Check("(a - 1) RDP is convex in the order", 1e-12, convex),
        Check("RDP never falls with q nor rises with sigma", 1e-12, monotone),
        Check("RDP of n steps is n times that of one; stages add", 1e-12, folds),
    ]


def _drawn() -> list[Step]:
    """Draw plans between and beyond the grid's points, their divergence above rounding."""
    random = np.random.default_rng(0)
    rates, sigmas, steps = (
        np.exp(random.uniform(math.log(low), math.log(high), POINTS))
        for low, high in ((1e-4, 1.0), (0.3, 20.0), (1.0, 20_000.0))
    )
    return [
        (round_up_rate(float(rate)), float(sigma), int(count))
        for rate, sigma, count in zip(rates, sigmas, steps, strict=True)
    ]


def least(rate: float, sigma: float) -> NDArray[np.float64]:
    """Compute lower bounds of the divergences at `FRACTIONS`, float64, [orders].

    (a - 1) D_a is convex, and known at the integers: it lies above the lines through the two next
    integers on either side.
    """
    integers = renyi_at_integers(rate, sigma, range(2, math.ceil(max(FRACTIONS)) + 2))
    bent = np.array([0.0, 0.0, *(integers * np.arange(1, len(integers) + 1))])
    orders = np.array(FRACTIONS)
    below = np.floor(orders).astype(int)
    left = bent[below] + (orders - below) * (bent[below] - bent[below - 1])
    right = bent[below + 1] - (below + 1 - orders) * (bent[below + 2] - bent[below + 1])
    floors: NDArray[np.float64] = np.maximum(left, right) / (orders - 1)
    return floors


def _at(rate: float, sigma: float, order: float | None = None) -> str:
    at = f"q {rate:g}, sigma {sigma:g}"
    return at if order is None else f"{at}, order {order:g}"
