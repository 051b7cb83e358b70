"""Spikes and missing values: bins and tokens of their own, measured, generated and written back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdpjax.data.features import token_features
from rdpjax.data.fields import Categorical, Numeric
from rdpjax.data.schema import Schema
from rdpjax.data.tokenizer import (
    Marginals,
    Tokenizer,
    encode_cells,
    histogram,
    marginals_from,
    sensitivity,
)
from rdpjax.errors import UserError

GAIN = Numeric("gain", "dollars", 1, 50_000, spikes=(0, 99_999), missing=("?", ""))
DOSE = Numeric("dose", "mg", 0, 9.5, resolution=0.5, missing=("-200",))
WARD = Categorical("ward", ("east", "west"), missing=("?",))
SCHEMA = Schema("points", (GAIN, DOSE, WARD, Categorical("ill", (0, 1))), label="ill")
FRAME = pd.DataFrame(
    {
        "gain": [0.0, 99_999, np.nan, 1, 50_000, 70_000],
        "dose": [np.nan, 0, 9.5, 2.5, np.nan, 2.5],
        "ward": ["east", None, "west", None, "east", "west"],
        "ill": [0, 1, 0, 1, 0, 1],
    }
)


def test_points_have_bins_after_the_others() -> None:
    cells = encode_cells(SCHEMA, FRAME)
    last = GAIN.cells
    assert cells[:, 0].tolist() == [last, last + 1, last + 2, 0, last - 1, last - 1]
    assert cells[:, 1].tolist() == [DOSE.cells, 0, 19, 5, DOSE.cells, 5]
    assert cells[:, 2].tolist() == [0, 2, 1, 2, 0, 1]


def test_a_value_near_a_spike_is_none() -> None:
    cells = encode_cells(SCHEMA, FRAME.assign(gain=[0.4, 99_998, -1, 2, 0, 99_999]))
    assert cells[:, 0].tolist() == [0, GAIN.cells - 1, 0, 0, GAIN.cells, GAIN.cells + 1]


def test_a_missing_value_that_is_not_declared_goes_to_the_first_bin() -> None:
    plain = Schema("p", (Numeric("x", "", 5, 9), Categorical("y", ("a", "b"))))
    cells = encode_cells(plain, pd.DataFrame({"x": [np.nan], "y": [None]}))
    assert cells.tolist() == [[0, 0]]


def test_values_come_back(rows: int = 400) -> None:
    frame = pd.concat([FRAME] * rows, ignore_index=True)
    cells = encode_cells(SCHEMA, frame)
    marginals = marginals_from(SCHEMA, histogram(SCHEMA, cells), 0.0)
    tokenizer = Tokenizer.make(SCHEMA, marginals, 8)
    codes = tokenizer.encode(cells)
    values = tokenizer.decode(codes, np.random.default_rng(0).random((*codes.shape, 2)))
    back = tokenizer.frame(values)
    assert str(back.gain.dtype) == "Int64" and back.dose.dtype == np.float64
    spiked = frame.gain.isin([0, 99_999])
    assert (back.gain[spiked] == frame.gain[spiked]).all()
    for name in ("gain", "dose", "ward"):
        assert (back[name].isna() == frame[name].isna()).all()
    assert back.gain.dropna().isin([0, 99_999]).sum() == spiked.sum()  # none is made up
    assert (encode_cells(SCHEMA, back)[:, 1:] == cells[:, 1:]).all()


def test_a_row_adds_one_to_each_column_whatever_it_holds() -> None:
    for i in range(len(FRAME)):
        vector = histogram(SCHEMA, encode_cells(SCHEMA, FRAME.iloc[[i]]))
        assert np.linalg.norm(vector) <= sensitivity(SCHEMA)
        assert vector.sum() == len(SCHEMA.columns) + 1


def test_shares_of_points_are_measured() -> None:
    marginals = marginals_from(SCHEMA, histogram(SCHEMA, encode_cells(SCHEMA, FRAME)), 0.0)
    assert [len(shares) for shares in marginals.shares] == [c.outcomes for c in SCHEMA.columns]
    assert Marginals.uniform(SCHEMA, 9).shares[0].sum() == pytest.approx(1)


def test_each_point_has_a_flag_and_the_others_their_cosines() -> None:
    shares = np.full((1, 5), 0.2)
    column = Numeric("x", "", 0, 2, spikes=(9,), missing=("?",))
    features = token_features(Schema("s", (column,)), shares, (5,), 3)[0]
    assert features.shape == (5, 5)
    assert (features[:3, 0] == features[0, 0]).all() and features[3, 0] == -4 * features[0, 0]
    assert (features[3:, 2:] == 0).all()
    plain = token_features(Schema("s", (Numeric("x", "", 0, 2),)), shares[:, :3] / 0.6, (3,), 3)
    np.testing.assert_allclose(features[:3, 2:], plain[0], atol=1e-6)


@given(
    low=st.integers(-50, 50),
    span=st.integers(1, 5000),
    spikes=st.lists(st.integers(-99_999, 99_999), max_size=3, unique=True),
    missing=st.booleans(),
    seed=st.integers(0, 99),
)
def test_round_trip_of_any_numeric(
    low: int, span: int, spikes: list[int], missing: bool, seed: int
) -> None:
    column = Numeric("x", "", low, low + span, spikes=tuple(spikes), missing=("?",) * missing)
    schema = Schema("s", (column,))
    random = np.random.default_rng(seed)
    values = random.integers(low, low + span + 1, 50).astype(float)
    values[:3] = [*spikes, *(np.nan,) * missing, low, low, low][:3]
    frame = pd.DataFrame({"x": values})
    cells = encode_cells(schema, frame)
    assert cells.max() < column.bins
    tokenizer = Tokenizer.make(schema, marginals_from(schema, histogram(schema, cells), 0.0), 255)
    codes = tokenizer.encode(cells)
    back = tokenizer.decode(codes, random.random((50, 1, 2)))[:, 0]
    assert (np.isnan(back) == np.isnan(values)).all() if missing else True
    known = ~np.isnan(values)
    exact = np.isin(values, spikes)
    assert (back[exact] == values[exact]).all()
    off = np.abs(back - values)[known & ~exact]
    assert (off < column.cell * -(-column.cells // 200)).all() or column.cells > 200


def test_what_may_be_missing_is_told_by_the_schema_file() -> None:
    assert Schema.from_dict(SCHEMA.to_dict()) == SCHEMA
    with pytest.raises(UserError, match="kind must be one of numeric, categorical, date, ordinal"):
        Schema.from_dict({"name": "s", "columns": [{"name": "x", "kind": "number"}]})
