"""What is in the way of a run, and what a run that fails leaves there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rdpjax import checkpoint
from rdpjax.config import Config
from rdpjax.errors import UserError
from rdpjax.generator import Generator
from tests.run.runs import Go, Killed, killed_at, released


def test_an_existing_run_is_refused(go: Go, interrupted: Path) -> None:
    with pytest.raises(UserError, match="give --resume, --overwrite or another --out"):
        go("run")
    with pytest.raises(UserError, match="no run to resume there"):
        go("elsewhere", resume=True)
    assert not (interrupted.parent / "elsewhere").exists()


def test_overwrite_archives_the_ledger_and_counts_the_run(go: Go, tmp_path: Path) -> None:
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
    go: Go, toy_config: Config, small_data: Path, tmp_path: Path
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


def test_a_refused_run_leaves_nothing(go: Go, small_data: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.csv"
    few.write_text("".join(small_data.read_text().splitlines(keepends=True)[:100]))
    with pytest.raises(UserError, match="too few records for the plan: fewer than 500"):
        go("run", data=few)
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
