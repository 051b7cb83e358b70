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


def lines(err: str) -> list[str]:
    """Complaints; a warning of jax or a progress line is none."""
    return [line for line in err.splitlines() if line.startswith("rdpjax: ")]


def test_two_processes_train_as_one_and_as_one_after_a_death(
    in_processes: Callable[..., Any], flags: list[str], tmp_path: Path
) -> None:
    pair = [[*flags, "--out", str(tmp_path / name), "--json"] for name in ("both", "second")]
    first, second = in_processes(TRAIN, *pair)
    assert (first.status, second.status) == (0, 0), first.err + second.err
    assert json.loads(first.out)["rows"] == 50, "one summary, and nothing else"
    assert second.out == "" and not (tmp_path / "second").exists()
    assert "Traceback" not in first.err + second.err

    # One dies in the second chunk of a stage; the other says so, and the run goes on elsewhere.
    out = tmp_path / "killed"
    pair = [[*flags, "--out", str(out)], [*flags, "--out", str(out), "--dies-at", "3"]]
    left, killed = in_processes(TRAIN, *pair, seconds=60)
    assert killed.status == -signal.SIGKILL
    assert left.status == 2, left.err
    assert len(lines(left.err)) == 1 and "Traceback" not in left.err and "@ 0x" not in left.err
    assert lines(left.err)[0].startswith("rdpjax: error: process 1 died (")
    assert "with --resume" in lines(left.err)[0]
    assert (out / "internal/checkpoints/vae/2").is_dir() and not (out / "release").exists()
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
    killed, left = in_processes(TRAIN, [*flags, *out, "--dies-at", "2"], [*flags, *out], seconds=60)
    assert killed.status == -signal.SIGKILL
    assert left.status == 2 and left.out == ""
    assert len(left.err.splitlines()) == 1, left.err
    assert left.err.startswith("rdpjax: error: process 0 died (")


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ([["--vae.steps", "4"], ["--vae.steps", "6"]], "differ in --vae.steps: 4 in process 0, 6"),
        ([["--devices", "9"], ["--devices", "9"]], "--devices 9: must be 1 to "),
    ],
    ids=["other settings", "more devices than there are"],
)
def test_what_ends_both_before_anything_is_written(
    own: list[list[str]],
    message: str,
    in_processes: Callable[..., Any],
    flags: list[str],
    tmp_path: Path,
) -> None:
    out = ["--out", str(tmp_path / "run"), "--quiet"]
    for ended in in_processes(TRAIN, *([*flags, *out, *more] for more in own), seconds=60):
        assert ended.status == 2 and ended.out == ""
        assert len(ended.err.splitlines()) == 1 and message in ended.err, ended.err
    assert not (tmp_path / "run").exists()
