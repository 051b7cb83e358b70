from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdpjax.errors import UserError
from rdpjax.io.cells import levels, numbers, words
from rdpjax.io.delimited import parse_table, read_table, verbatim
from rdpjax.io.records import TABLE
from rdpjax.io.strings import BLOCK

GOOD = b"id;age;gluc\n0;18393;1\n1;20228;3\n"


def test_sniff_takes_the_more_frequent_separator():
    assert TABLE.separator("a;b;c") == ";"
    assert TABLE.separator("a,b,c") == ","
    assert TABLE.separator("a, b;c;d") == ";"
    assert TABLE.separator("a\tb,c\td") == "\t" and TABLE.separator("a|b") == "|"
    assert TABLE.separator("a:b") is None


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.replace(b";", b","),
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.replace(b"\n", b"\r"),
        b"\xef\xbb\xbf" + GOOD,
        GOOD.rstrip(b"\n"),
        b"\n" + GOOD + b"\n   \n",
        GOOD.replace(b"age", b'"age"').replace(b"18393", b'"18393"'),
        GOOD.replace(b";", b"; ").replace(b"age", b" age "),
        gzip.compress(GOOD, mtime=0),
        gzip.compress(b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n"), mtime=0),
    ],
    ids=[
        *("plain", "comma", "crlf", "cr", "bom", "no last line end", "blank lines"),
        *("quotes", "blanks", "gzip", "gzip+bom+crlf"),
    ],
)
def test_every_file_form_reads_the_same(tmp_path: Path, content: bytes):
    path = tmp_path / "table.csv"  # gzip is told by the bytes, not by the name
    path.write_bytes(content)
    table = read_table(path)
    assert table.header == ("id", "age", "gluc")
    assert numbers(table, "age").tolist() == [18393, 20228]
    assert levels(table, "gluc", (1, 2, 3)).tolist() == [1, 3]
    assert list(words(table, "id")) == ["0", "1"]
    assert table.path == path


def test_lines_and_texts_are_those_of_the_file():
    table = parse_table(b'\na;b\r\n\r\n1;"x\ny"\r\n2;z\r\n', "t.csv")
    assert table.lines.tolist() == [4, 6]
    assert table.header_text == "a;b"
    assert list(table.texts) == ['1;"x\ny"', "2;z"]
    assert table.frame["b"].tolist() == ["x\ny", "z"]


def test_a_table_of_several_blocks_is_one_table():
    count = 2 * BLOCK + 3
    rows = [f"{i};{i % 7}" for i in range(count)]
    table = parse_table("\n".join(["x;y", *rows]).encode(), "t.csv")
    assert list(table.texts) == rows
    assert table.lines.tolist() == list(range(2, count + 2))
    assert numbers(table, "x").tolist() == list(range(count))
    assert levels(table, "y", range(7)).tolist() == [i % 7 for i in range(count)]
    assert list(words(table, "x")) == [str(i) for i in range(count)]
    mask = np.arange(count) % BLOCK == 1
    chosen = [row for row, keep in zip(rows, mask, strict=True) if keep]
    assert verbatim(table.header_text, table.texts, mask).splitlines() == ["x;y", *chosen]


def test_what_is_wrong_far_down_is_named_by_its_line():
    rows = ["1;2"] * (BLOCK + 3)
    for bad, message in (("1", "has 1 field"), (";2", "empty"), ('"1;2', "unexpected end of data")):
        content = "\n".join(["x;y", *rows, bad]).encode()
        with pytest.raises(UserError, match=f"^t.csv: line {BLOCK + 5}.*{message}"):
            words(parse_table(content, "t.csv"), "x")


def test_the_first_of_two_mistakes_is_named():
    with pytest.raises(UserError, match="line 2 has 1 field"):
        parse_table(b'a;b\n1\n1;"2\n', "t.csv")
    with pytest.raises(UserError, match="line 2 holds the byte 0xff"):
        parse_table(b"\xef\xbb\xbfa;b\n1;\xff\n1\n", "t.csv")


def test_columns_without_a_name_are_called_by_their_position():
    assert parse_table(b",a,\n0,1,2\n", "t.csv").header == ("column 1", "a", "column 3")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        (gzip.compress(b"", mtime=0), "the file is empty"),
        (b"\xef\xbb\xbf", "the file is empty"),
        (b"a;b\n", "only a header, no record"),
        (b"a b\n1 2\n", "line 1 is a single field .* separated by blanks; save the table with"),
        (b"a:b\n1:2\n", r"line 1 is a single field .* separated by ':'"),
        (b"a\n1\n", "line 1 is a single field without ';', ',', tabs or '|'; save"),
        (b"a;b\n1;2\n1;2;3\n", "line 3 has 3 fields where the header has 2"),
        (b"a;b\n1;2\n\n1\n", "line 4 has 1 field where the header has 2"),
        (b"a;b\n1,2\n", "line 2 has 1 field .*the separator is ';'"),
        (b"a;b;a\n1;2;3\n", "line 1 names the column 'a' twice"),
        (b"a;b\n1;\xe9\n", "line 2 holds the byte 0xe9, which is no UTF-8"),
        ("a;b\n1;2\n".encode("utf-16"), "UTF-16; save it as UTF-8"),
        (gzip.compress(GOOD, mtime=0)[:-9], "gzip file is cut off or damaged"),
        (gzip.compress(GOOD, mtime=0)[:20], "gzip file is cut off or damaged"),
        (b"\x1f\x8b" + b"x" * 40, "gzip file is cut off or damaged"),
        (b"PK\x03\x04rest", "zip archive or an Excel file"),
        (b'a;b\n1;"2\n', "line 2: unexpected end of data; check the quotes"),
        (b"a;b\n1;" + b"x" * 200_000 + b"\n", "line 2: field larger"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(content: bytes, message: str):
    with pytest.raises(UserError, match=f"^t.csv: .*{message}") as caught:
        parse_table(content, "t.csv")
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path):
    with pytest.raises(UserError, match=r"nothing\.csv: no such file"):
        read_table(tmp_path / "nothing.csv")
    with pytest.raises(UserError, match="is a folder; name the file in it"):
        read_table(tmp_path)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("abc", "'abc' is no finite number"),
        ("62,5", "'62,5' is no number; write decimals with a point"),
        ("18,393", "'18,393' is no number; write decimals with a point, thousands without a mark"),
        (
            "1,018,393",
            "'1,018,393' is no number; write decimals with a point, thousands without a mark",
        ),
        ("NaN", "'NaN' stands for a missing value"),
        ("?", "stands for a missing value"),
        ("inf", "'inf' is no finite number"),
        ("1e999", "no finite number"),
        ("1_0", "no finite number"),
        ("0x10", "no finite number"),
        ("\u0661", "no finite number"),
        ("1 2", "no finite number"),
        ("5 kg", "no finite number"),
    ],
)
def test_first_cell_that_is_no_number_is_named(cell: str, message: str):
    rows = f"x;y\n1;2\n1;{cell}\n1;zzz\n1;{cell}\n"
    with pytest.raises(UserError, match=f"^t.csv: line 3, column 'y': .*{message}") as caught:
        numbers(parse_table(rows.encode(), "t.csv"), "y")
    assert "\n" not in str(caught.value)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_are_read_exactly(values: list[float]):
    text = "x;y\n" + "".join(f"0;{value!r}\n" for value in values)
    np.testing.assert_array_equal(numbers(parse_table(text.encode(), "t.csv"), "y"), values)


def test_levels():
    table = parse_table(b"a;b;c;d\n1;no;1.0;1.5\n02;yes;2;2\n", "t.csv")
    assert levels(table, "a", (1, 2)).tolist() == [1, 2]
    assert levels(table, "b", ("no", "yes")).tolist() == ["no", "yes"]
    assert levels(table, "c", (1, 2)).dtype == np.int64
    mend = re.escape("t.csv: line 3, column 'a': '02' is no level; levels are 1, 3")
    with pytest.raises(UserError, match=mend):
        levels(table, "a", (1, 3))
    with pytest.raises(UserError, match=r"line 2, column 'd': '1.5' is no level"):
        levels(table, "d", (1, 2))
    with pytest.raises(UserError, match="line 2, column 'b': 'no' is no level; levels are y, n"):
        levels(table, "b", ("y", "n"))


@pytest.mark.parametrize("cell", ["", "nan", "inf", "x"])
def test_no_level(cell: str):
    with pytest.raises(UserError, match=r"line 2, column 'y': .*levels are 0, 1$"):
        levels(parse_table(f"x;y\n1;{cell}\n".encode(), "t.csv"), "y", (0, 1))


def test_words_must_not_be_empty():
    with pytest.raises(UserError, match="line 3, column 'y': empty"):
        words(parse_table(b"x;y\n1;a\n1; \n", "t.csv"), "y")


@pytest.mark.parametrize("allowed", [(0, 1), (False, True)], ids=str)
def test_booleans_and_numbers_are_taken_for_each_other(allowed: tuple[int, int]):
    table = parse_table(b"x;y\nTrue;1\nfalse;0\nTRUE;1.0\n", "t.csv")
    for name in "xy":
        found = levels(table, name, allowed).tolist()
        assert found == [1, 0, 1] and {type(v) for v in found} == {type(allowed[0])}
    with pytest.raises(UserError, match="line 2, column 'x': 'True' is no level; levels are 2, 3"):
        levels(table, "x", (2, 3))
    assert levels(table, "x", ("True", "TRUE", "false")).tolist() == ["True", "false", "TRUE"]


def test_a_record_of_a_parquet_file_can_be_kept_as_csv(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a, b": ["x, y", 'say "no"', None], "n": [1.5, 2.0, None]})
    frame.to_parquet(tmp_path / "t.parquet", index=False)
    table = read_table(tmp_path / "t.parquet")
    text = verbatim(table.header_text, table.texts, np.array([True, True, True]))
    again = parse_table(text.encode(), "t.csv")
    assert again.header == table.header == ("a, b", "n")
    pd.testing.assert_frame_equal(again.frame, table.frame)
    assert table.frame["n"].tolist() == ["1.5", "2", ""] and table.lines.tolist() == [2, 3, 4]
