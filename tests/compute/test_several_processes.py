"""Two real processes train as one, die as one, and the run goes on without them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TRAIN = [sys.executable, str(Path(__file__).with_name("toy_train.py"))]


@pytest.fixture
def flags(toy_settings: Any, small_data: Path, tmp_path: Path) -> list[str]:
    """Flags of a run of the toy stages, in microbatches that both processes get some of."""
    config = tmp_path / "toy.toml"
    shares, stages = {"marginals": 0.2, "vae": 0.8}, {"vae": toy_settings.stages["vae"]}
    settings = replace(
        toy_settings, rows=50, label_source="generator", shares=shares, stages=stages
    )
    config.write_text(settings.to_toml())
    given = ["--config", str(config), "--data", str(small_data), "--seed", "1"]
    return [*given, "--microbatch", "32"]


def released(out: Path) -> dict[str, np.ndarray]:
    with np.load(out / "release/generator/arrays.npz") as stored:
        return dict(stored)


def assert_same(some: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> None:
    assert some.keys() == others.keys()
    for name, value in some.items():
        np.testing.assert_allclose(value, others[name], rtol=1e-5, atol=1e-5, err_msg=name)


def check_left(left: Ended, killed: Ended) -> None:
    """The other process ended within a minute, by our line or by jax's own abort."""
    assert left.seconds - killed.seconds < 60
    assert left.out == "" and "Traceback" not in left.err
    lines = [line for line in left.err.splitlines() if line.startswith("rdpjax: ")]
    if left.status == 2:
        assert len(lines) == 1, left.err
        assert "another process probably ended" in lines[0] and "with --resume" in lines[0]
    else:
        assert left.status == -signal.SIGABRT and "another task died" in left.err


def test_two_processes_train_as_one_and_as_one_after_a_death(
    in_processes: Callable[..., Any], flags: list[str], tmp_path: Path
) -> None:
    pair = [[*flags, "--out", str(tmp_path / name), "--json"] for name in ("both", "second")]
    first, second = in_processes(TRAIN, *pair)
    assert (first.status, second.status) == (0, 0), first.err + second.err
    assert json.loads(first.out)["rows"] == 50, "one summary, and nothing else"
    assert second.out == "" and not (tmp_path / "second").exists()
    assert "Traceback" not in first.err + second.err

    # One dies in the second chunk of a stage; the other ends too, and the run goes on elsewhere.
    out = tmp_path / "killed"
    pair = [[*flags, "--out", str(out)], [*flags, "--out", str(out), "--dies-at", "3"]]
    left, killed = in_processes(TRAIN, *pair)
    assert killed.status == -signal.SIGKILL
    check_left(left, killed)
    assert (out / "internal/checkpoints/vae/2.npz").exists() and not (out / "release").exists()
    again = subprocess.run(
        [*TRAIN, *flags, "--out", str(out), "--resume", "--devices", "1"],
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0, again.stderr
    said = " ".join(again.stderr.split())
    assert "note: 1 devices where the run began with 2: the same draws and noise" in said
    assert_same(released(out), released(tmp_path / "both"))
    ledgers = [(run / "internal/ledger.jsonl").read_text() for run in (out, tmp_path / "both")]
    assert ledgers[0] == ledgers[1], "a replay costs nothing"


def test_the_death_of_process_0_ends_the_other(
    in_processes: Callable[..., Any], flags: list[str], tmp_path: Path
) -> None:
    out = ["--out", str(tmp_path / "run"), "--quiet"]
    killed, left = in_processes(TRAIN, [*flags, *out, "--dies-at", "2"], [*flags, *out])
    assert killed.status == -signal.SIGKILL
    check_left(left, killed)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ([["--vae.steps", "4"], ["--vae.steps", "6"]], "differ in --vae.steps: 4 in process 0, 6"),
        ([[], ["--data", "nowhere.csv"]], "nowhere.csv: no such file"),
        ([["--devices", "9"], ["--devices", "9"]], "--devices 9: must be 1 to "),
    ],
    ids=["other settings", "a file that one process lacks", "more devices than there are"],
)
def test_what_ends_both_before_anything_is_written(
    own: list[list[str]],
    message: str,
    in_processes: Callable[..., Any],
    flags: list[str],
    tmp_path: Path,
) -> None:
    out = ["--out", str(tmp_path / "run"), "--quiet"]
    for ended in in_processes(TRAIN, *([*flags, *out, *more] for more in own)):
        assert ended.status == 2 and ended.out == ""
        assert len(ended.err.splitlines()) == 1 and message in ended.err, ended.err
    assert not (tmp_path / "run").exists()
