"""A user's table, read and written: every kind of column comes back as it came."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rdpjax.data.frame import decoded_values
from rdpjax.data.schema import Categorical, Date, Determined, Numeric, Schema
from rdpjax.data.tokenizer import Marginals, Tokenizer
from rdpjax.datasets.dataset import Output
from rdpjax.datasets.table import TableSettings, read_rows, write_table
from rdpjax.errors import UserError
from rdpjax.io.delimited import parse_table
from rdpjax.io.layout import Layout

SCHEMA = Schema(
    "every kind",
    (
        Numeric("whole", "", 0, 99, missing=("?",)),
        Numeric("decimal", "", -9, 9, resolution=0.01, spikes=(77.5,)),
        Numeric("gap", "", 0, 1, resolution=0.1, missing=("", "NA")),
        Categorical("word", ("a", "b;c", "nan")),
        Categorical("word or none", ("a", "b"), missing=("-",)),
        Categorical("code", (1, 2, 30)),
        Categorical("code or none", (1, 2, 30), missing=("",)),
        Categorical("flag", (False, True)),
        Categorical("flag or none", (False, True), missing=("NA",)),
        Date("day", first="1/1/2024", last="31/12/2024", format="%-d/%-m/%Y"),
        Date("hour", first="00:00", last="23:59", format="%H:%M", unit="minutes", missing=("x",)),
    ),
    determined=(
        Determined("twice", formula="decimal * 2", decimals=2),
        Determined("long", of="word or none", codes=(("a", "alpha"), ("b", "beta"))),
    ),
)
ROWS = """\
whole;decimal;gap;word;word or none;code;code or none;flag;flag or none;day;hour;twice;long
7;-0.25;0.3;a;b;1;30;True;False;8/3/2024;09:05;-0.50;beta
?;77.50;;"b;c";-;30;;False;NA;31/12/2024;x;155.00;
99;0.00;1.0;nan;a;2;1;True;True;1/1/2024;23:59;0.00;alpha
"""


def test_every_kind_of_column_comes_back_as_it_came(tmp_path: Path) -> None:
    """A missing word used to be written as `nan`."""
    table = parse_table(ROWS.encode(), "t.csv")
    frame = read_rows(SCHEMA, table)
    output = Output(3, Layout(";", table.header).to_dict(), None)
    for frames in ([frame], [frame[:1], frame[1:]]):
        path = tmp_path / f"{len(frames)}.csv"
        write_table(SCHEMA, path, frames, output)
        assert parse_table(path.read_bytes(), path).frame.equals(table.frame)


def test_a_generated_frame_is_written_and_decoded_like_one_that_was_read(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    tokenizer = Tokenizer.make(SCHEMA, Marginals.uniform(SCHEMA, 500.0))
    tokens = np.stack([random.integers(0, width, 200) for width in tokenizer.widths], axis=1)
    values = tokenizer.decode(tokens, random.random((*tokens.shape, 2)))
    frame = tokenizer.frame(values)
    np.testing.assert_array_equal(decoded_values(SCHEMA, frame), values)
    path = tmp_path / "t.csv"
    write_table(SCHEMA, path, [frame], Output(200, Layout(";", SCHEMA.written).to_dict(), None))
    again = read_rows(SCHEMA, parse_table(path.read_bytes(), path))
    np.testing.assert_array_equal(decoded_values(SCHEMA, again), values)


def test_no_rows_decode_to_none() -> None:
    frame = read_rows(SCHEMA, parse_table(ROWS.encode(), "t.csv"))[:0]
    assert decoded_values(SCHEMA, frame).shape == (0, len(SCHEMA.columns))


def test_another_label_takes_the_place_of_the_schemas() -> None:
    columns = (Categorical("a", (0, 1, 2)), Categorical("b", (0, 1)))
    schema = Schema("s", columns, label="a", positive=(2,))
    settings = TableSettings(schema, label="b")
    assert settings.schema == Schema("s", columns, label="b") and settings.label is None
    assert TableSettings(schema, label="a").schema is schema
    with pytest.raises(UserError, match="no column 'c'"):
        TableSettings(schema, label="c")


def test_a_missing_value_is_found_whatever_pandas_holds_for_it() -> None:
    words = Schema("s", (Categorical("w", ("a", "b"), missing=("?",)),))
    for gap in (None, np.nan, pd.NA):
        frame = pd.DataFrame({"w": pd.Series(["b", gap], dtype=object)})
        assert decoded_values(words, frame).tolist() == [[1.0], [2.0]]
