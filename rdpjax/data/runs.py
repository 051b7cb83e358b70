"""Ordinal features: standardised normal scores of ordered levels.

A patient's count of a laboratory value is "never" or one of several ordered bins; a length of
stay is a position on one scale, with one ordered group of bins for each status. A few features
encode that order, where free weights for every level would mostly fit noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np


def run_features(runs: Sequence[int], scale: Sequence[float], shares: np.ndarray) -> np.ndarray:
    """Compute the network features of ordinal levels: indicators of the group, and scores.

    In this order: a flag for each ordered group but the largest one (the first of these), 1 for
    this group and the later ones, standardised under the noisy shares so that a rare group has unit
    variance too; the score; its square less 1, if the largest group has 3 levels or more; and, for
    3 groups or more, flag times score for each flagged group of 2 levels or more. The score is the
    normal quantile of the mid-rank of a level's position under the noisy distribution function,
    standardised under the noisy shares and clipped to [-3, 3]; levels of different groups at the
    same position of `scale` have the same score. A group of one level has score 0, and is
    left out of the distribution.

    Args:
      runs: lengths of the ordered groups.
      scale: positions of the levels, or empty; both as in `Categorical`.
      shares: noisy shares of its levels.

    Returns:
      float64 (levels, features).

    Examples:
      >>> features = run_features((1, 3), (), np.array([0.4, 0.2, 0.2, 0.2]))  # never; 3 bins
      >>> (features.round(2) + 0.0).tolist()  # + 0.0: a sum's last digit decides on -0.0
      [[1.22, 0.0, 0.0], [-0.82, -1.22, 0.5], [-0.82, 0.0, -1.0], [-0.82, 1.22, 0.5]]
    """
    run = np.repeat(np.arange(len(runs)), runs)
    length = np.asarray(runs)[run]
    ordered = length > 1
    largest = int(np.argmax(runs))
    score = np.zeros(len(run))
    if ordered.any():
        within = np.concatenate([np.arange(n, dtype=float) for n in runs])
        places = np.asarray(scale) if scale else within
        score[ordered] = _scores(places[ordered], shares[ordered])
    others = [r for r in range(len(runs)) if r != largest]
    # Nested flags: an effect common to two groups other than the largest has one weight.
    nested = [np.isin(run, others[i:]).astype(float) for i in range(len(others))]
    flags = [standardised(flag, shares) for flag in nested]
    found = [*flags, score]
    if runs[largest] >= 3:
        found.append(np.where(ordered, score**2 - 1, 0.0))
    if len(runs) >= 3:
        found += [flag * score for r, flag in zip(others, flags, strict=True) if runs[r] > 1]
    return np.stack(found, axis=1)


def standardised(flag: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Standardise a flag of levels under their shares, with a spread of 0.2 at least."""
    share = float(shares @ flag)
    return (flag - share) / max(math.sqrt(max(share * (1 - share), 0.0)), 0.2)


def _scores(places: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Compute standardised normal scores of positions on a scale; equal positions score equally."""
    shares = shares + 1e-6  # avoids 0 / 0: where all shares are 0, all positions count alike
    shares = shares / shares.sum()
    distinct, place = np.unique(places, return_inverse=True)
    mass = np.bincount(place, shares, minlength=len(distinct))
    middle = np.cumsum(mass) - mass / 2
    scores = np.array([NormalDist().inv_cdf(rank) for rank in np.clip(middle, 1e-6, 1 - 1e-6)])
    scores = scores - mass @ scores
    spread = math.sqrt(mass @ scores**2)
    clipped: np.ndarray = np.clip(scores / spread if spread > 0 else scores, -3, 3)
    return clipped[place]
