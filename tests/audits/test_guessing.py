"""One run, many canaries: against the paper's own code, and against what it promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from rdpjax.audits.guessing import (
    Guessed,
    ceiling,
    epsilon_of_guesses,
    guess,
    null_quantiles,
    p_value,
)


def papers_p_value(m: int, r: int, v: int, eps: float, delta: float) -> float:
    """Appendix D of arXiv 2305.08846, term by term."""
    q = 1 / (1 + math.exp(-eps))
    beta = binom.sf(v - 1, r, q)
    alpha, total = 0.0, 0.0
    for i in range(1, v + 1):
        total += binom.pmf(v - i, r, q)
        alpha = max(alpha, total / i)
    return min(1.0, beta + alpha * delta * 2 * m)


@pytest.mark.parametrize("counts", [(1000, 1000, 700), (1000, 200, 190), (50, 50, 50), (50, 10, 1)])
@pytest.mark.parametrize("epsilon", [0.0, 0.7, 3.0])
@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-2])
def test_p_value_is_the_papers(counts: tuple[int, int, int], epsilon: float, delta: float) -> None:
    assert p_value(*counts, epsilon, delta) == pytest.approx(
        papers_p_value(*counts, epsilon, delta), rel=1e-9
    )


def test_p_value_at_its_edges() -> None:
    assert p_value(10, 10, 0, 1.0, 1e-5) == 1
    assert p_value(10, 0, 0, 1.0, 1e-5) == 1
    for counts in ((10, 11, 5), (10, 5, 6), (10, 5, -1)):
        with pytest.raises(ValueError, match="canaries"):
            p_value(*counts, 1.0, 1e-5)


def test_jax_privacy_gives_the_same_bound_where_it_guesses_in_alone() -> None:
    from jax_privacy.auditing import CanaryScoreAuditor, Explicit

    random = np.random.default_rng(0)
    inside, outside = random.normal(size=400) + 2.5, random.normal(size=400)
    at = float(np.sort(np.concatenate([inside, outside]))[-300])
    theirs = CanaryScoreAuditor(inside, outside).epsilon_one_run(
        0.05, 1e-5, threshold_strategy=Explicit(at)
    )
    right = int((inside >= at).sum())
    assert epsilon_of_guesses(800, 300, right, 1e-5, 0.05) == pytest.approx(theirs, abs=1e-3)


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 3.0])
def test_randomised_response_is_bounded_and_nearly_reached(epsilon: float) -> None:
    """The mechanism that is worst for the theorem: 500 runs, at failure 0.05."""
    random, right = np.random.default_rng(1), 1 / (1 + math.exp(-epsilon))
    correct, times = np.unique(random.binomial(1000, right, size=500), return_counts=True)
    found = [epsilon_of_guesses(1000, 1000, int(v), 0.0, 0.05) for v in correct]
    assert times[np.array(found) > epsilon].sum() <= 0.08 * 500
    assert np.median(np.repeat(found, times)) >= epsilon - 0.45


def test_the_ceiling_is_what_no_bound_passes() -> None:
    assert ceiling(1000, 1000, 1e-5, 0.05) == pytest.approx(5.78, abs=0.01)
    assert ceiling(1000, 1000, 1e-5, 0.01) < ceiling(1000, 1000, 1e-5, 0.05)
    bounds = [epsilon_of_guesses(100, 100, v, 1e-5, 0.05) for v in range(101)]
    assert bounds == sorted(bounds)
    assert bounds[-1] == ceiling(100, 100, 1e-5, 0.05)


def test_the_null_distribution_is_that_of_fair_coins() -> None:
    random = np.random.default_rng(2)
    correct, times = np.unique(random.binomial(400, 0.5, size=4000), return_counts=True)
    bounds = [epsilon_of_guesses(400, 400, int(v), 1e-5, 0.05) for v in correct]
    thrown = np.quantile(np.repeat(bounds, times), (0.9, 0.99), method="higher")
    assert null_quantiles(400, 400, 1e-5, 0.05, (0.9, 0.99)) == pytest.approx(thrown, abs=0.05)


def test_guesses_are_the_extremes() -> None:
    scores = np.array([5.0, -4.0, 1.2, -1.1])
    coins = np.array([True, True, True, False])
    correct = [guess(scores, coins, count).correct for count in range(5)]
    assert correct == [0, 1, 1, 2, 3]


def test_a_perfect_attack_is_right_however_the_coins_fell() -> None:
    for share in (0.3, 0.5, 0.8):
        coins = np.random.default_rng(3).random(500) < share
        assert guess(2.0 * coins - 7, coins, 500) == Guessed(500, 500)


def test_scores_that_are_not_finite() -> None:
    scores = np.array([np.nan, np.inf, -np.inf])
    coins = np.array([True, True, False])
    assert guess(scores, coins, 2) == Guessed(2, 2)
    assert guess(np.full(3, np.nan), coins, 3) == Guessed(3, 1)


def test_guesses_on_nothing_are_right_half_of_the_time() -> None:
    random = np.random.default_rng(4)
    right = [
        guess(random.normal(size=200), random.random(200) < 0.5, 60).correct for _ in range(300)
    ]
    assert abs(np.mean(right) - 30) < 5 * np.sqrt(60 / 4 / 300)
