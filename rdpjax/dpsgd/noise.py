"""Gaussian noise, drawn once and in float32."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, UInt32

from rdpjax.dpsgd.threefry import normals

MOST_NUMBERS = 2**32
"""Normals that one key gives before they repeat."""


def add_gaussian(
    key: UInt32[Array, "2"],
    tree: Any,
    deviation: float | jax.Array,
    mine: jax.Array | int = 0,
    sharing: int = 1,
) -> Any:
    """`tree` plus independent N(0, deviation**2) on every number of every leaf.

    Where several devices each hold a part of a sum, each adds noise to a stretch of the numbers of
    its own, so that in the sum over all of them noise is on every number, once.

    Args:
      key: raw ThreeFry key, used here and nowhere else; the same on every device.
      tree: float32 arrays; an empty tree stays empty.
      deviation: standard deviation, the noise multiplier times the L2 sensitivity; 0 adds nothing.
      mine: which device this is, from 0.
      sharing: how many devices there are. By default one, which adds all of the noise.

    Guarantees:
      One draw of float32 normals covers all leaves, so no two numbers share randomness, and the
      noise does not depend on `tree`. However many devices share it, the noise of a number is the
      same: that of its place in `jax.random.normal(key, ...)`. With `sharing` above 1 a single
      result is not noised, only the sum over `mine` is. float32 normals end at about 5.4
      deviations; that, and the spacing of floating-point numbers, are outside the claim (see the
      threat model).
    """
    flat, unravel = ravel_pytree(tree)
    size, stretch = flat.size, -(-flat.size // sharing)
    if stretch * sharing > MOST_NUMBERS:
        raise ValueError(f"noise on {size} numbers: one key is good for {MOST_NUMBERS}")
    first = mine * stretch
    whole = jnp.pad(flat.astype(jnp.float32), (0, stretch * sharing - size))
    own = jax.lax.dynamic_slice_in_dim(whole, first, stretch)
    own = own + deviation * normals(key, first, stretch)
    return unravel(jax.lax.dynamic_update_slice_in_dim(whole, own, first, 0)[:size])
