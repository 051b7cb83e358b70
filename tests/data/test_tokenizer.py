"""Values to bins to tokens, and back."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from rdpjax.data.cardio import CARDIO
from rdpjax.data.schema import Categorical, Numeric, Schema
from rdpjax.data.tokenizer import Marginals, Tokenizer, encode_cells, histogram, marginals_from
from tests.data.tables import TOY, random_marginals, random_rows, schemas, seeds

TENTHS = Numeric("tenths", "kg/m2", -1.5, 6.25, cell=0.5, resolution=0.1)
NUMERICS = [c for c in (*TOY.columns, *CARDIO.columns, TENTHS) if isinstance(c, Numeric)]


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
    schema = Schema(
        "n", (Numeric("x", "", 0, cells - 1, cell=1), Categorical("y", (0, 1))), label="y"
    )
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
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5),
        min_size=2,
        max_size=20,
        unique=True,
    ),
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
