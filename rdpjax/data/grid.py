"""The grid on which records are summed: exactly, whoever the others are and in any order."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

Amounts = TypeVar("Amounts", float, np.ndarray)

GRID = 2.0**-16
"""What a record adds to a measured vector is a whole multiple of this.

The noise is discrete on a grid that this one is a multiple of: on a finer one than the noise's, the
last digits of a noisy sum would be those of the exact one.
"""


def on_grid(amounts: Amounts) -> Amounts:
    """Rounded towards zero to multiples of `GRID`: no norm grows.

    Float64 holds sums of such numbers exactly up to 2^37 of either sign, so that vectors of
    neighbours differ by exactly what one record adds, whoever the others are and in any order.

    Examples:
      >>> (on_grid(np.array([0.5, -0.1])) * 2**16).tolist()
      [32768.0, -6553.0]
    """
    rounded: Amounts = np.trunc(amounts / GRID) * GRID
    return rounded
