from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdpjax.data.stays import psv_block
from rdpjax.data.stays.psv import MOST_BYTES, parse_psv
from rdpjax.data.stays.psv_block import parse_block
from rdpjax.data.stays.psv_stay import Stay
from rdpjax.data.stays.sepsis import COLUMNS, LONGEST, STATICS, VARIABLES
from rdpjax.errors import UserError
from rdpjax.io.archive import open_source

HEAD = "HR|Temp|Age|Gender|ICULOS|SepsisLabel"
GOOD = f"{HEAD}\n80|NaN|61|1|2|0\n82|37.5|61|1|3|0\nNaN|NaN|61|1|4|1\n".encode()
TEMP = 2


def same(one: Stay, other: Stay | UserError) -> None:
    assert isinstance(other, Stay)
    assert (one.first, one.onset, one.notes) == (other.first, other.onset, other.notes)
    assert one.values.dtype == other.values.dtype == one.statics.dtype == np.float32
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.statics, other.statics)


def file(*rows: str, head: str = "HR|ICULOS|SepsisLabel") -> bytes:
    return "\n".join([head, *rows, ""]).encode()


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + GOOD,
        GOOD.rstrip(b"\n"),
        GOOD + b"\n\r\n  \n",
        b"\n" + GOOD.replace(b"|3|0\n", b"|3|0\n\n"),
        GOOD.replace(b"NaN", b""),
        GOOD.replace(b"NaN", b"nan"),
        GOOD.replace(b"|", b" | "),
        GOOD.replace(b"80|", b"+8.0e1|").replace(b"|3|", b"|3.0|"),
    ],
    ids=[
        *("plain", "crlf", "bom", "no last line end", "blank lines behind", "blank lines inside"),
        *("empty cells", "nan", "blanks", "other spellings of numbers"),
    ],
)
def test_every_file_form_reads_the_same(content: bytes):
    stay = parse_psv(content, "p1")
    assert (stay.first, stay.onset) == (2, 2)
    assert stay.values.shape == (3, len(VARIABLES))
    np.testing.assert_array_equal(stay.values[:, 0], [80, 82, np.nan])
    np.testing.assert_array_equal(stay.values[:, TEMP], [np.nan, 37.5, np.nan])
    np.testing.assert_array_equal(stay.statics, [61, 1, np.nan, np.nan, np.nan])
    same(stay, parse_block([("p1", content)])[0])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "p1: the file is empty"),
        (b"\n \n", "p1: the file is empty"),
        (file(), "zero rows"),
        (GOOD.split(b"\n", 1)[1], "line 1: holds numbers where the header belongs"),
        (GOOD.replace(b"|", b","), "line 1 is a single field without '|'.*separated by ','"),
        (GOOD.replace(b"|", b";"), "separated by ';'"),
        (GOOD.replace(b"|", b"\t"), "separated by tabs"),
        (GOOD.replace(b"80|", b""), "line 2 has 5 columns where the header has 6"),
        (GOOD.replace(b"82|", b"82|1|"), "line 3 has 7 columns where the header has 6"),
        (GOOD.replace(b"82|37.5|61|1|3|0", b"82"), "line 3 has 1 column where the header has 6"),
        (GOOD.replace(b"37.5", b"warm"), "line 3, column 'Temp': 'warm' is no finite number"),
        (GOOD.replace(b"37.5", b"37,5"), "'37,5' is no number; write decimals with a point"),
        (GOOD.replace(b"37.5", b"inf"), "line 3, column 'Temp': 'inf' is no finite number"),
        (GOOD.replace(b"37.5", b"1e39"), "line 3, column 'Temp': '1e39' is no finite number"),
        (GOOD.replace(b"37.5", b"1_0"), "'1_0' is no finite number"),
        (GOOD.replace(b"37.5", b"-nan"), "'-nan' is no finite number"),
        (GOOD.replace(b"37.5", b"NA"), "'NA' is no finite number.*write NaN for a missing value"),
        (file("80|1|0", "HR|ICULOS|SepsisLabel"), "line 3 repeats the header"),
        (file("80|0", head="HR|SepsisLabel"), "line 1: has no column 'ICULOS'"),
        (file("80|1", head="HR|ICULOS"), "line 1: has no column 'SepsisLabel'"),
        (file("8|1|0", head="HR|ICULOS|Sepsislabel"), "did you mean 'Sepsislabel'?"),
        (file("8|8|1|0", head="HR|HR|ICULOS|SepsisLabel"), "names the column 'HR' twice"),
        (file("80|1|0", "80|NaN|0"), "line 3, column 'ICULOS': missing"),
        (file("80|1|0", "80|1.5|0"), "line 3, column 'ICULOS': 1.5 is no whole hour"),
        (file("80|-1|0", "80|0|0"), "line 2, column 'ICULOS': -1 is below 1"),
        (file("80|0|0", "80|1|0"), "line 2, column 'ICULOS': 0 is below 1"),
        (file("80|3|0", "80|2|0"), "line 3, column 'ICULOS': 2 comes after a later hour"),
        (file("80|336|0", "80|337|0"), "line 3, column 'ICULOS': 337 is beyond 336"),
        (file("80|1|0", "80|2|2"), "line 3, column 'SepsisLabel': 2 is neither 0 nor 1"),
        (file("80|1|0", "80|2|0.5"), "line 3, column 'SepsisLabel': 0.5 is neither"),
        (file("8|1|1", "8|2|NaN", "8|3|0"), "line 4, column 'SepsisLabel': 0 after a 1"),
        (file("8|1|NaN", "8|2|"), "line 2, column 'SepsisLabel': missing in every row"),
        (GOOD.replace(b"61|1|3", b"61|2|3"), "line 3, column 'Gender': 2 is not 0 or 1"),
        (GOOD.replace(b"61|1|3", b"130|1|3"), "line 3, column 'Age': 130 is not 0 to 120"),
        (GOOD.replace(b"HR", b"H\xff"), "line 1 holds the byte 0xff"),
        (GOOD.decode().encode("utf-16"), "UTF-16"),
        (b"0" * (MOST_BYTES + 1), "longer than 16 MiB"),
    ],
)
def test_a_fault_is_one_line_that_says_where(content: bytes, told: str):
    with pytest.raises(UserError, match=told) as careful:
        parse_psv(content, "p1")
    assert "\n" not in str(careful.value) and str(careful.value).startswith("p1: ")
    # And a bad file does not touch the good ones that are read with it.
    first, bad, last = parse_block([("a", GOOD), ("p1", content), ("b", GOOD)])
    assert str(bad) == str(careful.value)
    same(parse_psv(GOOD, "a"), first)
    same(parse_psv(GOOD, "b"), last)


def test_gaps_and_repeats():
    head = "HR|Temp|ICULOS|SepsisLabel"
    stay = parse_psv(file("80|36|5|0", "81|NaN|5|0", "NaN|37|8|0", head=head), "p1")
    np.testing.assert_array_equal(stay.values[:, 0], [81, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(stay.values[:, TEMP], [36, np.nan, np.nan, 37])
    assert (stay.first, stay.onset) == (5, -1)


@pytest.mark.parametrize(
    ("labels", "onset"),
    [
        (("0", "0", "0"), -1),
        (("1", "1", "1"), 0),
        (("NaN", "NaN", "1"), 2),
        (("NaN", "0", "NaN"), -1),
        (("0", "1", "NaN"), 1),
    ],
)
def test_a_missing_label_repeats_the_one_before_it(labels: tuple[str, ...], onset: int):
    rows = [f"80|{hour}|{label}" for hour, label in enumerate(labels, start=7)]
    assert parse_psv(file(*rows), "p1").onset == onset


def test_what_is_let_pass_is_noted():
    head = "Mood|Age|ICULOS|SepsisLabel|"
    stay = parse_psv(file("good|61|1|0|", "bad, very|62|2|0|", "|NaN|3|0|", head=head), "p1")
    assert stay.statics[0] == 62
    assert "column 'Mood' is unknown and ignored" in stay.notes
    assert "column 'number 5' is unknown and ignored" in stay.notes
    assert "column 'HR' is absent: not measured" in stay.notes
    assert "Age changes within a stay: the last value counts" in stay.notes
    absent = {"ICULOS", "SepsisLabel", "Age"}
    assert len(stay.notes) == 3 + len(COLUMNS) - len(absent)


def test_the_longest_stay_fits():
    rows = [f"80|{hour}|0" for hour in range(1, LONGEST + 1)]
    assert len(parse_psv(file(*rows), "p1").values) == LONGEST


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a file without faults, more or less plain."""
    columns = draw(st.lists(st.sampled_from(COLUMNS[:-2]), max_size=5, unique=True))
    columns += draw(st.lists(st.sampled_from(["Mood", "Ward"]), max_size=1))
    columns = draw(st.permutations([*columns, "ICULOS", "SepsisLabel"]))
    gaps = draw(
        st.one_of(
            st.lists(st.just(1), min_size=1, max_size=12),
            st.lists(st.sampled_from([0, 1, 1, 1, 2, 5]), min_size=1, max_size=12),
        )
    )
    hours = np.cumsum(gaps) + draw(st.integers(1, 20)) - gaps[0]
    onset = draw(st.integers(0, 14))
    fixed = {name: draw(st.sampled_from(["0", "1", "NaN"])) for name in STATICS}
    number = st.one_of(
        st.sampled_from(["NaN", "NaN", "0", "-3", "98.6", "0.1", "1e-3"]),
        st.decimals(-1000, 1000, places=2).map(str),
    )
    rows = []
    for i, hour in enumerate(hours):
        known = fixed | {"ICULOS": str(hour), "SepsisLabel": str(int(i >= onset))}
        rows.append([known[name] if name in known else draw(number) for name in columns])
    return columns, rows


@given(st.lists(tables(), min_size=1, max_size=4))
def test_fast_and_careful_reading_agree_with_the_cells(
    made: list[tuple[list[str], list[list[str]]]],
):
    files = [
        (f"p{i}", "\n".join("|".join(cells) for cells in [columns, *rows]).encode())
        for i, (columns, rows) in enumerate(made)
    ]
    for (name, content), found, (columns, rows) in zip(
        files, parse_block(files), made, strict=True
    ):
        stay = parse_psv(content, name)
        same(stay, found)
        expected: dict[tuple[int, str], float] = {}
        onsets = []
        for cells in rows:
            row = dict(zip(columns, map(float, cells), strict=True))
            hour = int(row["ICULOS"])
            onsets += [hour] if row["SepsisLabel"] else []
            expected |= {(hour, n): v for n, v in row.items() if not np.isnan(v)}
        hours = range(stay.first, stay.first + len(stay.values))
        assert {hour for hour, name in expected if name == "ICULOS"} <= set(hours)
        assert {min(hours), max(hours)} <= {hour for hour, name in expected if name == "ICULOS"}
        assert stay.onset == (min(onsets) - stay.first if onsets else -1)
        for j, variable in enumerate(VARIABLES):
            wanted = [np.float32(expected.get((hour, variable.name), np.nan)) for hour in hours]
            np.testing.assert_array_equal(stay.values[:, j], wanted)
        for j, name in enumerate(STATICS):
            wanted = [v for (_, n), v in expected.items() if n == name]
            np.testing.assert_array_equal(stay.statics[j], wanted[-1] if wanted else np.nan)


@pytest.mark.parametrize(
    "name", ["sepsis_training_setB.tar.gz", "sepsis_training_setA_sample.tar.gz"]
)
def test_real_files_are_plain_and_read_the_same(
    name: str, shared_data: Path, monkeypatch: pytest.MonkeyPatch
):
    path = shared_data / name
    if not path.is_file():
        pytest.skip(f"no real patients: {name} is not in {shared_data}")
    files = [(m.name, m.content) for m in islice(open_source(path).members(), 400)]
    careful = [parse_psv(content, name) for name, content in files]
    monkeypatch.setattr(psv_block, "parse_psv", None)
    for one, other in zip(careful, parse_block(files), strict=True):
        same(one, other)
        assert not one.notes


def test_files_of_different_headers_keep_their_order(monkeypatch: pytest.MonkeyPatch):
    files = [
        ("a", file("80|1|0", "81|2|0")),
        ("b", file("0|1|36", "1|2|37", head="SepsisLabel|ICULOS|Temp")),
        ("c", file("90|4|0")),
    ]
    careful = [parse_psv(content, name) for name, content in files]
    monkeypatch.setattr(psv_block, "parse_psv", None)
    for one, other in zip(careful, parse_block(files), strict=True):
        same(one, other)
