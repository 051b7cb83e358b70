from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rdpjax.data.cardio import CARDIO
from rdpjax.data.schema import Categorical, Numeric, Schema
from rdpjax.data.tokenizer import (
    Marginals,
    Tokenizer,
    encode_cells,
    group_cells,
    histogram,
    marginals_from,
    project,
    sensitivity,
)

TOY = Schema(
    "toy",
    (
        Numeric("whole", "mmHg", 3, 60),
        Numeric("half", "kg", 30, 90, resolution=0.1, within="halves"),
        Numeric("days", "d", 29.5 * 365.25, 66 * 365.25, cell=365.25 / 4, within="uniform"),
        Categorical("level", ("low", "mid", "high")),
        Categorical("y", (0, 1)),
    ),
    label="y",
)
TENTHS = Numeric("tenths", "kg/m2", -1.5, 6.25, cell=0.5, resolution=0.1)
NUMERICS = [c for c in (*TOY.columns, *CARDIO.columns, TENTHS) if isinstance(c, Numeric)]
schemas = pytest.mark.parametrize("schema", [TOY, CARDIO], ids=lambda s: s.name)
seeds = st.integers(0, 2**32 - 1)


def random_marginals(schema: Schema, seed: int, halves: float = 0.3) -> Marginals:
    """Shares with atoms and many zeros, as a projection leaves them."""
    rng = np.random.default_rng(seed)
    shares = []
    for column in schema.columns:
        share = rng.dirichlet(np.full(column.cells, 0.3))
        share[rng.random(column.cells) < 0.3] = 0
        share[rng.integers(column.cells)] += 0.2
        shares.append(share / share.sum())
    modelled = [getattr(c, "within", "") == "halves" for c in schema.columns]
    return Marginals(tuple(shares), tuple(halves * m for m in modelled), 1000.0)


def random_rows(tokenizer: Tokenizer, seed: int, rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Codes and uniforms, the extreme ones among them."""
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, w, rows) for w in tokenizer.widths], axis=1)
    uniforms = rng.random((rows, len(tokenizer.widths), 2))
    uniforms[:50, :, 0], uniforms[25:75, :, 1] = 0.0, 0.0
    uniforms[75:150, :, 0] = uniforms[100:200, :, 1] = np.nextafter(1, 0)
    return codes, uniforms


@schemas
@given(seed=seeds, max_codes=st.integers(1, 200), halves=st.sampled_from([0.0, 0.3, 1.0]))
def test_decoding_is_undone_exactly_and_stays_in_bounds(
    schema: Schema, seed: int, max_codes: int, halves: float
):
    tokenizer = Tokenizer.make(schema, random_marginals(schema, seed, halves), max_codes)
    codes, uniforms = random_rows(tokenizer, seed)
    values = tokenizer.decode(codes, uniforms)
    frame = tokenizer.frame(values)
    np.testing.assert_array_equal(tokenizer.encode(encode_cells(schema, frame)), codes)
    for j, column in enumerate(schema.columns):
        if isinstance(column, Categorical):
            assert set(frame[column.name]) <= set(column.levels)
            continue
        assert values[:, j].min() >= column.low and values[:, j].max() <= column.high
        steps = values[:, j] / column.resolution
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)
        if column.within == "uniform":  # ages are whole days
            np.testing.assert_array_equal(values[:, j], np.round(values[:, j]))


@schemas
def test_values_on_the_grid_come_back_exactly_where_each_cell_is_a_group(schema: Schema):
    tokenizer = Tokenizer.make(schema, Marginals.uniform(schema, 1000), max_codes=256)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            c.name: rng.choice(c.levels, 500)
            if isinstance(c, Categorical)
            else np.floor(rng.uniform(c.low, c.high + 1, 500)).clip(c.low, c.high)
            for c in schema.columns
        }
    )
    codes = tokenizer.encode(encode_cells(schema, frame))
    back = tokenizer.frame(tokenizer.decode(codes, rng.random((*codes.shape, 2))))
    for column in schema.columns:
        if isinstance(column, Numeric) and column.within == "uniform":
            distance = np.abs(back[column.name] - frame[column.name])
            assert distance.max() < column.cell
        else:
            assert (back[column.name] == frame[column.name]).all(), column.name


@pytest.mark.parametrize(("cells", "dtype"), [(128, np.uint8), (255, np.uint8), (256, np.uint16)])
def test_cells_take_as_few_bytes_as_they_can(cells: int, dtype: type):
    schema = Schema("n", (Numeric("x", "", 0, cells - 1), Categorical("y", (0, 1))), label="y")
    frame = pd.DataFrame({"x": [0.0, cells - 1], "y": [0, 1]})
    found = encode_cells(schema, frame)
    assert found.dtype == dtype and found[:, 0].tolist() == [0, cells - 1]
    assert histogram(schema, found)[[0, cells - 1, -1]].tolist() == [1, 1, 2]
    tokenizer = Tokenizer.make(schema, Marginals.uniform(schema, 1000), max_codes=8)
    assert tokenizer.encode(found).tolist() == [[0, 0], [7, 1]]


def test_halves_fit_in_as_well():
    halves = Numeric("x", "kg", 0, 199, resolution=0.5, within="halves")
    schema = Schema("n", (halves, Categorical("y", (0, 1))), label="y")
    found = encode_cells(schema, pd.DataFrame({"x": [198.5], "y": [0]}))
    assert found.dtype == np.uint16 and found[0, 0] == 198 + 200


@pytest.mark.parametrize("column", NUMERICS, ids=lambda c: c.name)
def test_every_value_on_the_grid_can_be_drawn(column: Numeric):
    """Exhaustively: each cell's values are its own, and together they are all there are."""
    schema = Schema("one", (column, Categorical("y", (0, 1))), label="y")
    marginals = Marginals(
        Marginals.uniform(schema, 1000).shares, (0.5 * (column.within == "halves"), 0.0), 1000
    )
    tokenizer = Tokenizer.make(schema, marginals, max_codes=256)
    fine = np.linspace(0, 1, 400, endpoint=False)
    codes = np.repeat(np.arange(column.cells), len(fine))
    uniforms = np.zeros((len(codes), 2, 2))
    uniforms[:, 0, 0], uniforms[:, 0, 1] = 0.5, np.tile(fine, column.cells)
    table = np.stack([codes, np.zeros_like(codes)], axis=1)
    found = np.unique(tokenizer.decode(table, uniforms)[:, 0])
    low = np.ceil(column.low) if column.within == "uniform" else column.low
    grid = np.arange(low, column.high + 1e-9, column.step)
    np.testing.assert_allclose(found, grid, atol=1e-9)


def test_half_of_the_kilos_are_as_likely_as_measured():
    tokenizer = Tokenizer.make(TOY, random_marginals(TOY, 1, halves=0.3))
    codes, _ = random_rows(tokenizer, 1, rows=4000)
    codes[:, 1] = codes[:, 1].clip(0, tokenizer.widths[1] - 2)  # the last cell is a single value
    values = tokenizer.decode(codes, np.random.default_rng(1).random((4000, 5, 2)))[:, 1]
    assert set(values % 1) == {0.0, 0.5}
    assert abs((values % 1 == 0.5).mean() - 0.3) < 5 * np.sqrt(0.21 / 4000)


def test_a_value_inside_a_group_is_drawn_by_the_noisy_shares():
    share = np.array([0.1, 0.3, 0.0, 0.6])
    schema = Schema("one", (Numeric("x", "m", 0, 3), Categorical("y", (0, 1))), label="y")
    tokenizer = Tokenizer.make(schema, Marginals((share, np.array([0.5, 0.5])), (0.0, 0.0), 9.0), 1)
    uniforms = np.random.default_rng(0).random((20_000, 2, 2))
    values = tokenizer.decode(np.zeros((20_000, 2), int), uniforms)[:, 0].astype(int)
    np.testing.assert_allclose(np.bincount(values, minlength=4) / 20_000, share, atol=0.02)
    assert not (values == 2).any()


# Values that survive, whatever the schema.


@st.composite
def grid_columns(draw: st.DrawFn) -> tuple[Numeric, list[float]]:
    """A column with bounds and resolution of a few decimals, and values on its grid as written."""
    decimals = draw(st.integers(0, 4))
    unit = Decimal(1).scaleb(-decimals)
    resolution = draw(st.integers(1, 25)) * unit
    low = draw(st.integers(-(10**6), 10**6)) * unit
    per_cell, last = draw(st.integers(1, 20)), draw(st.integers(20, 400))
    beyond = resolution * draw(st.sampled_from([Decimal(0), Decimal("0.5")]))  # high off the grid
    column = Numeric(
        f"x{draw(st.integers(0, 10**9))}",
        "",
        float(low),
        float(low + last * resolution + beyond),
        float(per_cell * resolution),
        float(resolution),
    )
    steps = [0, last, *draw(st.lists(st.integers(0, last), min_size=6, max_size=6))]
    return column, [float(low + step * resolution) for step in steps]


LEVELS = st.one_of(
    st.lists(st.integers(-99, 99), min_size=2, max_size=20, unique=True),
    st.lists(st.text(max_size=5), min_size=2, max_size=20, unique=True),
    st.just([False, True]),
)


@given(
    st.lists(grid_columns(), min_size=1, max_size=4, unique_by=lambda c: c[0].name), LEVELS, seeds
)
def test_values_come_back_exact_to_the_cell_and_on_the_grid_of_any_schema(
    drawn: list[tuple[Numeric, list[float]]], levels: list[Any], seed: int
) -> None:
    schema = Schema("any", (*(column for column, _ in drawn), Categorical("c", levels)))
    schema = Schema.from_toml(tomli_w.dumps(schema.to_dict()))
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({column.name: values for column, values in drawn})
    frame["c"] = np.asarray(levels)[rng.integers(0, len(levels), len(frame))]
    tokenizer = Tokenizer.make(schema, Marginals.uniform(schema, 1000), max_codes=255)
    groups = tuple(np.arange(c.cells) for c in schema.columns)
    tokenizer = replace(tokenizer, groups=groups)  # every cell is a code, however many there are
    cells = encode_cells(schema, frame)
    back = tokenizer.frame(tokenizer.decode(cells, rng.random((*cells.shape, 2))))
    np.testing.assert_array_equal(encode_cells(schema, back), cells)
    assert back["c"].tolist() == frame["c"].tolist()
    assert [type(v) for v in back["c"].tolist()] == [type(v) for v in frame["c"].tolist()]
    for column, values in drawn:
        found = back[column.name]
        assert (found.dtype == np.int64) == column.is_whole
        if column.per_cell == 1:
            assert found.tolist() == values, "bit for bit"
        assert (np.abs(found - values) < column.cell).all()
        steps = (found - column.low) / column.resolution
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-6)
        written = [Decimal(repr(float(v))) for v in found]
        assert all(-v.as_tuple().exponent <= max(column.decimals, 1) for v in written)


@pytest.mark.parametrize(
    "column",
    [
        Numeric("bmi", "kg/m2", 10, 60),
        Numeric("bmi", "kg/m2", 10, 60, resolution=0.1),
        Numeric("bmi", "kg/m2", 10, 60, cell=10, resolution=0.1),
        Numeric("bmi", "kg/m2", 10, 60, cell=0.1, resolution=0.1),
        Numeric("bmi", "kg/m2", 10, 60, cell=0.25, resolution=0.1, within="uniform"),
    ],
    ids=lambda c: f"{c.cell}/{c.resolution}",
)
def test_the_mean_survives_a_cell_wider_than_the_values(column: Numeric) -> None:
    """It used to fall by half a cell: 29.97 became 29.51, whatever the resolution was."""
    schema = Schema("s", (column,))
    values = np.round(np.random.default_rng(0).uniform(20, 40, 40_000), 1)
    cells = encode_cells(schema, pd.DataFrame({"bmi": values}))
    tokenizer = Tokenizer.make(schema, marginals_from(schema, histogram(schema, cells), 0.0), 255)
    uniforms = np.random.default_rng(1).random((*cells.shape, 2))
    back = tokenizer.frame(tokenizer.decode(tokenizer.encode(cells), uniforms))["bmi"]
    assert abs(back.mean() - values.mean()) < 0.06
    assert (back % 1 == 0).all() == (column.resolution == 1)


def test_whole_numbers_come_back_whole() -> None:
    columns = (
        Numeric("children", "", 0, 17),
        Numeric("insulin", "uU/ml", 0, 900, cell=10),
        Numeric("tens", "", 0, 900, cell=10, within="start"),
        Numeric("halves", "", 0, 9, within="halves"),
        Numeric("bmi", "kg/m2", 10, 60, resolution=0.5),
        Numeric("off", "", 0.5, 9.5),
        Numeric("large", "", 0, 1e17, cell=1e15, resolution=1e15),
    )
    schema = Schema("s", columns)
    tokenizer = Tokenizer.make(schema, Marginals.uniform(schema, 1000), 255)
    frame = tokenizer.frame(
        tokenizer.decode(np.ones((9, 7), int), np.random.default_rng(0).random((9, 7, 2)))
    )
    assert [kind.kind for kind in frame.dtypes] == ["i", "i", "i", "f", "f", "f", "f"]
    assert frame["insulin"].between(10, 19).all() and frame["insulin"].nunique() > 3
    assert (frame["tens"] == 10).all()


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


@given(
    arrays(float, st.integers(1, 120), elements=st.sampled_from([0.0, 0.01, 0.5, 1.0, 7.0, 90.0])),
    st.integers(1, 64),
)
def test_groups_are_few_neighbours_and_leave_atoms_alone(weights: np.ndarray, max_codes: int):
    shares = (weights + 1e-9) / (weights + 1e-9).sum()
    groups = group_cells(shares, max_codes)
    assert groups[0] == 0 and set(np.diff(groups)) <= {0, 1}
    assert groups[-1] < max_codes
    if len(shares) <= max_codes:
        np.testing.assert_array_equal(groups, np.arange(len(shares)))
        return
    # More than max_codes groups at a smaller target bounds it: pairs of groups hold that much.
    sizes = np.bincount(groups)
    assert (sizes[groups[shares > 2 / max_codes + 1e-9]] == 1).all()


def test_shares_of_codes_add_up_and_stay_zero_beyond_a_column():
    tokenizer = Tokenizer.make(TOY, random_marginals(TOY, 3), max_codes=16)
    table = tokenizer.code_shares()
    assert table.shape == (5, tokenizer.width)
    np.testing.assert_allclose(table.sum(1), 1)
    for row, width in zip(table, tokenizer.widths, strict=True):
        assert not row[width:].any()
    assert tokenizer.widths[3:] == (3, 2)
    np.testing.assert_allclose(table[3, :3], tokenizer.marginals.shares[3])


# What networks see of a code.


def test_features_are_cosines_of_the_noisy_mid_rank():
    schema = Schema("two", (Numeric("x", "m", 0, 2), Categorical("y", (0, 1))), label="y")
    shares = (np.array([0.5, 0.25, 0.25]), np.array([0.2, 0.8]))
    found = Tokenizer.make(schema, Marginals(shares, (0.0, 0.0), 9.0)).code_features(4)
    assert (found.shape, found.dtype) == ((2, 3, 4), np.float32)
    for column, ranks in enumerate([[0.25, 0.625, 0.875], [0.1, 0.6]]):
        for code, rank in enumerate(ranks):
            expected = [math.sqrt(2) * math.cos(math.pi * k * rank) / k for k in (1, 2, 3, 4)]
            np.testing.assert_allclose(found[column, code], expected, rtol=1e-5, atol=1e-6)


@schemas
@given(seed=seeds, max_codes=st.integers(1, 64), order=st.integers(1, 12))
def test_features_are_bounded_and_zero_beyond_a_column(
    schema: Schema, seed: int, max_codes: int, order: int
):
    """Bounded whatever the noise was, and smoother ones larger; the first one tells codes apart."""
    tokenizer = Tokenizer.make(schema, random_marginals(schema, seed), max_codes)
    found = tokenizer.code_features(order)
    assert found.shape == (len(schema.columns), tokenizer.width, order)
    assert (np.abs(found) <= math.sqrt(2) / np.arange(1, order + 1) + 1e-6).all()
    for column, width in zip(found, tokenizer.widths, strict=True):
        assert not column[width:].any()
        assert (np.diff(column[:width, 0]) <= 0).all()  # ranks do not fall


def test_features_of_equally_shared_codes_are_orthogonal():
    """Mean 0 and variance 1 / k**2 over such a column: an input of known size, uncorrelated."""
    schema = Schema("one", (Numeric("x", "m", 0, 7), Categorical("y", (0, 1))), label="y")
    waves = Tokenizer.make(schema, Marginals.uniform(schema, 9.0)).code_features(6)[0].astype(float)
    np.testing.assert_allclose(waves.mean(0), np.zeros(6), atol=1e-6)
    expected = np.diag(1 / np.arange(1, 7) ** 2)
    np.testing.assert_allclose(waves.T @ waves / 8, expected, atol=1e-6)


def test_features_depend_on_the_noisy_shares_of_their_own_column_alone():
    marginals = random_marginals(TOY, 5)
    found = Tokenizer.make(TOY, marginals, 16).code_features(8)
    elsewhere = replace(marginals, halves=(0.0, 0.9, 0.0, 0.0, 0.0), records=7.0, deviation=4.0)
    np.testing.assert_array_equal(Tokenizer.make(TOY, elsewhere, 16).code_features(8), found)

    shares = (*marginals.shares[:3], np.array([0.1, 0.2, 0.7]), marginals.shares[4])
    moved = Tokenizer.make(TOY, replace(marginals, shares=shares), 16).code_features(8)
    np.testing.assert_array_equal(np.delete(moved, 3, axis=0), np.delete(found, 3, axis=0))
    assert (moved[3, :3] != found[3, :3]).any()
