"""`python -m rdpjax.schema`: a draft, a guess that says what it is, a check for the curator."""

from __future__ import annotations

import csv
import gzip
import json
import re
import shlex
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from rdpjax import schema as command
from rdpjax import train
from rdpjax.config_file import load_schema
from rdpjax.data.columns import column_from_dict
from rdpjax.data.draft import blank_draft, guessed_draft
from rdpjax.data.guess import guess_column
from rdpjax.data.schema import PEEKED, Categorical, Date, Numeric, Schema
from rdpjax.datasets.table import read_rows
from rdpjax.datasets.table_check import EXACT, check_table
from rdpjax.errors import UserError
from rdpjax.io.delimited import parse_table, read_header
from rdpjax.synthesizer import Synthesizer

Call = Callable[..., str]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls the command, and returns what it printed; stderr with `status` 2, where it is short."""

    def run(*words: object, status: int = 0) -> str:
        assert command.main([str(word) for word in words]) == status
        out, err = capsys.readouterr()
        if status:
            assert not out and err.startswith("rdpjax: error: ") and err.count("\n") == 1, err
            return err
        return out

    return run


# The draft from the header.


@pytest.mark.parametrize("packed", [False, True])
def test_a_draft_reads_the_header_alone(tmp_path: Path, call: Call, packed: bool) -> None:
    """No record counts: not its values, nor whether it could be read at all."""
    drafts = []
    for i, records in enumerate([b"61;f\n", b"7;m\n8;m;9\n\xff\xfe\n" * 9, b""]):
        content = b'\xef\xbb\xbf\n"age";sex\r\n' + records
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / "my.csv").write_bytes(gzip.compress(content) if packed else content)
        said = call(folder / "my.csv", "--out", folder / "my.toml")
        assert "no record was read" in said
        drafts.append((folder / "my.toml").read_bytes())
    assert len(set(drafts)) == 1
    assert tomllib.loads(drafts[0].decode()) == {
        "name": "my", "drop": [], "rules": [], "columns": [{"name": "age"}, {"name": "sex"}],
    }  # fmt: skip


def test_only_the_first_bytes_of_a_long_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / "cut.csv.gz"
    whole = gzip.compress(b"a,b\n" + np.random.default_rng(0).bytes(1 << 20))
    path.write_bytes(whole[: 1 << 19])
    assert read_header(path) == ("a", "b")
    path.write_bytes(whole[:12])
    with pytest.raises(UserError, match="cut off or damaged"):
        read_header(path)


@pytest.mark.parametrize("kind", ["numeric", "categorical", "ordinal", "boolean", "date"])
def test_every_kind_of_the_draft_loads_once_it_is_filled_in(kind: str) -> None:
    draft = blank_draft("t.csv", "t", ["a"])
    (block,) = re.findall(rf'^# kind = "{kind}".*?\n\n', draft, re.MULTILINE | re.DOTALL)
    last = draft[draft.index("# missing") :]
    filled = draft.replace(block, re.sub("^# ", "", block, flags=re.MULTILINE))
    filled = filled.replace(last, last.removeprefix("# "))
    schema = Schema.from_toml(filled)
    assert schema.names == ("a",) and schema.column("a").missing == ("", "?")
    assert not schema.peeked


def test_a_column_without_a_kind_is_named(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text(blank_draft("my.csv", "my", ["age"]))
    with pytest.raises(UserError) as caught:
        load_schema(path)
    assert str(caught.value) == (
        f"{path}: schema column 1 ('age'): no kind yet; fill in kind = one of numeric, "
        "categorical, date, ordinal, boolean"
    )


def test_names_are_quoted_wherever_they_stand() -> None:
    names = ['a "b"', "c\\d", "e\nf", "# g", "é", "h = 1", "\x7f"]
    cells = {"x": 1, "y": 2, 'z"\n': 1}
    for draft in (
        blank_draft('my "t".csv\n', "t", names),
        guessed_draft("t\n", "t", {name: guess_column(name, cells) for name in names}),
    ):
        values = tomllib.loads(draft)
        assert [column["name"] for column in values["columns"]] == names


def test_an_older_file_stays_and_standard_output_is_the_draft_alone(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.csv").write_text("a,b\n1,x\n2,y\n")
    Path("my.toml").write_text("mine")
    assert command.main(["my.csv", "--out", "my.toml"]) == 2
    assert b"my.toml: exists; give --overwrite" in capsysbinary.readouterr().err
    assert Path("my.toml").read_text() == "mine"
    for peek in ([], ["--peek"]):
        assert command.main(["my.csv", "--out", "my.toml", "--overwrite", *peek]) == 0
        capsysbinary.readouterr()
        assert command.main(["my.csv", "--out", "-", *peek]) == 0
        assert capsysbinary.readouterr().out == Path("my.toml").read_bytes()
        others = stat.S_IMODE(Path("my.toml").stat().st_mode) & 0o077
        assert bool(others) != bool(peek), "what was read off the records is the curator's"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "name a table to draft a schema of, or --check SCHEMA --data TABLE"),
        (["my.csv"], "--out: name the TOML file to write"),
        (["my.csv", "--out", "x.toml", "--data", "my.csv"], "--data: goes with --check"),
        (["--check", "my.toml"], "--check: name the table to check it on"),
        (["my.csv", "--check", "a", "--data", "b"], "--check: takes --data TABLE alone"),
        (["none.csv", "--out", "x.toml"], "none.csv: no such file"),
        (["my.csv", "--out", "no/x.toml"], "no/x.toml: cannot write there"),
        (["twice.csv", "--out", "x.toml"], "line 1 names the column 'a' twice"),
        (["empty.csv", "--out", "x.toml"], "the file is empty"),
        (["header.csv", "--peek", "--out", "x.toml"], "only a header, no record"),
        (["ids.csv", "--peek", "--out", "x.toml"], "no column is left"),
        (["--check", "my.csv", "--data", "my.csv"], "my.csv: not TOML"),
        (["--check", "s.toml", "--data", "my.csv"], "my.csv: line 3, column 'a': 'x' is no"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    words: list[str], told: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.csv").write_text("a,b\n1,1\nx,1\n")
    Path("twice.csv").write_text("a,a\n1,1\n")
    Path("header.csv").write_text("a,b\n")
    Path("empty.csv").write_text("")
    Path("ids.csv").write_text("a,b\n" + "".join(f"n{i},1\n" for i in range(50)))
    entry = "[[columns]]\nname = '{}'\nkind = 'numeric'\nunit = ''\nlow = 0\nhigh = 9\n"
    Path("s.toml").write_text("name = 's'\n" + entry.format("a") + entry.format("b"))
    before = sorted(tmp_path.rglob("*"))
    assert told in call(*words, status=2)
    assert sorted(tmp_path.rglob("*")) == before


# The guess from the records.


def keys(*cells: Any, name: str = "x", **counts: int) -> dict[str, Any]:
    found = guess_column(name, {str(cell): 1 for cell in cells} | counts).keys
    assert found is not None
    return dict(found)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ("no yes", {"kind": "categorical", "levels": ["no", "yes"]}),
        ("10 9 8", {"kind": "categorical", "levels": [8, 9, 10]}),
        ("1.0 0.0 NA", {"kind": "categorical", "levels": [0, 1], "missing": ["NA"]}),
        ("01 02 11", {"kind": "categorical", "levels": ["01", "02", "11"]}),
        ("1 2 x", {"kind": "categorical", "levels": ["1", "2", "x"]}),
        ("1.5 2.25", {"kind": "numeric", "low": 1.5, "high": 2.3, "resolution": 0.01}),
        ("1e3 2500.5", {"kind": "numeric", "low": 1000, "high": 2600, "resolution": 0.1}),
        ("2024-02-03 2024-02-09", {"first": "2024-02-01", "last": "2024-02-29"}),
        ("31/12/1950 02/01/2001", {"first": "01/01/1950", "last": "31/12/2001"}),
        ("12/31/1950 01/02/2001", {"format": "%m/%d/%Y", "unit": "days"}),
        ("8.3.2024 10.12.2024", {"format": "%-d.%-m.%Y", "last": "31.12.2024"}),
        ("09:30 17:45", {"first": "00:00", "last": "23:59", "unit": "minutes"}),
        ("2024-02-03T09:00:01Z 2024-02-03T10:00:00Z", {"unit": "seconds"}),
    ],
)
def test_kinds_and_bounds_are_guessed(cells: str, expected: dict[str, Any]) -> None:
    found = keys(*cells.split())
    assert {key: found.get(key) for key in expected} == expected
    column_from_dict(found | {"name": "x"}, "")


def test_dates_with_times_have_a_blank_in_them() -> None:
    found = keys("01/02/2024 10:00", "28/02/2024 23:00")
    assert found["format"] == "%d/%m/%Y %H:%M" and found["unit"] == "hours"
    assert found["last"] == "29/02/2024 23:00"


def test_a_frequent_number_is_a_spike_and_a_remote_one_is_missing() -> None:
    rest = {str(value): 1 + value % 2 for value in range(100, 160)}
    assert keys(**rest, **{"0": 60})["spikes"] == [0]
    assert keys(**rest, **{"0": 60})["low"] == 100
    assert "spikes" not in keys(**rest, **{"0": 30})
    assert "spikes" not in keys(**{str(value): 1 for value in range(12)}, **{"12": 40})
    for code, text in ((-200, "-200"), (-200, "-200.0"), (99999, "99999")):
        found = keys(**rest, **{text: 5, "?": 1})
        assert found["missing"] == ["?", str(code)] and found["high"] == 160
        assert {"low", "high"} <= found.keys()


def test_missing_texts_come_in_the_order_of_their_frequency() -> None:
    assert keys("a", "b", **{"?": 2, "": 3, "null": 1})["missing"] == ["", "?", "null"]


@pytest.mark.parametrize(
    ("name", "cells", "why"),
    [
        ("name", [f"Jo {i}" for i in range(100)], "an identifier or free text?"),
        ("town", [f"T{i}" for i in range(300)] * 3, "300 levels, at most 255 are possible"),
        ("row", range(1, 101), "another whole number in every row"),
        ("patient_id", range(100, 5000, 7), "another whole number in every row"),
        ("iban", [10**17 + i for i in range(50)], "more than 15 digits"),
        ("price", [f"{i},5" for i in range(100)], "write decimals with a point"),
        ("dose", [*range(100), "unknown"], "numbers beside 'unknown'"),
        ("same", ["x"] * 9, "the same value in every row"),
        ("same", ["1", "1.0"], "the same value in every row"),
        ("none", ["", "NA"], "no value in any row"),
    ],
)
def test_what_cannot_be_modelled_is_dropped_and_said(name: str, cells: Any, why: str) -> None:
    texts = [str(cell) for cell in cells]
    found = guess_column(name, {text: texts.count(text) for text in texts})
    assert found.keys is None and why in found.note


def test_whole_numbers_that_are_all_different_are_no_identifier_by_that_alone() -> None:
    assert keys(*range(100, 5000, 7))["kind"] == "numeric"


some_cell = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters='"\0\r\n,'), max_size=6),
    st.floats(-1e20, 1e20).map(str),
    st.integers(-5, 40).map(str),
    st.dates().map(str),
    st.sampled_from(["", "?", "NA", "-200", "1/2/2024", "01/02/2024", "9:05", "1e-30", "0"]),
)


@given(st.lists(some_cell, min_size=1, max_size=60))
def test_a_guess_always_reads_the_table_that_it_was_made_from(cells: list[str]) -> None:
    content = "x,y\n" + "".join(f'"{cell}",{i % 2}\n' for i, cell in enumerate([*cells, "1", "2"]))
    table = parse_table(content.encode(), "t.csv")
    counts = [table.frame[name].str.strip().value_counts().to_dict() for name in table.header]
    guesses = {name: guess_column(name, cells) for name, cells in zip("xy", counts, strict=True)}
    draft = guessed_draft("t.csv", "t", guesses)
    schema = Schema.from_toml(draft)
    assert schema.peeked
    frame = read_rows(schema, table)
    for column in schema.columns:
        if isinstance(column, Numeric):
            values = frame[column.name].to_numpy(float)
            values = values[~np.isnan(values) & ~np.isin(values, column.spikes)]
            assert (values >= column.low).all() and (values <= column.high).all()


def test_the_mark_is_kept_and_checked() -> None:
    columns = (Categorical("a", (0, 1)),)
    marked = Schema("s", columns, peeked=True)
    assert marked.to_dict()["peeked"] is True and Schema.from_dict(marked.to_dict()) == marked
    assert "peeked" not in Schema("s", columns).to_dict()
    with pytest.raises(UserError, match="peeked must be true or false, got 'yes'"):
        Schema("s", columns, peeked="yes")


def test_every_claim_under_a_guessed_schema_says_so_and_no_other() -> None:
    columns = (Categorical("a", (0, 1)), Numeric("b", "", 0, 9))
    for peeked in (True, False):
        synth = Synthesizer(Schema("s", columns, peeked=peeked))
        assert (PEEKED in synth.report()["notes"]) == peeked


# The check.


def test_the_check_tells_every_column_rule_and_determined_column() -> None:
    schema = Schema.from_toml("""
        name = "s"
        drop = ["id"]
        less = [["low", "high"]]
        rules = ["if smokes = no then packs missing", "high <= 200"]
        [[columns]]
        name = "low"
        kind = "numeric"
        low = 40
        high = 140
        unit = "mmHg"
        [[columns]]
        name = "high"
        kind = "numeric"
        low = 70
        high = 240
        unit = "mmHg"
        [[columns]]
        name = "height"
        kind = "numeric"
        low = 120
        high = 210
        unit = "cm"
        missing = ["?"]
        [[columns]]
        name = "smokes"
        kind = "categorical"
        levels = ["no", "yes", "often"]
        [[columns]]
        name = "packs"
        kind = "numeric"
        low = 0
        high = 9
        unit = ""
        missing = [""]
        [[determined]]
        name = "pulse"
        formula = "high - low"
        [[determined]]
        name = "half"
        formula = "pulse / 2"
        decimals = 1
        [[determined]]
        name = "code"
        of = "smokes"
        codes = {no = 0, yes = 1, often = 1}
        [[determined]]
        name = "unwritten"
        formula = "high + 1"
    """)
    rows = [
        "1,80,120,5.5,no,,40,20.0,0",
        "2,80,220,5.9,no,3,140,70.04,0.0",
        "3,130,120,6.1,yes,4,10,-5,1",
        "4,80,120,?,yes,,40,20,2",
    ]
    header = "id,low,high,height,smokes,packs,pulse,half,code"
    table = parse_table("\n".join([header, *rows, ""]).encode(), "t.csv")
    assert list(check_table(schema, table)) == [
        EXACT,
        "t.csv: 4 rows",
        "column 'low': every value lies within 40 to 140 mmHg",
        "column 'high': every value lies within 70 to 240 mmHg",
        "column 'height': 75% of 4 values lie outside 120 to 210 cm and are clipped; in feet?; "
        "25% missing",
        "column 'smokes': no row has 'often'",
        "column 'packs': every value lies within 0 to 9; 50% missing",
        "rule low < high: 25% of 4 rows break it",
        "rule if smokes = no then packs missing: 25% of 4 rows break it",
        "rule high <= 200: 25% of 4 rows break it",
        "determined column 'pulse': 75% of rows agree with it",
        "determined column 'code': 75% of rows agree with it",
        "determined column 'half': 100% of rows agree with it",
    ]


# All of it.


def strange_table(path: Path, rows: int = 1500) -> dict[str, Any]:
    """Write a table as offices send them, and return what its columns may hold."""
    random = np.random.default_rng(7)
    towns = ["Aix; les Bains", "Bonn, am Rhein", 'Cork "C"', "Đà Nẵng"]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["Case no", "Seen on", "Town", "BMI", "Cigarettes", "Ill"])
        for i in range(rows):
            ill = random.random() < 0.3
            day = datetime(2024, int(random.integers(1, 13)), int(random.integers(1, 29)))
            bmi = "?" if random.random() < 0.1 else f"{random.normal(26 + 3 * ill, 3):.1f}"
            smoked = int(random.integers(1, 60)) if random.random() < 0.4 else 0
            town = "" if random.random() < 0.05 else towns[int(random.integers(len(towns)))]
            seen = f"{day:%d/%m/%Y}"
            writer.writerow([f"A{i:05}", seen, town, bmi, smoked, "ja" if ill else "nein"])
    return {"Town": {*towns, ""}, "Ill": {"ja", "nein"}}


def test_from_a_strange_csv_to_a_release_in_three_commands(
    tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    allowed = strange_table(Path("strange.csv"))
    call("strange.csv", "--peek", "--out", "strange.toml")
    said = call("--check", "strange.toml", "--data", "strange.csv")
    assert said.startswith(EXACT) and said.count("every value lies within") == 3
    flags = "--data strange.csv --schema strange.toml --label Ill --epsilon 5 --rows 500 --out run"
    small = "--pool-rows 1 --autoregressive.steps 20 --autoregressive.hidden 16 --quiet"
    assert train.main([*flags.split(), *small.split()]) == 0
    said = capsys.readouterr().out
    assert PEEKED in said and "may be published" not in said
    report = json.loads(Path("run/release/privacy.json").read_text())
    assert PEEKED in report["notes"] and report["epsilon"] <= 5
    assert "peeked = true" in Path("run/release/schema.toml").read_text()

    schema = load_schema("strange.toml")
    assert schema.drop == ("Case no",)
    seen, bmi, cigarettes = (schema.column(name) for name in ("Seen on", "BMI", "Cigarettes"))
    assert isinstance(seen, Date) and isinstance(bmi, Numeric) and isinstance(cigarettes, Numeric)
    assert cigarettes.spikes == (0,)
    with Path("run/release/synthetic.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, delimiter=";")
    assert header == ["Seen on", "Town", "BMI", "Cigarettes", "Ill"] and len(rows) == 500
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    for name, levels in allowed.items():
        assert set(columns[name]) == levels
    for cell in columns["Seen on"]:
        day = datetime.strptime(cell, "%d/%m/%Y")
        assert day.year == 2024 and f"{day:%d/%m/%Y}" == cell
    assert "?" in columns["BMI"] and "" not in columns["BMI"]
    for cell in set(columns["BMI"]) - {"?"}:
        assert re.fullmatch(r"\d+\.\d", cell) and bmi.low <= float(cell) <= bmi.high
    assert all(0 <= int(cell) <= cigarettes.high for cell in columns["Cigarettes"])
    assert 0.4 < columns["Cigarettes"].count("0") / 500 < 0.8


def test_a_closed_pipe_ends_it_quietly(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\tb\n" + "1\t2\n" * 9)
    columns = (Numeric("a", "", 0, 9), Numeric("b", "", 0, 9))
    (tmp_path / "s.toml").write_text(tomli_w.dumps(Schema("s", columns).to_dict()))
    flags = ["--check", str(tmp_path / "s.toml"), "--data", str(tmp_path / "t.csv")]
    script = f"{shlex.join([sys.executable, '-m', 'rdpjax.schema', *flags])} | true"
    done = subprocess.run(
        ["bash", "-c", f"{script}; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "" and done.stdout.strip() in ("0", "141")
