"""What processes exchange, and that they end together. Here each is a thread; its end is heard."""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from rdpjax.errors import UserError
from rdpjax.processes import team as module
from rdpjax.processes.team import Team
from rdpjax.processes.wire import Wire


@pytest.fixture
def teams(ends):
    """Three connected processes."""
    wires: dict[int, list[Wire]] = {}
    with socket.create_server(("127.0.0.1", 0)) as server:
        for index in (1, 2):
            far = socket.create_connection(server.getsockname())
            wires[index] = [Wire(server.accept()[0], 10), Wire(far, 10)]
    lead = Team(0, {index: pair[0] for index, pair in wires.items()}, 3)
    teams = [lead, *(Team(index, {0: pair[1]}, 3) for index, pair in wires.items())]
    yield teams
    for team in teams:
        team._last_word.acquire(blocking=False)  # from now on nobody is missed
    for pair in wires.values():
        for wire in pair:
            wire.connection.close()


@pytest.fixture(autouse=True)
def ends(monkeypatch: pytest.MonkeyPatch) -> queue.Queue[tuple[str, Any]]:
    """What would be written to stderr, and the statuses that processes would end with."""
    heard: queue.Queue[tuple[str, Any]] = queue.Queue()
    monkeypatch.setattr(os, "write", lambda file, text: heard.put(("says", text.decode())))
    monkeypatch.setattr(module, "_exit", lambda status: heard.put(("ends", status)))
    monkeypatch.setattr(module.atexit, "register", lambda end, status: end(status))
    for name in ("GRACE", "FIRST"):
        monkeypatch.setattr(module, name, 0.05)
    return heard


def together(teams: list[Team], do: Callable[[Team], Any]) -> list[Any]:
    """What `do` returns or raises in each process."""

    def one(team: Team) -> Any:
        try:
            return do(team)
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(len(teams)) as pool:
        return list(pool.map(one, teams))


def test_all_hear_what_each_says(teams) -> None:
    said = together(teams, lambda team: team.exchange(bytes([team.index]) * team.index))
    assert said == [[b"", b"\x01", b"\x02\x02"]] * 3


def test_what_process_0_says_holds(teams) -> None:
    told = together(teams, lambda team: team.share({"run": team.index, "keys": ["00ff"]}))
    assert told == [{"run": 0, "keys": ["00ff"]}] * 3


def test_arrays_come_bit_for_bit(teams) -> None:
    def state(index: int) -> dict[str, Any]:
        odd = np.array([1e-45, -0.0, np.inf], np.float32) if index == 0 else np.zeros(3, np.float32)
        return {
            "kernel": jnp.linspace(0, 1, 6).reshape(2, 3).T * (index == 0),
            "half": jnp.full((4,), 0.1 * (index == 0), jnp.bfloat16),
            "odd": odd,
            "step": jnp.uint32(2**32 - 1 if index == 0 else 0),
            "none": jnp.zeros((0, 3)),
        }

    for told in together(teams, lambda team: team.share_arrays(state(team.index))):
        for name, whole in state(0).items():
            expected = np.asarray(whole)
            assert (told[name].dtype, told[name].shape) == (expected.dtype, expected.shape)
            assert told[name].tobytes() == expected.tobytes()
            assert told[name].flags.writeable


def test_they_agree(teams, ends) -> None:
    facts = {"jax": "1.2", "--devices": 2, "--seed": None}
    assert together(teams, lambda team: team.agree(facts)) == [None] * 3
    assert ends.empty()


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("jax", ["0.10.2", "0.10.2", "0.11.0"], "jax: 0.10.2 in process 0, 0.11.0 in process 2"),
        ("--vae.steps", [5, 6, 6], "--vae.steps: 5 in process 0, 6 in process 1"),
        ("--seed", [None, 3, None], "--seed: None in process 0, 3 in process 1"),
    ],
)
def test_they_differ(key, values, message, teams, ends) -> None:
    def one(team: Team) -> None:
        try:
            team.agree({"same": 1, key: values[team.index]})
        except UserError as error:
            team.fail(error)
            raise

    told = together(teams, one)
    assert told == [f"the processes differ in {message}; start all of them with the same"] * 3
    heard = [ends.get(timeout=5) for _ in teams]
    assert heard == [("ends", 2)] * 3, "each says it for itself, none for another"
    assert ends.empty()


def test_one_lacks_a_setting(teams) -> None:
    told = together(teams, lambda team: team.agree({"--a": 1} if team.index else {}))
    assert all("differ in --a: none in process 0, 1 in process 1" in line for line in told)


def heard_by(ends: queue.Queue[tuple[str, Any]], number: int) -> list[str]:
    """The lines of `number` processes that were ended from outside."""
    heard = [ends.get(timeout=5) for _ in range(2 * number)]
    assert [what for what in heard if what[0] == "ends"] == [("ends", 2)] * number
    return [what[1] for what in heard if what[0] == "says"]


def die(team: Team) -> None:
    """Its connections close, and it says nothing more."""
    team._last_word.acquire()
    for wire in team.wires.values():
        wire.connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("index", [0, 2])
def test_a_process_that_dies_ends_the_others(index, teams, ends) -> None:
    die(teams[index])
    for line in heard_by(ends, 2):
        assert line.startswith(f"rdpjax: error: process {index} died (")
        assert line.endswith("; start all processes again with --resume, on any number of them\n")
        assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("index", "error", "line", "status"),
    [
        (1, UserError("no such file"), "process 1: no such file", 2),
        (0, UserError("holds a run"), "process 0: holds a run", 2),
        (2, KeyboardInterrupt(), "process 2: interrupted", 130),
        (1, TypeError("a\nb"), "process 1: TypeError: a", 1),
    ],
    ids=["mistake", "mistake of process 0", "interrupt", "bug"],
)
def test_the_others_hear_why(index, error, line, status, teams, ends) -> None:
    teams[index].fail(error)
    said, ended = ("says", f"rdpjax: error: {line}\n"), ("ends", 2)
    heard = [ends.get(timeout=5) for _ in range(5)]
    assert sorted(heard, key=str) == sorted([("ends", status), said, said, ended, ended], key=str)


def test_a_failed_collective_waits_for_the_news(teams, ends, monkeypatch) -> None:
    monkeypatch.setattr(module, "GRACE", 5.0)
    monkeypatch.setattr(module, "SILENCE", 0.05)
    failed = threading.Thread(target=teams[1].fail, args=(ValueError("Gloo AllGather failed"),))
    failed.start()
    die(teams[0])
    lines = heard_by(ends, 2)
    failed.join()
    assert all("process 0 died" in line for line in lines)


def test_who_leaves_in_good_order_is_not_missed(teams, ends) -> None:
    together(teams, lambda team: (team.exchange(), team.leave()))
    for wire in teams[0].wires.values():
        wire.connection.shutdown(socket.SHUT_RDWR)
    with pytest.raises(queue.Empty):
        ends.get(timeout=0.2)
