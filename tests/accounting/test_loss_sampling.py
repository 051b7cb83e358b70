"""Sampled deltas: the band holds the exact value, and is narrow enough to find an error."""

from __future__ import annotations

import math

import pytest

from rdpjax.accounting.exact.hockey_stick import exact_epsilon, gaussian_delta, two_step_deltas
from rdpjax.accounting.exact.loss_sampling import best_order, delta_band

RUN_A = [(0.01, 1.0, 1000)]


@pytest.mark.parametrize("seed", range(5))
def test_the_band_holds_exact_deltas(seed: int) -> None:
    for plan, epsilon, true in (
        ([(1.0, 10.0, 100)], 4.0, gaussian_delta(1.0, 4.0)),
        ([(0.1, 1.0, 2)], 1.5, two_step_deltas((0.1, 1.0), (0.1, 1.0), 1.5).remove),
        ([(0.1, 1.0, 1), (0.5, 2.0, 1)], 2.0, two_step_deltas((0.1, 1.0), (0.5, 2.0), 2.0).remove),
    ):
        for order in (3, best_order(plan, true)):
            band = delta_band(plan, epsilon, order=order, seed=seed)
            assert band.low <= true <= band.high
            assert band.low <= band.estimate <= band.high
        assert band.high < 1.5 * band.low


@pytest.mark.parametrize(
    ("epsilon", "delta"), [(1.0, 2.6125e-3), (1.5, 1.0926e-4), (1.8282, 1.0e-5)]
)
def test_a_thousand_steps_agree_with_pld(epsilon: float, delta: float) -> None:
    band = delta_band(RUN_A, epsilon, order=best_order(RUN_A, 1e-5))
    assert band.low < delta < band.high < 1.3 * band.low
    assert band.estimate == pytest.approx(delta, rel=0.05)


def test_too_small_an_epsilon_is_found() -> None:
    """A plan of half the rate, of twice the noise, or the Gaussian limit: delta is not kept."""
    for claimed in (0.9, 1.6177):
        band = delta_band(RUN_A, claimed, order=best_order(RUN_A, 1e-5))
        assert band.low > 2e-5


def test_nothing_is_worth_more_than_the_known_most() -> None:
    """Where no draw reaches epsilon the band still allows for what was not seen."""
    band = delta_band([(1.0, 10.0, 1)], 30.0, order=2, draws=100)
    assert band.low == band.estimate == 0 < band.high < math.inf


def test_the_best_order_is_where_the_conversion_is_least() -> None:
    assert best_order([(1.0, 10.0, 100)], 1e-5) == 5  # of real orders, 5.4
    exact = exact_epsilon([(1.0, 10.0, 100)], 1e-5)
    assert exact is not None
    assert delta_band([(1.0, 10.0, 100)], exact, order=5).low < 1e-5
