"""What a record can do to the histogram, and what becomes of the noisy one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rdpjax.data.schema import Categorical, Schema
from rdpjax.data.tokenizer import (
    Tokenizer,
    encode_cells,
    histogram,
    marginals_from,
    project,
    sensitivity,
)
from tests.data.tables import TOY, random_marginals, random_rows, schemas, seeds

# What a record can do to the histogram.

wild = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e308, -1e308, 0.0, 30.0, 62.5]),
)


def records(schema: Schema, values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            c.name: np.array(c.levels)[np.nan_to_num(v, posinf=0, neginf=0).astype(int) % c.cells]
            if isinstance(c, Categorical)
            else v
            for c, v in zip(schema.columns, values.T, strict=True)
        }
    )


@given(arrays(float, (3, 5), elements=st.one_of(wild, st.floats(-100, 30_000))))
def test_every_row_adds_a_vector_of_the_same_norm(values: np.ndarray):
    values = np.where(np.abs(values) < 1e9, values, np.where(np.isnan(values), np.nan, values))
    frame = records(TOY, np.concatenate([values[:, :3], values[:, 3:].clip(-9, 9)], axis=1))
    cells = encode_cells(TOY, frame)
    rows = np.stack([histogram(TOY, cells[i : i + 1]) for i in range(3)])
    assert set(np.unique(rows)) == {0.0, 1.0}
    np.testing.assert_array_equal(rows.sum(1), len(TOY.columns) + 1)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), sensitivity(TOY), rtol=1e-15)
    np.testing.assert_array_equal(histogram(TOY, cells), rows.sum(0))
    for j, column in enumerate(TOY.columns):
        halves = 2 if getattr(column, "within", "") == "halves" else 1
        assert (cells[:, j] >= 0).all() and (cells[:, j] < halves * column.cells).all()


@schemas
def test_sensitivity_is_met_by_constant_and_extreme_records(schema: Schema):
    for value in (math.nan, math.inf, -math.inf, 0.0, 1.0, 1e9):
        row = records(schema, np.full((1, len(schema.columns)), value))
        counted = histogram(schema, encode_cells(schema, row))
        assert np.linalg.norm(counted) <= sensitivity(schema)
        assert counted[-1] == 1
    exact = math.sqrt(len(schema.columns) + 1)
    assert exact < sensitivity(schema) < exact * (1 + 1e-15), "rounded up"
    assert len(counted) == sum(c.bins for c in schema.columns) + 1


def test_no_rows_count_nothing():
    assert not histogram(TOY, np.zeros((0, 5), np.int32)).any()


def test_what_is_out_of_bounds_or_missing_goes_to_the_ends():
    values = np.array([math.nan, -math.inf, math.inf, 2.9, 60.1, 3.0, 60.0, 59.99])
    frame = records(TOY, np.stack([values, *[np.zeros(8)] * 4], axis=1))
    np.testing.assert_array_equal(encode_cells(TOY, frame)[:, 0], [0, 0, 57, 0, 57, 0, 57, 57])
    starts = replace(TOY, columns=(replace(TOY.columns[0], within="start"), *TOY.columns[1:]))
    np.testing.assert_array_equal(encode_cells(starts, frame)[:, 0], [0, 0, 57, 0, 57, 0, 57, 56])


def test_what_is_not_whole_is_told_apart_where_halves_are_modelled():
    values = np.array([30.0, 30.5, 62.0, 62.3, 90.0, 89.9])
    cells = encode_cells(
        TOY, records(TOY, np.stack([values * 0 + 5, values, *[values] * 3], axis=1))
    )
    np.testing.assert_array_equal(cells[:, 1], [0, 61, 32, 32 + 61, 60, 59 + 61])
    counted = histogram(TOY, cells)[58 : 58 + 62]
    assert counted[-1] == 3 and counted.sum() == 6


# Post-processing of the noisy histogram.


@given(arrays(float, st.integers(1, 30), elements=st.floats(-1e4, 1e4)), st.floats(1, 1e5))
def test_projection_gives_the_nearest_shares(counts: np.ndarray, total: float):
    shares = project(counts, total)
    assert (shares >= 0).all()
    assert shares.sum() == pytest.approx(1, abs=1e-9)
    # Optimality: counts that stay positive are lowered alike, the others lie below that level.
    lowered = counts - shares * total
    kept = shares > 0
    level = lowered[kept].mean()
    np.testing.assert_allclose(lowered[kept], level, atol=1e-6 * max(1, np.abs(counts).max()))
    assert (counts[~kept] <= level + 1e-6 * max(1, np.abs(counts).max())).all()


@given(seeds)
def test_projection_leaves_shares_alone(seed: int):
    shares = np.random.default_rng(seed).dirichlet(np.ones(9))
    np.testing.assert_allclose(project(shares * 500, 500), shares, atol=1e-12)


def test_marginals_of_an_exact_histogram_are_its_shares():
    tokenizer = Tokenizer.make(TOY, random_marginals(TOY, 4))
    codes, uniforms = random_rows(tokenizer, 4, rows=2000)
    cells = encode_cells(TOY, tokenizer.frame(tokenizer.decode(codes, uniforms)))
    made = marginals_from(TOY, histogram(TOY, cells), 0.0)
    assert made.records == 2000
    halves = (cells[:, 1] >= TOY.columns[1].cells).mean()
    assert made.halves == pytest.approx((0, halves, 0, 0, 0))
    for j in (0, 2, 3, 4):
        shares = np.bincount(cells[:, j], minlength=TOY.columns[j].cells) / 2000
        np.testing.assert_allclose(made.shares[j], shares, atol=1e-12)


@given(seeds, st.sampled_from([0.0, 1.0, 30.0, 1e4]))
def test_any_noise_leaves_marginals_that_a_codec_can_use(seed: int, deviation: float):
    noisy = np.random.default_rng(seed).normal(
        0, max(deviation, 1e-9), sum(c.bins for c in TOY.columns) + 1
    )
    made = marginals_from(TOY, noisy, deviation)
    assert made.records >= TOY.minimum_records and made.deviation == deviation
    for share in made.shares:
        assert (share >= 0).all() and share.sum() == pytest.approx(1)
    assert all(0 <= h <= 1 for h in made.halves)
    table = Tokenizer.make(TOY, made, 8).code_shares()
    np.testing.assert_allclose(table.sum(1), 1)
