"""Exact Poisson sampling in O(batch) time, by geometric skips.

Including every record independently with probability q is the same as stepping through the records
by independent geometric gaps. The binary digits of a geometric number are independent, since (1 -
q)**k is a product over the digits of k: digit j is 1 with probability (1 - q)**(2**j) / (1 + (1 -
q)**(2**j)). So a gap takes one comparison of random bits per digit, in integers throughout: float32
uniforms, whose grid is 2**-23, are too coarse for small q.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Int32, UInt32

from rdpjax.arrays import AnyArray
from rdpjax.dpsgd.keys import as_key

WORDS = 4
"""Words of 32 bits in a digit's probability."""

MOST = 2**13
"""Maximum gaps per round, so that memory does not grow with the batch."""

MOST_RECORDS = 2**31 - 2


class Draw(NamedTuple):
    """One round of a Poisson draw: part of a step's sampled records, in ascending order.

    Attributes:
      indices: indices of the sampled records, ascending; padded with the number of records.
      drawn: number of records sampled in this round.
      following: the first record not yet decided; the number of records once all are.
    """

    indices: Int32[Array, " capacity"]
    drawn: Int32[Array, ""]
    following: UInt32[Array, ""]


def capacity(records: int, threshold: int) -> int:
    """Return the gaps per round: almost always enough for a whole step, at most `MOST`."""
    mean = records * threshold / 2**32
    return min(records, MOST, math.ceil(mean + 8 * math.sqrt(mean) + 8))


def draw(
    key: UInt32[AnyArray, "2"],
    records: int,
    threshold: int,
    following: UInt32[ArrayLike, ""] | int = 0,
    turn: Int32[ArrayLike, ""] | int = 0,
) -> Draw:
    """Sample one round: decide on records from `following` on, as far as its gaps reach.

    Args:
      key: raw ThreeFry key of this step's sampling.
      records: number of records, from 1 to `MOST_RECORDS`.
      threshold: q * 2**32, an integer in [1, 2**32].
      following: where the previous round ended; 0 at first.
      turn: index of this round within the step, folded into the key.

    Guarantees:
      Rounds from 0 until `following == records` decide on every record: each is drawn with
      probability threshold / 2**32, independently of the others and of every record's content.
      `threshold == 2**32` draws all. Nothing is skipped, retried or truncated, and an empty draw is
      a valid outcome. Digits' probabilities are rounded down to multiples of 2**-128 and digits
      that are rarer than that left out, so that the law of a gap is within 2**-121 of the exact one
      in total variation distance: over 2**40 gaps, more than any run draws, that is less than
      2**-81, below the float64 rounding of a delta of 1e-5.

    Examples:
      >>> import jax.numpy as jnp
      >>> drawn = draw(jnp.array([0, 1], jnp.uint32), 5, 2**32)
      >>> drawn.indices.tolist(), int(drawn.drawn), int(drawn.following)
      ([0, 1, 2, 3, 4], 5, 5)
    """
    size = capacity(records, threshold)
    gaps = _gaps(jax.random.fold_in(as_key(key), turn), size, threshold, records)
    # Both are below 2**31, so that their sum does not wrap around.
    places = jnp.minimum(jnp.uint32(following) + _walked(gaps + 1) - 1, jnp.uint32(records))
    return Draw(
        indices=places.astype(jnp.int32),
        drawn=(places < records).sum(dtype=jnp.int32),
        following=jnp.minimum(places[-1] + 1, jnp.uint32(records)),
    )


@lru_cache(maxsize=64)
def digit_probabilities(threshold: int) -> UInt32[np.ndarray, "digits 4"]:
    """Return the probability of each digit of a gap, uint32 [digits, WORDS], high word first.

    Rounded down to 128 bits; digits less likely than 2**-128 are left out.
    """
    scale = 512  # bits of the fixed-point numbers; squaring 40 times costs 40 of them
    staying = ((2**32 - threshold) << scale) >> 32
    digits = []
    while (chance := (staying << (32 * WORDS)) // ((1 << scale) + staying)) > 0:
        digits.append([(chance >> 32 * (WORDS - 1 - word)) & (2**32 - 1) for word in range(WORDS)])
        staying = (staying * staying) >> scale
    return np.array(digits, np.uint32).reshape(-1, WORDS)


def _walked(steps: UInt32[Array, " count"]) -> UInt32[Array, " count"]:
    """Compute running sums of integers up to 2**31 - 1, saturating at 2**31 - 1."""
    low, high = _running(steps & 0xFFFF), _running(steps >> 16)  # MOST of these stay below 2**32
    high += low >> 16
    return jnp.where(high < 2**15, (high << 16) | (low & 0xFFFF), jnp.uint32(2**31 - 1))


def _running(numbers: UInt32[Array, " count"]) -> UInt32[Array, " count"]:
    """Compute running sums in a few large operations, where a scan takes many small ones."""
    count = numbers.shape[0]
    side = math.isqrt(count - 1) + 1
    square = jnp.pad(numbers, (0, side * side - count)).reshape(side, side)
    earlier = jnp.asarray(np.tri(side, dtype=np.uint32))
    within = (square[:, None, :] * earlier[None]).sum(axis=2, dtype=jnp.uint32)
    before = ((earlier - np.eye(side, dtype=np.uint32)) * within[None, :, -1]).sum(
        axis=1, dtype=jnp.uint32
    )
    return (within + before[:, None]).reshape(-1)[:count]


def _gaps(key: jax.Array, count: int, threshold: int, most: int) -> UInt32[Array, " count"]:
    """Sample independent geometric gaps: records skipped before the next one, up to `most`."""
    chances = digit_probabilities(threshold)
    digits = len(chances)
    if digits == 0:
        return jnp.zeros(count, jnp.uint32)

    def compare(word: int, less: jax.Array, tied: jax.Array) -> tuple[jax.Array, jax.Array]:
        bits = jax.random.bits(jax.random.fold_in(key, word), (digits, count), jnp.uint32)
        # Without the barrier XLA recomputes the bits for each comparison.
        bits = jax.lax.optimization_barrier(bits)
        against = jnp.asarray(chances[:, word : word + 1])
        return less | (tied & (bits < against)), tied & (bits == against)

    def decide(less: jax.Array, tied: jax.Array) -> jax.Array:
        for word in range(1, WORDS):
            less, tied = compare(word, less, tied)
        return less

    nothing = jnp.zeros((digits, count), bool)
    less, tied = compare(0, nothing, ~nothing)
    # 32 bits decide all but one comparison in 2**32; the other words are drawn only on a tie.
    ones = jax.lax.cond(tied.any(), decide, lambda less, tied: less, less, tied)
    low = min(digits, 31)
    weights = jnp.asarray(2 ** np.arange(low, dtype=np.uint32))[:, None]
    gap = jnp.where(ones[:low], weights, 0).sum(axis=0, dtype=jnp.uint32)
    far = ones[low:].any(axis=0)
    return jnp.where(far, jnp.uint32(most), jnp.minimum(gap, jnp.uint32(most)))
