"""Levels in order, as numbers: scores for a network where a public order is known.

A patient's count of a laboratory value is "never", or a place among ordered bins; a length of stay
is a place on one scale, with one run of bins for each status. A few numbers say that, where free
weights for every level would be mostly noise.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from rdpjax.data.schema import Categorical


def run_features(column: Categorical, shares: np.ndarray) -> np.ndarray:
    """What networks see of a level in a run: which run, and how far up the common scale.

    In this order: a flag for each run but the largest one (the first of these), up for this run
    and the later ones, standardised under the noisy shares so that what is rare weighs as much;
    the score; its square less 1, if the largest run has 3 levels or more; and, for 3 runs or more,
    flag times score for each flagged run of 2 levels or more. The score is the normal quantile of
    the middle of a place's interval of the noisy distribution function, standardised under the
    noisy shares and cut to [-3, 3]; levels of different runs at the same place of `column.scale`
    share it. A level that is a run by itself has score 0, and takes no part in the distribution.

    Args:
      column: with runs.
      shares: noisy shares of its levels.

    Returns:
      float64 (levels, features).

    Examples:
      >>> bins = Categorical("hr", ("never", "low", "middle", "high"), runs=(1, 3))
      >>> features = run_features(bins, np.array([0.4, 0.2, 0.2, 0.2]))
      >>> (features.round(2) + 0.0).tolist()  # + 0.0: a sum's last digit decides on -0.0
      [[1.22, 0.0, 0.0], [-0.82, -1.22, 0.5], [-0.82, 0.0, -1.0], [-0.82, 1.22, 0.5]]
    """
    run = np.repeat(np.arange(len(column.runs)), column.runs)
    length = np.asarray(column.runs)[run]
    ordered = length > 1
    largest = int(np.argmax(column.runs))
    score = np.zeros(len(run))
    if ordered.any():
        within = np.concatenate([np.arange(n, dtype=float) for n in column.runs])
        places = np.asarray(column.scale) if column.scale else within
        score[ordered] = _scores(places[ordered], shares[ordered])
    others = [r for r in range(len(column.runs)) if r != largest]
    # Nested: what two runs have in common beside the largest is learnt from both.
    nested = [np.isin(run, others[i:]).astype(float) for i in range(len(others))]
    flags = [_standardised(flag, shares) for flag in nested]
    found = [*flags, score]
    if column.runs[largest] >= 3:
        found.append(np.where(ordered, score**2 - 1, 0.0))
    if len(column.runs) >= 3:
        found += [flag * score for r, flag in zip(others, flags, strict=True) if column.runs[r] > 1]
    return np.stack(found, axis=1)


def _standardised(flag: np.ndarray, shares: np.ndarray) -> np.ndarray:
    share = float(shares @ flag)
    return (flag - share) / max(math.sqrt(max(share * (1 - share), 0.0)), 0.2)


def _scores(places: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Standardised normal scores of places on a scale; equal places have equal ones."""
    shares = shares + 1e-6  # where noise has left nothing, all places count alike
    shares = shares / shares.sum()
    distinct, place = np.unique(places, return_inverse=True)
    mass = np.bincount(place, shares, minlength=len(distinct))
    middle = np.cumsum(mass) - mass / 2
    scores = np.array([NormalDist().inv_cdf(rank) for rank in np.clip(middle, 1e-6, 1 - 1e-6)])
    scores = scores - mass @ scores
    spread = math.sqrt(mass @ scores**2)
    clipped: np.ndarray = np.clip(scores / spread if spread > 0 else scores, -3, 3)
    return clipped[place]
