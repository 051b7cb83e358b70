"""Per-example clipping: the sum of gradients, each scaled into a ball of radius C.

Reference: Abadi et al. 2016, Deep Learning with Differential Privacy, arXiv 1607.00133.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree, Shaped

Params: TypeAlias = PyTree[Float[Array, "..."]]
Examples: TypeAlias = PyTree[Shaped[Array, "batch ..."]]
Loss: TypeAlias = Callable[[Params, Any, jax.Array], Float[Array, ""]]
"""`loss(params, example, key)`: the loss of ONE example, without a batch axis."""

MARGIN = 1e-4
"""Gradients are clipped at C (1 - MARGIN) and accounted at C, so that float32 rounding of the
norm, the factor and the product cannot carry a contribution past C."""


class ClippedSum(NamedTuple):
    """A sum of clipped gradients and what the curator may look at (private, not noised).

    Attributes:
      gradient: the clipped sum, float32, the shape of `params`.
      loss: sum of the drawn examples' losses.
      clipped: how many drawn examples had a gradient longer than the bound.
    """

    gradient: Params
    loss: Float[Array, ""]
    clipped: Float[Array, ""]


def clipped_gradients(
    loss: Loss,
    params: Params,
    examples: Examples,
    valid: Bool[Array, " batch"],
    keys: Shaped[Array, " batch"],
    clip_norm: float,
) -> Params:
    """Each example's clipped gradient, materialised: the slow oracle of `clipped_sum`.

    Arguments and guarantees as there; leaves have a leading batch axis.
    """
    examples = _blank(valid, examples)
    gradients = jax.vmap(jax.grad(_float32(loss)), in_axes=(None, 0, 0))(params, examples, keys)
    factors, sound = _factors(_norms(gradients), valid, clip_norm)
    return _blank(sound, jax.tree.map(lambda leaf: leaf * _along(factors, leaf), gradients))


def clipped_sum(
    loss: Loss,
    params: Params,
    examples: Examples,
    valid: Bool[Array, " batch"],
    keys: Shaped[Array, " batch"],
    clip_norm: float,
) -> ClippedSum:
    """The sum over a batch of per-example gradients, each clipped to norm C.

    Two passes: `vmap` of the gradient for the norms, whose outer products the compiler squares
    and sums without storing them, then one ordinary gradient of the losses weighted by the clip
    factors. No per-example gradient is ever held in memory.

    Args:
      loss: loss of one example. Must be finite, with a finite gradient, at the all-zero example,
        and its backward pass must not cancel by more than float32 can bear: both passes compute
        the same gradient to a relative 1e-4 (softmax, logistic and Gaussian losses on bounded
        features do; a difference of numbers near 1e6 does not). For another loss, sum
        `clipped_gradients`.
      params: trained parameters, a tree of float32 arrays; the norm is over all leaves together.
      examples: a tree of arrays with a leading batch axis.
      valid: False for padding.
      keys: one typed key per example.
      clip_norm: C >= 0; inf only without privacy.

    Guarantees:
      For such a loss and all examples whatever, each contributes a vector of L2 norm at most C over
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
    with jax.default_matmul_precision("highest"):
        each = jax.value_and_grad(_float32(loss))
        examples = _blank(valid, examples)
        losses, gradients = jax.vmap(each, in_axes=(None, 0, 0))(params, examples, keys)
        norms = _norms(gradients)
        factors, sound = _factors(norms, valid, clip_norm)
        examples = _blank(sound, examples)

        def weighted(params: Params) -> jax.Array:
            values = jax.vmap(_float32(loss), in_axes=(None, 0, 0))(params, examples, keys)
            return jnp.where(sound, factors * values, 0).sum()

        total = jax.grad(weighted)(params)
    finite = jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]).all()
    return ClippedSum(
        gradient=jax.tree.map(lambda leaf: jnp.where(finite, leaf, 0), total),
        loss=jnp.where(sound, losses, 0).sum(),
        clipped=(sound & (factors < 1)).sum(dtype=jnp.float32),
    )


def _float32(loss: Loss) -> Loss:
    return lambda params, example, key: loss(params, example, key).astype(jnp.float32)


def _along(rows: Shaped[Array, " batch"], leaf: jax.Array) -> jax.Array:
    return rows.reshape(rows.shape + (1,) * (leaf.ndim - 1))


def _blank(keep: Bool[Array, " batch"], tree: Examples) -> Examples:
    """Zeros in the rows that are not kept; a select, since NaN times zero is NaN."""
    return jax.tree.map(lambda leaf: jnp.where(_along(keep, leaf), leaf, 0), tree)


def _norms(gradients: Params) -> Float[Array, " batch"]:
    squares = [
        jnp.square(leaf.astype(jnp.float32)).sum(axis=tuple(range(1, leaf.ndim)))
        for leaf in jax.tree.leaves(gradients)
    ]
    return jnp.sqrt(jnp.stack(squares).sum(axis=0))


def _factors(
    norms: Float[Array, " batch"], valid: Bool[Array, " batch"], clip_norm: float
) -> tuple[Float[Array, " batch"], Bool[Array, " batch"]]:
    """Clip factors in [0, 1], and which rows contribute at all."""
    sound = valid & jnp.isfinite(norms)
    bound = jnp.float32(clip_norm) * (1 - MARGIN)
    factors = jnp.where(norms > bound, bound / jnp.where(norms > 0, norms, 1), 1)
    return jnp.where(sound, factors, 0), sound
