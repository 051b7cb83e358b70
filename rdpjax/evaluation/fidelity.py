"""Fidelity of a synthetic table to real records, on public bins and bounds only."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from rdpjax.data.schema import Categorical, Numeric, Schema
from rdpjax.evaluation.tables import (
    bin_count,
    binned,
    level_codes,
    numbers,
    ordered,
)

_TREND_BINS = 10  # as SDMetrics bins a numeric in its contingency tables


def ks_statistic(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the Kolmogorov-Smirnov statistic: the largest gap of the empirical CDFs.

    Args:
      a: float[n], one sample; missing values are left out.
      b: float[m], the other.

    Examples:
      >>> ks_statistic(np.array([0.0, 1.0, 2.0]), np.array([2.0, 3.0, 4.0]))
      0.6666666666666667
    """
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    if not len(a) or not len(b):
        return float(bool(len(a)) != bool(len(b)))
    at = np.concatenate([a, b])
    below_a = np.searchsorted(np.sort(a), at, "right") / len(a)
    below_b = np.searchsorted(np.sort(b), at, "right") / len(b)
    return float(np.abs(below_a - below_b).max())


def total_variation(
    a: Mapping[str, np.ndarray],
    b: Mapping[str, np.ndarray],
    sizes: Mapping[str, int],
    ways: int,
) -> float:
    """Average the total variation distance of the joint histograms of every `ways` columns.

    Args:
      a: bins of one table, int[n] per column, from `binned`.
      b: bins of the other, int[m] per column.
      sizes: number of bins per column.
      ways: number of columns in a joint histogram.

    Returns:
      The mean over all sets of `ways` columns of half the summed absolute difference; 0 to 1.

    Examples:
      >>> a, b = {"x": np.array([0, 0, 1, 1])}, {"x": np.array([0, 1, 1, 1])}
      >>> total_variation(a, b, {"x": 2}, ways=1)
      0.25
    """
    gaps = []
    for names in combinations(a, ways):
        shape = tuple(sizes[name] for name in names)
        gaps.append(0.5 * np.abs(_joint(a, names, shape) - _joint(b, names, shape)).sum())
    return float(np.mean(gaps)) if gaps else 0.0  # fewer columns than that


def _joint(
    bins: Mapping[str, np.ndarray], names: tuple[str, ...], shape: tuple[int, ...]
) -> np.ndarray:
    cells = np.ravel_multi_index([bins[name] for name in names], shape)
    return np.bincount(cells, minlength=int(np.prod(shape))) / len(cells)


def two_sample_auroc(synthetic: pd.DataFrame, real: pd.DataFrame, schema: Schema) -> float:
    """Compute the AUROC of a gradient-boosted real-or-synthetic classifier; 0.5 is best.

    Equally many rows of each side are drawn (fixed seed) and scored by five-fold cross-validation.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import cross_val_predict

    names = ordered(synthetic, schema)
    rows = min(len(synthetic), len(real))
    sides = [frame.sample(rows, random_state=0) for frame in (synthetic, real)]
    records = pd.concat([numbers(side, schema, names) for side in sides])
    is_real = np.repeat([0.0, 1.0], rows)
    detector = HistGradientBoostingClassifier(random_state=0)
    found = cross_val_predict(detector, records, is_real, cv=5, method="predict_proba")
    return float(roc_auc_score(is_real, found[:, 1]))


def level_shares(frame: pd.DataFrame, schema: Schema) -> dict[str, dict[str, float]]:
    """Compute the share of every level of every categorical.

    Examples:
      >>> s = Schema("t", (Categorical("y", (1, 2)),), label="y")
      >>> level_shares(pd.DataFrame({"y": [1, 1, 1, 2]}), s)
      {'y': {'1': 0.75, '2': 0.25}}
    """
    shares = {}
    for column in schema.columns:
        if isinstance(column, Categorical):
            counts = np.bincount(level_codes(frame, column), minlength=column.outcomes)
            keys = [*map(str, column.levels), *column.missing[:1]]
            shares[column.name] = dict(zip(keys, (counts / len(frame)).tolist(), strict=True))
    return shares


def level_ratios(
    synthetic: Mapping[str, Mapping[str, float]], real: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """Compute the synthetic-to-real ratio of every level with a real share of 1 % or more.

    Examples:
      >>> level_ratios({"y": {"1": 0.9, "2": 0.1}}, {"y": {"1": 0.5, "2": 0.5}})
      {'y=1': 1.8, 'y=2': 0.2}
    """
    return {
        f"{column}={level}": synthetic[column][level] / share
        for column, levels in real.items()
        for level, share in levels.items()
        if share > 0.01
    }


def rule_breaks(frame: pd.DataFrame, schema: Schema) -> dict[str, float]:
    """Compute the share of rows, as written, that violate each rule `a < b`, that is a > b.

    Examples:
      >>> s = Schema("t", (Numeric("lo", "m", 0, 9), Numeric("hi", "m", 0, 9),
      ...                  Categorical("y", (0, 1))), label="y", less=(("lo", "hi"),))
      >>> rule_breaks(pd.DataFrame({"lo": [1, 5], "hi": [2, 3]}), s)
      {'lo > hi': 0.5}
    """
    return {f"{a} > {b}": float((frame[a] > frame[b]).mean()) for a, b in schema.less}


def pair_trends(synthetic: pd.DataFrame, real: pd.DataFrame, schema: Schema) -> float:
    """Average over all pairs of columns the similarity of their association; 1 is best.

    Two numerics: 1 - |difference of Pearson correlations| / 2. Otherwise: 1 - total variation of
    the two contingency tables, a numeric cut into ten public bins. This is the "Column Pair
    Trends" of SDMetrics, with public bins in place of the data's own range.
    """
    names = ordered(synthetic, schema)
    a, b = (numbers(frame, schema, names).corr().to_numpy() for frame in (synthetic, real))
    # The correlation of a column without spread is undefined: take 0.
    gap = np.abs(np.nan_to_num(a) - np.nan_to_num(b)) / 2
    bins_a, bins_b = (binned(frame, schema, _TREND_BINS) for frame in (synthetic, real))
    sizes = {name: bin_count(schema, name, _TREND_BINS) for name in names}
    scores = []
    for (i, one), (j, two) in combinations(enumerate(names), 2):
        if all(isinstance(schema.column(name), Numeric) for name in (one, two)):
            scores.append(1 - gap[i, j])
        else:
            pair = (one, two)
            scores.append(
                1
                - total_variation(
                    {n: bins_a[n] for n in pair}, {n: bins_b[n] for n in pair}, sizes, ways=2
                )
            )
    return float(np.mean(scores))


def fidelity(synthetic: pd.DataFrame, real: pd.DataFrame, schema: Schema) -> dict[str, Any]:
    """Compute all fidelity scores of a synthetic table against real records.

    Args:
      synthetic: canonical frame to be scored.
      real: canonical frame of held-out records.
      schema: the columns, their bounds and levels.

    Returns:
      `ks` (numeric -> statistic), `ks_mean`, `tvd1`, `tvd2`, `tvd3` (mean total variation of
      1, 2, 3 columns on 20 public bins), `two_sample_auroc`, `column_shapes`, `pair_trends`,
      `levels` (column -> level -> share), `level_ratios`, `level_ratio_min`, `levels_missing`
      (levels below a quarter of their real share), `rule_breaks`.
    """
    numeric = [c.name for c in schema.columns if isinstance(c, Numeric)]
    a, b = (numbers(frame, schema, numeric) for frame in (synthetic, real))
    ks = {name: ks_statistic(a[name].to_numpy(), b[name].to_numpy()) for name in numeric}
    bins_a, bins_b = binned(synthetic, schema), binned(real, schema)
    sizes = {name: bin_count(schema, name) for name in schema.names}
    shares = level_shares(synthetic, schema)
    ratios = level_ratios(shares, level_shares(real, schema))
    shapes = [1 - value for value in ks.values()]
    for name in shares:
        shapes.append(1 - total_variation({name: bins_a[name]}, {name: bins_b[name]}, sizes, 1))
    return {
        "ks": ks,
        "ks_mean": float(np.mean(list(ks.values()))) if ks else 0.0,
        **{f"tvd{k}": total_variation(bins_a, bins_b, sizes, k) for k in (1, 2, 3)},
        "two_sample_auroc": two_sample_auroc(synthetic, real, schema),
        "column_shapes": float(np.mean(shapes)),
        "pair_trends": pair_trends(synthetic, real, schema),
        "levels": shares,
        "level_ratios": ratios,
        "level_ratio_min": min(ratios.values(), default=1.0),
        "levels_missing": [level for level, ratio in ratios.items() if ratio < 0.25],
        "rule_breaks": rule_breaks(synthetic, schema),
    }
