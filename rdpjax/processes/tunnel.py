"""A tunnel for jax's own coordinator, so that its end is not the end of the process.

A process whose connection to jax's coordinator closes is aborted by jax at once, with a C++ stack
trace and without a word on which process died. So the others reach it through their connection to
process 0: when that breaks, their end of the tunnel stays open, and there is time for a clear line.
The coordinator itself listens on the loopback interface only.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

LOOPBACK = "127.0.0.1"


def listening() -> socket.socket:
    """A listening socket on a free port of this machine, for nobody outside."""
    return socket.create_server((LOOPBACK, 0))


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with listening() as server:
        return int(server.getsockname()[1])


def background(work: Callable[..., object], *given: object) -> None:
    """Run `work` beside the training; it ends with the process."""
    threading.Thread(target=work, args=given, daemon=True).start()


def serve_near_end(server: socket.socket, far: Callable[[], socket.socket]) -> None:
    """Join whoever connects to `server` with a new connection to the far end, for ever."""
    while True:
        near, _ = server.accept()
        try:
            join_ends(near, far())
        except OSError:
            near.close()


def connected(port: int, seconds: float) -> socket.socket:
    """A connection to a port of this machine, where somebody will soon listen."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection((LOOPBACK, port), timeout=seconds)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def join_ends(client: socket.socket, service: socket.socket) -> None:
    """Carry bytes both ways, in the background; the client never learns of the service's end."""
    for end in (client, service):
        end.settimeout(None)
    background(_carry, client, service, True)
    background(_carry, service, client, False)


def _carry(source: socket.socket, target: socket.socket, hang_up: bool) -> None:
    with contextlib.suppress(OSError):
        while part := source.recv(1 << 16):
            target.sendall(part)
    if hang_up:
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
