from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdpjax.data.cardio import (
    CARDIO,
    DAYS,
    KAGGLE_LAYOUT,
    cardio_columns,
    find_cardio,
    parse_cardio,
    read_cardio,
)
from rdpjax.data.schema import Categorical, Numeric
from rdpjax.errors import UserError
from rdpjax.io.delimited import parse_table
from rdpjax.io.layout import Layout, format_cells

KAGGLE = (
    "id;age;gender;height;weight;ap_hi;ap_lo;cholesterol;gluc;smoke;alco;active;cardio\n"
    "0;18393;2;168;62.0;110;80;1;1;0;0;1;0\n"
    "4;20228;1;156;85.5;14020;-80;3;2;1;1;0;1\n"
)


def parse(text: str, **units):
    return parse_cardio(parse_table(text.encode(), "t.csv"), **units)


def edit(column: str, cell: str, row: int = 1) -> str:
    """The two Kaggle rows with one cell replaced."""
    lines = [line.split(";") for line in KAGGLE.splitlines()]
    lines[row][lines[0].index(column)] = cell
    return "\n".join(";".join(line) for line in lines)


def rename(old: str, new: str) -> str:
    return KAGGLE.replace(old, new, 1)


def test_schema_names_a_source_for_every_column_and_keeps_the_issues_bounds():
    assert all(column.source for column in CARDIO.columns)
    bounds = {c.name: (c.low, c.high) for c in CARDIO.columns if isinstance(c, Numeric)}
    assert bounds == {
        "height": (120, 210),
        "weight": (30, 200),
        "age": (29 * DAYS, 66 * DAYS),
        "ap_hi": (70, 240),
        "ap_lo": (40, 140),
    }
    assert set(KAGGLE_LAYOUT.fields) == {"id", *CARDIO.names}


def test_reads_the_kaggle_form():
    table = parse(KAGGLE)
    assert tuple(table.frame.columns) == CARDIO.names
    for column in CARDIO.columns:
        expected = np.int64 if isinstance(column, Categorical) else np.float64
        assert table.frame[column.name].dtype == expected
    assert table.frame["ap_hi"].tolist() == [110, 14020]  # not clipped here
    assert table.frame["ap_lo"].tolist() == [80, -80]
    assert table.frame["age"].tolist() == [18393, 20228]
    assert isinstance(table.frame.index, pd.RangeIndex)
    assert list(table.ids) == list(table.keys) == ["0", "4"]
    assert table.layout == KAGGLE_LAYOUT
    assert table.notes == ()


def test_reads_the_other_mirror_with_commas_other_names_other_units_and_other_order(tmp_path):
    text = (
        "cardio,dbp,sbp,gender,weight,height,age,cholesterol,gluc,smoke,alco,active,ward,note\r\n"
        '1,80,110,2,62,1.13,50.5,1,1,0,0,1,7,"a, b"\r\n'
    )
    path = tmp_path / "other.csv.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + text.encode()))
    table = read_cardio(path)
    row = table.frame.iloc[0]
    assert (row["ap_hi"], row["ap_lo"], row["height"]) == (110, 80, 113)
    assert row["age"] == 50.5 * DAYS
    assert table.ids is None and list(table.keys) == [text.splitlines()[1]]
    assert table.layout.separator == ","
    assert table.layout.header[:3] == ("cardio", "dbp", "sbp")
    assert table.layout.renamed == (("dbp", "ap_lo"), ("sbp", "ap_hi"))
    assert "note" not in table.layout.header
    assert len(table.notes) == 1 and table.notes[0].endswith(": ward, note")


def test_units_are_told_cell_by_cell_unless_given():
    mixed = edit("age", "119.9").replace(";156;", ";2.99;")
    frame = parse(mixed).frame
    assert frame["age"].tolist() == [119.9 * DAYS, 20228]
    assert frame["height"].tolist() == [168, 299]
    frame = parse(mixed, age_unit="days", height_unit="cm").frame
    assert frame["age"].tolist() == [119.9, 20228]
    assert frame["height"].tolist() == [168, 2.99]
    frame = parse(mixed, age_unit="years", height_unit="m").frame
    assert frame["age"].tolist() == [119.9 * DAYS, 20228 * DAYS]
    assert frame["height"].tolist() == [16800, 299]
    assert parse(edit("age", "120")).frame["age"][0] == 120
    assert parse(edit("height", "3")).frame["height"][0] == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (rename("weight", "wieght"), "has no column 'weight'; did you mean 'wieght'"),
        (rename("weight", "WEIGHT"), "has no column 'weight'; did you mean 'WEIGHT'"),
        (rename("weight", "mass"), "has no column 'weight'; add it or mend the header"),
        (rename("gluc;smoke", "g;s"), "has no columns 'gluc', 'smoke'"),
        (rename("ap_lo", "ap_hi"), "names the column 'ap_hi' twice"),
        (rename("ap_lo", "sbp"), "columns 'ap_hi' and 'sbp' mean the same"),
        (edit("weight", "heavy"), "line 2, column 'weight': 'heavy' is no finite number"),
        (edit("ap_hi", "NaN", 2), "line 3, column 'ap_hi': 'NaN' stands for a missing value"),
        (edit("age", ""), "line 2, column 'age': empty"),
        (edit("gluc", "7", 2), "line 3, column 'gluc': '7' is no level; levels are 1, 2, 3"),
        (edit("cardio", "0.5"), "line 2, column 'cardio': '0.5' is no level; levels are 0, 1"),
        (edit("gender", ""), "line 2, column 'gender': empty; levels are 1, 2"),
        (edit("id", " "), "line 2, column 'id': empty"),
    ],
)
def test_bad_input_is_named_with_its_mend(text: str, message: str):
    with pytest.raises(UserError, match=f"^t.csv: .*{message}") as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_unknown_units_are_refused():
    with pytest.raises(UserError, match="age unit 'months': must be one of auto, days, years"):
        parse(KAGGLE, age_unit="months")
    with pytest.raises(UserError, match="height unit 'ft': must be one of auto, cm, m"):
        parse(KAGGLE, height_unit="ft")


def test_an_id_in_two_rows_is_remarked_on():
    (note,) = parse(edit("id", "4")).notes
    assert "more than one row" in note


def test_verbatim_keeps_lines_as_they_are():
    table = parse(rename("weight", " weight ").replace("\n", "\r\n").replace("id;", "x;id;", 1)
                  .replace("0;18393", "q;0;18393").replace("4;20228", "q;4;20228"))  # fmt: skip
    lines = table.table.header_text, *table.table.texts
    assert table.verbatim(np.array([False, True])) == f"{lines[0]}\n{lines[2]}\n"
    again = parse(table.verbatim(np.array([True, True])))
    pd.testing.assert_frame_equal(again.frame, table.frame)
    assert table.verbatim(np.array([False, False])) == lines[0] + "\n"


def rows(column) -> st.SearchStrategy:
    """Values of a column on the grid that it is written with."""
    if isinstance(column, Categorical):
        return st.sampled_from(column.levels)
    scale = 10 if column.resolution < 1 else 1
    whole = st.integers(int(np.ceil(column.low * scale)), int(column.high * scale))
    return whole.map(lambda value: value / scale)


RECORDS = st.lists(
    st.fixed_dictionaries({column.name: rows(column) for column in CARDIO.columns}),
    min_size=1,
    max_size=5,
)


@st.composite
def layouts(draw) -> Layout:
    names = {"ap_hi": draw(st.sampled_from(["ap_hi", "sbp"])), "ap_lo": "dbp"}
    with_id = draw(st.booleans())
    fields = draw(st.permutations([*CARDIO.names, *(["id"] if with_id else [])]))
    header = tuple(names.get(field, field) for field in fields)
    pairs = zip(header, fields, strict=True)
    renamed = tuple((name, field) for name, field in pairs if name != field)
    return Layout(draw(st.sampled_from([";", ","])), header, renamed, "id" if with_id else None)


def lines(frame: pd.DataFrame, layout: Layout, **how: Any) -> bytes:
    columns = cardio_columns(frame, layout, **how)
    assert list(columns) == [*layout.header, *how.get("derived", ())]
    return format_cells(list(columns.values()), layout.separator)


def header(layout: Layout, derived: Sequence[str] = ()) -> bytes:
    return (layout.separator.join([*layout.header, *derived]) + "\n").encode()


@given(RECORDS, layouts())
def test_what_is_written_reads_back(records: list[dict], layout: Layout):
    frame = pd.DataFrame(records, columns=list(CARDIO.names))
    content = header(layout) + lines(frame, layout, first=7)
    table = parse_cardio(parse_table(content, "t.csv"))
    assert table.layout == layout
    pd.testing.assert_frame_equal(table.frame, frame, check_dtype=False)
    if layout.identifier:
        assert list(table.ids) == [f"s{7 + i:07d}" for i in range(len(frame))]
    assert not table.notes


@given(RECORDS)
def test_chunks_make_the_same_file(records: list[dict]):
    frame, half = pd.DataFrame(records), len(records) // 2
    chunks = [
        lines(frame[:half], KAGGLE_LAYOUT, derived=["pp"]),
        lines(frame[half:], KAGGLE_LAYOUT, derived=["pp"], first=half + 1),
    ]
    assert b"".join(chunks) == lines(frame, KAGGLE_LAYOUT, derived=["pp"])


def test_writes_the_kaggle_rows_as_they_were():
    table = parse(KAGGLE)
    body = lines(table.frame, table.layout).decode().splitlines()
    assert header(table.layout).decode() == KAGGLE.splitlines()[0] + "\n"
    assert body[0].split(";")[1:] == KAGGLE.splitlines()[1].split(";")[1:]
    assert body[0].split(";")[0] == "s0000001"


def test_derived_columns_follow_from_the_written_parts():
    frame = parse(edit("height", "167.6").replace("62.0", "61.96")).frame
    layout = KAGGLE_LAYOUT
    content = header(layout, ["bmi", "pp"]) + lines(frame, layout, derived=["bmi", "pp"])
    table = parse_cardio(parse_table(content, "t.csv"))
    written = table.table.frame
    assert table.table.header[-2:] == ("bmi", "pp")
    assert written["bmi"][0] == f"{62.0 / 1.68**2:.2f}"
    assert written["pp"].tolist() == ["30", "14100"]
    with pytest.raises(UserError, match="derived column 'bmj': must be bmi or pp; did you mean"):
        cardio_columns(frame, layout, derived=["bmj"])


def test_layout_goes_through_json():
    layout = parse(KAGGLE).layout
    assert Layout.from_dict(json.loads(json.dumps(layout.to_dict()))) == layout


def test_finding_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert find_cardio(None, {}) is None
    assert find_cardio(None, {"RDPJAX_DATA": ""}) is None
    for folder in ("data", "."):  # the working folder comes before its data/
        for name in ("cardio_train.csv.gz", "cardio_train.csv"):
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(KAGGLE)
            assert find_cardio(None, {}) == path
    named = tmp_path / "mine.csv"
    named.write_text(KAGGLE)
    assert find_cardio(None, {"RDPJAX_DATA": str(named)}) == named
    assert find_cardio(None, {"RDPJAX_DATA": "data"}) == Path("data/cardio_train.csv")
    assert find_cardio(named, {"RDPJAX_DATA": "data"}) == named
    with pytest.raises(UserError, match=r"gone\.csv: no such file; check --data"):
        find_cardio(Path("gone.csv"), {"RDPJAX_DATA": "data"})
    with pytest.raises(UserError, match="gone: no such file; check RDPJAX_DATA"):
        find_cardio(None, {"RDPJAX_DATA": "gone"})
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no cardio_train\.csv or cardio_train\.csv\.gz"):
        find_cardio(Path("empty"), {})


def test_the_real_table(cardio_path: Path):
    table = read_cardio(cardio_path)
    assert table.layout == KAGGLE_LAYOUT
    assert table.notes == ()
    assert table.frame.shape == (56_000, 12)
    assert len(set(table.keys)) == 56_000
    assert table.frame["ap_hi"].agg(["min", "max"]).tolist() == [-120, 14020]
    everything = table.verbatim(np.ones(56_000, dtype=bool))
    assert everything.encode() == gzip.decompress(cardio_path.read_bytes())
    # Written again, all but the ids and the six weights with two decimals are as they were.
    written = lines(table.frame, table.layout).decode().splitlines()
    original = everything.splitlines()[1:]
    same = [
        a.split(";", 1)[1] == b.split(";", 1)[1] for a, b in zip(written, original, strict=True)
    ]
    assert same.count(False) == 6
