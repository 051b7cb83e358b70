"""What a contender is: it loads records, checks one clipped sum, and takes steps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from benchmarks.workloads import Records, Workload

CLIP_NORM = 1.0
NOISE_MULTIPLIER = 1.0
LEARNING_RATE = 1e-3

Setting = dict[str, Any]
"""How a contender computes: `microbatch` (None: all that a device has, at once), `devices`, ..."""


class Unable(Exception):
    """A contender cannot run a workload or a setting; the message says why."""


class Problem(NamedTuple):
    """One clipped sum, the same for every contender.

    Attributes:
      params: JAX parameters.
      examples: numpy arrays with a leading batch axis.
      keys: raw keys, one an example; `noise` is drawn from them.
      noise: (batch, workload.noise).
      clip_norm: C.
    """

    params: Any
    examples: Records
    keys: Any
    noise: np.ndarray
    clip_norm: float


class Work(NamedTuple):
    """What was done: steps, and the real examples that they saw."""

    steps: int
    examples: int


Running = Callable[[int], Work]
"""`running(steps)` takes about that many steps, whole programs of them, and waits for them."""


@dataclass(frozen=True)
class Contender:
    """One way to train.

    Attributes:
      name: as in the table.
      needs: packages that must be installed.
      rival: whose step without privacy it is compared with, "plain" or "pytorch".
      private: whether it clips and adds noise.
      settings: what to search, given a workload and a batch size.
      load: records on the contender's device.
      start: parameters, optimiser and programs for a batch size under a setting.
      clipped_sum: flat float64, in the order of the JAX leaves; None where nothing is clipped.
      holds: whether the gradients of all examples of a microbatch are in memory at once.
    """

    name: str
    needs: tuple[str, ...]
    rival: str
    private: bool
    settings: Callable[[Workload, int], list[Setting]]
    load: Callable[[Records], Any]
    start: Callable[[Workload, Any, int, Setting], Running]
    clipped_sum: Callable[[Workload, Problem], np.ndarray] | None = None
    holds: bool = False

    @property
    def missing(self) -> str | None:
        """The first package that isn't installed."""
        return next((name for name in self.needs if not _installed(name)), None)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def records_for(batch: int) -> int:
    """How many records there are to draw `batch` from: cardio's 56,000, or 4 batches."""
    return max(56_000, 4 * batch)


def microbatches(batch: int, sizes: Iterable[int]) -> list[int | None]:
    """The whole batch, and those sizes below it that divide it."""
    return [None, *(size for size in sizes if size < batch and batch % size == 0)]


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
