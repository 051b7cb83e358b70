"""Multi-process runs, by `jax.distributed` and its multihost utilities.

Process 0 decides (keys, execution settings, the step to resume at) and alone writes the run folder.
Nothing that jax sends is encrypted or authenticated, keys included: the network must be trusted.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental.multihost_utils import broadcast_one_to_all, process_allgather
from jax.sharding import Mesh

from rdpjax.errors import UserError

T = TypeVar("T")

AUTO = "auto"  # as --coordinator: jax asks SLURM, the TPU pod or Kubernetes
START, START_AUTO = 30.0, 300.0  # seconds for all processes to join; clusters start slowly
HEARTBEAT = 30  # seconds without a heartbeat after which jax ends the other processes
FINISH = 24 * 3600  # seconds that the others wait for process 0 to write the release
FAREWELL = 10.0  # seconds for the other processes to fail with the same error
MEND = "start all with the same --coordinator and --processes; check host, port, firewall and proxy"
BLOCK = 1024  # bytes; messages are padded to a multiple, so that few shapes are compiled


@dataclass(frozen=True)
class Hosts:
    """Processes of one run; with a single one, every method is an identity.

    All processes must call the methods in the same order. Values other than arrays must be JSON.

    Attributes:
      index: number of this process, from 0.
      count: number of processes.
      mesh: devices of all processes that share each step; None for the default device.
    """

    index: int = 0
    count: int = 1
    mesh: Mesh | None = None

    @property
    def is_primary(self) -> bool:
        """Whether this is process 0, which alone writes."""
        return self.index == 0

    def on_all(self, work: Callable[[], T]) -> T:
        """Run `work` in every process; an error in one of them is raised in all."""
        failure = None
        try:
            value = work()
        except Exception as error:
            failure = error
        lines = self._gather(failure and _line(failure))
        if failure is not None:
            raise failure
        for index, line in enumerate(lines):
            if line is not None:
                raise UserError(f"process {index}: {line}")
        return value

    def on_primary(self, work: Callable[[], Any]) -> Any:
        """Run `work` in process 0 alone; return its value, or raise its error, in all.

        Guarantees:
          It returns in no process before `work` has returned in process 0.
        """
        return self._gather(self.on_all(work if self.is_primary else lambda: None))[0]

    def assert_equal(self, facts: Mapping[str, object]) -> None:
        """Raise a UserError in all processes that names the first of `facts` that differs."""
        said = self._gather(dict(facts))
        for key in dict.fromkeys(key for one in said for key in one):
            for index, one in enumerate(said):
                if one.get(key) != said[0].get(key):
                    raise UserError(
                        f"the processes differ in {key}: {said[0].get(key, 'none')} in process 0, "
                        f"{one.get(key, 'none')} in process {index}; start all with the same"
                    )

    def broadcast(self, tree: Any) -> Any:
        """Return process 0's arrays, of the same shapes and types in all, bit for bit."""
        if self.count == 1:
            return tree
        own = jax.tree.map(np.asarray, tree)
        # As bytes: an all-reduce with the others' zeros turns -0.0 into 0.0, and 64 bits into 32.
        raw = jax.tree.map(lambda array: np.frombuffer(array.tobytes(), np.uint8), own)
        return jax.tree.map(
            lambda like, told: np.frombuffer(told.tobytes(), like.dtype).reshape(like.shape).copy(),
            own,
            broadcast_one_to_all(raw),
        )

    def _gather(self, value: Any) -> list[Any]:
        """Return the values of all processes."""
        if self.count == 1:
            return [value]
        text = json.dumps(value).encode()
        blocks = -(-int(process_allgather(np.int32(len(text))).max()) // BLOCK)
        said = process_allgather(np.frombuffer(text.ljust(blocks * BLOCK), np.uint8))
        return [json.loads(one.tobytes()) for one in said]


@contextmanager
def joined(coordinator: str | None, index: int | None, count: int | None) -> Iterator[Hosts]:
    """Join the other processes of the run before jax is used, and shut down together.

    Args:
      coordinator: HOST:PORT of process 0, or `AUTO` without the others; None for one process.
      index: number of this process, from 0.
      count: number of processes.

    Raises:
      UserError: the processes did not all join, or one of them ended.
    """
    if coordinator is None:
        yield Hosts()
        return
    _initialize(coordinator, index, count)
    hosts = Hosts(jax.process_index(), jax.process_count())
    try:
        if len(set(Counter(device.process_index for device in jax.devices()).values())) > 1:
            raise UserError("the processes differ in their number of devices; make it the same")
        yield hosts
        jax.distributed.shutdown()
    except jax.errors.JaxRuntimeError as error:
        atexit.register(os._exit, 2)  # jax's own exit waits for processes that may have ended
        raise UserError(
            f"process {hosts.index} of {hosts.count}: {_line(error)}; another process probably "
            "ended: see its error, then start all again with --resume"
        ) from None
    except Exception as error:
        atexit.register(os._exit, 2 if isinstance(error, UserError) else 1)
        # Processes with the same error reach the shutdown at once; a longer wait gains nothing.
        (farewell := threading.Thread(target=jax.distributed.shutdown, daemon=True)).start()
        farewell.join(FAREWELL)
        raise
    except KeyboardInterrupt:
        atexit.register(os._exit, 130)
        raise


def _initialize(coordinator: str, index: int | None, count: int | None) -> None:
    """Initialise `jax.distributed`; exit with status 2 if the processes do not meet in time."""
    auto = coordinator == AUTO
    limit = START_AUTO if auto else START

    def give_up() -> None:  # before jax does, which aborts with a stack trace
        line = f"--coordinator {coordinator}: the processes did not meet in {limit:g} s; {MEND}"
        os.write(2, f"rdpjax: error: {line}\n".encode())
        os._exit(2)

    (watchdog := threading.Timer(limit, give_up)).start()
    try:
        if index == 0:  # some versions of jax crash if the port is in use
            socket.create_server(("", int(coordinator.rpartition(":")[2]))).close()
        jax.config.update("jax_enable_preemption_service", False)  # it would swallow SIGTERM
        jax.distributed.initialize(
            None if auto else coordinator,
            count,
            index,
            cluster_detection_method=None if auto else "deactivate",
            initialization_timeout=round(2 * limit),
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=FINISH,
        )
    except Exception as error:
        raise UserError(f"--coordinator {coordinator}: cannot start: {_line(error)}") from None
    finally:
        watchdog.cancel()
    sys.stdout.flush()  # Gloo writes to standard output, which is reserved for the summary
    sys.stdout = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _line(error: BaseException) -> str:
    text = str(error).partition("\n")[0]
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
