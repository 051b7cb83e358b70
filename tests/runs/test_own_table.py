"""`train --data my.csv --schema my.toml`: anybody's table, from file to file, by command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rdpjax import evaluate, sample, train
from rdpjax.config_file import load_schema, parse_config
from rdpjax.data.schema import Schema
from rdpjax.datasets.registry import TABLE, dataset_of
from rdpjax.datasets.table import TableSettings
from rdpjax.errors import UserError
from rdpjax.fitting.where import TRIED, meeting, read_where
from rdpjax.io.delimited import read_header
from rdpjax.synthesizer import Synthesizer

SCHEMA = """
name = "clinic"
label = "ill"
drop = ["id", "notes"]
rules = ["born <= visit", "if smokes = no then packs missing"]

[[columns]]
kind = "date"
name = "born"
unit = "days"
first = "01/01/2019"
last = "31/12/2020"
format = "%d/%m/%Y"

[[columns]]
kind = "date"
name = "visit"
first = "01/01/2019"
last = "31/12/2020"
format = "%d/%m/%Y"
missing = [""]

[[columns]]
kind = "categorical"
name = "smokes"
levels = ["no", "yes"]

[[columns]]
kind = "numeric"
name = "packs"
unit = "a day"
low = 0.5
high = 5
resolution = 0.5
missing = ["?"]

[[columns]]
kind = "numeric"
name = "cost"
unit = "euro"
low = 1
high = 9000
spikes = [0, 99999]

[[columns]]
kind = "ordinal"
name = "grade"
levels = ["low", "middle, or so", "high"]

[[columns]]
kind = "categorical"
name = "ill"
levels = [0, 1]

[[determined]]
name = "points"
of = "grade"
codes = { low = 1, "middle, or so" = 2, high = 3 }

[[determined]]
name = "taxed"
formula = "cost * 1.19"
decimals = 2
"""
GRADES = ("low", "middle, or so", "high")


def records(rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    born = pd.Timestamp("2019-01-01") + pd.to_timedelta(rng.integers(0, 300, rows), "D")
    visit = (born + pd.to_timedelta(rng.integers(0, 300, rows), "D")).strftime("%d/%m/%Y")
    smokes = rng.random(rows) < 0.4
    packs = (rng.integers(1, 11, rows) / 2).astype(str)
    cost = np.where(rng.random(rows) < 0.5, 0, rng.integers(1, 9000, rows))
    grade = rng.integers(0, 3, rows)
    cost = np.where(rng.random(rows) < 0.02, 99_999, cost)
    return pd.DataFrame(
        {
            "id": np.arange(rows),
            "points": grade + 1,
            "visit": np.where(rng.random(rows) < 0.1, "", visit),
            "born": born.strftime("%d/%m/%Y"),
            "smokes": np.where(smokes, "yes", "no"),
            "packs": np.where(smokes, packs, "?"),
            "cost": cost,
            "taxed": (cost * 1.19).round(2),
            "notes": ["free; text"] * rows,
            "grade": np.array(GRADES)[grade],
            "ill": (rng.random(rows) < 0.2 + 0.2 * grade).astype(int),
        }
    )


@pytest.fixture(scope="session")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, its schema, and a completed run."""
    folder = tmp_path_factory.mktemp("clinic")
    records(1500).to_csv(folder / "my.csv", sep=";", index=False)
    (folder / "my.toml").write_text(SCHEMA, encoding="utf-8")
    flags = ["--data", folder / "my.csv", "--schema", folder / "my.toml", "--out", folder / "run"]
    small = ["--rows", "600", "--autoregressive.steps", "3", "--autoregressive.hidden", "4"]
    sizes = ["--block-rows", "1024", "--pool-rows", "2048", "--epsilon", "9", "--seed", "1"]
    assert train.main([*map(str, flags), *small, *sizes, "--quiet"]) == 0
    return folder


def released(folder: Path) -> pd.DataFrame:
    path = folder / "run" / "release" / "synthetic.csv"
    return pd.read_csv(path, sep=";", dtype=str, keep_default_na=False)


def test_the_release_has_the_form_of_the_input(clinic: Path) -> None:
    rows, known = released(clinic), records(9)
    assert list(rows) == [name for name in known if name not in ("id", "notes")]
    assert len(rows) == 600
    visits = rows.visit[rows.visit != ""]
    assert 0 < len(visits) < 600 and visits.str.fullmatch(r"\d\d/\d\d/(2019|2020)").all()
    assert set(rows.packs) <= {"?", *(f"{n / 2:.1f}" for n in range(1, 11))}
    assert set(rows.grade) == set(GRADES) and set(rows.ill) == {"0", "1"}
    cost = rows.cost.astype(int)  # whole numbers come back whole
    assert (cost == 0).any() and cost[cost != 99_999].max() <= 9000


def test_rules_hold_and_determined_columns_follow(clinic: Path) -> None:
    rows = released(clinic)
    assert (rows.packs[rows.smokes == "no"] == "?").all()
    both = rows[rows.visit != ""]
    born, visit = (pd.to_datetime(both[name], format="%d/%m/%Y") for name in ("born", "visit"))
    assert (born <= visit).all()
    assert (rows.points.astype(int) == rows.grade.map(GRADES.index) + 1).all()
    taxed = rows.cost.astype(int) * 1.19
    np.testing.assert_allclose(rows.taxed.astype(float), taxed, atol=0.006)


def test_the_claim_names_no_path_and_covers_all_columns(clinic: Path) -> None:
    text = (clinic / "run" / "release" / "privacy.json").read_text()
    report = json.loads(text)
    assert str(clinic) not in text and report["epsilon"] <= 9
    events = {event["stage"]: event for event in report["events"]}
    assert events["marginals"]["clip_norm"] == pytest.approx(np.sqrt(7 + 1))
    schema = load_schema(clinic / "run" / "release" / "schema.toml")
    assert schema == load_schema(clinic / "my.toml")
    written = (clinic / "run" / "internal" / "config.toml").read_text()
    assert parse_config(written).data.schema == schema


def test_more_rows_and_scores_come_from_the_run_alone(clinic: Path, tmp_path: Path) -> None:
    out = tmp_path / "more.csv"
    assert sample.main([str(clinic / "run"), "--out", str(out), "--rows", "200"]) == 0
    assert list(pd.read_csv(out, sep=";")) == list(released(clinic))
    run = tmp_path / "run"
    shutil.copytree(clinic / "run", run)
    assert evaluate.main([str(run), "--quiet"]) == 0
    scores = json.loads((run / "internal" / "evaluation.json").read_text())
    assert 0 <= scores["synthetic"]["fidelity"]["tvd1"] < 1


def test_the_run_resumes_with_its_own_schema_only(
    clinic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(SCHEMA.replace("9000", "8000"), encoding="utf-8")
    flags = ["--data", clinic / "my.csv", "--schema", other, "--out", clinic / "run", "--resume"]
    assert train.main([*map(str, flags), "--quiet"]) == 2
    assert "its configuration differs from this one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "change", "message"),
    [
        (["--schema", "none.toml"], None, "none.toml: no such file"),
        (["--dataset", "table"], None, "needs the table's description; give --schema FILE"),
        (["--schema", "my.toml", "--label", "cost"], None, "label 'cost' must be a categorical"),
        (["--schema", "my.toml"], ('"id", ', ""), "the schema has no column 'id'"),
        (["--schema", "my.toml"], ("9000", "0"), "bounds must be finite with low < high"),
        (["--schema", "my.toml"], ("born <= visit", "born <= vist"), "did you mean 'visit'"),
        (["--schema", "my.toml"], ('"no", "yes"', '"no", "ex"'), "column 'smokes': 'yes' is no le"),
        (["--schema", "my.toml"], ("%d/%m/%Y", "%Y-%m-%d"), "is not of the format '%Y-%m-%d'"),
        (["--schema", "my.toml"], ('missing = [""]\n', ""), "'' is not of the format %d"),
        (["--schema", "my.toml", "--dataset", "cardio"], None, "has a schema of its own"),
        (["--schema", "my.toml", "--height-unit", "cm"], None, "a setting of the data set cardio"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_written(
    clinic: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    change: tuple[str, str] | None,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    text = SCHEMA.replace(*change) if change else SCHEMA
    Path("my.toml").write_text(text, encoding="utf-8")
    assert train.main(["--data", str(clinic / "my.csv"), "--out", "run", *flags, "--quiet"]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not Path("run").exists()


def test_a_configuration_may_hold_the_schema(clinic: Path, tmp_path: Path) -> None:
    schema = Schema.from_toml(SCHEMA)
    text = (clinic / "run" / "internal" / "config.toml").read_text()
    config = parse_config(text)
    assert config.data.schema == schema and parse_config(config.to_toml()) == config


def test_parquet_and_tabs_are_read_as_the_same_records(clinic: Path, tmp_path: Path) -> None:
    schema = load_schema(clinic / "my.toml")
    settings = TableSettings(schema)
    dataset = dataset_of(TABLE, settings)
    frame = records(200)
    frame.to_csv(tmp_path / "a.csv", sep="\t", index=False)
    frame.assign(cost=frame.cost.astype("Int64")).to_parquet(tmp_path / "a.parquet", index=False)
    text = dataset.open(tmp_path / "a.csv", {}, settings)
    packed = dataset.open(tmp_path / "a.parquet", {}, settings)
    pd.testing.assert_frame_equal(text.records, packed.records)
    assert text.format["separator"] == "\t" and len(packed.keys) == 200
    assert read_header(tmp_path / "a.parquet") == read_header(tmp_path / "a.csv")
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:300])
    for read in (read_header, lambda path: dataset.open(path, {}, settings)):
        with pytest.raises(UserError, match="Parquet file is cut off or damaged"):
            read(tmp_path / "a.parquet")


def test_rows_that_meet_conditions(
    clinic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "some.csv")
    flags = [str(clinic / "run"), "--out", out, "--rows", "300", "--seed", "2", "--where"]
    assert sample.main([*flags, "cost > 0 and grade != low and visit missing"]) == 0
    rows = pd.read_csv(out, sep=";", dtype=str, keep_default_na=False)
    assert len(rows) == 300 and (rows.visit == "").all() and (rows.cost.astype(int) > 0).all()
    assert set(rows.grade) == set(GRADES[1:])
    synth = Synthesizer.load(clinic / "run")
    assert (synth.sample(50, where="born < 01/06/2019").born < pd.Timestamp("2019-06-01")).all()
    for where, said in {
        "cots > 0": "no column 'cots'; did you mean 'cost'",
        "grade = highest": "'grade' has no level 'highest'",
        "born < 2019": "'2019' is not of the format %d/%m/%Y",
    }.items():
        assert sample.main([*flags, where, "--overwrite"]) == 2
        assert said in capsys.readouterr().err
    assert len(pd.read_csv(out, sep=";")) == 300, "the older file is as it was"


def test_what_hardly_any_row_meets_ends() -> None:
    schema = Schema.from_toml(SCHEMA)
    where = read_where("cost > 99998", schema)
    none = np.zeros((TRIED // 2, len(schema.columns)))
    blocks = meeting([none, none, none], schema, where)
    assert not len(next(blocks))
    with pytest.raises(UserError, match="0 of 1,000,000 generated rows meet it"):
        next(blocks)
