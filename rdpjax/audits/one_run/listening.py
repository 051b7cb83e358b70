"""Progress callback of an audited run: bars on stderr, and sums of the canaries' inner products."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress, TaskID


class Listener:
    """Progress callback that sums the metric `inner` over the steps.

    Attributes:
      inner: by stage, float64 `[canaries]`.

    Args:
      steps: number of steps of every stage, by name.
      quiet: no bars.
    """

    def __init__(self, steps: Mapping[str, int], quiet: bool) -> None:
        self.inner: dict[str, np.ndarray] = {}
        self._bars = Progress(console=Console(stderr=True), disable=quiet)
        self._tasks: dict[str, TaskID] = {
            name: self._bars.add_task(name, total=total) for name, total in steps.items()
        }

    def __enter__(self) -> Listener:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def say(self, text: str) -> None: ...

    def stage(self, name: str, steps: int) -> None: ...

    def advance(self, name: str, done: int, epsilon: float, metrics: Mapping[str, Any]) -> None:
        if "inner" in metrics:
            summed = np.asarray(metrics["inner"], np.float64).sum(axis=0)
            self.inner[name] = self.inner.get(name, 0.0) + summed
            self._bars.update(self._tasks[name], completed=done)
