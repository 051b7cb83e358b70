"""Search for the least noise that keeps a cost at or below its target."""

from __future__ import annotations

import math
from collections.abc import Callable

from rdpjax.errors import UserError

# Less noise gives no useful guarantee, more is numerically meaningless; both hint at a mistake.
SIGMA_LEAST, SIGMA_MOST = 0.05, 1e4


def smallest(
    cost: Callable[[float], float],
    target: float,
    *,
    start: float,
    least: float,
    most: float,
    tolerance: float,
    wanted: str,
) -> float:
    """Find the smallest noise in [least, most] that costs at most `target`, to 5e-7 of it.

    Stops earlier at a noise that costs more than `target - tolerance`. `cost` must never rise with
    the noise. Regula falsi (Illinois) on logarithms, kept off the ends of the bracket so that both
    ends move.

    Raises:
      UserError: The target, which `wanted` names, needs more than `most` or less than `least`.

    Examples:
      >>> x = smallest(lambda x: 1 / x, 0.5, start=1, least=0.1, most=9, tolerance=0, wanted="it")
      >>> 2 <= x < 2.00001
      True
    """

    def excess(x: float) -> float:
        """Return the logarithm of cost over target: positive is too little noise."""
        value = cost(x)
        if value <= target:
            return min(0.0, math.log(max(value, 1e-12) / max(target, 1e-12)))
        return max(1e-12, math.log(min(value, 1e12) / max(target, 1e-12)))

    near = math.log1p(-min(0.5, tolerance / target)) if target > 0 else 0.0
    low = high = min(max(start, least), most)
    at_low = at_high = excess(low)
    while at_high > 0:
        if high >= most:
            raise UserError(
                f"{wanted} cannot be reached: it needs a noise multiplier above {SIGMA_MOST:g}; "
                "raise epsilon, take fewer steps or a lower sampling rate"
            )
        low, at_low = high, at_high
        high = min(2 * high, most)
        at_high = excess(high)
    while at_low <= 0:
        if low <= least:
            raise UserError(
                f"{wanted} cannot be reached: even a noise multiplier of {SIGMA_LEAST:g} costs "
                "less; lower epsilon or take more steps"
            )
        high, at_high = low, at_low
        low = max(low / 2, least)
        at_low = excess(low)
    weight_low = weight_high = 1.0
    while high / low - 1 > 5e-7 and not at_high > near:
        a, b = weight_low * at_low, weight_high * at_high
        part = min(max(a / (a - b), 0.02), 0.98)
        middle = low * (high / low) ** part
        value = excess(middle)
        if value > 0:
            low, at_low, weight_low = middle, value, 1.0
            weight_high /= 2
        else:
            high, at_high, weight_high = middle, value, 1.0
            weight_low /= 2
    return high
