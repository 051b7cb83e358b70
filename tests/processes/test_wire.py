"""Frames: whole, or lost."""

from __future__ import annotations

import socket
import threading

import pytest

from rdpjax.processes.wire import Kind, Lost, Wire, packed, unpacked


@pytest.fixture
def ends():
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    with one, other:
        yield one, other


def test_frames_come_as_they_were_sent(ends) -> None:
    here, there = (Wire(end, 5) for end in ends)
    large = bytes(range(256)) * 20_000
    threading.Thread(target=lambda: (here.send(Kind.VALUE, large), here.send(Kind.BEAT))).start()
    assert there.receive() == (Kind.VALUE, large)
    assert there.receive() == (Kind.BEAT, b"")


@pytest.mark.parametrize(
    "said",
    [b"", b"GET / HTTP/1.1\r\n\r\n", b"rdpjv\x00\x00\x00\x00\x00\x00\x00\x09", b"rdpj?" + bytes(8)],
    ids=["nothing", "another protocol", "torn", "another version"],
)
def test_what_is_no_frame_is_lost(said, ends) -> None:
    ends[0].sendall(said)
    ends[0].shutdown(socket.SHUT_WR)
    with pytest.raises(Lost):
        Wire(ends[1], 5).receive()


def test_a_stranger_cannot_fill_the_memory(ends) -> None:
    Wire(ends[0], 5).send(Kind.HELLO, bytes(2000))
    with pytest.raises(Lost, match="not a process"):
        Wire(ends[1], 5).receive(longest=1000)


def test_silence_is_a_loss(ends) -> None:
    with pytest.raises(Lost, match="timed out"):
        Wire(ends[1], 0.05).receive()


@pytest.mark.parametrize("parts", [[], [b""], [b"a", b"", b"bc" * 1000]], ids=len)
def test_packed_parts(parts) -> None:
    assert unpacked(packed(parts)) == parts
