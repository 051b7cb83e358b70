"""Clipped gradients in integer units, for exact discrete Gaussian noise (`--hardened`).

A sum of floating-point gradients depends on their order, and floating-point noise cannot take every
value: both can reveal more than the analysis of the Gaussian mechanism allows. Here every example's
clipped gradient is rounded to integer units of a lattice, sums are sums of integers, and the noise
is a discrete Gaussian on the same lattice.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int32, PyTree, Shaped

from rdpjax.arrays import AnyArray
from rdpjax.dpsgd.clipping import ClippedSum, Examples, Loss, Params, blank, clip, zero_sum
from rdpjax.dpsgd.discrete import Bits, discrete_gaussian
from rdpjax.dpsgd.keys import Roots, stream_key

Units: TypeAlias = PyTree[Int32[AnyArray, "batch ..."]]

UNITS = 2**15
"""Integer units in one clip norm: a gradient's squares then sum to less than 2**31."""

_BLOCK = 2**14
"""Squares per block, added in 16-bit halves, so that neither sum exceeds 2**32."""

_FLOAT_BLOCK = 256


def lattice_sum(
    loss: Loss,
    params: Params,
    examples: Examples,
    valid: Bool[AnyArray, " batch"],
    keys: Shaped[Array, " batch"],
    clip_norm: float | Float[Array, ""],
) -> ClippedSum:
    """Compute `rdpjax.dpsgd.clipping.clipped_sum` in integer units of clip_norm / `UNITS`.

    Returns:
      The sum; its `gradient` is int32.

    Guarantees:
      Each example contributes a vector of integers of L2 norm at most `UNITS`, checked in integer
      arithmetic after rounding: no rounding of a norm, a factor or a product can carry it further.
      The sum is exact modulo 2**32, in any order and on any number of devices; reduction modulo
      2**32 commutes with adding the noise, so that wrapping around is post-processing of the exact
      sum plus noise. Examples are taken one by one through the same loop body, so that an example's
      integers do not depend on its row: in a batch at once, a compiler may round the last rows in
      another way than the first. For the rest the table of `clipped_sum` holds; a gradient that is
      not finite, or still too long once truncated to integers, counts as zero.

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
    loss: Loss,
    params: Params,
    example: Examples,
    valid: Bool[Array, "1"],
    key: Shaped[Array, "1"],
    bound: float | Float[Array, ""],
) -> ClippedSum:
    """Return one example's contribution to the sum; it comes with a batch axis of 1."""
    gradients, factors, sound, losses = clip(loss, params, example, valid, key, bound)
    whole = rounded(jax.tree.map(lambda leaf: leaf / bound * UNITS, gradients))
    return ClippedSum(
        gradient=jax.tree.map(lambda leaf: leaf[0], whole),
        loss=jnp.where(sound, losses, 0)[0],
        clipped=(sound & (factors < 1)).astype(jnp.float32)[0],
    )


def rounded(gradients: PyTree[Float[AnyArray, "batch ..."]]) -> Units:
    """Round rows of float integer units to int32, each row of L2 norm at most `UNITS`.

    Rounded to the nearest; where that makes a row too long, towards zero, which makes no magnitude
    larger; where even that is too long (the row was), to zeros.
    """
    # Clamp first: converting NaN or out-of-range floats to int32 is undefined.
    inside = jax.tree.map(lambda x: jnp.clip(jnp.nan_to_num(x), -UNITS, UNITS), gradients)
    nearest = jax.tree.map(lambda x: jnp.rint(x).astype(jnp.int32), inside)

    # XLA may compute a value twice, in two loops that round differently, and a barrier does not
    # prevent it. It cannot recompute a loop's carry: the values measured here are those returned.
    def unfit(carry: tuple[jax.Array, Units]) -> Bool[Array, ""]:
        _, whole = carry
        # Nearly always a float32 bound proves that all rows are short, at lower cost.
        found: jax.Array = jax.lax.cond(
            surely_short(whole).all(),
            lambda _: jnp.array(False),
            lambda w: too_long(w).any(),
            whole,
        )
        return found

    def shortened(carry: tuple[jax.Array, Units]) -> tuple[jax.Array, Units]:
        turn, whole = carry
        near = too_long(whole)
        cut = blank(near & (turn == 0), jax.tree.map(lambda x: x.astype(jnp.int32), inside))
        return turn + 1, jax.tree.map(jnp.add, blank(~near, whole), cut)

    _, whole = jax.lax.while_loop(unfit, shortened, (jnp.int32(0), nearest))
    return whole


def surely_short(whole: Units) -> Bool[Array, " batch"]:
    """Test whether a row's L2 norm is at most `UNITS` whatever float32 has rounded away."""
    total, roundings = jnp.zeros(()), 2
    for leaf in filter(jnp.size, jax.tree.leaves(whole)):
        numbers = leaf.reshape(leaf.shape[0], -1).astype(jnp.float32)  # exact: below 2**24
        block = min(_FLOAT_BLOCK, numbers.shape[1])
        numbers = jnp.pad(numbers, ((0, 0), (0, -numbers.shape[1] % block)))
        squares = jnp.square(numbers).reshape(len(leaf), -1, block)
        # A sum of n squares, in any order, has a relative error of at most n roundings of 2**-24.
        sums = jnp.matmul(squares, jnp.ones(block), precision=jax.lax.Precision.HIGHEST)
        total = total + sums.sum(axis=1)
        roundings += block + sums.shape[1]
    return total * (1 + (roundings + len(jax.tree.leaves(whole))) * 2.0**-23) <= UNITS**2


def too_long(whole: Units) -> Bool[Array, " batch"]:
    """Test exactly whether a row's L2 norm is above `UNITS`; numbers lie within +-`UNITS`."""
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
) -> Int32[np.ndarray, "{steps} {numbers}"]:
    """Sample the noise of steps `start` to `start + steps` of a stage, int32 `[steps, numbers]`.

    Guarantees:
      Independent discrete Gaussian numbers of parameter `noise_multiplier` times `UNITS`, rounded
      up, from a separate 256-bit key for each step; modulo 2**32. The same from the same root.
    """
    scale = math.ceil(noise_multiplier * UNITS)
    noise = np.empty((steps, numbers), np.int32)
    for i in range(steps):
        bits = Bits(stream_key(roots.noise, stage, "noise", start + i))
        noise[i] = discrete_gaussian(bits, numbers, scale).astype(np.int32)
    return noise


def add_lattice_noise(
    noise: Int32[AnyArray, " numbers"], sums: PyTree[Int32[AnyArray, "..."]], clip_norm: float
) -> Params:
    """Return the noisy sum in the gradient's units, float32; rounding to float32 comes last."""
    flat, unravel = ravel_pytree(sums)
    whole = unravel(flat + noise)
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32) * (clip_norm / UNITS), whole)
