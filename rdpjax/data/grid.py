"""Fixed-point grid on which float64 sums are exact and order-independent."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

Amounts = TypeVar("Amounts", float, np.ndarray)

GRID = 2.0**-16
"""Unit of every contribution: what a record adds to a measured vector is a whole multiple of it.

The noise's lattice divides this grid, so that sum plus noise is a point of the lattice. On a grid
finer than the noise, the low-order digits of a noisy sum would be those of the exact sum.
"""


def on_grid(amounts: Amounts) -> Amounts:
    """Round towards zero to multiples of `GRID`, so that no norm grows.

    Float64 sums of such numbers are exact up to 2^37 of either sign, so the vectors of neighbouring
    tables differ by exactly what one record adds, independently of the other records and of order.

    Examples:
      >>> (on_grid(np.array([0.5, -0.1])) * 2**16).tolist()
      [32768.0, -6553.0]
    """
    rounded: Amounts = np.trunc(amounts / GRID) * GRID
    return rounded
