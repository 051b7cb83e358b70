"""What is in the way of a run, and what a run that fails leaves there."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest

from rdpjax.config import Config
from rdpjax.errors import UserError
from rdpjax.fitting import checkpoint
from rdpjax.fitting.generator import Generator
from rdpjax.privacy.accountants import rdp_epsilon
from rdpjax.privacy.ledger import read_ledger
from rdpjax.privacy.sources import read_source
from tests.runs.runs import Go, Killed, killed_at, released, tree


def test_an_existing_run_is_refused(go: Go, interrupted: Path) -> None:
    with pytest.raises(UserError, match="give --resume, --overwrite or another --out"):
        go("run")
    with pytest.raises(UserError, match="no run to resume there"):
        go("elsewhere", resume=True)
    assert not (interrupted.parent / "elsewhere").exists()


def test_overwrite_archives_the_ledger_and_counts_the_run(
    go: Go, finished: dict[str, Any], tmp_path: Path
) -> None:
    assert finished["runs_on_this_data"] == 1
    internal = tmp_path / "run" / "internal"
    ledger = (internal / "ledger.jsonl").read_bytes()
    before = released(tmp_path / "run")
    assert go("run", seed=2, overwrite=True)["runs_on_this_data"] == 2
    kept = {path.name: path.read_bytes() for path in (internal / "archive").iterdir()}
    assert kept == {"000-ledger.jsonl": ledger, "000-privacy.json": before["privacy.json"]}
    assert (internal / "ledger.jsonl").read_bytes() != ledger
    for name in ("synthetic.csv", "generator/arrays.npz"):
        assert released(tmp_path / "run")[name] != before[name], "another seed gives other bits"


@pytest.fixture
def few(small_data: Path, tmp_path: Path) -> Path:
    """100 records: too few for the plan, which only a noisy count can tell."""
    path = tmp_path / "few.csv"
    path.write_text("".join(small_data.read_text().splitlines(keepends=True)[:101]))
    return path


@pytest.mark.usefixtures("finished")
def test_overwrite_that_fails_keeps_the_archive(go: Go, few: Path, tmp_path: Path) -> None:
    internal = tmp_path / "run" / "internal"
    ledger = (internal / "ledger.jsonl").read_bytes()
    with pytest.raises(UserError, match="too few records"):
        go("run", overwrite=True, data=few)
    assert (internal / "archive" / "000-ledger.jsonl").read_bytes() == ledger
    assert (internal / "history.jsonl").exists()
    assert len(read_ledger(internal / "archive" / "001-ledger.jsonl")) == 1, "what it measured"


def test_a_run_refused_after_a_measurement_keeps_its_ledger(
    go: Go, few: Path, toy_config: Config, tmp_path: Path
) -> None:
    """Three tries on one file are three noisy counts of it; each used to leave no trace."""
    archive = tmp_path / "run" / "internal" / "archive"
    kept = archive / "000-ledger.jsonl"
    with pytest.raises(UserError, match="too few records for the plan: fewer than 500") as refusal:
        go("run", data=few)
    events = read_ledger(kept)
    assert [event.stage for event in events] == ["marginals"]
    cost = rdp_epsilon(events, toy_config.delta)[0]
    said = f"this run cost epsilon {cost:.4g} at delta 1e-05, and its ledger is kept in {kept}"
    assert said in str(refusal.value) and "\n" not in str(refusal.value)
    assert tree(tmp_path / "run") == [
        "internal", "internal/DO_NOT_PUBLISH", "internal/archive",
        "internal/archive/000-ledger.jsonl",
    ]  # fmt: skip
    # A folder with nothing but the archive is free for the next try.
    with pytest.raises(UserError, match="no run to resume there; drop --resume"):
        go("run", resume=True)
    with pytest.raises(UserError, match=r"001-ledger\.jsonl"):
        go("run", data=few, seed=2)
    assert go("run")["runs_on_this_data"] == 1
    assert sorted(path.name for path in archive.iterdir()) == [
        "000-ledger.jsonl", "001-ledger.jsonl",
    ]  # fmt: skip
    found = read_source(tmp_path / "run")
    assert [past.events for past in found.earlier] == [events, events]


def test_a_run_refused_before_it_reads_leaves_nothing(
    go: Go, toy_config: Config, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"too few records for the plan: fewer than 500 \(public"):
        go("run", config=dataclasses.replace(toy_config, records=100), data=tmp_path / "no file")
    assert not (tmp_path / "run").exists()


def test_a_killed_overwrite_cannot_be_resumed_without_its_ledger(go: Go, interrupted: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        killed_at(patch, Path, "rename", 1, after=True)
        with pytest.raises(Killed):
            go("run", overwrite=True)
    assert not (interrupted / "internal" / "ledger.jsonl").exists()
    with pytest.raises(UserError, match="no run to resume there"):
        go("run", resume=True)
    assert go("run", overwrite=True)["rows"] == 500


@pytest.mark.slow  # tests/fitting/test_checkpoint fills the disk at the second checkpoint
def test_a_full_disk_is_the_users_to_mend(go: Go, tmp_path: Path) -> None:
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
    go: Go,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(self: Generator, root: bytes, blocks: Any, count: int) -> Any:
        yield self.frame(list(itertools.islice(blocks, 1)), count)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Generator, "decoded", broken)
        with pytest.raises(UserError if isinstance(error, OSError) else RuntimeError):
            go("run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["internal"]
    go("run", resume=True)
    assert (tmp_path / "run" / "release" / "synthetic.csv").read_bytes().count(b"\n") == 501
