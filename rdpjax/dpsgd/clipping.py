"""Per-example clipping: the sum of gradients, each scaled into a ball of radius C.

Reference: Abadi et al. 2016, Deep Learning with Differential Privacy, arXiv 1607.00133.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int32, PyTree, Shaped

from rdpjax.arrays import AnyArray

Params: TypeAlias = PyTree[Float[AnyArray, "..."]]
Examples: TypeAlias = PyTree[Shaped[AnyArray, "batch ..."]]
Summed: TypeAlias = PyTree[Float[AnyArray, "..."] | Int32[AnyArray, "..."]]
Loss: TypeAlias = Callable[[Params, Any, jax.Array], Float[Array, ""]]
"""`loss(params, example, key)`: the loss of ONE example, without a batch axis."""

MARGIN = 1e-4
"""Gradients are clipped at C (1 - MARGIN) and accounted at C, so that float32 rounding of the
norm, the factor and the product cannot carry a contribution past C."""


class ClippedSum(NamedTuple):
    """Sum of clipped gradients with its training metrics: private, not noised.

    Attributes:
      gradient: the clipped sum, float32, the shape of `params` (int32 on a lattice).
      loss: sum of the drawn examples' losses.
      clipped: number of drawn examples whose gradient norm exceeds the bound.
    """

    gradient: Summed
    loss: Float[Array, ""]
    clipped: Float[Array, ""]


def clipped_gradients(
    loss: Loss,
    params: Params,
    examples: Examples,
    valid: Bool[AnyArray, " batch"],
    keys: Shaped[Array, " batch"],
    clip_norm: float | Float[Array, ""],
) -> Params:
    """Compute per-example clipped gradients, leaves `[batch, ...]`; see `clipped_sum`."""
    return clip(loss, params, examples, valid, keys, clip_norm)[0]


def clipped_sum(
    loss: Loss,
    params: Params,
    examples: Examples,
    valid: Bool[AnyArray, " batch"],
    keys: Shaped[Array, " batch"],
    clip_norm: float | Float[Array, ""],
) -> ClippedSum:
    """Sum the per-example gradients of a batch, each clipped to L2 norm C.

    Materialises every per-example gradient. `rdpjax.dpsgd.ghost.clipped.clipped_sum` computes the
    same sum without them; this is its test oracle, and works for any loss.

    Args:
      loss: loss of one example.
      params: trained parameters, a tree of float32 arrays; the norm is over all leaves together.
      examples: a tree of arrays with a leading batch axis.
      valid: False for padding.
      keys: one typed key per example.
      clip_norm: C, 0 or from 1e-15 (below, float32 squares vanish); inf only without privacy.

    Guarantees:
      For any loss and all examples whatever, each contributes a vector of L2 norm at most C over
      all leaves, which depends on that example, its key and `params` alone; so adding or removing
      one changes `gradient` by at most C. Products are at highest precision on every device.
      Edge cases:

      | example | contribution |
      | --- | --- |
      | norm at most C (1 - 1e-4), zero included | the gradient, unchanged |
      | longer | scaled to norm C (1 - 1e-4) |
      | NaN or inf in the gradient, or a norm that overflows float32 | zero |
      | padding, whatever it holds | zero, bit for bit; the loss never sees its values |
      | any, where a parameter is not finite | zero |
      | C = 0 | zero |
      | no rows | a zero sum |
    """
    gradients, factors, sound, losses = clip(loss, params, examples, valid, keys, clip_norm)
    return ClippedSum(
        gradient=jax.tree.map(lambda leaf: leaf.sum(axis=0), gradients),
        loss=jnp.where(sound, losses, 0).sum(),
        clipped=(sound & (factors < 1)).sum(dtype=jnp.float32),
    )


def zero_sum(params: Params, dtype: DTypeLike = jnp.float32) -> ClippedSum:
    """Return the sum over no examples."""
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, dtype), params)
    return ClippedSum(zeros, jnp.float32(0), jnp.float32(0))


def blank(keep: Bool[AnyArray, " batch"], tree: Examples) -> Examples:
    """Zero the rows that are not kept, by a select, since NaN times zero is NaN."""
    return jax.tree.map(
        lambda leaf: jnp.where(_along(keep, leaf), leaf, jnp.zeros((), leaf.dtype)), tree
    )


def clip_factors(
    norms: Float[Array, " batch"],
    valid: Bool[AnyArray, " batch"],
    clip_norm: float | Float[Array, ""],
) -> tuple[Float[Array, " batch"], Bool[Array, " batch"]]:
    """Return factors in [0, 1] that clip gradients of these norms to C, and which rows count."""
    sound = jnp.isfinite(norms) & valid
    bound = jnp.float32(clip_norm) * (1 - MARGIN)
    factors = jnp.where(norms > bound, bound / jnp.where(norms > 0, norms, 1), 1)
    # A norm that underflows to 0 would have factor 1, also with a bound of 0.
    return jnp.where(sound & (bound > 0), factors, 0), sound


def all_finite(params: Params) -> Bool[Array, ""]:
    """Test whether every parameter is finite; if one is not, no example counts."""
    return jnp.isfinite(ravel_pytree(params)[0]).all()


def clip(
    loss: Loss,
    params: Params,
    examples: Examples,
    valid: Bool[AnyArray, " batch"],
    keys: Shaped[Array, " batch"],
    bound: float | Float[Array, ""],
) -> tuple[Params, Float[Array, " batch"], Bool[Array, " batch"], Float[Array, " batch"]]:
    """Return clipped gradients, their clip factors, which rows count, and the losses."""
    with jax.default_matmul_precision("highest"):
        each = jax.vmap(jax.value_and_grad(_float32(loss)), in_axes=(None, 0, 0))
        losses, gradients = each(params, blank(valid, examples), keys)
    gradients = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), gradients)
    # The barrier keeps XLA from rewriting norm and sum apart: both read these values.
    gradients = jax.lax.optimization_barrier(gradients)
    factors, sound = clip_factors(_norms(gradients), valid & all_finite(params), bound)
    gradients = jax.tree.map(lambda leaf: leaf * _along(factors, leaf), gradients)
    return blank(sound, gradients), factors, sound, losses


def _float32(loss: Loss) -> Loss:
    return lambda params, example, key: loss(params, example, key).astype(jnp.float32)


def _along(rows: Shaped[AnyArray, " batch"], leaf: AnyArray) -> AnyArray:
    return rows.reshape(rows.shape + (1,) * (leaf.ndim - 1))


def _norms(gradients: Params) -> Float[Array, " batch"]:
    squares = [
        jnp.square(leaf.astype(jnp.float32)).sum(axis=tuple(range(1, leaf.ndim)))
        for leaf in jax.tree.leaves(gradients)
    ]
    return jnp.sqrt(jnp.stack(squares).sum(axis=0))
