"""Tokenizer: records to tokens, and tokens to records.

A value maps to a bin (`cell`, public: an index on the schema's grid), and a bin to a token
(`code`): one of at most `max_codes` groups of neighbouring bins with about equal shares of the
*noisy* histogram. Values with large shares (120 mmHg) are groups by themselves, so they decode
to themselves. Within a group, a bin is drawn from the noisy histogram. Spikes and missing values
have a bin and a token each, after the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rdpjax.data.features import WAVES, token_features
from rdpjax.data.grouping import group_cells
from rdpjax.data.levels import MOST_TOKENS
from rdpjax.data.schema import Categorical, Numeric, Schema


@dataclass(frozen=True)
class Marginals:
    """One-way marginals: the share of every bin of every column, noisy (or declared public).

    Attributes:
      shares: one array per schema column, over its outcomes; non-negative, sums to 1.
      halves: per column, the share of half units; 0 where they are not modelled.
      records: the noisy (or public) number of records.
      deviation: standard deviation of the noise on each count; 0 without a measurement.
    """

    shares: tuple[np.ndarray, ...]
    halves: tuple[float, ...]
    records: float
    deviation: float = 0.0

    @staticmethod
    def uniform(schema: Schema, records: float) -> Marginals:
        """Return uniform marginals: the state before any measurement."""
        shares = tuple(np.full(c.outcomes, 1 / c.outcomes) for c in schema.columns)
        return Marginals(shares, (0.0,) * len(shares), records)


def encode_cells(schema: Schema, frame: pd.DataFrame) -> np.ndarray:
    """Encode canonical values as bin indices `[rows, columns]`.

    Args:
      schema: public columns and bounds.
      frame: the schema's columns, in its units; levels must be the schema's. Missing values are
        NaN, NA or None.

    Returns:
      Array (rows, columns) of the smallest unsigned type that holds the schema's bins: `cells` of
      them, then the points. A numeric that is not whole, where half units are modelled, is its bin
      plus `column.cells`.

    Guarantees:
      A row's bins depend on that row and the schema alone. Values outside the bounds, +-inf
      included, go to the first or last bin unless they are spikes; missing values have a bin of
      their own if the column declares them, else the first: every row gets a valid bin. Values
      finer than a "grid" column's resolution are rounded to its nearest value.
    """
    largest = max(c.cells * 2 if c.bins > c.outcomes else c.outcomes for c in schema.columns)
    out = np.empty((len(frame), len(schema.columns)), np.min_scalar_type(largest))
    for j, column in enumerate(schema.columns):
        if isinstance(column, Categorical):
            values = frame[column.name].to_numpy()
            codes = pd.Categorical(values, categories=list(column.levels)).codes
            out[:, j] = np.where(codes < 0, column.outcomes - 1 if column.missing else 0, codes)
            continue
        values = frame[column.name].to_numpy(np.float64, na_value=np.nan)
        out[:, j] = _cells(column, values)
        for k, point in enumerate(column.points):
            out[np.isnan(values) if math.isnan(point) else values == point, j] = column.cells + k
    return out


def _cells(column: Numeric, values: np.ndarray) -> np.ndarray:
    """Return each value's bin `[rows]`, disregarding points."""
    clipped = np.clip(np.nan_to_num(values, nan=column.low), column.low, column.high)
    if column.within == "grid":
        steps = np.rint((clipped - column.low) / column.resolution).astype(np.int64)
        on_grid: np.ndarray = np.minimum(steps, column.last_step) // column.per_cell
        return on_grid
    place = (clipped - column.low) / column.cell
    cells: np.ndarray = np.clip(np.floor(place + 1e-6), 0, column.cells - 1).astype(np.int32)
    if column.within == "halves":
        cells = np.where(place - cells > 1e-6, cells + column.cells, cells)
    return cells


def histogram(schema: Schema, cells: np.ndarray) -> np.ndarray:
    """Compute all one-way histograms and the record count, as one vector.

    Args:
      schema: public columns.
      cells: bin indices from `encode_cells`, (rows, columns).

    Returns:
      float64 vector of length `sum(column.bins) + 1`; its last entry is the number of rows.

    Guarantees:
      A row adds each column's weight (1 unless the schema says otherwise, a multiple of
      `rdpjax.data.grid.GRID`) to one bin of the column and 1 to the count: L2 norm at most
      `sensitivity(schema)`, whatever its values, summed without rounding. No rows give zeros.
    """
    parts = []
    for j, column in enumerate(schema.columns):
        bins = np.minimum(cells[:, j], column.bins - 1)
        parts.append(column.weight * np.bincount(bins, minlength=column.bins))
    return np.concatenate([*parts, [len(cells)]]).astype(float)


def sensitivity(schema: Schema) -> float:
    """Return the L2 sensitivity of `histogram` to one record, rounded up."""
    exact = np.sqrt(1 + sum(column.weight**2 for column in schema.columns))
    return float(np.nextafter(exact, np.inf))


def project(counts: np.ndarray, total: float) -> np.ndarray:
    """Project noisy counts onto the simplex of sum `total` (Euclidean), and return the shares.

    Returns:
      Shares, non-negative, summing to 1. Post-processing.

    Examples:
      >>> project(np.array([3.0, 1.0, -2.0]), 4.0).tolist()
      [0.75, 0.25, 0.0]
    """
    total = max(total, 1.0)  # at least 1: a column of half units only has no whole values
    ordered = np.sort(counts)[::-1]
    excess = (np.cumsum(ordered) - total) / np.arange(1, len(counts) + 1)
    last = np.nonzero(ordered > excess)[0][-1]
    shares: np.ndarray = np.maximum(counts - excess[last], 0) / total
    return shares


def marginals_from(schema: Schema, noisy: np.ndarray, deviation: float) -> Marginals:
    """Compute marginals from a noisy `histogram`; post-processing.

    Args:
      schema: public columns.
      noisy: the noisy vector.
      deviation: the noise's standard deviation on each entry.
    """
    records = max(float(noisy[-1]), float(schema.minimum_records))
    shares, halves, start = [], [], 0
    for column in schema.columns:
        counts = noisy[start : start + column.bins] / column.weight
        start += column.bins
        if isinstance(column, Numeric) and column.within == "halves":
            halves.append(float(np.clip(counts[-1] / records, 0, 1)))
            counts = counts[:-1]
        else:
            halves.append(0.0)
        shares.append(project(counts, records * (1 - halves[-1])))
    return Marginals(tuple(shares), tuple(halves), records, deviation)


@dataclass(frozen=True)
class Tokenizer:
    """Tokenizer of one schema under one set of marginals.

    Attributes:
      schema: public columns.
      marginals: noisy shares, the only input that depends on records.
      groups: per column, the token of each bin.
    """

    schema: Schema
    marginals: Marginals
    groups: tuple[np.ndarray, ...]

    @staticmethod
    def make(schema: Schema, marginals: Marginals, max_codes: int = 32) -> Tokenizer:
        groups = tuple(
            np.arange(c.outcomes) if isinstance(c, Categorical) else _grouped(c, s, max_codes)
            for c, s in zip(schema.columns, marginals.shares, strict=True)
        )
        return Tokenizer(schema, marginals, groups)

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of tokens of each column."""
        return tuple(int(g[-1]) + 1 for g in self.groups)

    @property
    def width(self) -> int:
        """Number of tokens of the widest column: the networks' feature axis."""
        return max(self.widths)

    @property
    def given(self) -> int | None:
        """Index of the condition column; None if there is none."""
        given = self.schema.given
        return None if given is None else self.schema.position(given)

    def code_shares(self) -> np.ndarray:
        """Compute noisy token shares, (columns, width); 0 beyond a column's own width."""
        table = np.zeros((len(self.groups), self.width))
        for j, (group, share) in enumerate(zip(self.groups, self.marginals.shares, strict=True)):
            np.add.at(table[j], group, share)
        return table

    def code_features(self, waves: int = WAVES) -> np.ndarray:
        """Compute `rdpjax.data.features.token_features` under the noisy shares."""
        return token_features(self.schema, self.code_shares(), self.widths, waves)

    def encode(self, cells: np.ndarray) -> np.ndarray:
        """Map bins to tokens, uint8, both (rows, columns)."""
        out = np.empty(cells.shape, np.uint8)
        for j, (column, group) in enumerate(zip(self.schema.columns, self.groups, strict=True)):
            halves = column.bins > column.outcomes
            out[:, j] = group[cells[:, j] % column.cells if halves else cells[:, j]]
        return out

    def decode(self, codes: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Decode tokens to canonical values.

        Args:
          codes: (rows, columns).
          uniforms: float64 in [0, 1), (rows, columns, 2): choice of the bin, and place within it.

        Returns:
          float64 (rows, columns); categoricals as the index of their outcome, a missing number as
          NaN.

        Guarantees:
          `encode(encode_cells(decode(codes))) == codes`, but where a spike lies within the bounds
          and is drawn as a value of its bin; values lie in bounds and on the resolution grid, or
          are spikes.
        """
        out = np.empty(codes.shape, float)
        for j, column in enumerate(self.schema.columns):
            if isinstance(column, Categorical):
                out[:, j] = codes[:, j]
                continue
            cells = self._draw_cells(j, codes[:, j], uniforms[:, j, 0])
            inside = np.minimum(cells, column.cells - 1)
            out[:, j] = _place(column, inside, uniforms[:, j, 1], self.marginals.halves[j])
            for k, point in enumerate(column.points):
                out[cells == column.cells + k, j] = point
        return out

    def frame(self, values: np.ndarray) -> pd.DataFrame:
        """Build a canonical frame from decoded values: levels in place of their indices.

        A column whose bounds and steps are whole is int64, any other number float64. Where values
        may be missing, whole numbers are pandas' Int64 with NA, and levels are objects with None.
        """
        columns: dict[str, Any] = {}
        for j, column in enumerate(self.schema.columns):
            if isinstance(column, Categorical):
                known = np.asarray(column.levels)
                if column.missing:
                    known = np.array([*column.levels, None], object)
                columns[column.name] = known[values[:, j].astype(int)]
            elif column.is_whole and column.missing:
                columns[column.name] = pd.array(values[:, j], dtype="Float64").astype("Int64")
            else:
                kind = np.int64 if column.is_whole else np.float64
                columns[column.name] = values[:, j].astype(kind)
        return pd.DataFrame(columns)

    def _draw_cells(self, j: int, codes: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Draw bins from the noisy histogram within each token's group."""
        group, share = self.groups[j], self.marginals.shares[j] + 1e-12
        edges = np.concatenate([[0.0], np.cumsum(share)])
        first = np.searchsorted(group, np.arange(group[-1] + 2))
        low, high = edges[first[codes]], edges[first[codes + 1]]
        cells = np.searchsorted(edges, low + uniforms * (high - low), side="right") - 1
        inside: np.ndarray = np.clip(cells, first[codes], first[codes + 1] - 1)
        return inside


def _grouped(column: Numeric, shares: np.ndarray, max_codes: int) -> np.ndarray:
    """Group the bins, and give each point a token of its own after them."""
    points = len(column.points)
    groups = group_cells(shares[: column.cells], min(max_codes, MOST_TOKENS - points))
    return np.concatenate([groups, groups[-1] + 1 + np.arange(points)])


def _place(column: Numeric, cells: np.ndarray, uniforms: np.ndarray, halves: float) -> np.ndarray:
    """Place values within their bins, on the resolution grid."""
    if column.within == "grid":
        first: np.ndarray = cells.astype(np.int64) * column.per_cell
        count = np.minimum(column.per_cell, column.last_step + 1 - first)
        steps = first + np.minimum(np.floor(uniforms * count), count - 1)
        # Rounded to the decimals of the resolution: 20.3, not 20.300000000000001.
        rounded = np.round(column.low + steps * column.resolution, min(column.decimals, 12))
        values: np.ndarray = np.clip(rounded, column.low, column.high)
        return values + 0.0  # no -0.0
    start: np.ndarray = column.low + cells * column.cell
    if column.within == "start":
        return start
    if column.within == "halves":
        half = (uniforms < halves) & (cells < column.cells - 1)
        return start + np.where(half, column.cell / 2, 0.0)
    first = np.ceil(np.round(start / column.resolution, 6)) * column.resolution
    end = np.minimum(start + column.cell, column.high)
    last = np.floor(np.round(end / column.resolution, 6) - 1e-6) * column.resolution
    steps = np.maximum(np.round((last - first) / column.resolution), 0) + 1
    drawn = first + np.floor(uniforms * steps) * column.resolution
    values = np.clip(drawn, column.low, column.high)
    return values
