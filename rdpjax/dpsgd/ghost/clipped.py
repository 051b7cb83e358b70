"""Ghost clipping: the clipped sum without per-example gradients, for any loss written in JAX.

One forward and one backward pass give, at every equation in which a parameter meets an example, the
activations that go in and the signals (cotangents of the output) that come back. The norms of the
per-example gradients follow from these, then one weighted contraction gives the sum. There is no
second backward pass, and norm and sum come from the same numbers. Parameters are found in the jaxpr
of the loss (`equations.py`): dense and convolutional layers in any spelling, biases, scales,
embeddings, layers used twice, and gradients inside the loss (a gradient penalty) need no
annotation.

Bu et al. 2023, Differentially Private Optimization on Large Model at Small Cost, arXiv 2210.00038.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from rdpjax.arrays import AnyArray
from rdpjax.dpsgd.clipping import (
    ClippedSum,
    Examples,
    Loss,
    Params,
    all_finite,
    blank,
    clip_factors,
    zero_sum,
)
from rdpjax.dpsgd.ghost.equations import Equations, Slot, equations_of
from rdpjax.dpsgd.ghost.gradients import HUGE, Formed, Gradient, Lookups, Place, Products, joined
from rdpjax.dpsgd.ghost.uses import FACTORED, Input, gradient_of, has_rule
from rdpjax.dpsgd.ghost.windows import windows_of


class Use(NamedTuple):
    """Per-example gradient with respect to `view`, a function of the parameters alone.

    At first for one equation in which the view meets the examples, then for all of them together.
    """

    view: Slot
    gradient: Gradient
    place: Place


def clipped_sum(
    loss: Loss,
    params: Params,
    examples: Examples,
    valid: Bool[AnyArray, " batch"],
    keys: Shaped[Array, " batch"],
    clip_norm: float | Float[Array, ""],
) -> ClippedSum:
    """Sum the per-example gradients of a batch, each clipped to L2 norm C, by ghost clipping.

    Arguments, result and guarantees as `rdpjax.dpsgd.clipping.clipped_sum`, its oracle.

    Guarantees:
      Clip factors come from upper bounds of the norms (see `gradients.py`), and the sum is formed
      from the same numbers as the norms (activations and signals; for windows, the signal that they
      are slices of; or the gradient with respect to a leaf where that is materialised), both in
      float32 at highest precision, whatever precision the network itself computes in. Only moves of
      numbers (reshape, transpose) come after. A row that does not count (padding, NaN, inf,
      overflow) is removed by a select before any product. A compiler may compute one expression
      twice, for the norm and for the sum, and round the last bits differently;
      `rdpjax.dpsgd.lattice` measures the very integers that it sums, whatever a compiler does.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> loss = lambda w, x, key: (x @ w).sum()
      >>> x, everyone = jnp.array([[3.0, 4.0], [0.3, 0.4]]), jnp.ones(2, bool)
      >>> keys = jax.random.split(jax.random.key(0), 2)
      >>> summed = clipped_sum(loss, jnp.zeros((2, 1)), x, everyone, keys, 1.0)
      >>> [f"{value:.2f}" for value in summed.gradient[:, 0]], int(summed.clipped)
      (['0.90', '1.20'], 1)
    """
    if valid.shape[0] == 0:
        return zero_sum(params)
    with jax.default_matmul_precision("highest"):
        one = jax.tree.map(lambda leaf: jax.typeof(leaf[0]), (examples, keys))
        found = equations_of(loss, params, *one)
        leaves, structure = jax.tree.flatten(params)
        losses, uses = _uses(found, leaves, (blank(valid, examples), keys))
        parts = _parts(found, leaves, uses)
        gradients = [_kept(part.gradient) for part in parts]
        squares = sum((gradient.squares() for gradient in gradients), jnp.zeros_like(losses))
        norms = jnp.sqrt(squares)
        factors, sound = clip_factors(norms, valid & all_finite(params), clip_norm)

        summed = [
            part.place(gradient.weighted(factors))
            for part, gradient in zip(parts, gradients, strict=True)
        ]
        total = found.moved_back(leaves, [part.view for part in parts], summed)
    return ClippedSum(
        gradient=jax.tree.unflatten(structure, total),
        loss=jnp.where(sound, losses, 0).sum(),
        clipped=(sound & (factors < 1)).sum(dtype=jnp.float32),
    )


def _kept(gradient: Gradient) -> Gradient:
    """Put an optimization_barrier around a materialised gradient; factored ones have one."""
    if not isinstance(gradient, Formed):
        return gradient
    kept: Formed = jax.lax.optimization_barrier(gradient)
    return kept


def formed_for_want_of_a_rule(loss: Loss, params: Any, example: Any, key: Any) -> list[str]:
    """List parameters whose per-example gradients must be materialised, with the primitive.

    Correct all the same, but as slow as `vmap` there. Empty for networks of dense, convolutional,
    normalising and embedding layers.
    """
    kept: list[Equations] = []
    # Under `eval_shape` nothing is computed, constants of the loss included.
    jax.eval_shape(lambda p, e, k: kept.append(equations_of(loss, p, e, k)), params, example, key)
    (found,) = kept
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(params)]
    return [
        f"{names[leaf]} ({equation.primitive.name})"
        for equation in found.mixed
        for position in found.met(equation)
        if not has_rule(equation, position)
        for leaf in sorted(found.origins[equation.inputs[position]])
    ]


@jax.custom_jvp
def finite(activations: jax.Array) -> jax.Array:
    """Replace non-finite activations by `HUGE`: their squared norm overflows, the row is dropped.

    Factors of zero times `HUGE` are zero, so the weighted sum needs no pass over all activations to
    remove a few rows. Derivatives pass unchanged.
    """
    if not jnp.issubdtype(activations.dtype, jnp.inexact):
        return activations
    return jnp.where(jnp.isfinite(activations), activations, HUGE)


@finite.defjvp
def _finite_jvp(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    return finite(*primals), tangents[0]


def _uses(
    found: Equations, leaves: list[Any], batch: Any
) -> tuple[Float[Array, " batch"], list[Use]]:
    """Compute losses, and all uses of parameters, by one forward and one backward pass.

    Every equation in which parameters meet the examples gets a zero added to its outputs; the
    derivatives with respect to these zeros are the signals.
    """
    taps = [i for i, equation in enumerate(found.mixed) if found.met(equation)]
    tapped = {slot for i in taps for slot in found.mixed[i].inputs}
    windows = {slot: w for slot, w in windows_of(found.mixed).items() if slot in tapped}
    rest = jax.tree.leaves(batch)
    size = rest[0].shape[0]
    shared = found.constants | dict(
        zip(found.origins, found.view_values(leaves, found.origins), strict=True)
    )

    def forward(zeros: dict[int, list[Any]], rest: list[Any]) -> tuple[Any, Any]:
        values = dict(zip(found.rest, [*rest, jnp.float32(0)], strict=True))
        seen = {}
        for i, equation in enumerate(found.mixed):
            inputs = [shared[s] if s in shared else values[s] for s in equation.inputs]
            if i in zeros and equation.primitive.name in FACTORED:
                inputs = [
                    value if s in shared else finite(value)
                    for s, value in zip(equation.inputs, inputs, strict=True)
                ]
            outputs = equation.apply(inputs)
            if i in zeros:
                outputs = [
                    out if z is None else out + z for out, z in zip(outputs, zeros[i], strict=True)
                ]
                seen[i] = [
                    v for s, v in zip(equation.inputs, inputs, strict=True) if s not in shared
                ]
            values |= zip(equation.outputs, outputs, strict=True)
        return values[found.loss], (seen, {s: values[w.signal] for s, w in windows.items()})

    zeros = {
        i: [
            jnp.zeros((size, *aval.shape), aval.dtype)
            if jnp.issubdtype(aval.dtype, jnp.inexact)
            else None
            for aval in found.mixed[i].after
        ]
        for i in taps
    }
    losses, back, (seen, unfolded) = jax.vjp(
        lambda zeros: jax.vmap(forward)(zeros, rest), zeros, has_aux=True
    )
    (signals,) = back(jnp.ones_like(losses))
    # Norms and sums both read these values: the barrier keeps XLA from rewriting them apart.
    signals, seen, unfolded = jax.lax.optimization_barrier((signals, seen, unfolded))
    grams = {s: w.gram(unfolded[s].astype(jnp.float32)) for s, w in windows.items()}
    uses = []
    for i in taps:
        equation, given = found.mixed[i], iter(seen[i])
        inputs = [
            Input(shared[s], False) if s in shared else Input(next(given), True, grams.get(s))
            for s in equation.inputs
        ]
        for position in found.met(equation):
            gradient, place = gradient_of(equation, position, inputs, signals[i])
            uses.append(Use(equation.inputs[position], gradient, place))
    return losses, uses


def _parts(found: Equations, leaves: list[Any], uses: list[Use]) -> list[Use]:
    """Split the per-example gradient into parts, each with respect to one leaf, no leaf twice.

    All uses of a leaf are combined before any norm is taken. Where a leaf is used through a single
    view that only moves its numbers, the gradient with respect to the view has the same norm as the
    one with respect to the leaf. Otherwise the gradient with respect to the leaf is materialised,
    so that norm and sum are taken of the same rounded numbers.
    """
    by_view = {use.view: [same for same in uses if same.view == use.view] for use in uses}
    seen = Counter(leaf for view in by_view for leaf in found.origins[view])
    alone = [v for v in by_view if v in found.moved and all(seen[i] == 1 for i in found.origins[v])]
    parts = [_combined(by_view[view]) for view in alone]
    others = [view for view in by_view if view not in alone]
    if others:
        views, back = jax.vjp(lambda leaves: found.view_values(leaves, others), leaves)
        formed = [
            _formed(by_view[view]).gradient.astype(value.dtype)
            for view, value in zip(others, views, strict=True)
        ]
        (by_leaf,) = jax.vmap(back)(formed)
        for leaf in sorted(frozenset[int]().union(*(found.origins[view] for view in others))):
            gradient = Formed(by_leaf[leaf].astype(jnp.float32))
            parts.append(Use(found.leaves[leaf], gradient, Place.as_it_is(leaves[leaf].shape)))
    return parts


def _combined(same: list[Use]) -> Use:
    """Combine all uses of one view, in the cheapest form that they share."""
    view, gradient, place = same[0]
    products = [u.gradient for u in same if isinstance(u.gradient, Products) and u.place == place]
    if len(products) == len(same) and (together := joined(products)).better_unformed:
        return Use(view, together, place)
    if len(same) == 1 and isinstance(gradient, Lookups):
        return same[0]
    formed = _formed(same)
    return Use(view, formed, Place.as_it_is(formed.gradient.shape[1:]))


def _formed(same: list[Use]) -> Formed:
    """Materialise and add all uses of one view, in the view's shape."""
    formed = [jax.vmap(use.place)(use.gradient.formed().gradient) for use in same]
    return Formed(sum(formed[1:], formed[0]))
