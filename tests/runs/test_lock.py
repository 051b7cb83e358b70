"""One run, one folder: tried with real processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rdpjax.config import Config
from rdpjax.errors import UserError
from rdpjax.runs import run as run_module
from rdpjax.runs.lock import LOCK, run_lock
from rdpjax.runs.run import run
from rdpjax.runs.start import Options
from tests.runs.runs import tree

HOLD = """
import sys
from pathlib import Path
from rdpjax.runs.lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen]]:
    """`holder()`: another process that holds `tmp_path / "run"` until its input ends."""
    started = []

    def start() -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path / "run")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_process_is_refused_and_told_which_holds_it(tmp_path: Path, holder) -> None:
    first = holder()
    before = tree(tmp_path)
    for _ in range(2):  # a refused one takes nothing away
        second = subprocess.run(
            [sys.executable, "-c", HOLD, str(tmp_path / "run")], capture_output=True, text=True
        )
        assert second.returncode == 1 and not second.stdout
        assert f"run: a run is going on here (process {first.pid}); wait" in second.stderr
    assert tree(tmp_path) == before
    first.communicate()
    assert tree(tmp_path) == [], "a folder that was made for the lock alone goes with it"
    with run_lock(tmp_path / "run"):
        pass


def test_a_lock_ends_with_its_process(tmp_path: Path, holder) -> None:
    first = holder()
    first.kill()
    first.wait()
    with run_lock(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).exists()
    assert not (tmp_path / "run" / LOCK).exists()


@pytest.mark.parametrize("flags", [{}, {"resume": True}, {"overwrite": True}])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_run_does_not_even_look_at_a_held_folder(
    tmp_path: Path, small_data: Path, holder, monkeypatch, flags: dict[str, bool], earlier: bool
) -> None:
    out = tmp_path / "run"
    if earlier:
        (out / "internal").mkdir(parents=True)
        (out / "internal" / "ledger.jsonl").write_text("spent")
    monkeypatch.setattr(run_module, "check_folder", None)
    first = holder()
    before = tree(out)
    with pytest.raises(UserError, match=rf"a run is going on here \(process {first.pid}\)"):
        run(Config(), Options(out=out, data=small_data, **flags), quiet=True)
    assert tree(out) == before


def test_the_command_says_it_in_one_line(tmp_path: Path, small_data: Path, holder, capsys) -> None:
    from rdpjax.train import main

    first = holder()
    assert main(["--out", str(tmp_path / "run"), "--data", str(small_data), "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and f"(process {first.pid})" in err


def test_threads_take_turns_and_nobody_loses_the_lock(tmp_path: Path) -> None:
    """The file is removed at the end of each turn, while others open it."""
    inside, most, refused = 0, 0, 0

    def turns() -> None:
        nonlocal inside, most, refused
        for _ in range(100):
            try:
                with run_lock(tmp_path / "run"):
                    inside += 1
                    most = max(most, inside)
                    inside -= 1
            except UserError:
                refused += 1

    threads = [threading.Thread(target=turns) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and refused < 400


def test_folders_above_and_files_of_the_user(tmp_path: Path) -> None:
    with run_lock(tmp_path / "a" / "b"):
        pass
    assert tree(tmp_path) == []
    (tmp_path / "mine").mkdir()
    with run_lock(tmp_path / "mine"):
        pass
    assert tree(tmp_path) == ["mine"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write there"), run_lock(tmp_path / "file" / "run"):
        raise AssertionError
