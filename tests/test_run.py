"""A run from file to folder: interrupted anywhere, it goes on to the same bits."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdpjax import checkpoint, run_folder, train
from rdpjax.config import Config
from rdpjax.data.datasets import Reading
from rdpjax.dpsgd.keys import Roots
from rdpjax.errors import UserError
from rdpjax.generator import Generator
from rdpjax.privacy.ledger import Ledger, read_ledger
from rdpjax.run import run
from rdpjax.run_folder import RunFolder
from rdpjax.start import Options


class Killed(BaseException):
    """Stands for a kill: no `except Exception` may catch it."""


def released(out: Path) -> dict[str, bytes]:
    """Every file of the release, by its name."""
    release = out / "release"
    return {str(p.relative_to(release)): p.read_bytes() for p in release.rglob("*") if p.is_file()}


def entries(out: Path) -> list[dict[str, Any]]:
    lines = (out / "internal" / "ledger.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def tree(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.fixture
def go(toy_config: Config, small_data: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`go(name, **options)` runs the toy stages on the small data, seed 1, in `tmp_path / name`."""

    def go(name: str, *, config: Config = toy_config, **options: Any) -> dict[str, Any]:
        given: dict[str, Any] = {"data": small_data, "seed": 1, **options}
        return run(config, Options(out=tmp_path / name, **given), quiet=True)

    return go


def killed_at(
    patch: pytest.MonkeyPatch, owner: Any, name: str, number: int, *, after: bool
) -> None:
    """The call `number` of a function ends in `Killed`: before its work, or after it."""
    original, calls = getattr(owner, name), iter(range(1, 1000))

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        fatal = next(calls) == number
        if fatal and not after:
            raise Killed
        result = original(*args, **kwargs)
        if fatal:
            raise Killed
        return result

    patch.setattr(owner, name, wrapped)


# -- resume --------------------------------------------------------------------------------------

# Marginals are the ledger's first entry, then two chunks of each stage.
DEATHS = [
    *((Ledger, "open", number, True) for number in (1, 3, 5)),
    (checkpoint, "save", 2, False),
    (checkpoint, "save", 2, True),
    (run_folder, "_write", 6, True),  # in the middle of the release
    (RunFolder, "forget_noise", 1, False),  # the release is there, the noise root is too
    (RunFolder, "add_history", 1, True),
]


def test_a_run_killed_anywhere_resumes_to_the_same_bits(
    go: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    whole = go("whole")
    expected, accesses = released(tmp_path / "whole"), entries(tmp_path / "whole")
    assert len(accesses) == 5
    for number, (owner, name, call, after) in enumerate(DEATHS):
        out = tmp_path / str(number)
        where = f"{name}, call {call}, {'after' if after else 'before'} its work"
        with pytest.MonkeyPatch.context() as patch:
            killed_at(patch, owner, name, call, after=after)
            with pytest.raises(Killed):
                go(out.name)
        summary = go(out.name, resume=True)
        assert released(out) == expected, where
        assert entries(out) == accesses, f"{where}: a replay costs nothing"
        assert summary == {**whole, "run": str(out)}, where
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


def test_resume_after_kill_9(small_data: Path, small_pool: None, tmp_path: Path) -> None:
    config = tmp_path / "one_stage.toml"
    config.write_text(
        'label_source = "generator"\nrows = 500\nstages = ["vae"]\n[shares]\nmarginals = 0.2\n'
        "vae = 0.8\n[vae]\nsteps = 100\nchannels = 2\nlatent = 4\nsampling_rate = 0.04\n"
    )
    # The third line opens the second of two chunks, so one checkpoint lies there.
    resumes_after_a_kill(["--config", str(config), "--data", str(small_data)], 3, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("lines", [1, 2, 3, 4])
def test_resume_after_kill_9_in_every_stage(
    lines: int, small_data: Path, small_flags: list[str], small_pool: None, tmp_path: Path
) -> None:
    resumes_after_a_kill([*small_flags, "--data", str(small_data)], lines, tmp_path)


def test_resume_of_a_complete_run_changes_nothing(
    go: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    first = go("run")
    before, accesses = released(tmp_path / "run"), entries(tmp_path / "run")
    assert go("run", resume=True) == first, "the same run is not counted twice"
    assert released(tmp_path / "run") == before and entries(tmp_path / "run") == accesses


def test_a_complete_run_without_its_release_is_not_resumed(
    go: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """Its noise root is gone: what would be released again would be under noise that is known."""
    go("run")
    shutil.rmtree(tmp_path / "run" / "release")
    with pytest.raises(UserError, match="complete and its noise key is gone"):
        go("run", resume=True)
    assert not (tmp_path / "run" / "release").exists()


@pytest.fixture
def interrupted(go: Callable[..., dict[str, Any]], tmp_path: Path) -> Path:
    """A run that was killed after the first checkpoint of its first stage."""
    with pytest.MonkeyPatch.context() as patch:
        killed_at(patch, checkpoint, "save", 1, after=True)
        with pytest.raises(Killed):
            go("run")
    return tmp_path / "run"


def test_resume_refuses_what_changed(
    go: Callable[..., dict[str, Any]], interrupted: Path, toy_config: Config, small_data: Path
) -> None:
    lines = small_data.read_text().splitlines(keepends=True)
    other = interrupted.parent / "other.csv"
    other.write_text("".join(lines[:-1]))
    stage = dataclasses.replace(toy_config.stages["vae"], steps=6)
    steps = dataclasses.replace(toy_config, stages={**toy_config.stages, "vae": stage})
    for options, message in (
        ({"data": other}, "the data changed"),
        ({"reading": Reading(age_unit="days")}, "age_unit was auto"),
        ({"reading": Reading(height_unit="cm")}, "height_unit was auto"),
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


def test_fresh_noise_costs_again(
    go: Callable[..., dict[str, Any]], interrupted: Path, toy_config: Config
) -> None:
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
    lost: int, go: Callable[..., dict[str, Any]], interrupted: Path
) -> None:
    ledger = interrupted / "internal" / "ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join(lines[:lost]))  # the checkpoint holds a chunk that it lacks
    with pytest.raises(UserError, match="2 steps of 'vae', which the ledger does not list"):
        go("run", resume=True)
    assert not (interrupted / "release").exists()


def test_a_metrics_line_torn_by_the_kill_is_left_out(
    go: Callable[..., dict[str, Any]], interrupted: Path
) -> None:
    with (interrupted / "internal" / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "vae", "ste')
    go("run", resume=True)
    assert RunFolder(interrupted).read_metrics()[-1] | {"loss": 0} == {
        **RunFolder(interrupted).read_metrics()[-1],
        "loss": 0,
        "stage": "labeler",
        "step": 3,
    }


# -- the folder ----------------------------------------------------------------------------------


def test_an_existing_run_is_refused(go: Callable[..., dict[str, Any]], interrupted: Path) -> None:
    with pytest.raises(UserError, match="give --resume, --overwrite or another --out"):
        go("run")
    with pytest.raises(UserError, match="no run to resume there"):
        go("elsewhere", resume=True)
    assert not (interrupted.parent / "elsewhere").exists()


def test_overwrite_archives_the_ledger_and_counts_the_run(
    go: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    assert go("run")["runs_on_this_data"] == 1
    internal = tmp_path / "run" / "internal"
    ledger = (internal / "ledger.jsonl").read_bytes()
    before = released(tmp_path / "run")
    assert go("run", seed=2, overwrite=True)["runs_on_this_data"] == 2
    kept = {path.name: path.read_bytes() for path in (internal / "archive").iterdir()}
    assert kept == {"000-ledger.jsonl": ledger, "000-privacy.json": before["privacy.json"]}
    assert (internal / "ledger.jsonl").read_bytes() != ledger
    for name in ("synthetic.csv", "generator/arrays.npz"):
        assert released(tmp_path / "run")[name] != before[name], "another seed gives other bits"


def test_overwrite_that_fails_keeps_the_archive(
    go: Callable[..., dict[str, Any]], toy_config: Config, small_data: Path, tmp_path: Path
) -> None:
    go("run")
    internal = tmp_path / "run" / "internal"
    ledger = (internal / "ledger.jsonl").read_bytes()
    few = tmp_path / "few.csv"
    few.write_text("".join(small_data.read_text().splitlines(keepends=True)[:100]))
    with pytest.raises(UserError, match="too few records"):
        go("run", overwrite=True, data=few)
    assert (internal / "archive" / "000-ledger.jsonl").read_bytes() == ledger
    assert (internal / "history.jsonl").exists()


def test_a_refused_run_leaves_nothing(
    go: Callable[..., dict[str, Any]], small_data: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few.csv"
    few.write_text("".join(small_data.read_text().splitlines(keepends=True)[:100]))
    with pytest.raises(UserError, match="too few records for the plan: about"):
        go("run", data=few)
    assert not (tmp_path / "run").exists()


def test_a_killed_overwrite_cannot_be_resumed_without_its_ledger(
    go: Callable[..., dict[str, Any]], interrupted: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        killed_at(patch, Path, "rename", 1, after=True)
        with pytest.raises(Killed):
            go("run", overwrite=True)
    assert not (interrupted / "internal" / "ledger.jsonl").exists()
    with pytest.raises(UserError, match="no run to resume there"):
        go("run", resume=True)
    assert go("run", overwrite=True)["rows"] == 500


def test_a_full_disk_is_the_users_to_mend(
    go: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", full)
        with pytest.raises(UserError, match=r"run: cannot write there: No space left on device"):
            go("run")
    assert go("run", resume=True)["rows"] == 500


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("no")])
def test_a_release_is_whole_or_not_there(
    error: Exception,
    go: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(self: Generator, root: bytes, count: int) -> Any:
        yield next(self.tables(root, count))
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Generator, "rows", broken)
        with pytest.raises(UserError if isinstance(error, OSError) else RuntimeError):
            go("run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["internal"]
    go("run", resume=True)
    assert (tmp_path / "run" / "release" / "synthetic.csv").read_bytes().count(b"\n") == 501


# -- what it says --------------------------------------------------------------------------------


def test_the_summary_and_the_chunks_of_the_ledger(
    go: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    summary = go("run")
    assert (summary["rows"], summary["source"], summary["warnings"]) == (500, "file", [])
    assert (summary["unit"], summary["relation"]) == ("one row = one person", "add-or-remove-one")
    assert not summary["secret_noise"]
    chunks = [(e["stage"], e["start"], e["steps"]) for e in entries(tmp_path / "run")]
    assert chunks == [
        ("marginals", 0, 1), ("vae", 0, 2), ("vae", 2, 2), ("labeler", 0, 2), ("labeler", 2, 2),
    ]  # fmt: skip
    metrics = RunFolder(tmp_path / "run").read_metrics()
    assert [(row["stage"], row["step"]) for row in metrics] == [
        (name, step) for name in ("vae", "labeler") for step in range(4)
    ]


def test_without_privacy_it_says_so(
    go: Callable[..., dict[str, Any]],
    toy_config: Config,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    summary = go("run", config=dataclasses.replace(toy_config, private=False))
    assert (summary["epsilon"], summary["epsilon_pld"]) == (None, None)
    report = json.loads((tmp_path / "run/release/privacy.json").read_text())
    assert report["private"] is False and "nothing is claimed" in " ".join(report["notes"])
    assert "NOT PRIVATE" in train._sentence(summary)
    assert all(
        event.noise_multiplier == 0 for event in read_ledger(tmp_path / "run/internal/ledger.jsonl")
    )


def test_simulated_data_cannot_be_missed(
    toy_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    from rdpjax.data import datasets, simulate

    monkeypatch.setattr(datasets, "simulate_cardio", lambda: simulate.simulate_cardio(3000))
    summary = run(toy_config, Options(out=tmp_path / "run", seed=1))
    assert "SIMULATED DATA" in capsys.readouterr().err
    report = json.loads((tmp_path / "run/release/privacy.json").read_text())
    assert summary["source"] == report["declarations"]["source"] == "simulated"


def test_rows_are_written_in_the_input_format_with_derived_columns(
    go: Callable[..., dict[str, Any]], toy_config: Config, small_data: Path, tmp_path: Path
) -> None:
    lines = small_data.read_text().replace(";", ",").replace("ap_hi,ap_lo", "sbp,dbp")
    other = tmp_path / "other.csv"
    other.write_text(lines)
    go("run", config=dataclasses.replace(toy_config, derived=("pp",)), data=other)
    header, first = (tmp_path / "run/release/synthetic.csv").read_text().splitlines()[:2]
    assert header == lines.splitlines()[0] + ",pp"
    assert len(first.split(",")) == 14 and first.startswith("0,")
