from __future__ import annotations

import json
import tomllib

import numpy as np
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from rdpjax.errors import UserError
from rdpjax.io.layout import Cells, Layout, format_cells

WITH_ID = Layout(",", ("sbp", "id", "age"), (("sbp", "ap_hi"),), identifier="id")
WITHOUT = Layout(";", ("age", "ap_hi"))


@pytest.mark.parametrize("layout", [WITH_ID, WITHOUT])
def test_survives_json_and_toml(layout: Layout):
    assert Layout.from_dict(json.loads(json.dumps(layout.to_dict()))) == layout
    assert Layout.from_dict(tomllib.loads(tomli_w.dumps(layout.to_dict()))) == layout


def test_fields_are_the_header_in_the_schemas_names():
    assert WITH_ID.fields == ("ap_hi", "id", "age")
    assert WITHOUT.fields == WITHOUT.header


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"separator": ";"},
        {"separator": ";", "header": 3},
        {"separator": ";", "header": ["a"], "renamed": [["a"]]},
        {"separator": ":", "header": ["a"]},
    ],
)
def test_what_is_no_layout_is_refused(values: dict):
    with pytest.raises(UserError, match=r"^layout: "):
        Layout.from_dict(values)


@given(
    st.lists(st.tuples(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6)), min_size=1),
    st.integers(1, 3),
)
def test_numbers_are_written_with_their_decimals(rows: list[tuple[int, int]], decimals: int):
    whole, scaled = np.array(rows).T
    lines = format_cells([Cells(whole, 0), Cells(scaled / 10**decimals, decimals)], ",").decode()
    expected = [f"{a},{b / 10**decimals:.{decimals}f}" for a, b in rows]
    assert lines == "\n".join(expected) + "\n"


def test_no_rows_are_no_lines():
    assert format_cells([Cells(np.zeros(0), 0), Cells(np.zeros(0), 1)], ";") == b""
