"""Membership inference attacks on released records.

An attack scores every real record, higher for presumed members. Its scores on members and on as
many non-members measure its power: by the area under the ROC curve, and by the
true-positive rate at low false-positive rates, which is what matters for an individual. These
attacks are average-case: their failure proves nothing.

References:
  Carlini et al. 2022, Membership inference attacks from first principles, arXiv 2112.03570.
  van Breugel et al. 2023, Membership inference attacks against synthetic data through overfitting
  detection (DOMIAS), arXiv 2302.12580.
  Yao et al. 2025, The DCR delusion, arXiv 2505.01524.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from rdpjax.errors import UserError

NEIGHBOURS = 5
"""Number of nearest neighbours of the density estimate."""

BLOCK = 2**22
"""Batch size, in distances."""

Scores = Float[np.ndarray, " records"]
Points = Float[np.ndarray, "records features"]


@dataclass(frozen=True)
class Rate:
    """Proportion with its exact confidence interval.

    Attributes:
      share: the estimate.
      low: lower end of the interval.
      high: upper end of the interval.
    """

    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """Point of a ROC curve.

    Attributes:
      asked: the requested false-positive rate.
      found: true-positive rate.
      accused: false-positive rate, not above the requested one.
    """

    asked: float
    found: Rate
    accused: Rate


@dataclass(frozen=True)
class Outcome:
    """Power of an attack, from its scores of members and non-members.

    Attributes:
      auc: area under the ROC curve; 0.5 is guessing.
      points: at small false-positive rates.
      confidence: of every interval.
    """

    auc: Rate
    points: tuple[Point, ...]
    confidence: float


def nearest_distance(records: Points, synthetic: Points) -> Scores:
    """Score records by minus the Euclidean distance to the nearest synthetic record.

    Args:
      records: real ones, in features of equal scale.
      synthetic: one or more.

    Raises:
      UserError: there is no synthetic record.

    Examples:
      >>> nearest_distance(np.array([[0.0], [5.0]]), np.array([[1.0], [5.0]])).tolist()
      [-1.0, 0.0]
    """
    return 0.0 - _distances(records, synthetic, 1)[:, 0]  # a copy's score is 0.0, not -0.0


def density_ratio(records: Points, synthetic: Points, reference: Points) -> Scores:
    """Score records by the log density ratio of synthetic to reference records, by neighbours.

    A memorised record has more synthetic neighbours than the density of real records explains.
    With the distances d to the neighbour of equal rank the ratio of densities is
    (d_ref / d_syn)^features, up to a constant; its logarithm is averaged over the nearest few.

    Args:
      records: real ones, in features of equal scale.
      synthetic: one or more.
      reference: real non-members that are not attacked, one or more.

    Raises:
      UserError: there is no synthetic or no reference record.

    Examples:
      >>> line = np.linspace(0, 1, 101)[:, None]
      >>> a, b = density_ratio(np.array([[0.5], [9.0]]), np.array([[0.5]] * 9), line).tolist()
      >>> a > b
      True
    """
    tiny = 1e-9  # a copy has distance 0: keeps the logarithm finite
    near, far = (_distances(records, x, NEIGHBOURS) + tiny for x in (synthetic, reference))
    ratio: Scores = np.log(far).mean(axis=1) - np.log(near).mean(axis=1)
    return ratio


def _distances(
    records: Points, others: Points, neighbours: int
) -> Float[np.ndarray, "records neighbours"]:
    """Compute distances to the nearest others, ascending; to all of them if they are fewer."""
    if not len(others):
        raise UserError("a membership attack needs one record or more on each side")
    count = min(neighbours, len(others))
    squares = np.square(others).sum(axis=1)
    found = np.empty((len(records), count))
    rows = max(1, BLOCK // len(others))
    for i in range(0, len(records), rows):
        block = records[i : i + rows]
        products = squares[None, :] - 2 * block @ others.T
        nearest = np.argpartition(products, count - 1, axis=1)[:, :count]
        # The matrix product cancels: recompute the distances of the nearest few directly.
        exact = np.linalg.norm(block[:, None, :] - others[nearest], axis=2)
        found[i : i + rows] = np.sort(exact, axis=1)
    return found


def outcome(
    members: Scores,
    others: Scores,
    rates: tuple[float, ...] = (0.01, 0.001),
    confidence: float = 0.99,
) -> Outcome:
    """Estimate the power of an attack from its scores.

    Args:
      members: scores of the records in the training set, one or more.
      others: scores of records not in it, one or more; NaN is not a score.
      rates: false-positive rates, rising or falling, in (0, 1).
      confidence: of each interval alone, in (0, 1).

    Returns:
      The area with DeLong's interval, widened by the error of its normal approximation; the points
      with Clopper and Pearson's. The threshold of a point is the lowest whose false-positive rate
      is at most the requested one; ties with it count as negative.

    Raises:
      UserError: no member, or no non-member.

    References:
      DeLong, DeLong, Clarke-Pearson 1988, Comparing the areas under two or more correlated receiver
      operating characteristic curves.

    Examples:
      >>> found = outcome(np.arange(100.0) + 50, np.arange(100.0))
      >>> round(found.auc.share, 3), found.points[0].accused.share, found.points[0].found.share
      (0.875, 0.01, 0.51)
      >>> outcome(np.ones(9), np.ones(9)).auc.share
      0.5
    """
    if not len(members) or not len(others):
        raise UserError("a membership attack needs members and as many others")
    return Outcome(
        _area(np.asarray(members, float), np.asarray(others, float), confidence),
        tuple(_point(members, others, rate, confidence) for rate in rates),
        confidence,
    )


def _area(members: Scores, others: Scores, confidence: float) -> Rate:
    from scipy.stats import norm, rankdata

    m, n = len(members), len(others)
    ranks = rankdata(np.concatenate([members, others]))
    above = (ranks[:m] - rankdata(members)) / n  # proportion of the others below each member
    below = 1 - (ranks[m:] - rankdata(others)) / m
    area = float(above.mean())
    variance = _variance(above) / m + _variance(below) / n
    # Under perfect separation the variance estimate is 0 and underestimates the error.
    half = float(norm.ppf((1 + confidence) / 2)) * math.sqrt(variance)
    half += math.log(2 / (1 - confidence)) / (2 * min(m, n))
    return Rate(area, max(0.0, area - half), min(1.0, area + half))


def _variance(values: np.ndarray) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.25


def _point(members: Scores, others: Scores, rate: float, confidence: float) -> Point:
    falling = np.sort(others)[::-1]
    allowed = min(int(rate * len(others) + 1e-9), len(others) - 1)
    threshold = falling[allowed]
    return Point(
        rate,
        interval(int((members > threshold).sum()), len(members), confidence),
        interval(int((others > threshold).sum()), len(others), confidence),
    )


def interval(successes: int, trials: int, confidence: float) -> Rate:
    """Estimate a proportion with the exact interval of Clopper and Pearson 1934.

    Examples:
      >>> found = interval(0, 100, 0.95)
      >>> found.share, found.low, round(found.high, 4)
      (0.0, 0.0, 0.0362)
    """
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    low = beta.ppf(tail, successes, trials - successes + 1) if successes else 0.0
    high = beta.ppf(1 - tail, successes + 1, trials - successes) if successes < trials else 1.0
    return Rate(successes / trials, float(low), float(high))


def ceiling(members: int, others: int, delta: float, confidence: float) -> float:
    """Compute the epsilon certified by an error-free attack, by the intervals of its rates.

    Examples:
      >>> round(ceiling(1000, 1000, 1e-5, 0.99), 2)
      5.24
    """
    found, accused = interval(members, members, confidence), interval(0, others, confidence)
    return math.log(max(found.low - delta, 1e-300) / accused.high)


def allowed_area(epsilon: float, delta: float) -> float:
    """Compute the largest area under the ROC curve of any attack under (epsilon, delta)-DP.

    Kairouz, Oh, Viswanath 2015 (arXiv 1311.0776): the region above the two lines.

    Examples:
      >>> allowed_area(0.0, 0.0), round(allowed_area(1.0, 0.0), 4), allowed_area(0.0, 1.0)
      (0.5, 0.7311, 1.0)
    """
    return 1 - (1 - delta) ** 2 / (1 + math.exp(min(epsilon, 700.0)))


def allowed_rate(accused: float, epsilon: float, delta: float) -> float:
    """Compute the largest true-positive rate under (epsilon, delta)-DP at a false-positive rate.

    Examples:
      >>> allowed_rate(0.01, 0.0, 0.0), round(allowed_rate(0.001, 1.0, 1e-5), 6)
      (0.01, 0.002728)
      >>> allowed_rate(0.9, 5.0, 0.0) < 1
      True
    """
    grown = math.exp(min(epsilon, 700.0))
    return min(1.0, grown * accused + delta, 1 - (1 - delta - accused) / grown)
