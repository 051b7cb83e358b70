"""Start several processes of one run, and see how each of them ends."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest


class Ended(NamedTuple):
    """How a process ended: its exit status, its output, and the seconds that it lived."""

    status: int
    out: str
    err: str
    seconds: float


@pytest.fixture
def in_processes() -> Iterator[Callable[..., list[Ended]]]:
    """`in_processes(command, flags, flags, ...)`: one process for each flags, all at once.

    Each is given `--coordinator`, with a free port of the loopback, `--process-id` and
    `--processes`. Whoever takes longer than `seconds` is killed, and the test fails.
    """
    started: list[subprocess.Popen[str]] = []

    def run(command: list[str], *flags: list[str], seconds: float = 120) -> list[Ended]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        begun = time.monotonic()
        for index, own in enumerate(flags):
            place = ["--coordinator", address, "--process-id", str(index)]
            line = [*command, *place, "--processes", str(len(flags)), *own]
            started.append(
                subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            )

        def ended(process: subprocess.Popen[str]) -> Ended:
            out, err = process.communicate(timeout=begun + seconds - time.monotonic())
            return Ended(process.returncode, out, err, time.monotonic() - begun)

        with ThreadPoolExecutor(len(started)) as pool:
            return list(pool.map(ended, started[-len(flags) :]))

    yield run
    for process in started:
        process.kill()
        process.communicate()
