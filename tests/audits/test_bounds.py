"""Lower bounds from scores: against other implementations, and against what they promise."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import binomtest

from rdpjax.audits.bounds import (
    LEAST,
    binomial_bounds,
    certify,
    delta_of_mu,
    epsilon_of_mu,
    epsilon_of_rates,
    mu_of_rates,
)
from rdpjax.errors import UserError
from rdpjax.privacy.accountants import pld_epsilon
from rdpjax.privacy.events import Event

DELTA = 1e-5


@pytest.mark.parametrize(("hits", "trials"), [(0, 40), (1, 40), (20, 40), (40, 40), (300, 10_000)])
def test_binomial_bounds_are_clopper_and_pearsons(hits: int, trials: int) -> None:
    low, high = binomial_bounds(hits, trials, 0.005)
    exact = binomtest(hits, trials).proportion_ci(0.99, method="exact")
    assert (low, high) == pytest.approx((exact.low, exact.high), rel=1e-9)


def test_binomial_bounds_without_trials_say_nothing() -> None:
    assert binomial_bounds(0, 0, 0.01) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("hits", "trials", "failure"), [(-1, 5, 0.1), (6, 5, 0.1), (1, 5, 0.0), (1, 5, 1.0)]
)
def test_binomial_bounds_refuse_what_is_no_count(hits: int, trials: int, failure: float) -> None:
    with pytest.raises(ValueError, match="hits"):
        binomial_bounds(hits, trials, failure)


@pytest.mark.parametrize("mu", [0.05, 0.3, 1.0, 3.0, 10.0, 40.0, 200.0])
def test_epsilon_of_mu_is_that_of_dp_accounting(mu: float) -> None:
    import dp_accounting

    theirs = dp_accounting.get_epsilon_gaussian(1 / mu, DELTA)
    assert epsilon_of_mu(mu, DELTA) == pytest.approx(theirs, rel=1e-6)


def test_epsilon_of_mu_composes_as_the_accountant_does() -> None:
    event = Event("toy", "gaussian", 1.0, 10.0, 1.0, 100)
    assert epsilon_of_mu(1.0, DELTA) == pytest.approx(pld_epsilon([event], DELTA), abs=1e-3)


def test_epsilon_of_mu_at_its_edges() -> None:
    assert [epsilon_of_mu(mu, DELTA) for mu in (-1.0, 0.0, 1e-9)] == [0, 0, 0]
    assert epsilon_of_mu(math.inf, DELTA) == math.inf
    with pytest.raises(ValueError, match="not a number"):
        epsilon_of_mu(math.nan, DELTA)
    with pytest.raises(UserError, match="delta is 1;"):
        epsilon_of_mu(1.0, 1.0)


def test_epsilon_of_mu_inverts_delta_of_mu() -> None:
    for mu in (0.5, 2.0, 20.0):
        assert delta_of_mu(mu, epsilon_of_mu(mu, DELTA)) == pytest.approx(DELTA, rel=1e-6)


def test_rates_of_randomised_response_give_its_epsilon() -> None:
    epsilon = 1.5
    wrong = 1 / (1 + math.exp(epsilon))
    assert epsilon_of_rates(wrong, wrong, 0.0) == pytest.approx(epsilon)


def test_rates_at_their_edges() -> None:
    assert epsilon_of_rates(1.0, 1.0, DELTA) == 0
    assert epsilon_of_rates(0.0, 1.0, DELTA) == 0
    assert epsilon_of_rates(0.0, 0.5, DELTA) == math.inf
    assert mu_of_rates(1.0, 0.3) == -math.inf


def test_rates_of_a_gaussian_give_its_mu() -> None:
    normal = NormalDist()
    for threshold in (-1.0, 0.3, 2.0):
        rates = 1 - normal.cdf(threshold), normal.cdf(threshold - 1.7)
        assert mu_of_rates(*rates) == pytest.approx(1.7)


@pytest.mark.parametrize("mu", [0.0, 0.5, 3.0])
def test_certified_bounds_hold_as_often_as_promised(mu: float) -> None:
    """200 games at failure 0.2; each of three bounds is far below, by the union over six."""
    random, epsilon, wrong = np.random.default_rng(5), epsilon_of_mu(mu, 0.01), 0
    for _ in range(200):
        found = certify(random.normal(size=60) + mu, random.normal(size=60), 0.01, 0.2)
        wrong += found.epsilon > epsilon or found.mu > mu or found.mu_most < mu
    assert wrong <= 200 * 0.2


def test_certified_bounds_come_near_with_many_scores() -> None:
    random = np.random.default_rng(6)
    found = certify(random.normal(size=200_000) + 1, random.normal(size=200_000), DELTA, 0.001)
    assert 0.95 < found.mu <= 1 <= found.mu_most < 1.05
    assert 2 < found.epsilon < 4.3772


def test_a_perfect_attack_reaches_the_ceiling_and_no_attack_passes_it() -> None:
    found = certify(np.ones(1000), np.zeros(1000), DELTA, 0.001)
    assert found.epsilon == found.epsilon_ceiling == pytest.approx(4.05, abs=0.01)
    assert found.mu == found.mu_ceiling
    assert found.mu_most == math.inf
    assert certify(np.full(1000, np.inf), np.full(1000, -np.inf), DELTA, 0.001) == found


def test_scores_that_are_no_numbers_are_wrong_guesses() -> None:
    found = certify(np.full(1000, np.nan), np.full(1000, np.nan), DELTA, 0.001)
    assert (found.epsilon, found.mu) == (0, 0)


def test_equal_scores_certify_nothing() -> None:
    found = certify(np.zeros(1000), np.zeros(1000), DELTA, 0.001)
    assert (found.epsilon, found.mu) == (0, 0)


def test_too_few_scores_are_refused() -> None:
    with pytest.raises(UserError, match="more canaries"):
        certify(np.zeros(LEAST - 1), np.zeros(100), DELTA, 0.001)
    with pytest.raises(UserError, match="delta is 0"):
        certify(np.zeros(100), np.zeros(100), 0.0, 0.001)
