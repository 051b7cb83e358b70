"""Discrete Gaussian noise: integers, of exactly the claimed distribution.

Floating-point noise takes a finite number of values, and which of them a sum plus noise can reach
reveals the sum's last digits (Mironov 2012). Integers have no such leak: sum and noise are added
without rounding. The sampler is that of Canonne, Kamath, Steinke 2020 (arXiv 2004.00010): rejection
from a discrete Laplace distribution, with Bernoulli coins of probability exp(-x). Coins are decided
in floating point, and in exact arithmetic where that cannot decide.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]
Reals = NDArray[np.float64]

MOST_SCALE = 2**40

_DOUBT = 2.0**-40
"""Coins whose uniform number is nearer to their probability than this are decided in exact
arithmetic. Floating-point errors are below 2**-48: the rate's relative error is 2**-51, and x
exp(-x) is at most 0.37."""


class Bits:
    """Uniform 64-bit words, a deterministic function of a secret key: SHAKE-256 in blocks.

    Args:
      key: 32 secret bytes, used for one stream only.

    Examples:
      >>> Bits(bytes(32)).words(2).tolist() == Bits(bytes(32)).words(2).tolist()
      True
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < 16:
            raise ValueError("a key has 16 bytes or more")
        self._key = key
        self._block = 0

    def words(self, count: int) -> NDArray[np.uint64]:
        """Return the next `count` words, uint64 [count]."""
        block = self._key + self._block.to_bytes(8, "little")
        self._block += 1
        return np.frombuffer(hashlib.shake_256(block).digest(8 * count), "<u8")


def discrete_gaussian(bits: Bits, count: int, scale: int) -> Whole:
    """Sample independent integers x with probability proportional to exp(-x**2 / (2 scale**2)).

    Args:
      bits: source of the randomness; nothing else may draw from it.
      count: number of samples.
      scale: an integer from 1 to `MOST_SCALE`; the standard deviation is about as large.

    Guarantees:
      Exactly this distribution, as far as the bits are uniform: no tail is cut, no probability
      rounded. A count of 0 gives no numbers.

    Examples:
      >>> discrete_gaussian(Bits(bytes(32)), 0, 3).tolist()
      []
      >>> float(abs(discrete_gaussian(Bits(bytes(32)), 10_000, 8).std() - 8).round(0))
      0.0
    """
    if not 1 <= scale <= MOST_SCALE:
        raise ValueError(f"scale is {scale}; it must lie between 1 and {MOST_SCALE}")
    parts, missing = [np.zeros(0, np.int64)], count
    while missing:
        x = _discrete_laplace(bits, missing + missing // 2 + 8, scale)
        far = np.abs(x) - scale

        def exact(i: int, far: Whole = far) -> Fraction:
            return Fraction(int(far[i]) ** 2, 2 * scale**2)

        parts.append(x[_heads(bits, (far / scale) ** 2 / 2, exact)][:missing])
        missing -= len(parts[-1])
    return np.concatenate(parts)


def _discrete_laplace(bits: Bits, count: int, scale: int) -> Whole:
    """Sample about `count` integers x with probability proportional to exp(-|x| / scale)."""
    low = _below(bits, 2 * count, scale)
    low = low[_heads(bits, low / scale, lambda i: Fraction(int(low[i]), scale))]
    high, going = np.zeros(len(low), np.int64), np.arange(len(low))
    while len(going):
        going = going[_heads(bits, np.ones(len(going)), lambda i: Fraction(1))]
        high[going] += 1
    x = low + scale * high
    negative = bits.words(len(x)) >> np.uint64(63) == 1
    once = ~(negative & (x == 0))  # reject -0, else 0 has twice its probability
    signed: Whole = np.where(negative, -x, x)[once]
    return signed


def _below(bits: Bits, count: int, bound: int) -> Whole:
    """Sample at most `count` uniform integers from 0 to bound - 1, by rejection."""
    shift = 64 - max(1, (bound - 1).bit_length())
    drawn: Whole = (bits.words(count) >> np.uint64(shift)).astype(np.int64)
    return drawn[drawn < bound]


def _heads(bits: Bits, rates: Reals, exact: Callable[[int], Fraction]) -> NDArray[np.bool_]:
    """Toss independent coins, the i-th of which shows heads with probability exp(-rates[i]).

    Args:
      bits: the randomness.
      rates: the rates, rounded to float64.
      exact: `exact(i)`, the i-th rate as an exact fraction.
    """
    words = bits.words(len(rates))
    uniform, chances = words * 2.0**-64, np.exp(-rates)
    heads: NDArray[np.bool_] = uniform < chances
    for i in np.flatnonzero(np.abs(uniform - chances) <= _DOUBT):
        heads[i] = _exactly(bits, int(words[i]), exact(int(i)))
    return heads


def _exactly(bits: Bits, word: int, rate: Fraction) -> bool:
    """Decide whether the number 0.word..., whose digits go on in `bits`, is below exp(-rate)."""
    digits = 64
    while True:
        low, high = _exp_between(rate, digits)
        if word < low or rate == 0:
            return True
        if word > high:
            return False
        word, digits = (word << 64) | int(bits.words(1)[0]), digits + 64


def _exp_between(rate: Fraction, digits: int) -> tuple[int, int]:
    """Bound exp(-rate) 2**digits: the integer parts of numbers just below and just above it."""
    context = Context(prec=digits // 3 + 40)  # what it rounds away is below 1e-20
    power = context.exp(context.divide(Decimal(-rate.numerator), Decimal(rate.denominator)))
    value, slack = context.multiply(power, Decimal(2**digits)), Decimal("1e-9")
    return math.floor(context.subtract(value, slack)), math.floor(context.add(value, slack))
