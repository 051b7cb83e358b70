"""Attacks on released records find a copy, and nothing that a private run tells."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rdpjax import audit
from rdpjax.data.cardio import read_cardio
from rdpjax.privacy.events import Event
from rdpjax.privacy.report import replay


def files(run: Any) -> list[str]:
    return [str(run.path), "--data", str(run.data), "--quiet"]


@pytest.fixture
def copying(small_run: Any, tmp_path: Path) -> Path:
    """The run, with a release that copies rows that it was trained on."""
    shutil.copytree(small_run.path, tmp_path / "copying")
    folder = tmp_path / "copying"
    held = set((folder / "internal" / "holdout.csv").read_text().splitlines()[1:])
    header, *lines = small_run.data.read_text().splitlines()
    trained = [line for line in lines if line not in held]
    text = "\n".join([header, *trained, ""])
    (folder / "release" / "synthetic.csv").write_text(text)
    # Of a few hundred records no attack certifies more than epsilon 4.
    path = folder / "release" / "privacy.json"
    cheap = [Event("marginals", "gaussian", 1.0, 4.0, 1.0, 1).to_dict()]
    report = json.loads(path.read_text()) | {"events": cheap}
    path.write_text(json.dumps(report | {"epsilon": replay(report)}))
    return folder


def test_a_private_run_tells_nothing(
    small_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, picture = tmp_path / "found.json", tmp_path / "found.png"
    flags = ["--json", str(out), "--picture", str(picture)]
    assert audit.main(["release", *files(small_run), *flags]) == 0
    printed = capsys.readouterr().out
    assert "do not publish" in printed and "the claim stands" in printed
    assert "TPR at 0.1% FPR" in printed
    found = json.loads(out.read_text())
    assert "do not publish" in found["note"]
    held = len(read_cardio(small_run.path / "internal" / "holdout.csv").frame)
    for each in found["attacks"]:
        assert each["members"] == held // 2
        assert each["auc"]["low"] < 0.5 < each["auc"]["high"]
        assert not each["exceeds"]
    assert picture.stat().st_size > 10_000


def test_a_release_that_copies_rows_is_found_out(
    copying: Path, small_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found.json"
    flags = ["--data", str(small_run.data), "--quiet", "--json", str(out)]
    assert audit.main(["release", str(copying), *flags]) == 1
    assert "EXCEEDED" in capsys.readouterr().out
    nearest, ratio = json.loads(out.read_text())["attacks"]
    for each in (nearest, ratio):
        assert each["auc"]["share"] > 0.95 and each["exceeds"]
    assert nearest["points"][1]["found"]["share"] > 0.9


def test_who_is_attacked_is_always_the_same(
    small_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["release", *files(small_run), "--records", "50"]
    assert audit.main(flags) == 0
    once = capsys.readouterr().out
    assert audit.main(flags) == 0
    assert capsys.readouterr().out == once
    assert "50 members and 50 others" in once


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["cardio.toml"], "no run folder"),
        (["nowhere"], "no run folder"),
        (["RUN", "--records", "0"], "--records 0: give 1 or more"),
    ],
)
def test_what_is_no_completed_run_is_refused(
    flags: list[str], said: str, small_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(small_run.path) if flag == "RUN" else flag for flag in flags]
    assert audit.main(["release", *given, "--data", str(small_run.data)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_run_without_a_hold_out_is_refused(
    small_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(small_run.path, tmp_path / "run")
    path = tmp_path / "run" / "internal" / "config.toml"
    path.write_text(path.read_text().replace("holdout = 0.2", "holdout = 0.0"))
    flags = ["release", str(tmp_path / "run"), "--data", str(small_run.data)]
    assert audit.main(flags) == 2
    assert "held out 0 records" in capsys.readouterr().err


def test_a_release_without_its_claim_is_refused(
    small_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(small_run.path, tmp_path / "run")
    (tmp_path / "run" / "release" / "privacy.json").write_text("{}")
    flags = ["release", str(tmp_path / "run"), "--data", str(small_run.data)]
    assert audit.main(flags) == 2
    assert "privacy.json: privacy report: " in capsys.readouterr().err


def test_features_depend_on_bounds_alone(small_run: Any) -> None:
    from rdpjax.audits.release import features
    from rdpjax.audits.subject import read_subject
    from rdpjax.runs.release import open_release

    subject = read_subject(small_run.path, small_run.data)
    frame, generator = subject.records, open_release(small_run.path).generator
    whole = features(frame, generator)
    part = features(frame.iloc[:7].reset_index(drop=True), generator)
    np.testing.assert_array_equal(part, whole[:7])
    assert whole.min() >= 0 and whole.max() <= 1
