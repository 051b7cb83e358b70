"""Poisson sampling that is Poisson, under static shapes.

Every record is drawn independently with probability exactly q = threshold / 2**32: an integer
comparison of 32 random bits, never a float32 uniform (whose grid of 2**-23 is too coarse).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, UInt32

from rdpjax.dpsgd.keys import as_key


def inclusion(key: UInt32[Array, "2"], records: int, threshold: int) -> Bool[Array, " records"]:
    """Which of `records` records are drawn.

    Args:
      key: raw ThreeFry key of this step's sampling.
      records: how many records there are; 0 gives an empty mask.
      threshold: q * 2**32, a whole number in [1, 2**32].

    Guarantees:
      Each record is included with probability threshold / 2**32, independently of the others
      and of every record's content. `threshold == 2**32` includes all. An empty draw is a draw:
      nothing is skipped, retried or truncated.

    Examples:
      >>> import jax.numpy as jnp
      >>> bool(inclusion(jnp.array([0, 1], jnp.uint32), 5, 2**32).all())
      True
    """
    bits = jax.random.bits(as_key(key), (records,), jnp.uint32)
    drawn: jax.Array = bits <= jnp.uint32(threshold - 1)
    return drawn


def drawn_first(mask: Bool[Array, " n"]) -> tuple[Int[Array, " n"], Int[Array, ""]]:
    """Indices of the drawn records in order, padded with n, and how many they are.

    The count is dynamic, the shape is not: a loop over microbatches of the first `count` indices
    does work in proportion to the draw and never truncates it.
    """
    (indices,) = jnp.nonzero(mask, size=mask.shape[0], fill_value=mask.shape[0])
    return indices, mask.sum(dtype=jnp.int32)
