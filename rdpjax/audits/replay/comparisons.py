"""Comparisons of a measured number with its bound."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np


@dataclass(frozen=True)
class Comparison:
    """A measured number that must not exceed a bound.

    Attributes:
      what: the quantity.
      where: the measurement, the stage, or a word for several.
      bound: largest allowed value; 0 where bits must be equal.
      measured: largest measured value.
      over: number of measurements.

    Examples:
      >>> Comparison("clipped sum, moved by one record", "vae", 10.0, 9.99, 12).holds
      True
      >>> Comparison("state, numbers that differ", "vae", 0.0, float("nan"), 1).holds
      False
    """

    what: str
    where: str
    bound: float
    measured: float
    over: int = 1

    @property
    def holds(self) -> bool:
        return bool(self.measured <= self.bound)

    @property
    def verdict(self) -> str:
        return "holds" if self.holds else "BROKEN"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; numbers that are not finite become words."""
        measured: float | str = float(self.measured)
        if not np.isfinite(self.measured):
            measured = str(measured)
        return dataclasses.asdict(self) | {"measured": measured, "holds": self.holds}


def as_table(comparisons: Sequence[Comparison]) -> str:
    """Format the comparisons as a table, one line each.

    Examples:
      >>> print(as_table([Comparison("clipped sum", "vae", 1.0, 0.5, 12)]))
      comparison   where  times  bound  measured  verdict
      clipped sum  vae       12  1      0.5       holds
    """
    rows = [("comparison", "where", "times", "bound", "measured", "verdict")]
    for each in comparisons:
        bound = "bit for bit" if each.bound == 0 else f"{each.bound:.6g}"
        shown = f"{each.measured:.6g}"
        rows.append((each.what, each.where, str(each.over), bound, shown, each.verdict))
    widths = [max(len(row[i]) for row in rows) for i in range(6)]
    lines = []
    for row in rows:
        cells = [
            c.rjust(w) if i == 2 else c.ljust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def differing(a: Any, b: Any) -> int:
    """Count the numbers of two trees of arrays that differ in a bit.

    Trees of different structure or shapes count as different in all numbers.

    Examples:
      >>> differing([np.zeros(3), 1.0], [np.array([0.0, -0.0, 1.0]), 1.0])
      2
      >>> differing({"x": np.array([np.nan])}, {"x": np.array([np.nan])})
      0
      >>> differing([np.zeros(3)], [np.zeros(4)])
      4
    """
    first, second = ([np.asarray(leaf) for leaf in jax.tree.leaves(tree)] for tree in (a, b))
    if [(x.shape, x.dtype) for x in first] != [(x.shape, x.dtype) for x in second]:
        return max(1, *(sum(x.size for x in tree) for tree in (first, second)))
    return sum(
        int((_bytes(x) != _bytes(y)).any(axis=-1).sum()) for x, y in zip(first, second, strict=True)
    )


def _bytes(array: np.ndarray) -> np.ndarray:
    """View an array as uint8 `[numbers, bytes of each]`."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).reshape(flat.size, flat.dtype.itemsize)


def broken(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """Return the comparisons whose bound was exceeded."""
    return [each for each in comparisons if not each.holds]
