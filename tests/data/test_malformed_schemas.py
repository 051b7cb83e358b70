"""A malformed schema is refused in one line, never with a traceback; a table too."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdpjax.data.schema import Schema
from rdpjax.datasets.table import TableSettings, table_dataset
from rdpjax.errors import UserError

WHOLE: dict[str, Any] = {
    "name": "s",
    "label": "y",
    "positive": ["b"],
    "drop": ["id"],
    "rules": ["x < z", "if y = a then x missing"],
    "less": [["x", "z"]],
    "records": 1000,
    "columns": [
        {"kind": "numeric", "name": "x", "low": 0, "high": 9, "spikes": [99], "missing": ["?"]},
        {"kind": "numeric", "name": "z", "low": 0.5, "high": 9.5, "resolution": 0.5, "cell": 1},
        {"kind": "date", "name": "d", "first": "2020-01-01", "last": "2021-01-01", "missing": [""]},
        {"kind": "ordinal", "name": "o", "levels": [1, 2, 3]},
        {"kind": "boolean", "name": "b"},
        {"kind": "categorical", "name": "y", "levels": ["a", "b"], "source": "dictionary"},
    ],
    "determined": [
        {"name": "t", "formula": "x * 2 + z", "decimals": 1},
        {"name": "c", "of": "y", "codes": {"a": 1, "b": 2}},
    ],
}
JUNK = [
    None, True, -1, 0, 2.5, 10**400, float("nan"), float("inf"), "", "x", "\0", "if", "`", b"x",
    [], {}, [[]], [None], ["x", "x"], {"x": []}, [float("nan")], "%", "x <", (1, 2), {"x"},
]  # fmt: skip
ROWS = "id,x,z,d,o,b,y,t,c\n7,3,4.5,2020-02-01,2,true,a,10.5,1\n"


def paths(node: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node)
    found = []
    for key, value in items:
        found.append((*here, key))
        if isinstance(value, dict | list):
            found += paths(value, (*here, key))
    return found


@settings(max_examples=1000, deadline=None)
@given(
    place=st.sampled_from(paths(WHOLE)),
    junk=st.sampled_from(JUNK),
    how=st.sampled_from(["replace", "drop", "add"]),
)
def test_a_malformed_schema_is_refused_in_one_line(
    place: tuple[Any, ...], junk: Any, how: str
) -> None:
    values = copy.deepcopy(WHOLE)
    node: Any = values
    for key in place[:-1]:
        node = node[key]
    if how == "drop":
        del node[place[-1]]
    elif how == "add" and isinstance(node, dict):
        node[str(junk)] = junk
    else:
        node[place[-1]] = junk
    try:
        schema = Schema.from_dict(values)
    except UserError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert Schema.from_dict(schema.to_dict()) == schema


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@settings(max_examples=500, deadline=None)
@given(
    column=st.integers(0, 8),
    cell=st.sampled_from(
        ["", "?", "nan", "-1", "1e400", "3.25", "TRUE", "a,b", '"', "2020-13-01", "9" * 400, "\0",
         "ä", "1_0", "0x1", "١", " a ", "2019-12-31", "99", "99.0", "b\r"]
    ),
)  # fmt: skip
def test_a_table_is_read_or_refused_in_one_line(folder: Path, column: int, cell: str) -> None:
    schema = Schema.from_dict(WHOLE)
    header, row = ROWS.splitlines()
    cells = row.split(",")
    cells[column] = cell
    path = folder / "t.csv"
    path.write_text(f"{header}\n{row}\n{','.join(cells)}\n", encoding="utf-8", newline="")
    try:
        source = table_dataset(schema).open(path, {}, TableSettings(schema))
    except UserError as error:
        assert "\n" not in str(error) and "t.csv" in str(error)
    else:
        assert list(source.records) == list(schema.names)
