"""What a frame may hold."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rdpjax.data.fields import Categorical
from rdpjax.data.frame import check_frame
from rdpjax.data.tokenizer import encode_cells
from rdpjax.errors import UserError
from tests.data.tables import FRAME, SMALL

CELLS = [[1, 0, 1], [2, 1, 0], [3, 0, 1]]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"y": [True, False, True]},
        {"y": [1.0, 0.0, 1.0]},
        {"y": pd.array([1, 0, 1], "Int64")},
        {"y": pd.array([True, False, True], "boolean")},
        {"y": np.array([1, 0, 1], object)},
        {"k": pd.Categorical(["a", "b", "a"])},
        {"k": pd.array(["a", "b", "a"], "string")},
        {"height": ["1", "2", "3"]},
        {"height": [1, 2, 3]},
        {"height": pd.array([1, 2, 3], "Float64")},
    ],
    ids=str,
)
def test_the_same_records_in_other_kinds_of_columns(changed: dict[str, Any]) -> None:
    """A bool label used to become level 0 throughout, without a word."""
    clean = check_frame(SMALL, FRAME.assign(**changed))
    assert encode_cells(SMALL, clean).tolist() == CELLS


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"height": [1, "two", 3]}, "row 1, column 'height': 'two' is no finite number"),
        ({"height": [1, 2, np.inf]}, "row 2, column 'height': inf is no finite number"),
        ({"height": [np.nan, 2, 3]}, "row 0, column 'height': nan is no finite number"),
        ({"height": pd.array([1, None, 3], "Int64")}, "row 1, column 'height': <NA> is no finite"),
        (
            {"height": pd.to_datetime(["2020", "2021", "2022"])},
            "row 0, column 'height': 2020-01-01",
        ),
        ({"k": ["a", "c", "b"]}, "row 1, column 'k': 'c' is no level; levels are 'a', 'b'"),
        ({"k": pd.array(["a", None, "b"], "string")}, "row 1, column 'k': <NA> is no level"),
        ({"y": [0, 2, 1]}, "row 1, column 'y': 2 is no level; levels are 0, 1"),
        ({"y": pd.array([1, None, 0], "Int64")}, "row 1, column 'y': <NA> is no level"),
        ({"y": ["0", "1", "0"]}, "row 0, column 'y': '0' is no level; levels are 0, 1 (numbers)"),
        ({"k": ["a", "a ", "b"]}, "row 1, column 'k': 'a ' is no level; levels are 'a', 'b'"),
        ({"y": pd.Series([1, 0, 2], dtype="int8")}, "row 2, column 'y': 2 is no level"),
    ],
    ids=str,
)
def test_a_bad_value_is_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_frame(SMALL, FRAME.assign(**changed))
    assert str(caught.value).startswith(message)


def test_a_missing_misspelt_or_doubled_column_is_named() -> None:
    with pytest.raises(UserError, match=r"column 'height' is missing; did you mean 'heigth'\?"):
        check_frame(SMALL, FRAME.rename(columns={"height": "heigth"}))
    with pytest.raises(UserError, match="column 'y' is missing"):
        check_frame(SMALL, FRAME.drop(columns="y"))
    with pytest.raises(UserError, match="column 'height' stands twice"):
        check_frame(SMALL, pd.concat([FRAME, FRAME[["height"]]], axis=1))


@pytest.mark.parametrize("written", [[1, 0, 1], [True, False, True], [1.0, 0.0, 1.0]], ids=str)
def test_booleans_and_numbers_are_taken_for_each_other(written: list[Any]) -> None:
    truths = dataclasses.replace(
        SMALL, columns=(*SMALL.columns[:2], Categorical("y", [False, True]))
    )
    for schema in (SMALL, truths):
        clean = check_frame(schema, FRAME.assign(y=written))
        assert encode_cells(schema, clean).tolist() == CELLS
