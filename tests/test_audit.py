"""The command `audit`: its verbs, their exit status, and mistakes in one line."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from rdpjax import audit
from rdpjax.audits.gradient import audit as gradient
from rdpjax.config import Config
from rdpjax.dpsgd import loop


@pytest.fixture
def toy_path(toy_config: Config, tmp_path: Path) -> Path:
    path = tmp_path / "toy.toml"
    path.write_text(toy_config.to_toml())
    return path


def quick(path: Path, data: Path) -> list[str]:
    return [
        "gradient", str(path), "--data", str(data), "--noise-multiplier", "1",
        "--sampling-rate", "1", "--steps", "2", "--canaries", "400", "--records", "9",
        "--seed", "1",
    ]  # fmt: skip


def test_a_claim_that_stands(
    toy_path: Path, small_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.main(quick(toy_path, small_data)) == 0
    shown = capsys.readouterr()
    assert "stands" in shown.out
    assert "EXCEEDED" not in shown.out
    assert "do not publish" in shown.out
    assert "steps" in shown.err


def test_a_claim_that_is_broken(
    toy_path: Path,
    small_data: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "add_gaussian", lambda key, tree, *rest: tree)
    assert audit.main([*quick(toy_path, small_data), "--quiet"]) == 1
    shown = capsys.readouterr()
    assert "EXCEEDED" in shown.out
    assert shown.err == ""


@pytest.mark.slow
def test_a_completed_run_is_audited_at_its_own_plan(
    small_run: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, data = small_run.path, small_run.data  # type: ignore[attr-defined]
    flags = ["--data", str(data), "--canaries", "300", "--records", "20", "--quiet"]
    assert audit.main(["gradient", str(path), *flags]) == 0
    assert "2 steps, 300 canaries" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["gradient", "one-run"])
def test_help_tells_the_flags(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        audit.main([verb, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for flag in ("--canaries", "--records", "--data", "--seed", "--json", "--picture", "--quiet"):
        assert flag in shown


def complaint(flags: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command that ends with 2 says: one line."""
    assert audit.main(flags) == 2
    told = capsys.readouterr().err
    assert told.startswith("rdpjax: error: ")
    assert told.count("\n") == 1
    return told


@pytest.mark.parametrize("verb", ["gradient", "one-run"])
@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["nowhere.toml"], "no such configuration"),
        (["cardio.toml", "--canaries", "3"], "--canaries is 3; at least"),
        (["cardio.toml", "--canaries", "many"], "'many'"),
        (["cardio.toml", "--canarys", "3"], "--canarys"),
        (["cardio.toml", "--data", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_mistakes_take_one_line(
    verb: str, flags: list[str], says: str, small_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--data" not in flags:
        flags = [*flags, "--data", str(small_data)]
    assert says in complaint([verb, *flags], capsys)


def test_no_verb_or_an_unknown_one(capsys: pytest.CaptureFixture[str]) -> None:
    complaint([], capsys)
    complaint(["gradiant", "cardio.toml"], capsys)


@pytest.mark.parametrize("verb", ["gradient", "one-run"])
def test_a_plan_without_noise_is_refused(
    verb: str, toy_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bare.toml"
    path.write_text(dataclasses.replace(toy_config, private=False).to_toml())
    assert "without noise" in complaint([verb, str(path)], capsys)


@pytest.mark.parametrize("verb", ["gradient", "one-run"])
def test_a_run_in_progress_is_refused(
    verb: str, small_run: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run"
    shutil.copytree(small_run.path, path)  # type: ignore[attr-defined]
    shutil.rmtree(path / "release")
    assert "still in progress" in complaint([verb, str(path)], capsys)


@pytest.mark.parametrize("verb", ["gradient", "one-run"])
def test_other_records_than_the_runs_are_refused(
    verb: str, small_run: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = small_run.data.read_text().splitlines()  # type: ignore[attr-defined]
    other = tmp_path / "other.csv"
    other.write_text("\n".join(lines[:-1]) + "\n")
    flags = [verb, str(small_run.path), "--data", str(other)]  # type: ignore[attr-defined]
    assert "other records" in complaint(flags, capsys)


def test_a_canary_share_above_the_data_is_refused(
    toy_path: Path, small_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["one-run", str(toy_path), "--data", str(small_data), "--canaries", "3001"]
    assert "more than the 3000 records" in complaint([*flags, "--records", "9000"], capsys)


def test_a_file_that_cannot_be_written_is_told(
    toy_path: Path, small_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*quick(toy_path, small_data), "--quiet"]
    assert "no such folder" in complaint([*flags, "--json", "nowhere/a.json"], capsys)
    assert "name a .png" in complaint([*flags, "--picture", "a.words"], capsys)


def test_defaults_are_as_documented() -> None:
    assert (gradient.LEAST, gradient.FULL, gradient.SAMPLED) == (80, 1_000, 10_000)
