"""Clipped gradients as whole numbers, for noise of exactly the claimed law (`--hardened`).

A sum of floating-point gradients depends on their order, and noise on floating-point numbers does
not reach all of them: both can tell more than the Gaussian law says. Here every example's clipped
gradient is rounded to whole steps of a lattice, sums are sums of integers, and noise is a discrete
Gaussian on the same lattice.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Int32, Shaped

from rdpjax.dpsgd.clipping import ClippedSum, Examples, Loss, Params, blank, clip, zero_sum
from rdpjax.dpsgd.discrete import Bits, discrete_gaussian
from rdpjax.dpsgd.keys import Roots, stream_key

UNITS = 2**15
"""Steps of the lattice in one clip norm: a gradient's squares then stay below 2**31."""

_BLOCK = 2**14
"""Squares whose halves are added at once, so that neither sum passes 2**32."""

_FLOAT_BLOCK = 256


def lattice_sum(
    loss: Loss,
    params: Params,
    examples: Examples,
    valid: Bool[Array, " batch"],
    keys: Shaped[Array, " batch"],
    clip_norm: float,
) -> ClippedSum:
    """As `rdpjax.dpsgd.clipping.clipped_sum`, in whole steps of clip_norm / `UNITS`.

    Returns:
      The sum; its `gradient` is int32.

    Guarantees:
      Each example contributes a vector of integers of L2 norm at most `UNITS`, checked in integer
      arithmetic after rounding: no rounding of a norm, a factor or a product can carry it further.
      The sum is exact modulo 2**32, in any order and on any number of devices; to wrap around is a
      function of the exact sum plus noise, which wrap around alike. Examples are taken one by one
      through the same loop body, so that an example's integers do not depend on the row it stands
      in: in a batch at once, a compiler may round the last rows in another way than the first. For
      the rest the table of `clipped_sum` holds; what is not finite, or still too long once cut to
      whole steps, counts as zero.

    References:
      Kairouz, Liu, Steinke 2021, arXiv 2102.06387.
    """

    def add(row: jax.Array, part: ClippedSum) -> ClippedSum:
        example, counts, key = jax.tree.map(
            lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, row, 1), (examples, valid, keys)
        )
        more = _whole(loss, params, example, counts, key, clip_norm)
        both: ClippedSum = jax.tree.map(jnp.add, part, more)
        return both

    if valid.shape[0] == 0:
        return zero_sum(params, jnp.int32)
    examples, valid = jax.tree.map(jnp.asarray, (examples, valid))
    summed: ClippedSum = jax.lax.fori_loop(0, len(valid), add, zero_sum(params, jnp.int32))
    return summed


def _whole(
    loss: Loss, params: Params, example: Examples, valid: jax.Array, key: jax.Array, bound: float
) -> ClippedSum:
    """What one example, with a batch axis of 1, adds to the sum."""
    gradients, factors, sound, losses = clip(loss, params, example, valid, key, bound)
    whole = rounded(jax.tree.map(lambda leaf: leaf / bound * UNITS, gradients))
    return ClippedSum(
        gradient=jax.tree.map(lambda leaf: leaf[0], whole),
        loss=jnp.where(sound, losses, 0)[0],
        clipped=(sound & (factors < 1)).astype(jnp.float32)[0],
    )


def rounded(gradients: Params) -> Params:
    """Rows of numbers, in steps, as whole numbers of norm at most `UNITS`: int32 leaves.

    Rounded to the nearest; where that makes a row too long, towards zero, which makes no number
    larger; where even that is too long (the row was), zeros.
    """
    # Nothing that float32 could hand over becomes an integer by chance: first into range.
    inside = jax.tree.map(lambda x: jnp.clip(jnp.nan_to_num(x), -UNITS, UNITS), gradients)
    nearest = jax.tree.map(lambda x: jnp.rint(x).astype(jnp.int32), inside)

    # A compiler may compute numbers twice, in two loops that round in two ways (a barrier does not
    # keep it from that). What a loop carries it cannot: what is measured here is what is returned.
    def unfit(carry: tuple[jax.Array, Params]) -> jax.Array:
        _, whole = carry
        # Nearly always floating point is sure that all rows are short, and quicker to say so.
        found: jax.Array = jax.lax.cond(
            surely_short(whole).all(),
            lambda _: jnp.array(False),
            lambda w: too_long(w).any(),
            whole,
        )
        return found

    def shortened(carry: tuple[jax.Array, Params]) -> tuple[jax.Array, Params]:
        turn, whole = carry
        near = too_long(whole)
        cut = blank(near & (turn == 0), jax.tree.map(lambda x: x.astype(jnp.int32), inside))
        return turn + 1, jax.tree.map(jnp.add, blank(~near, whole), cut)

    _, whole = jax.lax.while_loop(unfit, shortened, (jnp.int32(0), nearest))
    return whole


def surely_short(whole: Params) -> Bool[Array, " batch"]:
    """Whether the L2 norm of a row is at most `UNITS` whatever float32 has rounded away."""
    total, roundings = jnp.zeros(()), 2
    for leaf in filter(jnp.size, jax.tree.leaves(whole)):
        numbers = leaf.reshape(leaf.shape[0], -1).astype(jnp.float32)  # exact: below 2**24
        block = min(_FLOAT_BLOCK, numbers.shape[1])
        numbers = jnp.pad(numbers, ((0, 0), (0, -numbers.shape[1] % block)))
        squares = jnp.square(numbers).reshape(len(leaf), -1, block)
        # A sum of n squares, in any order, is off by n roundings of 2**-24 of it at most.
        sums = jnp.matmul(squares, jnp.ones(block), precision=jax.lax.Precision.HIGHEST)
        total = total + sums.sum(axis=1)
        roundings += block + sums.shape[1]
    return total * (1 + (roundings + len(jax.tree.leaves(whole))) * 2.0**-23) <= UNITS**2


def too_long(whole: Params) -> Bool[Array, " batch"]:
    """Whether the L2 norm of a row is above `UNITS`, exactly; numbers lie within +-`UNITS`."""
    high = low = jnp.zeros((), jnp.uint32)
    for leaf in filter(jnp.size, jax.tree.leaves(whole)):
        numbers = leaf.reshape(leaf.shape[0], -1)
        block = min(_BLOCK, numbers.shape[1])
        numbers = jnp.pad(numbers, ((0, 0), (0, -numbers.shape[1] % block)))
        squares = jnp.square(numbers).astype(jnp.uint32).reshape(len(leaf), -1, block)
        parts = (squares >> 16).sum(axis=2, dtype=jnp.uint32)
        rest = (squares & 0xFFFF).sum(axis=2, dtype=jnp.uint32)
        # A block above the bound stays above it at 2**15; fewer than 2**16 blocks cannot overflow.
        high = high + jnp.minimum(parts + (rest >> 16), 2**15).sum(axis=1, dtype=jnp.uint32)
        low = low + (rest & 0xFFFF).sum(axis=1, dtype=jnp.uint32)
    high, low = high + (low >> 16), low & 0xFFFF
    most = UNITS**2 >> 16
    above: jax.Array = (high > most) | ((high == most) & (low > 0))
    return above


def lattice_noise(
    roots: Roots, stage: str, start: int, steps: int, numbers: int, noise_multiplier: float
) -> np.ndarray:
    """Noise of steps `start` to `start + steps` of a stage, int32 `[steps, numbers]`.

    Guarantees:
      Independent discrete Gaussian numbers of parameter `noise_multiplier` times `UNITS`, rounded
      up, from 256-bit keys of their own for each step; modulo 2**32. The same from the same root.
    """
    scale = math.ceil(noise_multiplier * UNITS)
    noise = np.empty((steps, numbers), np.int32)
    for i in range(steps):
        bits = Bits(stream_key(roots.noise, stage, "noise", start + i))
        noise[i] = discrete_gaussian(bits, numbers, scale).astype(np.int32)
    return noise


def add_lattice_noise(noise: Int32[Array, " numbers"], sums: Params, clip_norm: float) -> Params:
    """The noisy sum in the gradient's own units, float32; rounding to float32 comes last."""
    flat, unravel = ravel_pytree(sums)
    whole = unravel(flat + noise)
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32) * (clip_norm / UNITS), whole)
