"""A lower bound on epsilon from a single run with many canaries, each in or out by a fair coin.

The attacker scores the canaries, guesses "in" for high and "out" for low scores, and abstains in
between. Differential privacy bounds the number of correct guesses.

Steinke, Nasr, Jagielski 2023, Privacy auditing with one (1) training run (arXiv 2305.08846).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MOST = 60.0
"""Upper limit of the search for epsilon: its logistic is 1 in float64."""

_EXTREME = 1e300
"""Finite substitute for an infinite score."""


def p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Bound the probability of `correct` or more right guesses, if the run is (epsilon, delta)-DP.

    Guarantees:
      An upper bound for every attack, if each canary was in or out by an independent fair coin and
      the attacker's only knowledge of the coins is the run's output. Non-decreasing in epsilon. 1
      for no right guess.

    Args:
      canaries: m, the number of coins.
      guesses: r, for how many of them the attacker guessed, at most m.
      correct: v, how many guesses were right, at most r.
      epsilon: The claim, 0 or more.
      delta: In [0, 1).

    Raises:
      ValueError: Counts that do not fit.

    Examples:
      >>> round(p_value(100, 100, 50, 0.0, 0.0), 3), p_value(100, 100, 80, 0.0, 0.0) < 1e-8
      (0.54, True)

    References:
      Theorem 5.2 and Appendix D of arXiv 2305.08846.
    """
    from scipy.stats import binom

    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(f"{correct} right of {guesses} guesses on {canaries} canaries")
    accuracy = 1 / (1 + math.exp(-epsilon))
    beta = float(binom.sf(correct - 1, guesses, accuracy))
    if correct == 0 or delta == 0:
        return min(1.0, beta)
    below = binom.pmf(np.arange(correct - 1, -1, -1), guesses, accuracy)
    alpha = float(np.max(np.cumsum(below) / np.arange(1, correct + 1)))
    return min(1.0, beta + 2 * canaries * delta * alpha)


def epsilon_of_guesses(
    canaries: int, guesses: int, correct: int, delta: float, failure: float
) -> float:
    """Return the lower bound: the largest epsilon that so many right guesses refute.

    Guarantees:
      Wrong, that is above the true epsilon at `delta`, with probability at most `failure`. 0 where
      nothing is refuted.

    Args:
      canaries: m.
      guesses: r, fixed before the scores are seen.
      correct: v.
      delta: In [0, 1).
      failure: In (0, 1).

    Examples:
      >>> round(epsilon_of_guesses(1000, 1000, 1000, 1e-5, 0.05), 2)
      5.78
      >>> epsilon_of_guesses(1000, 1000, 500, 1e-5, 0.05)
      0.0
    """
    if p_value(canaries, guesses, correct, 0.0, delta) > failure:
        return 0.0
    low, high = 0.0, _MOST
    while high - low > 1e-6:
        middle = (low + high) / 2
        refuted = p_value(canaries, guesses, correct, middle, delta) <= failure
        low, high = (middle, high) if refuted else (low, middle)
    return low


def ceiling(canaries: int, guesses: int, delta: float, failure: float) -> float:
    """Return the lower bound of an attack without a wrong guess, the highest for this size.

    Examples:
      >>> round(ceiling(1000, 1000, 1e-5, 0.01), 1) > round(ceiling(1000, 100, 1e-5, 0.01), 1)
      True
    """
    return epsilon_of_guesses(canaries, guesses, guesses, delta, failure)


def null_quantiles(
    canaries: int, guesses: int, delta: float, failure: float, at: tuple[float, ...]
) -> tuple[float, ...]:
    """Compute quantiles of the lower bound under the null: scores independent of the coins.

    Exact: the number of right guesses is then Binomial(guesses, 1/2).

    Examples:
      >>> null_quantiles(1000, 1000, 1e-5, 0.05, (0.5, 0.9))
      (0.0, 0.0)
      >>> null_quantiles(1000, 1000, 1e-5, 0.05, (0.999,))[0] > 0
      True
    """
    from scipy.stats import binom

    correct = [int(binom.ppf(quantile, guesses, 0.5)) for quantile in at]
    return tuple(epsilon_of_guesses(canaries, guesses, v, delta, failure) for v in correct)


@dataclass(frozen=True)
class Guessed:
    """Guesses of an attack in one run.

    Attributes:
      guesses: Number of canaries guessed for.
      correct: Number of right guesses.
    """

    guesses: int
    correct: int


def guess(scores: NDArray[np.float64], coins: NDArray[np.bool_], guesses: int) -> Guessed:
    """Guess "in" for scores above the middle and "out" below, for the `guesses` furthest from it.

    The middle lies half way between the scores' first and last decile: for a bimodal distribution
    it is between the modes, whichever is larger.

    Guarantees:
      Which canaries are guessed for, and how, depends on the scores and on nothing else; equal
      distances go by the order of the canaries, which the coins are independent of. Infinite
      scores are the most extreme, and those that are not a number lie at the middle.

    Args:
      scores: One a canary, higher meaning "in".
      coins: Whether each canary was in.
      guesses: At most the number of canaries, of which there is at least one.

    Examples:
      >>> guess(np.array([3.0, -2.0, 0.1, 0.2]), np.array([True, False, True, True]), 2)
      Guessed(guesses=2, correct=2)
    """
    known = np.nan_to_num(scores[~np.isnan(scores)], posinf=_EXTREME, neginf=-_EXTREME)
    middle = np.quantile(known, (0.1, 0.9), method="nearest").mean() if len(known) else 0.0
    away = np.nan_to_num(scores, nan=middle, posinf=_EXTREME, neginf=-_EXTREME) - middle
    chosen = np.argsort(-np.abs(away), kind="stable")[:guesses]
    return Guessed(guesses, int(((away > 0) == coins)[chosen].sum()))
