"""Gaussian noise, drawn once and in float32."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, UInt32

from rdpjax.dpsgd.keys import as_key


def add_gaussian(key: UInt32[Array, "2"], tree: Any, deviation: float | jax.Array) -> Any:
    """`tree` plus independent N(0, deviation**2) on every number of every leaf.

    Args:
      key: raw ThreeFry key, used here and nowhere else.
      tree: float32 arrays; an empty tree stays empty.
      deviation: standard deviation, the noise multiplier times the L2 sensitivity; 0 adds nothing.

    Guarantees:
      One draw of float32 normals covers all leaves, so no two numbers share randomness, and the
      noise does not depend on `tree`. float32 normals end at about 5.4 deviations; that, and the
      spacing of floating-point numbers, are outside the claim (see the threat model).
    """
    flat, unravel = ravel_pytree(tree)
    flat = flat.astype(jnp.float32)
    return unravel(flat + deviation * jax.random.normal(as_key(key), flat.shape, jnp.float32))
