"""Flags of several processes, and whoever does not come: one clear line, in time."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from rdpjax.errors import UserError
from rdpjax.processes.joining import Place, place_of, together
from rdpjax.processes.tunnel import free_port


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("a:1", None, None), "--process-id and --processes missing: several processes need"),
        ((None, 0, 2), "--coordinator missing"),
        (("a:1", 0, 1), "--processes 1: must be at least 2"),
        (("a:1", 2, 2), "--process-id 2: must be 0 to 1 of --processes 2"),
        (("a:1", -1, 2), "--process-id -1: must be 0 to 1"),
        (("a", 0, 2), "--coordinator a: must be HOST:PORT"),
        (("a:b", 0, 2), "must be HOST:PORT"),
        ((":1", 0, 2), "must be HOST:PORT"),
        (("a:70000", 0, 2), "must be HOST:PORT"),
    ],
    ids=lambda value: str(value) if isinstance(value, tuple) else "",
)
def test_flags_that_cannot_be(given, message) -> None:
    with pytest.raises(UserError, match=message):
        place_of(*given)


def test_flags() -> None:
    assert place_of(None, None, None) is None
    assert place_of("node0:29500", 1, 2) == Place("node0", 29500, 1, 2)
    assert place_of("[::1]:29500", 0, 2) == Place("::1", 29500, 0, 2)


def test_alone_there_is_nobody_to_wait_for() -> None:
    with together(None, {"--devices": 1}) as team:
        assert team.leads and team.exchange(b"here") == [b"here"]
        assert team.share([1, "two"]) == [1, "two"]
        team.agree({"anything": 1})


def meet(place: Place, limit: float = 0.5) -> str:
    """What a process is told that does not find the others."""
    begun = time.monotonic()
    with pytest.raises(UserError) as told, together(place, {}, limit=limit):
        pass
    assert time.monotonic() - begun < limit + 1.5
    return str(told.value)


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_nobody_listens() -> None:
    port = free_port()
    told = meet(Place("127.0.0.1", port, 1, 2))
    assert told.startswith(f"--coordinator 127.0.0.1:{port}: no answer in 0.5 s; start process 0")


def test_who_listens_does_not_answer() -> None:
    with listening() as server:
        assert "no answer in 0.5 s" in meet(Place("127.0.0.1", server.getsockname()[1], 1, 2))


def test_who_answers_is_no_process_of_a_run() -> None:
    with listening() as server:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    connection.close()

        threading.Thread(target=answer, daemon=True).start()
        assert "no answer in 0.5 s" in meet(Place("127.0.0.1", server.getsockname()[1], 1, 2))


def test_a_host_that_is_not_there() -> None:
    assert "no answer in 0.5 s" in meet(Place("host.invalid", 29500, 1, 2))


def test_process_0_says_who_is_absent() -> None:
    assert "process 1, 2 of 3 did not join in 0.5 s" in meet(Place("127.0.0.1", free_port(), 0, 3))


def test_a_port_that_is_taken() -> None:
    with listening() as server:
        told = meet(Place("127.0.0.1", server.getsockname()[1], 0, 2))
    assert "process 0 cannot listen there: Address already in use; give an address" in told


def test_a_stranger_at_the_door_changes_nothing() -> None:
    place = Place("127.0.0.1", free_port(), 0, 2)

    def knock() -> None:
        time.sleep(0.1)
        with socket.create_connection((place.host, place.port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")

    threading.Thread(target=knock, daemon=True).start()
    assert "process 1 of 2 did not join" in meet(place)


def both(*places: Place) -> list[str]:
    """What processes are told that meet, each in a thread of its own."""
    told: dict[int, str] = {}

    def one(place: Place) -> None:
        told[place.index] = meet(place, limit=1.0)

    threads = [threading.Thread(target=one, args=(place,)) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [told[place.index] for place in places]


def test_they_differ_in_how_many_they_are() -> None:
    port = free_port()
    told = both(Place("127.0.0.1", port, 0, 3), Place("127.0.0.1", port, 1, 2))
    assert told[0] == told[1]
    assert told[0].startswith(
        "the processes differ in --processes: 3 in process 0, 2 in process 1;"
    )


def test_one_of_three_does_not_come() -> None:
    port = free_port()
    told = both(Place("127.0.0.1", port, 0, 3), Place("127.0.0.1", port, 1, 3))
    assert all("process 2 of 3 did not join in 1 s" in line for line in told)
