"""A saved synthesizer of a user's own schema is as good as a run to every command."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from rdpjax import audit, evaluate, sample
from rdpjax.config import Config
from rdpjax.data.fields import Categorical, Numeric
from rdpjax.data.schema import Schema
from rdpjax.datasets.table import table_dataset
from rdpjax.errors import UserError
from rdpjax.runs.release import open_release
from rdpjax.synthesizer import Synthesizer

WARDS = ("north; old", 'the "new" one', "west")


@pytest.fixture
def words(toy_schema: Schema) -> Schema:
    """A schema called as a data set is, with levels that need quotes, and one of true and false."""
    columns = [column for column in toy_schema.columns if column.name != "ward"]
    ward, rare = Categorical("ward", WARDS), Categorical("rare", (False, True))
    return dataclasses.replace(toy_schema, name="sepsis", columns=(ward, rare, *columns))


@pytest.fixture
def frame(toy_frame: pd.DataFrame) -> pd.DataFrame:
    ward = toy_frame["ward"].map(dict(zip(("north", "south", "west"), WARDS, strict=True)))
    return toy_frame.assign(ward=ward, rare=toy_frame["low"] > 12)


@pytest.fixture
def saved(words: Schema, frame: pd.DataFrame, toy_config: Config, tmp_path: Path) -> Path:
    synth = Synthesizer(words, config=dataclasses.replace(toy_config, rows=400))
    synth.fit(frame[:2000], seed=1).save(tmp_path / "saved")
    frame[:2000].to_csv(tmp_path / "train.csv", index=False)
    frame[2000:].to_csv(tmp_path / "others.csv", index=False, sep=";")
    return tmp_path / "saved"


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz", "rows.parquet"])
def test_sample(saved: Path, words: Schema, frame: pd.DataFrame, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    assert sample.main([str(saved), "--out", str(out), "--rows", "300", "--seed", "4"]) == 0
    rows = pd.read_parquet(out) if name.endswith("parquet") else pd.read_csv(out)
    assert list(rows) == list(words.names) and len(rows) == 300
    assert set(rows["ward"]) == set(WARDS) and set(rows["ill"]) == {0, 1}
    expected = Synthesizer.load(saved).sample(300, seed=4)
    told = rows.assign(rare=rows["rare"].astype(str) == "True")
    pd.testing.assert_frame_equal(told, expected, check_dtype=False)


def test_the_release_itself_may_be_named(saved: Path) -> None:
    assert open_release(saved / "release").generator.schema.name == "sepsis"


def test_evaluate(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [str(saved), "--quiet", "--json", str(tmp_path / "scores.json")]
    assert evaluate.main(flags) == 2
    assert "holds no hold-out; give --real PATH" in capsys.readouterr().err
    others, train = str(tmp_path / "others.csv"), str(tmp_path / "others.csv")
    assert evaluate.main([*flags, "--real", others]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["source"] == "given to fit" and scores["synthetic"]["rows"] == 400
    assert sorted(path.name for path in saved.iterdir()) == ["release"]
    assert evaluate.main([*flags, "--real", others, "--train", train]) == 2
    assert "all of it is held out" in capsys.readouterr().err


def test_audit_release(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["release", str(saved), "--quiet", "--data", str(tmp_path / "train.csv")]
    assert audit.main(flags) == 2
    assert "--held-out FILE" in capsys.readouterr().err
    assert audit.main([*flags, "--held-out", str(tmp_path / "others.csv")]) == 0
    said = capsys.readouterr().out
    assert "500 members and 500 others" in said and "the claim stands" in said


def test_a_file_that_does_not_fit_is_refused(words: Schema, tmp_path: Path) -> None:
    from rdpjax.datasets.dataset import Settings

    dataset = table_dataset(replace(words, drop=("id",)))
    path = tmp_path / "t.csv"
    header = "id,ward,rare,low,high,ill"
    for text, said in {
        f"{header.replace('rare,', '')}\n1,west,2,3,0\n": "the header has no column 'rare'",
        f"{header},lows\n1,west,true,2,3,0,1\n": "has no column 'lows'; did you mean 'low'?",
        f"{header},notes\n1,west,true,2,3,0,1\n": "no column 'notes'; describe it, or name it in",
        f"{header}\n1,east,true,2,3,0\n": "line 2, column 'ward': 'east' is no level",
        f"{header}\n1,west,true,2,tall,0\n": "line 2, column 'high': 'tall' is no finite number",
    }.items():
        path.write_text(text)
        with pytest.raises(UserError, match=said):
            dataset.open(path, {}, Settings())
    path.write_text(f"{header}\n1,west,true,2,3,0\n")
    source = dataset.open(path, {}, Settings())
    assert source.notes == (f"{path}: dropped, as the schema says: id",)
    with pytest.raises(UserError, match="--data: name the table"):
        dataset.open(None, {}, Settings())


def test_numbers_are_written_with_their_decimals(tmp_path: Path) -> None:
    from rdpjax.datasets.dataset import Output, Settings

    columns = (
        Numeric("bmi", "kg/m2", 10, 60, resolution=0.1),
        Numeric("n", "", 0, 9),
        Numeric("dose", "mg", 0, 9, within="halves"),
    )
    schema = Schema("s", columns)
    dataset = table_dataset(schema)
    assert dataset.format is not None
    rows = pd.DataFrame({"bmi": [21.1, 30.0], "n": [3, 4], "dose": [1.5, 2.0]})
    dataset.write(tmp_path / "t.csv", [rows], Output(2, dataset.format, Settings()))
    assert (tmp_path / "t.csv").read_text() == "bmi,n,dose\n21.1,3,1.5\n30.0,4,2.0\n"


def test_blanks_after_the_separator_come_back(tmp_path: Path) -> None:
    from rdpjax.datasets.dataset import Output
    from rdpjax.datasets.table import TableSettings

    schema = Schema("s", (Numeric("n", "", 0, 9), Categorical("w, x", ("a b", "c, d"))))
    text = 'n, "w, x"\n3, a b\n4, "c, d"\n'
    (tmp_path / "in.csv").write_text(text)
    dataset, settings = table_dataset(schema), TableSettings(schema)
    source = dataset.open(tmp_path / "in.csv", {}, settings)
    output = Output(2, source.format, settings)
    dataset.write(tmp_path / "out.csv", [source.records], output)
    again = dataset.open(tmp_path / "out.csv", {}, settings)
    pd.testing.assert_frame_equal(again.records, source.records)
    plain = Schema("s", (Numeric("n", "", 0, 9), Categorical("w", ("a b", "c"))))
    (tmp_path / "in.csv").write_text("n, w\n3, a b\n4, c\n")
    dataset, settings = table_dataset(plain), TableSettings(plain)
    source = dataset.open(tmp_path / "in.csv", {}, settings)
    dataset.write(tmp_path / "plain.csv", [source.records], Output(2, source.format, settings))
    assert (tmp_path / "plain.csv").read_text() == "n, w\n3, a b\n4, c\n"
