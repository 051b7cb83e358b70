from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdpjax.errors import UserError
from rdpjax.io.plain import split_plain
from rdpjax.io.records import lines_of, records_of

HEADER = "a;b\n"
MARKS = [
    "1",
    "é",
    ";",
    ";",
    "\n",
    "\n",
    "\r\n",
    "\r",
    " ",
    '"',
    "\x00",
    "\x01",
    "\x1c",
    "\u2028",
    "\ufeff",
]
CELLS = st.text("1aé\x00\x1c\u2028\u3000", max_size=3)


def one_by_one(content: bytes) -> list[tuple[list[str], str]]:
    """What the slow way makes of a file: fields and text of each record, without the header."""
    records = records_of(lines_of(content, Path("t.csv")), ";", Path("t.csv"))
    return [(record.fields, record.text) for record in records][1:]


def at_once(content: bytes) -> list[tuple[list[str], str]] | None:
    split = split_plain(content, len(HEADER), ";", 2)
    if split is None:
        return None
    columns = [column.to_pylist() for column in split.columns]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return list(zip(rows, split.texts.to_pylist(), strict=True))


@given(st.lists(st.sampled_from(MARKS)).map("".join))
def test_it_gives_the_same_or_nothing(body: str):
    content = (HEADER + body).encode()
    found = at_once(content)
    if found is not None:
        assert found == one_by_one(content)


@given(
    st.lists(st.tuples(CELLS, CELLS), min_size=1), st.sampled_from(["\n", "\r\n"]), st.booleans()
)
def test_plain_files_are_split(rows: list[tuple[str, str]], end: str, closed: bool):
    content = (HEADER + end.join(map(";".join, rows)) + end * closed).encode()
    found = at_once(content)
    assert found == [(list(row), ";".join(row)) for row in rows] == one_by_one(content)


UNUSUAL = {
    "nothing": "",
    "narrow": "1\n",
    "wide": "1;2;3\n",
    "narrow later": "1;2\n3\n",
    "blank first": "\n1;2\n",
    "blank inside": "1;2\n\n3;4\n",
    "blank last": "1;2\n\n",
    "spaces": "1;2\n  \n",
    "space in a field": "1; 2\n",
    "space in front": " 1;2\n",
    "space in front later": "1;2\n 3;4\n",
    "quotes": '"1";2\n',
    "cr": "1;2\r3;4\n",
    "control": "1;\x012\n",
    "bom": "\ufeff1;2\n",
    "long": "1;" + "x" * 200_000 + "\n",
}


@pytest.mark.parametrize("body", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_the_unusual_is_left_to_the_slow_way(body: str):
    assert at_once((HEADER + body).encode()) is None


def test_a_field_too_long_is_an_error_of_the_slow_way():
    with pytest.raises(UserError, match="line 2: field larger"):
        one_by_one((HEADER + "1;" + "x" * 200_000).encode())
