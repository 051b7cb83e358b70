"""Progress on a terminal: rate, epsilon spent so far, time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rich.console import Console


class Progress(Protocol):
    """Who hears of a run's progress; what it hears is internal."""

    def say(self, text: str) -> None: ...
    def stage(self, name: str, steps: int) -> None: ...
    def advance(self, name: str, done: int, epsilon: float, metrics: Mapping[str, Any]) -> None: ...


class Silence:
    """Hears nothing."""

    def say(self, text: str) -> None: ...
    def stage(self, name: str, steps: int) -> None: ...
    def advance(self, name: str, done: int, epsilon: float, metrics: Mapping[str, Any]) -> None: ...


class Lines:
    """One line a chunk on stderr: short, and the same in a log file as on a terminal.

    Args:
      steps: steps of every stage, in order, for the time left.
      keep: hears the metrics of each chunk (internal).
    """

    def __init__(
        self,
        steps: Mapping[str, int],
        keep: Callable[[str, int, Mapping[str, Any]], None],
        *,
        quiet: bool = False,
    ) -> None:
        self._console = Console(stderr=True, highlight=False, quiet=quiet)
        self._steps = dict(steps)
        self._keep = keep
        self._begun = time.monotonic()
        self._first = 0
        self._read = 0

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    def reading(self, done: int, total: int) -> None:
        """How much of a source is read: a bar on a terminal, a line each quarter elsewhere."""
        if self._console.is_terminal:
            filled = 40 * done // max(total, 1)
            end = "\r" if done < total else "\n"
            bar = f"  reading    [{'=' * filled}{' ' * (40 - filled)}] {done / max(total, 1):4.0%}"
            self._console.print(bar, markup=False, end=end)
        elif 4 * done // max(total, 1) > self._read:
            self._read = 4 * done // max(total, 1)
            self.say(f"  reading    {self._read / 4:4.0%}")

    def stage(self, name: str, steps: int) -> None:
        self._begun, self._first = time.monotonic(), -1

    def advance(self, name: str, done: int, epsilon: float, metrics: Mapping[str, Any]) -> None:
        count = len(next(iter(metrics.values()))) if metrics else 0
        if self._first < 0:
            self._first = done - count
        if metrics:
            self._keep(name, done - count, metrics)
        total = self._steps.get(name, 1)
        rate = (done - self._first) / max(time.monotonic() - self._begun, 1e-9)
        left = f", {(total - done) / rate:.0f} s left" if done < total else ""
        speed = f"  {rate:.1f} steps/s{left}" if metrics else ""
        self.say(f"  {name:<10} {done:>5}/{total} steps  epsilon so far {epsilon:.4f}{speed}")
