"""Gaussian noise, drawn once and in float32."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Float32, PyTree, UInt32

from rdpjax.arrays import AnyArray
from rdpjax.dpsgd.keys import as_key

MOST_NUMBERS = 2**32
"""Normals that one key yields before they repeat."""


def add_gaussian(
    key: UInt32[AnyArray, "2"],
    tree: PyTree[Float[AnyArray, "..."]],
    deviation: float | Float[Array, ""],
) -> PyTree[Float32[Array, "..."]]:
    """Add independent N(0, deviation**2) noise to every number of every leaf.

    Args:
      key: raw ThreeFry key, used here and nowhere else.
      tree: float32 arrays; an empty tree stays empty.
      deviation: standard deviation, the noise multiplier times the L2 sensitivity; 0 adds nothing.

    Guarantees:
      One draw of float32 normals, `jax.random.normal(key, ...)` of JAX's own ThreeFry, covers all
      leaves: no two numbers share randomness, and the noise does not depend on `tree`. The result
        is float32 whatever the leaves are. float32 normals end at about 5.4 standard deviations;
        that, and the spacing of floating-point numbers, are outside the claim (see the threat
        model).

    Raises:
      ValueError: more numbers than one key is good for.
    """
    flat, unravel = ravel_pytree(tree)
    if flat.size > MOST_NUMBERS:
        raise ValueError(f"noise on {flat.size} numbers: one key is good for {MOST_NUMBERS}")
    noise = deviation * jax.random.normal(as_key(key), flat.shape)
    return unravel(flat.astype(jnp.float32) + noise)
