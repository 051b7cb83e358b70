"""Peak memory of one cell of the table, in a fresh process.

The level is taken when everything is imported and the records are loaded; the peak, over the
programs' loading and three rounds of steps. The compiler's own memory is not in it: programs come
from the cache that the timing process filled.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import re
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.contender import Setting, records_for

MIB = 2**20
TIMEOUT_S = 300


class Meter:
    """Starts fresh processes from one that has everything imported but no device open.

    Args:
      cache: folder of the persistent compilation cache.
    """

    def __init__(self, cache: str) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["benchmarks.imported"])
        self._cache = cache

    def peak(
        self, workload: str, batch: int, contender: str, setting: Setting
    ) -> tuple[float | None, str]:
        """MiB above the level after import and data load; None, and why, if it can't be told."""
        ours, theirs = self._context.Pipe()
        arguments = (theirs, self._cache, workload, batch, contender, setting)
        process = self._context.Process(target=_child, args=arguments)
        process.start()
        theirs.close()
        try:
            found = ours.recv() if ours.poll(TIMEOUT_S) else (None, "memory: no answer in time")
        except EOFError:
            found = (None, "memory: the process died, out of memory perhaps")
        process.join(1)
        if process.is_alive():
            process.kill()
        process.join()
        return found


def _child(
    pipe: Connection, cache: str, workload: str, batch: int, contender: str, setting: Setting
) -> None:
    try:
        pipe.send((_measured(cache, workload, batch, contender, setting), ""))
    except Exception as error:
        pipe.send((None, f"memory: {type(error).__name__}"))


def _measured(cache: str, workload: str, batch: int, contender: str, setting: Setting) -> float:
    from benchmarks.imported import all_contenders, prepare
    from benchmarks.workloads import WORKLOADS

    prepare(cache)
    who = next(one for one in all_contenders() if one.name == contender)
    what = WORKLOADS[workload]
    loaded = who.load(what.records(records_for(batch), 0))
    gauge = _gauge(who.rival)
    level = gauge.level()
    running = who.start(what, loaded, batch, setting)
    for _ in range(3):
        running(1)
    return (gauge.peak() - level) / MIB


class _Resident:
    """Memory of this process, as the kernel counts it."""

    def level(self) -> int:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM
        return self._read("VmRSS")

    def peak(self) -> int:
        return self._read("VmHWM")

    @staticmethod
    def _read(name: str) -> int:
        status = Path(f"/proc/{os.getpid()}/status").read_text(encoding="ascii")
        match = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
        assert match is not None
        return int(match[1]) * 1024


class _JaxDevice:
    """Memory that JAX holds on an accelerator."""

    def level(self) -> int:
        return int(self._stats()["bytes_in_use"])

    def peak(self) -> int:
        return int(self._stats()["peak_bytes_in_use"])

    @staticmethod
    def _stats() -> Any:
        import jax

        return jax.local_devices()[0].memory_stats()


class _TorchDevice:
    """Memory that PyTorch holds on an accelerator."""

    def level(self) -> int:
        import torch

        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())

    def peak(self) -> int:
        import torch

        return int(torch.cuda.max_memory_allocated())


def _gauge(rival: str) -> Any:
    if rival == "pytorch":
        import torch

        return _TorchDevice() if torch.cuda.is_available() else _Resident()
    import jax

    return _Resident() if jax.default_backend() == "cpu" else _JaxDevice()
