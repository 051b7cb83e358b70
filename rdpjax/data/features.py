"""Token features: the networks' numbers for each token of a column, from its noisy shares."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rdpjax.data.runs import run_features, standardised
from rdpjax.data.schema import Categorical, Column, Numeric, Schema

WAVES = 8
"""Cosine features of a token's rank."""


def token_features(
    schema: Schema, shares: np.ndarray, widths: Sequence[int], waves: int = WAVES
) -> np.ndarray:
    """Compute the features of every token; post-processing of noisy shares.

    Tokens on a scale have cosines of the noisy mid-rank, with smoother ones larger: feature k of a
    token is sqrt(2) cos(pi k u) / k with u the token's mid-rank under the noisy distribution
    function. A network on them fits smooth dependence with few parameters; the atoms of a column
    (heaping) are in its marginal already. Points of a numeric have a flag each, before the cosines
    of the others. Levels with ordered groups have the ordinal features of `rdpjax.data.runs`.

    Args:
      schema: public columns.
      shares: noisy share of every token, (columns, width).
      widths: number of tokens of each column.
      waves: number of cosines.

    Returns:
      float32 (columns, width, features), as many as waves or more; 0 beyond a column's own width,
      and where a column has fewer features.
    """
    tables = [
        _column(column, shares[j, : widths[j]], waves) for j, column in enumerate(schema.columns)
    ]
    order = max(waves, *(table.shape[1] for table in tables))
    features = np.zeros((*shares.shape, order), np.float32)
    for j, table in enumerate(tables):
        features[j, : len(table), : table.shape[1]] = table
    return features


def _column(column: Column, shares: np.ndarray, order: int) -> np.ndarray:
    """Compute the features of one column's tokens, (tokens, features)."""
    if isinstance(column, Categorical) and column.runs:
        runs = column.runs + (1,) * bool(column.missing)
        scale = column.scale + (0.0,) * bool(column.scale and column.missing)
        return run_features(runs, scale, shares)[:, :order]
    points = len(column.points) if isinstance(column, Numeric) else len(column.missing[:1])
    inside = len(shares) - points
    flags = np.zeros((len(shares), points))
    for k in range(points):
        flags[inside + k, k] = 1
        flags[:, k] = standardised(flags[:, k], shares)
    waves = np.zeros((len(shares), order))
    waves[:inside] = _waves(shares[:inside], order, whole=not points)
    return np.concatenate([flags, waves], axis=1)


def _waves(shares: np.ndarray, order: int, *, whole: bool) -> np.ndarray:
    """Compute cosines of the mid-ranks; shares of a part of a column are divided by their sum."""
    if not whole:
        shares = (shares + 1e-9) / (shares.sum() + 1e-9 * len(shares))
    ranks = np.cumsum(shares) - shares / 2
    k = np.arange(1, order + 1)
    waves: np.ndarray = math.sqrt(2) * np.cos(np.pi * k * ranks[:, None]) / k
    return waves
