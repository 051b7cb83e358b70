"""Replay finds nothing in the pipeline as it is, and what is broken by name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from rdpjax import audit
from rdpjax.audits.replay.audit import replay
from rdpjax.audits.replay.comparisons import as_table, broken
from rdpjax.audits.subject import read_subject
from rdpjax.config import Config
from rdpjax.config_file import load_config
from rdpjax.fitting import plans as planning


@pytest.fixture
def settings(toy_config: Config, tmp_path: Path) -> Path:
    """One toy stage, in a file."""
    config = dataclasses.replace(
        toy_config,
        label_source="generator",
        shares={"marginals": 0.2, "vae": 0.8},
        stages={"vae": toy_config.stages["vae"]},
    )
    (tmp_path / "toy.toml").write_text(config.to_toml())
    return tmp_path / "toy.toml"


def test_every_bound_holds(
    settings: Path, small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found.json"
    flags = ["--data", str(small_data), "--records", "1000", "--json", str(out)]
    assert audit.main(["replay", str(settings), *flags]) == 0
    said = capsys.readouterr()
    assert "BROKEN" not in said.out and "bit for bit" in said.out
    assert "every record drawn" in said.err
    found = json.loads(out.read_text())["comparisons"]
    assert all(each["holds"] for each in found)
    by_name = {(each["what"], each["where"]): each for each in found}
    sums = by_name["clipped sum, moved", "vae"]
    assert 0.5 < sums["measured"] <= sums["bound"] < 1.001 and sums["over"] == 12
    measured = by_name["sum, moved", "marginals"]
    assert measured["measured"] == pytest.approx(measured["bound"])
    for what in ("last state, numbers that differ", "noisy gradient where not drawn"):
        assert by_name[what, "vae"]["bound"] == by_name[what, "vae"]["measured"] == 0


@pytest.mark.slow
def test_a_broken_bound_is_named(
    settings: Path,
    small_data: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    true = planning.histogram
    monkeypatch.setattr(planning, "histogram", lambda schema, cells: 2 * true(schema, cells))
    flags = ["--data", str(small_data), "--records", "1000", "--quiet"]
    assert audit.main(["replay", str(settings), *flags]) == 1
    said = capsys.readouterr()
    assert "BROKEN: sum, moved (marginals): 7.2111, not 3.60555" in said.out
    assert said.err == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "data"),
    [("cardio.toml", "cardio_train.csv.gz"), ("sepsis.toml", "sepsis_training_setB.tar.gz")],
)
def test_every_bound_of_a_shipped_pipeline_holds(config: str, data: str, shared_data: Path) -> None:
    if not (shared_data / data).is_file():
        pytest.skip(f"no real data: {data}")
    subject = read_subject(Path(config), shared_data / data)
    found = list(replay(subject))
    assert not broken(found), as_table(broken(found))
    stages = set(load_config(config).stages)
    assert {each.where for each in found if each.what == "clipped sum, moved"} == stages


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["cardio.toml", "--records", "1"], "--records 1: give 2 or more"),
        (["nowhere.toml"], "no such configuration file"),
        (["free.toml"], "without noise"),
        (["cardio.toml", "--data", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_what_cannot_be_replayed_is_one_line(
    flags: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "free.toml").write_text("private = false\n")
    assert audit.main(["replay", *flags]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
