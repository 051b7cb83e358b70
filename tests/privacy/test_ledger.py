"""The ledger: written before the access, never short of one, stopped before the budget is."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdpjax.errors import UserError
from rdpjax.privacy.accountants import rdp_epsilon
from rdpjax.privacy.ledger import BudgetExceeded, Event, Ledger, read_ledger

FIRST = Event("vae", "poisson_gaussian", 2**-6, 1.0, 0.5, steps=100)
SECOND = dataclasses.replace(FIRST, start=100)
DELTA = 1e-5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_entries_are_on_the_disk_when_open_returns(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bytes]] = []

    def fsync(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            synced.append(("folder", b""))
        else:
            assert os.path.samestat(os.fstat(file), path.stat())
            synced.append(("file", path.read_bytes()))

    monkeypatch.setattr(os, "fsync", fsync)
    ledger = Ledger.create(path)
    assert [kind for kind, _ in synced] == ["file", "folder"]
    for count, event in enumerate((FIRST, SECOND), start=1):
        synced.clear()
        assert ledger.open(event)
        # The last thing synced is the file, and what was synced has the whole entry in it.
        assert synced[-1] == ("file", path.read_bytes())
        assert len(lines(path)) == count
        assert lines(path)[-1] == {"version": 1, **event.to_dict()}


def test_an_entry_outlives_kill_9(path: Path) -> None:
    program = (
        "import os, signal, sys; from rdpjax.privacy.ledger import Event, Ledger;"
        "ledger = Ledger.create(sys.argv[1]);"
        "ledger.open(Event('vae', 'poisson_gaussian', 2**-6, 1.0, 0.5, steps=100));"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(path)])
    assert killed.returncode == -signal.SIGKILL
    assert Ledger.load(path).events == (FIRST,)


def test_only_the_owner_may_read_the_file(path: Path) -> None:
    Ledger.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_contiguous_chunks_are_one_event_and_cost_what_they_cost(path: Path) -> None:
    ledger = Ledger.create(path)
    for event in (FIRST, SECOND):
        ledger.open(event)
    whole = dataclasses.replace(FIRST, steps=200)
    assert ledger.events == (whole,)
    assert ledger.entries == (FIRST, SECOND)
    assert ledger.epsilon(DELTA) == rdp_epsilon([whole], DELTA)[0]
    assert read_ledger(path) == Ledger.load(path).events == (whole,)


def test_a_replay_keeps_its_entry(path: Path) -> None:
    ledger = Ledger.create(path)
    assert ledger.open(FIRST) and ledger.open(SECOND)
    before = path.read_bytes()
    resumed = Ledger.load(path)
    assert not resumed.open(FIRST) and not resumed.open(SECOND)
    assert path.read_bytes() == before
    assert resumed.epsilon(DELTA) == ledger.epsilon(DELTA)
    assert resumed.open(dataclasses.replace(FIRST, start=200))


def test_what_one_process_opens_twice_counts_twice(path: Path) -> None:
    """A hundred measurements of one event used to cost as much as one."""
    ledger = Ledger.create(path)
    for count in (1, 2, 3):
        assert ledger.open(FIRST)
        assert len(lines(path)) == count
        assert ledger.epsilon(DELTA) == rdp_epsilon([FIRST] * count, DELTA)[0]
    with ledger.access(FIRST) as access:
        assert access.is_open
    assert len(lines(path)) == 4


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_loaded_entry_is_replayed_once(path: Path, on_disk: bool) -> None:
    first = Ledger.create(path, noise_id="one")
    for event in (FIRST, SECOND, FIRST):
        first.open(event)
    lines_of_it = first.to_lines()

    def again(noise_id: str) -> Ledger:
        if on_disk:
            return Ledger.load(path, noise_id=noise_id)
        return Ledger.resumed(lines_of_it, noise_id=noise_id)

    resumed = again("one")
    assert resumed.entries == (FIRST, SECOND, FIRST) and resumed.to_lines() == lines_of_it
    # FIRST was entered twice, and so is replayed twice.
    assert [resumed.open(e) for e in (FIRST, FIRST, FIRST, SECOND, SECOND)] == [
        *(False, False, True), *(False, True),
    ]  # fmt: skip
    assert again("two").open(FIRST), "another source of noise replays nothing"
    # Each process that goes on after a crash may replay, and pays for whatever is beyond that.
    assert not again("one").open(FIRST)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 50},
        {"start": 50},
        {"noise_multiplier": 1.1},
        {"sampling_rate": 2**-7},
        {"clip_norm": 1.0},
        {"stage": "gan"},
        {"sampling_rate": 1.0, "mechanism": "gaussian"},
    ],
)
def test_whatever_differs_costs_again(path: Path, change: dict[str, Any]) -> None:
    ledger = Ledger.create(path)
    ledger.open(FIRST)
    ledger = Ledger.load(path)
    other = dataclasses.replace(FIRST, **change)
    assert ledger.open(other)
    assert len(lines(path)) == 2
    assert ledger.epsilon(DELTA) == rdp_epsilon([FIRST, other], DELTA)[0]


def test_fresh_noise_is_no_replay(path: Path) -> None:
    Ledger.create(path, noise_id="one").open(FIRST)
    assert not Ledger.load(path, noise_id="one").open(FIRST)
    for other in ("two", None):
        ledger = Ledger.load(path, noise_id=other)
        before = ledger.epsilon(DELTA)
        assert ledger.open(FIRST)
        assert ledger.epsilon(DELTA) > before
    assert sum(event.steps for event in Ledger.load(path).events) == 300


@given(cut=st.integers(1, 400))
def test_a_torn_last_line_is_removed(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("torn") / "ledger.jsonl"
    ledger = Ledger.create(path)
    ledger.open(FIRST)
    whole = path.read_bytes()
    ledger.open(SECOND)
    line = path.read_bytes()[len(whole) :]
    if cut >= len(line) - 1:
        return  # nothing is torn, or only the end of line is missing: see the next test
    torn = whole + line[:cut]
    path.write_bytes(torn)
    assert read_ledger(path) == (FIRST,)
    assert path.read_bytes() == torn  # whoever only looks does not mend
    mended = Ledger.load(path)
    assert mended.events == (FIRST,) and path.read_bytes() == whole
    assert mended.open(SECOND) and path.read_bytes() == whole + line


def test_a_whole_entry_without_its_end_of_line_counts(path: Path) -> None:
    Ledger.create(path).open(FIRST)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    ledger = Ledger.load(path)
    assert ledger.events == (FIRST,) and path.read_bytes() == whole
    ledger.open(SECOND)
    assert Ledger.load(path).entries == (FIRST, SECOND)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"nonsense\n%s", "line 1 is no ledger entry"),
        (b"%snonsense\n", "line 2 is no ledger entry"),
        (b"%s[]\n", "line 2 is no ledger entry"),
        (b"%s\xff\xfe\n", "line 2 is no ledger entry"),
        (b'%s{"version": 2}\n', "line 2: ledger: version 2 is newer"),
        (b'%s{"version": 1, "stage": "vae"}\n', "line 2: event: .* missing"),
        (b"%s{}\n", "line 2: ledger: version is None"),
    ],
)
def test_a_changed_file_is_refused_and_left_alone(path: Path, text: bytes, message: str) -> None:
    Ledger.create(path).open(FIRST)
    path.write_bytes(text.replace(b"%s", path.read_bytes()))
    before = path.read_bytes()
    for read in (Ledger.load, read_ledger):
        with pytest.raises(UserError, match=message):
            read(path)
    assert path.read_bytes() == before


def test_files_that_are_there_or_not(path: Path) -> None:
    with pytest.raises(UserError, match="no such ledger"):
        Ledger.load(path)
    Ledger.create(path).open(FIRST)
    with pytest.raises(UserError, match="a ledger is there"):
        Ledger.create(path)
    assert read_ledger(path) == (FIRST,)
    with pytest.raises(UserError, match="cannot create"):
        Ledger.create(path.parent / "missing" / "ledger.jsonl")
    with pytest.raises(UserError, match="cannot read"):
        Ledger.load(path.parent)


@pytest.mark.parametrize("failing", ["write", "fsync", "short write"])
def test_a_full_disk_stops_the_access(
    path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    ledger = Ledger.create(path)
    ledger.open(FIRST)
    before = path.read_bytes()
    write = os.write

    def fail(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if failing == "short write":
            patch.setattr(os, "write", lambda file, line: write(file, line[:20]))
        else:
            patch.setattr(os, failing, fail)
        with pytest.raises(UserError, match="No space left on device"):
            ledger.open(SECOND)
    assert path.read_bytes() == before and ledger.entries == (FIRST,)
    assert ledger.open(SECOND) and Ledger.load(path).entries == (FIRST, SECOND)


def test_a_deleted_file_is_not_made_anew(path: Path) -> None:
    ledger = Ledger.create(path)
    path.unlink()
    with pytest.raises(UserError, match="cannot write"):
        ledger.open(FIRST)
    assert not path.exists()


@pytest.mark.parametrize("on_disk", [True, False])
def test_the_guard_refuses_before_it_writes(path: Path, on_disk: bool) -> None:
    both = rdp_epsilon([FIRST, SECOND], DELTA)[0]
    target = (both * (1 - 1e-9), DELTA)
    ledger = Ledger.create(path, target=target) if on_disk else Ledger(target=target)
    assert ledger.open(FIRST)
    before = path.read_bytes() if on_disk else b""
    with pytest.raises(BudgetExceeded, match="stage 'vae', steps 100 to 199"):
        ledger.open(SECOND)
    assert ledger.entries == (FIRST,)
    assert not on_disk or path.read_bytes() == before
    with pytest.raises(BudgetExceeded, match="stage 'vae', steps 0 to 99"):
        ledger.open(FIRST)
    # A smaller step may still fit, and a replay costs nothing however little is left.
    assert not Ledger.resumed(ledger.to_lines(), target=target).open(FIRST)
    assert ledger.open(dataclasses.replace(SECOND, steps=1))


def test_the_guard_lets_the_exact_plan_through_chunk_by_chunk(path: Path) -> None:
    """The composed epsilon of a finished plan equals its target to the last bit."""
    plan = [FIRST, dataclasses.replace(FIRST, stage="gan", noise_multiplier=1.3, steps=90)]
    target = (rdp_epsilon(plan, DELTA)[0], DELTA)
    ledger = Ledger.create(path, target=target)
    for event in plan:
        for start in range(0, event.steps, 7):
            steps = min(7, event.steps - start)
            ledger.open(dataclasses.replace(event, start=start, steps=steps))
    assert ledger.events == tuple(plan)
    assert ledger.epsilon(DELTA) == target[0]
    with pytest.raises(BudgetExceeded):
        ledger.open(dataclasses.replace(FIRST, start=100, steps=1))


def test_the_guard_counts_what_an_earlier_process_spent(path: Path) -> None:
    target = (rdp_epsilon([FIRST], DELTA)[0], DELTA)
    Ledger.create(path, target=target).open(FIRST)
    with pytest.raises(BudgetExceeded):
        Ledger.load(path, target=target).open(SECOND)


def test_no_noise_never_fits_a_target() -> None:
    bare = dataclasses.replace(FIRST, noise_multiplier=0.0)
    with pytest.raises(BudgetExceeded, match="epsilon would be inf"):
        Ledger(target=(5.0, DELTA)).open(bare)
    free = Ledger()
    assert free.open(bare) and free.epsilon(DELTA) == float("inf")


def test_dicts_there_and_back_without_the_name_of_the_noise() -> None:
    ledger = Ledger(noise_id="secret")
    ledger.open(FIRST)
    ledger.open(SECOND)
    values = json.loads(json.dumps(ledger.to_dict(), allow_nan=False))
    assert "secret" not in json.dumps(values)
    again = Ledger.from_dict(values, noise_id="secret")
    assert again.events == ledger.events and again.epsilon(DELTA) == ledger.epsilon(DELTA)
    assert again.open(FIRST), "a chunk of unknown noise must cost again"
    assert Ledger.from_dict(values).open(FIRST), "nor is what was published a run to go on with"
    with pytest.raises(UserError, match="newer"):
        Ledger.from_dict({**values, "version": 2})
    with pytest.raises(UserError, match="events: missing"):
        Ledger.from_dict({"version": 1})


def test_a_new_ledger_costs_nothing() -> None:
    assert Ledger().events == () and Ledger().epsilon(DELTA) == 0
