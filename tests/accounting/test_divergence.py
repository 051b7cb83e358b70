"""Rényi divergences from first principles: known values, and one way against another."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rdpjax.accounting.exact.divergence import (
    classic_epsilon,
    log_mixture,
    renyi_at_integers,
    renyi_by_quadrature,
    renyi_on_lattice,
)

# (q, sigma, order): D(M || P), D(P || M); found by adaptive quadrature of another kind.
KNOWN = {
    (0.01, 1.0, 1.1): (9.24147e-5, 8.98764e-5),
    (0.01, 1.0, 1.5): (1.272537e-4, 1.214760e-4),
    (0.01, 1.0, 2): (1.718134e-4, 1.602226e-4),
    (0.01, 1.0, 8): (8.936439e-4, 5.723889e-4),
    (0.01, 1.0, 32): (11.246275937, 1.6923e-3),
    (0.1, 2.0, 1.7): (2.391457e-3, 2.250285e-3),
    (0.5, 0.7, 1.3): (0.457700, 0.241097),
    (0.5, 0.7, 6.5): (5.8134949, 0.462560),
}


@pytest.mark.parametrize("at", KNOWN, ids=str)
def test_known_values(at: tuple[float, float, float]) -> None:
    rate, sigma, order = at
    found = renyi_by_quadrature(rate, sigma, [order])[order]
    assert found == pytest.approx(KNOWN[at], rel=3e-5)


def test_full_batches_cost_the_same_both_ways() -> None:
    for order, both in renyi_by_quadrature(1.0, 3.0, (1.5, 8, 32)).items():
        assert both == pytest.approx((order / 18, order / 18), rel=1e-15)


def test_order_two_has_a_closed_form() -> None:
    for rate, sigma in ((0.001, 0.6), (0.3, 1.0), (1.0, 2.0)):
        found = renyi_by_quadrature(rate, sigma, [2])[2].remove
        true = math.log1p(rate**2 * math.expm1(sigma**-2))
        assert found == pytest.approx(true, rel=1e-14)


def test_the_binomial_theorem_agrees_with_quadrature() -> None:
    for rate, sigma in ((0.02, 0.8), (0.5, 1.5), (1.0, 1.0)):
        both = renyi_by_quadrature(rate, sigma, (2, 3, 7, 12))
        found = renyi_at_integers(rate, sigma, (2, 3, 7, 12))
        assert found == pytest.approx([b.remove for b in both.values()], rel=1e-12)


def test_weights_are_those_of_the_mixture() -> None:
    """P r^a is a mixture of N(k, sigma^2): its mean is the derivative of log E[exp(t x)] at 0."""
    rate, sigma, order = 0.3, 1.2, 4
    weights = np.exp(log_mixture(rate, sigma, order))
    x = np.linspace(-15, 20, 20001)
    density = np.exp(-0.5 * (x / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
    density *= (1 - rate + rate * np.exp((2 * x - 1) / (2 * sigma**2))) ** order
    width = x[1] - x[0]
    assert weights.sum() == pytest.approx(density.sum() * width, rel=1e-12)
    mean = weights @ np.arange(order + 1)
    assert mean == pytest.approx((x * density).sum() * width, rel=1e-12)


@pytest.mark.parametrize(("sigma", "shift"), [(3.0, 2), (1.0, 1), (0.6, 1)])
def test_the_lattice_costs_what_the_continuum_does_when_a_record_is_removed(
    sigma: float, shift: int
) -> None:
    for order in (2, 3, 8):
        found = renyi_on_lattice(0.1, sigma, shift, order)
        (exact,) = renyi_at_integers(0.1, sigma / shift, [order])
        assert found.remove == pytest.approx(exact, rel=1e-11)
        assert found.add <= found.remove


def test_fractional_orders_of_the_lattice_are_another_matter() -> None:
    """Why discrete noise is accounted at integer orders: between them the identity fails.

    At order 1/2 beyond an integer the shifted sums of the lattice differ from the sum itself.
    """
    sigma, x = 0.3, np.arange(-40, 41)
    at = [np.exp(-0.5 * ((x - k) / sigma) ** 2).sum() for k in (0.0, 0.5, 1.0)]
    assert at[2] == pytest.approx(at[0], rel=1e-14)
    assert abs(at[1] / at[0] - 1) > 0.1


def test_the_classic_conversion() -> None:
    """For Gaussians, mu^2 / 2 + mu sqrt(2 log(1 / delta)) at the best real order."""
    orders = np.linspace(1.01, 60, 100_000)
    found = classic_epsilon((orders / 2).tolist(), orders.tolist(), 1e-5)
    assert found == pytest.approx(0.5 + math.sqrt(2 * math.log(1e5)), rel=1e-6)
    assert classic_epsilon([math.inf, 0.5], [2, 3], 1e-5) == 0.5 + math.log(1e5) / 2
