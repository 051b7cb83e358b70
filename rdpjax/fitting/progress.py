"""Progress on a terminal: rate, epsilon spent so far, time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rich.console import Console


class Progress(Protocol):
    """Progress callback. Metrics are not DP; never release them."""

    def say(self, text: str) -> None: ...
    def stage(self, name: str, steps: int) -> None: ...
    def advance(self, name: str, done: int, epsilon: float, metrics: Mapping[str, Any]) -> None: ...


class NoProgress:
    """Ignore all progress."""

    def say(self, text: str) -> None: ...
    def stage(self, name: str, steps: int) -> None: ...
    def advance(self, name: str, done: int, epsilon: float, metrics: Mapping[str, Any]) -> None: ...


class ConsoleProgress:
    """Print one line a chunk on stderr, of the same format in a log file as on a terminal.

    The first chunk of a stage is left out of its rate, since it includes the compilation.

    Args:
      steps: steps of every stage, in order, for the time left.
      keep: called with stage, first step and the metrics of each chunk (internal, not DP).
      quiet: print nothing.
    """

    def __init__(
        self,
        steps: Mapping[str, int],
        keep: Callable[[str, int, Mapping[str, Any]], None] | None = None,
        *,
        quiet: bool = False,
    ) -> None:
        self._console = Console(stderr=True, highlight=False, quiet=quiet)
        self._steps = dict(steps)
        self._keep = keep
        self._since: tuple[float, int] | None = None  # (time, step) at the end of the first chunk
        self._read = 0

    def say(self, text: str) -> None:
        """Print one line."""
        self._console.print(text, markup=False)

    def reading(self, done: int, total: int) -> None:
        """Show how much of a source is read: a bar on a terminal, a line each quarter elsewhere."""
        if self._console.is_terminal:
            filled = 40 * done // max(total, 1)
            end = "\r" if done < total else "\n"
            bar = f"  reading    [{'=' * filled}{' ' * (40 - filled)}] {done / max(total, 1):4.0%}"
            self._console.print(bar, markup=False, end=end)
        elif 4 * done // max(total, 1) > self._read:
            self._read = 4 * done // max(total, 1)
            self.say(f"  reading    {self._read / 4:4.0%}")

    def stage(self, name: str, steps: int) -> None:
        """Begin a stage."""
        self._since = None

    def advance(self, name: str, done: int, epsilon: float, metrics: Mapping[str, Any]) -> None:
        """Print a chunk's line, and pass its metrics to `keep`."""
        count = len(next(iter(metrics.values()))) if metrics else 0
        if metrics and self._keep is not None:
            self._keep(name, done - count, metrics)
        total, now, speed = self._steps.get(name, 1), time.monotonic(), ""
        if self._since is None:
            self._since = now, done
        elif done > self._since[1]:
            rate = (done - self._since[1]) / max(now - self._since[0], 1e-9)
            left = f", {(total - done) / rate:.0f} s left" if done < total else ""
            speed = f"  {rate:.1f} steps/s{left}"
        self.say(f"  {name:<10} {done:>5}/{total} steps  epsilon so far {epsilon:.4f}{speed}")


def fit_progress(steps: Mapping[str, int], *, quiet: bool = False) -> Progress:
    """Return a Python fit's default progress: lines if stderr is a terminal, else none."""
    return NoProgress() if quiet or not sys.stderr.isatty() else ConsoleProgress(steps)
