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


def in_one(*flags: str) -> str:
    """What one process on one device says."""
    ended = subprocess.run([*TRAIN, *flags, "--devices", "1"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return " ".join(ended.stderr.split())


def assert_same(some: Path, others: Path) -> None:
    """The same parameters to 1e-5, and the same ledgers."""
    files = [run / "release/generator/arrays.npz" for run in (some, others)]
    with np.load(files[0]) as first, np.load(files[1]) as second:
        assert first.files == second.files
        for name, value in first.items():
            np.testing.assert_allclose(value, second[name], rtol=1e-5, atol=1e-5, err_msg=name)
    ledgers = [(run / "internal/ledger.jsonl").read_text() for run in (some, others)]
    assert ledgers[0] == ledgers[1]


def check_left(left: Any, killed: Any) -> None:
    """The other process ended within a minute, by our line or by jax's own abort."""
    assert killed.status == -signal.SIGKILL
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
    both, alone, out = tmp_path / "both", tmp_path / "alone", tmp_path / "killed"
    pair = [[*flags, "--out", str(tmp_path / name), "--json"] for name in ("both", "second")]
    first, second = in_processes(TRAIN, *pair)
    assert (first.status, second.status) == (0, 0), first.err + second.err
    assert json.loads(first.out)["rows"] == 50, "one summary, and nothing else"
    assert second.out == "" and not (tmp_path / "second").exists()
    assert "Traceback" not in first.err + second.err
    in_one(*flags, "--out", str(alone))
    assert_same(both, alone)

    # One dies in the second chunk of a stage; the other ends too, and the run goes on elsewhere.
    pair = [[*flags, "--out", str(out)], [*flags, "--out", str(out), "--dies-at", "3"]]
    check_left(*in_processes(TRAIN, *pair))
    assert (out / "internal/checkpoints/vae/2").is_dir() and not (out / "release").exists()
    said = in_one(*flags, "--out", str(out), "--resume")
    assert "note: 1 devices where the run began with 2: the same draws and noise" in said
    assert_same(out, both)  # a replay costs nothing


@pytest.mark.slow
def test_the_death_of_process_0_ends_the_other(
    in_processes: Callable[..., Any], flags: list[str], tmp_path: Path
) -> None:
    out = ["--out", str(tmp_path / "run"), "--quiet"]
    killed, left = in_processes(TRAIN, [*flags, *out, "--dies-at", "2"], [*flags, *out])
    check_left(left, killed)


@pytest.fixture
def other_data(small_data: Path, tmp_path: Path) -> str:
    """A file that lacks the last record."""
    path = tmp_path / "other.csv"
    lines = small_data.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    return str(path)


@pytest.mark.slow
def test_what_ends_both_before_anything_is_written(
    in_processes: Callable[..., Any], flags: list[str], tmp_path: Path, other_data: str
) -> None:
    for message, *own in (
        ("differ in --vae.steps: 4 in process 0, 6", ["--vae.steps", "4"], ["--vae.steps", "6"]),
        ("differ in data (fingerprint): ", [], ["--data", other_data]),
        ("/run: cannot write there", ["--out", f"{other_data}/run"], []),
    ):
        out = ["--out", str(tmp_path / "run"), "--quiet"]
        for ended in in_processes(TRAIN, *([*flags, *out, *more] for more in own)):
            assert ended.status == 2 and ended.out == ""
            assert len(ended.err.splitlines()) == 1 and message in ended.err, ended.err
    assert not (tmp_path / "run").exists()
