"""A run killed anywhere goes on to the same bits, and pays again for other ones."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rdpjax import train
from rdpjax.config import Config
from rdpjax.datasets.cardio import CardioSettings
from rdpjax.dpsgd.keys import Roots
from rdpjax.errors import UserError
from rdpjax.fitting import checkpoint
from rdpjax.privacy.ledger import Ledger
from rdpjax.runs import generator_file
from rdpjax.runs.folder import RunFolder
from tests.runs.runs import Go, Killed, entries, killed_at, released, tree

# Marginals are the ledger's first entry, then two chunks of each stage.
DEATHS = [
    (checkpoint, "save", 2, True),
    (generator_file, "write_file", 1, True),  # in the middle of the release
    (RunFolder, "forget_noise", 1, False),  # the release is there, the noise root is too
]


MORE_DEATHS = [
    (RunFolder, "add_history", 1, True),
    *((Ledger, "open", number, True) for number in (1, 3, 5)),
    (checkpoint, "save", 2, False),
]


@pytest.mark.parametrize("deaths", [DEATHS, pytest.param(MORE_DEATHS, marks=pytest.mark.slow)])
def test_a_run_killed_anywhere_resumes_to_the_same_bits(
    deaths: list[Any], go: Go, finished: dict[str, Any], tmp_path: Path
) -> None:
    expected, accesses = released(tmp_path / "run"), entries(tmp_path / "run")
    assert len(accesses) == 5
    for number, (owner, name, call, after) in enumerate(deaths):
        out = tmp_path / str(number)
        where = f"{name}, call {call}, {'after' if after else 'before'} its work"
        with pytest.MonkeyPatch.context() as patch:
            killed_at(patch, owner, name, call, after=after)
            with pytest.raises(Killed):
                go(out.name)
        summary = go(out.name, resume=True)
        assert released(out) == expected, where
        assert entries(out) == accesses, f"{where}: a replay costs nothing"
        assert summary == {**finished, "run": str(out)}, where
        assert json.loads((out / "internal/keys.json").read_text())["noise"] == "", where
        shutil.rmtree(out)


TRAIN = [sys.executable, "-m", "rdpjax.train", "--quiet", "--seed", "3", "--devices", "1"]


def killed_in_process(command: list[str], ledger: Path, lines: int) -> None:
    """Start a command, and kill -9 it once its ledger has as many lines."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            if ledger.exists() and ledger.read_bytes().count(b"\n") >= lines:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.01)
        assert process.wait(60) == -signal.SIGKILL, process.stderr and process.stderr.read()


def resumes_after_a_kill(flags: list[str], lines: int, tmp_path: Path) -> None:
    out, whole = tmp_path / "killed", tmp_path / "whole"
    ledger = out / "internal" / "ledger.jsonl"
    killed_in_process([*TRAIN, "--out", str(out), *flags], ledger, lines)
    before = entries(out)
    assert len(before) >= lines and not (out / "release").exists()
    assert train.main([*TRAIN[3:], "--out", str(out), "--resume", *flags]) == 0
    assert train.main([*TRAIN[3:], "--out", str(whole), *flags]) == 0
    assert released(out) == released(whole)
    assert entries(out) == entries(whole) and entries(out)[: len(before)] == before


def test_resume_after_kill_9(small_data: Path, tmp_path: Path) -> None:
    config = tmp_path / "one_stage.toml"
    config.write_text(
        'label_source = "generator"\nrows = 500\npool_rows = 1\nchunk_steps = 10\n'
        'stages = ["vae"]\n'
        "[shares]\nmarginals = 0.2\n"
        "vae = 0.8\n[vae]\nsteps = 20\nchannels = 2\nlatent = 4\nsampling_rate = 0.04\n"
    )
    # The third line opens the second of two chunks, so one checkpoint lies there.
    resumes_after_a_kill(["--config", str(config), "--data", str(small_data)], 3, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("lines", [1, 2, 3, 4])
def test_resume_after_kill_9_in_every_stage(
    lines: int, small_data: Path, small_flags: list[str], tmp_path: Path
) -> None:
    resumes_after_a_kill([*small_flags, "--data", str(small_data)], lines, tmp_path)


def test_resume_of_a_complete_run_changes_nothing(
    go: Go, finished: dict[str, Any], tmp_path: Path
) -> None:
    before, accesses = released(tmp_path / "run"), entries(tmp_path / "run")
    assert go("run", resume=True) == finished, "the same run is not counted twice"
    assert released(tmp_path / "run") == before and entries(tmp_path / "run") == accesses


@pytest.mark.usefixtures("finished")
def test_a_complete_run_without_its_release_is_not_resumed(go: Go, tmp_path: Path) -> None:
    """Its noise root is gone: what would be released again would be under noise that is known."""
    shutil.rmtree(tmp_path / "run" / "release")
    with pytest.raises(UserError, match="complete and its noise key is gone"):
        go("run", resume=True)
    assert not (tmp_path / "run" / "release").exists()


def test_resume_refuses_what_changed(
    go: Go, interrupted: Path, toy_config: Config, small_data: Path
) -> None:
    lines = small_data.read_text().splitlines(keepends=True)
    other = interrupted.parent / "other.csv"
    other.write_text("".join(lines[:-1]))
    stage = dataclasses.replace(toy_config.stages["vae"], steps=6)
    steps = dataclasses.replace(toy_config, stages={**toy_config.stages, "vae": stage})
    units = dataclasses.replace(toy_config, data=CardioSettings(age_unit="days"))
    for options, message in (
        ({"data": other}, "the data changed"),
        ({"config": units}, "configuration differs"),
        ({"config": dataclasses.replace(toy_config, epsilon=6.0)}, "configuration differs"),
        ({"config": dataclasses.replace(toy_config, holdout=0.3)}, "configuration differs"),
        ({"config": steps}, "configuration differs"),
        ({"overwrite": True}, "not both"),
    ):
        before = tree(interrupted)
        with pytest.raises(UserError, match=message):
            go("run", resume=True, **options)
        assert tree(interrupted) == before
    go("run", resume=True)


def test_fresh_noise_costs_again(go: Go, interrupted: Path, toy_config: Config) -> None:
    """Whoever resumes with another noise root replays nothing: the budget does not reach."""
    folder = RunFolder(interrupted)
    _, _, roots = folder.read_start()
    folder.write_keys(dataclasses.replace(roots, noise=Roots.make(99).noise))
    accesses = len(entries(interrupted))
    with pytest.raises(UserError, match="above the target 5"):
        go("run", resume=True)
    assert len(entries(interrupted)) > accesses, "the marginals were measured again, and entered"
    assert not folder.complete
    assert Ledger.load(folder.ledger).epsilon(toy_config.delta) <= toy_config.epsilon


@pytest.mark.parametrize("lost", [0, 1])
def test_nothing_is_released_under_a_ledger_that_lacks_an_access(
    lost: int, go: Go, interrupted: Path
) -> None:
    ledger = interrupted / "internal" / "ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join(lines[:lost]))  # the checkpoint holds a chunk that it lacks
    with pytest.raises(UserError, match="2 steps of 'vae', which the ledger does not list"):
        go("run", resume=True)
    assert not (interrupted / "release").exists()


def test_a_metrics_line_torn_by_the_kill_is_left_out(go: Go, interrupted: Path) -> None:
    with (interrupted / "internal" / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "vae", "ste')
    go("run", resume=True)
    assert RunFolder(interrupted).read_metrics()[-1] | {"loss": 0} == {
        **RunFolder(interrupted).read_metrics()[-1],
        "loss": 0,
        "stage": "labeler",
        "step": 3,
    }
