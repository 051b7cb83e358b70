"""Frames between two processes: a kind, a length, bytes. Nothing that arrives is ever executed."""

from __future__ import annotations

import socket
import struct
import threading
from enum import Enum

_HEAD = struct.Struct(">4scQ")
_MARK = b"rdpj"  # whoever says something else is no process of a run


class Kind(Enum):
    """What a frame is for."""

    HELLO = b"h"  # a process wants to join
    READY = b"r"  # all have joined
    VALUE = b"v"  # this process's part of an exchange, or the parts of all
    BEAT = b"b"  # still there
    END = b"e"  # the run is over; the payload is the one line that says why
    BYE = b"y"  # this process leaves in good order
    TUNNEL = b"t"  # from here on, bytes for jax's coordinator


class Lost(Exception):
    """The other end closed, was silent for too long, or is something else."""


class Wire:
    """One connection to another process; any thread may send, one receives.

    Args:
      connection: a connected TCP socket.
      silence: seconds without a word after which the other end counts as lost.
    """

    def __init__(self, connection: socket.socket, silence: float) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(silence)
        self.connection = connection
        self._sending = threading.Lock()

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        """Send a frame; `Lost` if the other end does not take it."""
        try:
            with self._sending:
                self.connection.sendall(_HEAD.pack(_MARK, kind.value, len(payload)) + payload)
        except OSError as error:
            raise Lost(str(error)) from None

    def receive(self, longest: int = 1 << 40) -> tuple[Kind, bytes]:
        """The next frame; `Lost` if none comes, or one longer than `longest` bytes."""
        mark, kind, length = _HEAD.unpack(self._read(_HEAD.size))
        if mark != _MARK or length > longest:
            raise Lost("not a process of a run")
        try:
            return Kind(kind), self._read(length)
        except ValueError:
            raise Lost("not a process of this version") from None

    def close(self) -> None:
        self.connection.close()

    def _read(self, length: int) -> bytes:
        parts = []
        while length:
            try:
                part = self.connection.recv(min(length, 1 << 20))
            except OSError as error:
                raise Lost(str(error)) from None
            if not part:
                raise Lost("closed")
            parts.append(part)
            length -= len(part)
        return b"".join(parts)


def packed(parts: list[bytes]) -> bytes:
    """Several byte strings as one.

    Examples:
      >>> unpacked(packed([b"one", b"", b"three"]))
      [b'one', b'', b'three']
    """
    return b"".join(struct.pack(">Q", len(part)) + part for part in parts)


def unpacked(whole: bytes) -> list[bytes]:
    """The byte strings that `packed` put together."""
    parts, at = [], 0
    while at < len(whole):
        (length,) = struct.unpack_from(">Q", whole, at)
        parts.append(whole[at + 8 : at + 8 + length])
        at += 8 + length
    return parts
