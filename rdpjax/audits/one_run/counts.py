"""Membership scores from noisy histograms: log odds of "in" for every canary."""

from __future__ import annotations

import numpy as np

from rdpjax.data.schema import Numeric, Schema
from rdpjax.data.tokenizer import Marginals, histogram


def released_counts(schema: Schema, marginals: Marginals) -> np.ndarray:
    """Invert the noisy histogram from released shares, as `rdpjax.data.tokenizer.histogram`.

    What the projection of shares onto the simplex cut off is lost.
    """
    parts = []
    for column, shares, halves in zip(
        schema.columns, marginals.shares, marginals.halves, strict=True
    ):
        counts = column.weight * marginals.records * (1 - halves) * shares
        has_halves = isinstance(column, Numeric) and column.within == "halves"
        parts.append(np.append(counts, marginals.records * halves) if has_halves else counts)
    return np.concatenate([*parts, [marginals.records]])


def scores_of_counts(
    schema: Schema, marginals: Marginals, base: np.ndarray, canaries: np.ndarray
) -> np.ndarray:
    """Score canaries by the released histogram: log odds of "in", float64 `[canaries]`.

    Coins (+1/2 and -1/2) and noise are taken as Gaussian. The histogram of the known records is
    subtracted. The noise's variance is estimated from the histogram itself, so that less noise than
    planned shows in the scores.

    Args:
      schema: public columns.
      marginals: as released.
      base: bins of records that are known to be in, `[records, columns]`.
      canaries: bins of records of which half are in, `[canaries, columns]`.

    Guarantees:
      A function of the release and of what the attacker knows before it, never of the coins.
    """
    rows = np.stack([histogram(schema, row[None]) for row in canaries])
    beyond = released_counts(schema, marginals) - histogram(schema, base) - rows.sum(axis=0) / 2
    # Singular vectors of the canaries' histograms; the coins move the counts along each of them.
    directions, lengths, along = np.linalg.svd(rows, full_matrices=False)
    seen, moved = along @ beyond, lengths**2 / 4
    beside = max(float(beyond @ beyond - seen @ seen), 0.0)
    rest = len(beyond) - len(lengths)
    noises = np.geomspace(1e-3, 1e6, 200)
    likelihoods = [
        -np.sum(np.log(moved + noise) + seen**2 / (moved + noise))
        - rest * np.log(noise)
        - beside / noise
        for noise in noises
    ]
    noise = noises[int(np.argmax(likelihoods))]
    mean = directions @ (lengths * seen / 4 / (moved + noise))
    variance = (1 - directions**2 @ (moved / (moved + noise))) / 4
    odds: np.ndarray = mean / np.maximum(variance, 1e-3)
    return odds
