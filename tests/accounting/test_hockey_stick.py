"""Exact deltas and epsilons: known values, and integrals of another kind."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rdpjax.accounting.exact.hockey_stick import (
    exact_epsilon,
    gaussian_delta,
    least_epsilon,
    one_step_deltas,
    two_step_deltas,
)
from rdpjax.privacy.accountants import pld_epsilon
from rdpjax.privacy.events import Event


@pytest.mark.parametrize(
    ("epsilon", "remove", "add"),
    [
        (0.0, 3.829249e-3, 3.829249e-3),
        (0.005, 2.635151e-3, 9.631e-4),
        (0.1, 7.290038e-5, 0.0),
        (0.5, 2.214519e-7, 0.0),
        (1.0, 2.732009e-9, 0.0),
    ],
)
def test_known_deltas_of_one_step(epsilon: float, remove: float, add: float) -> None:
    found = one_step_deltas(0.01, 1.0, epsilon)
    assert found == pytest.approx((remove, add), rel=1e-4, abs=1e-18)


def densities(rate: float, sigma: float, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    without, shifted = (
        np.exp(-0.5 * ((x - mean) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
        for mean in (0, 1)
    )
    return (1 - rate) * without + rate * shifted, without


@pytest.mark.parametrize(("rate", "sigma"), [(0.01, 0.7), (0.5, 2.0), (1.0, 1.0)])
def test_one_step_is_the_integral_of_the_positive_part(rate: float, sigma: float) -> None:
    x = np.linspace(-14 * sigma, 1 + 14 * sigma, 1_000_001)
    width = x[1] - x[0]
    record, without = densities(rate, sigma, x)
    for epsilon in (0.0, 0.3, 2.0):
        remove = np.maximum(record - math.exp(epsilon) * without, 0).sum() * width
        add = np.maximum(without - math.exp(epsilon) * record, 0).sum() * width
        found = one_step_deltas(rate, sigma, epsilon)
        assert found == pytest.approx((remove, add), rel=1e-8, abs=1e-13)


def test_two_steps_are_the_integral_over_the_plane() -> None:
    first, second, epsilon = (0.2, 1.0), (0.6, 1.5), 0.7
    x = np.linspace(-10, 11, 2501)[:, None]
    y = np.linspace(-13, 14, 2501)[None, :]
    cell = (x[1, 0] - x[0, 0]) * (y[0, 1] - y[0, 0])
    (a, p), (b, r) = densities(*first, x), densities(*second, y)
    remove = np.maximum(a * b - math.exp(epsilon) * p * r, 0).sum() * cell
    add = np.maximum(p * r - math.exp(epsilon) * a * b, 0).sum() * cell
    found = two_step_deltas(first, second, epsilon)
    assert found == pytest.approx((remove, add), rel=1e-5)
    assert two_step_deltas(second, first, epsilon) == pytest.approx(found, rel=1e-10)


def test_full_batches_compose_to_one_gaussian() -> None:
    found = two_step_deltas((1.0, 2.0), (1.0, 1.0), 1.0)
    mu = math.sqrt(1 / 4 + 1)
    assert found == pytest.approx((gaussian_delta(mu, 1.0),) * 2, rel=1e-10)
    plan = [(1.0, 2.0, 1), (1.0, 1.0, 1)]
    assert exact_epsilon(plan, 1e-5) == pytest.approx(
        least_epsilon(lambda e: max(two_step_deltas((1.0, 2.0), (1.0, 1.0), e)), 1e-5), rel=1e-8
    )


@pytest.mark.parametrize("steps", [1, 2])
def test_pld_is_a_hair_above_the_exact_value(steps: int) -> None:
    exact = exact_epsilon([(0.25, 1.0, steps)], 1e-5)
    pld = pld_epsilon([Event("x", "poisson_gaussian", 0.25, 1.0, 1.0, steps)], 1e-5)
    assert exact is not None and pld is not None
    assert exact * (1 - 1e-7) <= pld <= exact * (1 + 1e-6)


@pytest.mark.parametrize(
    ("mu", "epsilon"),
    [
        (1e-8, 0.0),
        (0.1, 0.340669364684326),
        (1.0, 4.37717809568122),
        (30.0, 577.011973688017),
        (1e3, 504263.892920654),
        (1e90, 5e179),
    ],
)
def test_gaussians_of_any_size_have_an_epsilon(mu: float, epsilon: float) -> None:
    """By mpmath to 60 digits; mu^2 / 2 is all that counts at 1e90."""
    found = least_epsilon(lambda epsilon: gaussian_delta(mu, epsilon), 1e-5)
    assert found == pytest.approx(epsilon, rel=5e-9)


def test_where_the_added_record_can_tell_no_more() -> None:
    """At epsilon = -log(1 - q) the threshold is at minus infinity, to the last bit."""
    for rate in (1e-5, 0.1, 0.3, 0.75):
        edge = -math.log1p(-rate)
        at = [edge, *(np.nextafter(edge, to) for to in (0.0, 1.0))]
        assert all(one_step_deltas(rate, 1.0, float(epsilon)).add < 1e-12 for epsilon in at)


def test_a_delta_that_is_spent_on_nothing_costs_nothing() -> None:
    assert exact_epsilon([(0.01, 1.0, 1)], 0.01) == 0.0
    assert exact_epsilon([], 1e-5) == 0.0
