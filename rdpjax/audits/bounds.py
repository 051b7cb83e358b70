"""Lower bounds on epsilon from experiments that distinguish canaries "in" from canaries "out".

An attacker gives every canary a score. The rates at which a threshold is wrong about canaries that
were out (false positives) and in (false negatives) bound from below what the mechanism can claim:
the epsilon of any mechanism, and the mu of a Gaussian one, the distance of the two means in
standard deviations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rdpjax.errors import UserError
from rdpjax.privacy.accountants import check_delta

Scores = NDArray[np.float64]

LEAST = 8
"""Least number of scores of each kind: four to choose a threshold by, four to test it on."""

THRESHOLDS = 401
"""Number of score quantiles tried as thresholds."""


def binomial_bounds(hits: int, trials: int, failure: float) -> tuple[float, float]:
    """Compute one-sided Clopper-Pearson bounds of a probability, each of failure <= `failure`.

    Guarantees:
      If `hits` is Binomial(trials, p), the lower bound exceeds p with probability at most
      `failure`, and so does the upper one fall below it. No trials give (0, 1).

    Args:
      hits: From 0 to `trials`.
      trials: Number of independent trials with the same probability.
      failure: In (0, 1).

    Raises:
      ValueError: `hits` is outside [0, trials], or `failure` outside (0, 1).

    Examples:
      >>> [round(bound, 4) for bound in binomial_bounds(0, 100, 0.025)]
      [0.0, 0.0362]
      >>> [round(bound, 4) for bound in binomial_bounds(50, 100, 0.025)]
      [0.3983, 0.6017]

    References:
      Clopper, Pearson 1934, The use of confidence or fiducial limits, Biometrika 26.
    """
    if not 0 <= hits <= trials or not 0 < failure < 1:
        raise ValueError(f"{hits} hits in {trials} trials at failure {failure}")
    low, high = _clopper_pearson(np.array([hits]), trials, failure)[:, 0].tolist()
    return low, high


def epsilon_of_rates(false_positive: float, false_negative: float, delta: float) -> float:
    """Return the least epsilon at `delta` of any mechanism with these error rates of an attack.

    Guarantees:
      An (epsilon, delta)-private mechanism has FNR >= 1 - delta - e**epsilon FPR for every attack,
      and the same with the two exchanged. Upper bounds of the rates give a lower bound of epsilon.
      0 where the rates say nothing; infinite at a rate of 0.

    Examples:
      >>> round(epsilon_of_rates(0.01, 0.5, 1e-5), 3), epsilon_of_rates(0.5, 0.5, 1e-5)
      (3.912, 0.0)

    References:
      Kairouz, Oh, Viswanath 2015 (arXiv 1311.0776); Jagielski et al. 2020 (2006.07709).
    """

    def one_side(rate: float, other: float) -> float:
        power = 1 - delta - other
        if power <= rate:
            return 0.0
        return math.log(power / rate) if rate > 0 else math.inf

    return max(one_side(false_positive, false_negative), one_side(false_negative, false_positive))


def mu_of_rates(false_positive: float, false_negative: float) -> float:
    """Return the mu at which a Gaussian mechanism's best test has these rates; < 0 below chance.

    Examples:
      >>> round(mu_of_rates(0.5, 0.158655), 4)
      1.0

    References:
      Dong, Roth, Su 2022, Gaussian differential privacy (arXiv 1905.02383), Section 2.
    """
    from scipy.special import ndtri

    return float(-ndtri(false_positive) - ndtri(false_negative))


def delta_of_mu(mu: float, epsilon: float) -> float:
    """Compute delta at `epsilon` of the Gaussian mechanism with mu = sensitivity / deviation.

    Examples:
      >>> f"{delta_of_mu(1.0, 4.37718):.2e}"
      '1.00e-05'

    References:
      Balle, Wang 2018, Improving the Gaussian mechanism (arXiv 1805.06530), Theorem 8.
    """
    from scipy.special import log_ndtr

    if mu <= 0:
        return 0.0
    first = float(log_ndtr(mu / 2 - epsilon / mu))
    second = epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))
    return math.exp(first) * max(0.0, -math.expm1(second - first))


def epsilon_of_mu(mu: float, delta: float) -> float:
    """Compute epsilon at `delta` of a Gaussian mechanism: exact, also for T composed steps.

    Guarantees:
      T steps with mu_1, …, mu_T cost what one of mu = sqrt(mu_1**2 + … + mu_T**2) costs. 0 for mu
      of 0 or below, infinite for an infinite one; increasing in mu.

    Raises:
      UserError: `delta` is outside (0, 1).

    Examples:
      >>> round(epsilon_of_mu(1.0, 1e-5), 4), round(epsilon_of_mu(10.0, 1e-5), 1)
      (4.3772, 91.8)
    """
    delta = check_delta(delta)
    if math.isnan(mu):
        raise ValueError("mu is not a number")
    if mu == math.inf:
        return math.inf
    low, high = 0.0, 1.0
    if delta_of_mu(mu, 0.0) <= delta:
        return 0.0
    while delta_of_mu(mu, high) > delta:
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_of_mu(mu, middle) > delta else (low, middle)
    return high


@dataclass(frozen=True)
class Bounds:
    """Bounds that an attack certifies, all valid at once with the requested confidence.

    Attributes:
      epsilon: Lower bound at `delta` for a mechanism of any kind; 0 at least.
      mu: Lower bound of the mu of a Gaussian mechanism; 0 at least.
      mu_most: Upper bound of the mu that this attack finds, at the same threshold.
      epsilon_ceiling: Lower bound from a perfect attack on as many canaries.
      mu_ceiling: The same of mu.
    """

    epsilon: float
    mu: float
    mu_most: float
    epsilon_ceiling: float
    mu_ceiling: float


def certify(inside: Scores, outside: Scores, delta: float, failure: float) -> Bounds:
    """Compute lower bounds from the scores of canaries that were in and of canaries that were out.

    The threshold for epsilon is the best on the first half of either kind, the one for mu lies
    midway between the medians of the two first halves. Both are tested on the second halves, so
    that the choice costs no confidence.

    Guarantees:
      If the scores are independent, and the mechanism is (epsilon, delta)-private, its bound is
      wrong with probability at most `failure`; and so, of a Gaussian mechanism, are the two bounds
      of mu. All hold together: `failure` is split evenly over the six one-sided bounds of rates.
      Where the rate differs from score to score (step to step) it stands for its mean: trade-off
      functions are convex, so that the mean keeps to them too. NaN counts as a wrong guess.

    Args:
      inside: Scores of canaries that were in; higher should mean "in".
      outside: Scores of canaries that were out.
      delta: In (0, 1).
      failure: Probability that any of the bounds is wrong, in (0, 1).

    Raises:
      UserError: Too few scores to choose a threshold and to test it.

    Examples:
      >>> rng = np.random.default_rng(0)
      >>> noise = rng.normal(size=(2, 20_000))
      >>> found = certify(noise[0] + 1, noise[1], 1e-5, 0.001)
      >>> 0.85 < found.mu < 1 < found.mu_most < 1.1, found.epsilon < 4.377
      (True, True)

    References:
      Nasr et al. 2023, Tight auditing of DP machine learning (arXiv 2302.07956).
    """
    delta = check_delta(delta)
    if min(len(inside), len(outside)) < LEAST:
        raise UserError(
            f"{len(inside)} scores of canaries that were in and {len(outside)} of those that were "
            f"out are too few for a bound; at least {LEAST} of each are needed: more canaries"
        )
    choose_in, test_in = _halves(inside)
    choose_out, test_out = _halves(outside)
    # Quantiles that occur in the data: interpolation between infinite scores would give NaN.
    medians = [np.quantile(part, 0.5, method="nearest") for part in (choose_in, choose_out)]
    by_mu = float(medians[0] / 2 + medians[1] / 2) if np.isfinite(medians).all() else 0.0
    both = np.concatenate([choose_in, choose_out])
    grid = np.quantile(both, np.linspace(0, 1, THRESHOLDS), method="nearest")
    at = np.unique(np.append(grid, by_mu))
    each = failure / 6

    positive, negative = _bounds_of_rates(choose_in, choose_out, at, each)
    chosen = [epsilon_of_rates(p, n, delta) for p, n in zip(positive[1], negative[1], strict=True)]
    tested = np.array([at[int(np.argmax(chosen))], by_mu])
    positive, negative = _bounds_of_rates(test_in, test_out, tested, each)
    _, none_out = binomial_bounds(0, len(test_out), each)
    _, none_in = binomial_bounds(0, len(test_in), each)
    return Bounds(
        epsilon=epsilon_of_rates(positive[1, 0], negative[1, 0], delta),
        mu=max(0.0, mu_of_rates(positive[1, 1], negative[1, 1])),
        mu_most=max(0.0, mu_of_rates(positive[0, 1], negative[0, 1])),
        epsilon_ceiling=epsilon_of_rates(none_out, none_in, delta),
        mu_ceiling=mu_of_rates(none_out, none_in),
    )


def _bounds_of_rates(
    inside: Scores, outside: Scores, thresholds: Scores, failure: float
) -> tuple[Scores, Scores]:
    """Bound the false positive and the false negative rate, each `[2, thresholds]`."""
    # NaN sorts last, so no threshold finds it below: wrong if out. If in, it is not above: wrong.
    below_out = np.searchsorted(np.sort(outside), thresholds)
    there = np.sort(inside[~np.isnan(inside)])
    above_in = len(there) - np.searchsorted(there, thresholds)
    return (
        _clopper_pearson(len(outside) - below_out, len(outside), failure),
        _clopper_pearson(len(inside) - above_in, len(inside), failure),
    )


def _clopper_pearson(hits: NDArray[np.int64], trials: int, failure: float) -> Scores:
    from scipy.stats import beta

    low = np.where(hits > 0, beta.ppf(failure, np.maximum(hits, 1), trials - hits + 1), 0.0)
    misses = np.maximum(trials - hits, 1)
    high = np.where(hits < trials, beta.isf(failure, hits + 1, misses), 1.0)
    return np.stack([low, high])


def _halves(scores: Scores) -> tuple[Scores, Scores]:
    """Split scores in halves; NaN becomes 0.0 in the first, where thresholds are chosen."""
    scores = np.asarray(scores, np.float64).ravel()
    first, second = scores[: len(scores) // 2], scores[len(scores) // 2 :]
    return np.where(np.isnan(first), 0.0, first), second
