"""Chunks of DP-SGD steps: one jitted scan, data and state on the device.

A stage gives two pure functions. `objective(state)` says what is trained and on which per-example
loss. `update(state, gradient, key)` takes the step; it sees the noisy gradient and a key of its own
but never a record, so whatever it does (optimiser, averaging, a generator's update through a
discriminator) is post-processing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree, Shaped, UInt32

from rdpjax.dpsgd.clipping import ClippedSum, Loss, Params, clipped_sum
from rdpjax.dpsgd.keys import StepKeys, as_key
from rdpjax.dpsgd.noise import add_gaussian
from rdpjax.dpsgd.plan import Plan
from rdpjax.dpsgd.sampling import drawn_first, inclusion

State: TypeAlias = PyTree[Any]
Records: TypeAlias = PyTree[Shaped[Array, "records ..."]]
Metrics: TypeAlias = dict[str, jax.Array]
Objective: TypeAlias = Callable[[State], tuple[Params, Loss]]
Update: TypeAlias = Callable[[State, Params, UInt32[Array, "2"]], tuple[State, Metrics]]
Chunk: TypeAlias = Callable[[State, Records, StepKeys, Float[Array, ""]], tuple[State, Metrics]]


def drawn_sum(
    plan: Plan, loss: Loss, params: Params, records: Records, keys: StepKeys
) -> tuple[ClippedSum, jax.Array]:
    """The clipped sum over a fresh Poisson draw, before noise, and the size of the draw.

    Guarantees:
      Sensitivity `plan.clip_norm` under add-or-remove-one of a record. Nothing is truncated: the
      loop runs over as many microbatches as the draw fills. A record's key depends on the step
      and on its own index, so neither the microbatch size nor other records change its gradient.
      Without records, or with an empty draw, the sum is zero.
    """
    total = jax.tree.leaves(records)[0].shape[0]
    zero = ClippedSum(
        jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), params),
        jnp.float32(0),
        jnp.float32(0),
    )
    if total == 0:
        return zero, jnp.int32(0)
    indices, count = drawn_first(inclusion(keys.sampling, total, plan.threshold))
    size = min(plan.microbatch, total)
    indices = jnp.concatenate([indices, jnp.full((size,), total, indices.dtype)])
    step_key = as_key(keys.loss)

    def microbatch(i: jax.Array, carry: ClippedSum) -> ClippedSum:
        rows = jax.lax.dynamic_slice_in_dim(indices, i * size, size)
        valid = rows < total
        examples = jax.tree.map(lambda leaf: leaf.at[rows].get(mode="fill", fill_value=0), records)
        row_keys = jax.vmap(partial(jax.random.fold_in, step_key))(rows)
        part = clipped_sum(loss, params, examples, valid, row_keys, plan.clip_norm)
        both: ClippedSum = jax.tree.map(jnp.add, carry, part)
        return both

    return jax.lax.fori_loop(0, (count + size - 1) // size, microbatch, zero), count


def private_gradient(
    plan: Plan,
    loss: Loss,
    params: Params,
    records: Records,
    keys: StepKeys,
    divisor: Float[Array, ""] | float,
) -> tuple[Params, Metrics]:
    """One step's noisy gradient: draw, clip, sum, noise once, divide by a public number.

    Args:
      plan: rate, clip norm, noise.
      loss: loss of one example.
      params: what is trained.
      records: a tree of arrays whose first axis counts the records.
      keys: this step's keys.
      divisor: the expected batch size, public or noised before; never the realised size.

    Returns:
      The gradient, and metrics of the draw that are private and NOT noised (`loss`, `clipped`
      as a share, `drawn`): they belong in `internal/`.

    Guarantees:
      The gradient is (clipped sum + N(0, (sigma C)**2 I)) / divisor, one subsampled Gaussian
      mechanism at (q, sigma) of the plan. An empty draw gives pure noise.
    """
    part, count = drawn_sum(plan, loss, params, records, keys)
    deviation = plan.noise_multiplier * plan.clip_norm if plan.private else 0.0
    noisy = add_gaussian(keys.noise, part.gradient, deviation)
    gradient = jax.tree.map(lambda leaf: leaf / divisor, noisy)
    seen = jnp.maximum(count, 1)
    return gradient, {"loss": part.loss / seen, "clipped": part.clipped / seen, "drawn": count}


def make_chunk(plan: Plan, objective: Objective, update: Update) -> Chunk:
    """A jitted function that takes as many steps as it is given keys.

    The state is donated: the caller must not use the old one again. `chunk(state, records, keys,
    divisor)` returns the new state and metrics stacked over the steps (private, see
    `private_gradient`). It is traced once for each number of steps.
    """

    def chunk(
        state: State, records: Records, keys: StepKeys, divisor: jax.Array
    ) -> tuple[State, Metrics]:
        def step(state: State, keys: StepKeys) -> tuple[State, Metrics]:
            params, loss = objective(state)
            gradient, drawn = private_gradient(plan, loss, params, records, keys, divisor)
            state, metrics = update(state, gradient, keys.update)
            return state, drawn | metrics

        return jax.lax.scan(step, state, keys)

    return jax.jit(chunk, donate_argnums=0)
