"""Chunks of DP-SGD steps: one jitted scan, data and state on the device.

A stage gives two pure functions. `objective(state)` returns the trained parameters and the
per-example loss. `update(state, gradient, key)` takes the step; its inputs are the noisy gradient
and a separate key, never a record, so whatever it does (optimiser, averaging, a generator's update
through a discriminator) is post-processing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int32, PyTree, Shaped, UInt32

from rdpjax.arrays import AnyArray
from rdpjax.dpsgd.clipping import ClippedSum, Examples, Loss, Params, Summed
from rdpjax.dpsgd.compiled import Compiled
from rdpjax.dpsgd.execution import AXIS, Execution
from rdpjax.dpsgd.keys import Roots, StepKeys, as_key, step_keys
from rdpjax.dpsgd.lattice import add_lattice_noise, lattice_noise
from rdpjax.dpsgd.noise import add_gaussian
from rdpjax.dpsgd.plan import Plan
from rdpjax.dpsgd.sampling import Draw, draw

State: TypeAlias = PyTree[Any]
Records: TypeAlias = PyTree[Shaped[AnyArray, "records ..."]]
Metrics: TypeAlias = dict[str, AnyArray]
Objective: TypeAlias = Callable[[State], tuple[Params, Loss]]
Update: TypeAlias = Callable[[State, Params, UInt32[Array, "2"]], tuple[State, Metrics]]
Chunk: TypeAlias = Callable[[State, Records, StepKeys, Float[Array, ""]], tuple[State, Metrics]]


def drawn_sum(
    plan: Plan,
    execution: Execution,
    loss: Loss,
    params: Params,
    records: Records,
    keys: StepKeys,
) -> tuple[ClippedSum, Int32[Array, ""]]:
    """Compute this device's part of the clipped sum over a fresh Poisson draw; and its size.

    Guarantees:
      The sum over all devices, one by default, has sensitivity `plan.clip_norm` under
      add-or-remove-one of a record. Nothing is truncated: the loop runs until every record is
      decided on, over as many microbatches as the draw fills.
      A record's key depends on the step and on its own index, so neither the microbatch size nor
      other records change its gradient. Without records, or with an empty draw, the sum is zero.
    """
    total = jax.tree.leaves(records)[0].shape[0]
    if total == 0:
        return execution.zero_sum(params), jnp.int32(0)

    def fetch(rows: jax.Array, first: jax.Array) -> Examples:
        return jax.tree.map(lambda leaf: leaf.at[rows].get(mode="fill", fill_value=0), records)

    def turn(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        part, count, following, turns = carry
        drawn = draw(keys.sampling, total, plan.threshold, following, turns)
        part = add_drawn(part, plan, execution, loss, params, drawn, fetch, total, keys)
        return part, count + drawn.drawn, drawn.following, turns + 1

    first = (execution.zero_sum(params), jnp.int32(0), jnp.uint32(0), jnp.int32(0))
    part, count, _, _ = jax.lax.while_loop(lambda carry: carry[2] < total, turn, first)
    return part, count


def add_drawn(
    part: ClippedSum,
    plan: Plan,
    execution: Execution,
    loss: Loss,
    params: Params,
    drawn: Draw,
    fetch: Callable[[jax.Array, jax.Array], Examples],
    total: int | Int32[ArrayLike, ""],
    keys: StepKeys,
) -> ClippedSum:
    """Add to `part` this device's share of the clipped sum over one round of a draw.

    Args:
      part: this device's sum so far in this step.
      plan: the clip norm.
      execution: microbatch size and devices.
      loss: loss of one example.
      params: trained parameters.
      drawn: the round of the Poisson draw.
      fetch: `fetch(rows, first)`, the records at indices `rows`, from position `first` of the
        round.
      total: number of records.
      keys: this step's keys.

    Guarantees:
      Over all devices every record of the round counts once, in one device's slice of it;
      microbatches are padded with rows marked invalid, even where these are records of another
      device's slice. An empty round, or an empty slice, adds nothing.
    """
    sizes = execution.microbatches(len(drawn.indices))
    indices = jnp.concatenate([drawn.indices, jnp.full(sizes[0], total, jnp.int32)])
    # As raw words: jax's checker of key reuse takes a slice of keys for a use of all of them.
    row_keys = jax.random.key_data(
        jax.vmap(partial(jax.random.fold_in, as_key(keys.loss)))(indices)
    )
    mine, devices = place(execution)
    share = (drawn.drawn + devices - 1) // devices
    begin = mine * share
    end = jnp.minimum(begin + share, drawn.drawn)

    def microbatches(part: ClippedSum, size: int, begin: jax.Array, turns: jax.Array) -> ClippedSum:
        def add(turn: jax.Array, part: ClippedSum) -> ClippedSum:
            first = begin + turn * size
            cut = partial(jax.lax.dynamic_slice_in_dim, start_index=first, slice_size=size)
            valid = first + jnp.arange(size) < end
            examples, own = fetch(cut(indices), first), as_key(cut(row_keys))
            more = execution.clipped_sum(loss, params, examples, valid, own, plan.clip_norm)
            both: ClippedSum = jax.tree.map(jnp.add, part, more)
            return both

        summed: ClippedSum = jax.lax.fori_loop(0, turns, add, part)
        return summed

    for size, smaller in zip(sizes, (*sizes[1:], 0), strict=True):
        turns = jnp.maximum(end - begin - smaller + size - 1, 0) // size  # the rest fits a smaller
        part = microbatches(part, size, begin, turns)
        begin += turns * size
    return part


def place(execution: Execution) -> tuple[jax.Array, int]:
    """Return this device's index on the mesh, and the number of devices."""
    if execution.mesh is None:
        return jnp.int32(0), 1
    return jax.lax.axis_index(AXIS), execution.mesh.size


def across(execution: Execution, tree: PyTree[jax.Array]) -> PyTree[jax.Array]:
    """Sum a pytree of arrays of one dtype over all devices; every device gets the result."""
    if execution.mesh is None:
        return tree
    flat, unravel = ravel_pytree(tree)  # one collective, not one per leaf
    return unravel(jax.lax.psum(flat, AXIS))


def private_gradient(
    plan: Plan,
    execution: Execution,
    summed: Summed,
    keys: StepKeys,
    divisor: float | Float[ArrayLike, ""],
) -> Params:
    """Return one step's noisy gradient: the clipped sum, noised once, over a public divisor.

    Args:
      plan: clip norm and noise.
      execution: the device mesh.
      summed: this device's part of the clipped sum over the draw.
      keys: this step's keys (the noise itself, where it is discrete); the same on every device.
      divisor: the expected batch size, public or noised before; never the realised size.

    Guarantees:
      The gradient is (clipped sum + N(0, (sigma C)**2 I)) / divisor, one subsampled Gaussian
      mechanism at (q, sigma) of the plan, the same on every device: the parts are summed over the
      devices first, then each adds the same noise, from the same key. For a discrete plan, sum and
      noise are integer units of one lattice and the noise is a discrete Gaussian. An empty draw
      gives pure noise.
    """
    if plan.discrete != all(leaf.dtype == jnp.int32 for leaf in jax.tree.leaves(summed)):
        raise ValueError("discrete plans, and no others, sum on a lattice: clipping='lattice'")
    if plan.discrete:
        noisy = add_lattice_noise(keys.noise, across(execution, summed), plan.clip_norm)
    else:
        deviation = plan.noise_multiplier * plan.clip_norm if plan.private else 0.0
        flat, unravel = ravel_pytree(summed)
        noisy = unravel(add_gaussian(keys.noise, across(execution, flat), deviation))
    gradient: Params = jax.tree.map(lambda leaf: leaf / divisor, noisy)
    return gradient


class Seen(NamedTuple):
    """Per-device training metrics of a draw: private, NOT noised, for `internal/` only.

    Attributes:
      loss: sum of the losses of its examples.
      clipped: number of its examples whose gradient norm exceeds the bound.
      drawn: the size of the draw, the same on every device.
    """

    loss: Float[Array, "*steps"]
    clipped: Float[Array, "*steps"]
    drawn: Int32[AnyArray, "*steps"]


def metrics_of(execution: Execution, seen: Seen) -> Metrics:
    """Compute mean loss, clipped fraction and draw size over all devices; private, not noised.

    For one step or many stacked, with one collective.
    """
    loss, clipped = across(execution, (seen.loss, seen.clipped))
    some = jnp.maximum(seen.drawn, 1).astype(jnp.float32)
    return {"loss": loss / some, "clipped": clipped / some, "drawn": seen.drawn}


def chunk_keys(
    plan: Plan, roots: Roots, stage: str, start: int, steps: int, params: PyTree[Any]
) -> StepKeys:
    """Derive the keys of steps `start` to `start + steps`; for a discrete plan, the noise too.

    Discrete noise is drawn here, on the host: `keys.noise` is then int32 `[steps, numbers]`.
    """
    keys = step_keys(roots, stage, start, steps)
    if not plan.discrete:
        return keys
    noise = lattice_noise(roots, stage, start, steps, size_of(params), plan.noise_multiplier)
    return keys._replace(noise=jnp.asarray(noise))


def size_of(params: PyTree[Any]) -> int:
    """Count the parameters in all leaves, which may be shapes and types only."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def make_chunk(plan: Plan, execution: Execution, objective: Objective, update: Update) -> Compiled:
    """Compile a function that takes one DP-SGD step for each of the step keys given.

    The state is donated: the caller must not use the old one again. `chunk(state, records, keys,
    divisor)` returns the new state and metrics stacked over the steps (private, see `Seen`). It is
    traced once for each number of steps. With a mesh all arguments and results are replicated and
    every device takes every step: only sums cross devices.
    """

    def chunk(
        state: State, records: Records, keys: StepKeys, divisor: jax.Array
    ) -> tuple[State, Metrics]:
        def step(state: State, keys: StepKeys) -> tuple[State, tuple[Seen, Metrics]]:
            params, loss = objective(state)
            part, count = drawn_sum(plan, execution, loss, params, records, keys)
            gradient = private_gradient(plan, execution, part.gradient, keys, divisor)
            state, metrics = update(state, gradient, keys.update)  # type: ignore[arg-type]  # traced
            return state, (Seen(part.loss, part.clipped, count), metrics)

        state, (seen, metrics) = jax.lax.scan(step, state, keys)
        return state, metrics_of(execution, seen) | metrics

    return on_all(execution, chunk, donate=True)


def on_all(execution: Execution, function: Callable[..., Any], *, donate: bool = False) -> Compiled:
    """Compile a function for every device of the mesh, by `shard_map`, so that it may `psum`."""
    mesh = execution.mesh
    if mesh is None:
        return Compiled(function, donate=donate)
    everywhere = PartitionSpec()
    shared = jax.shard_map(
        function,
        mesh=mesh,
        in_specs=everywhere,
        out_specs=everywhere,
        check_vma=False,  # outputs are replicated by construction: after `psum`, the same steps
    )
    return Compiled(shared, donate=donate, sharding=NamedSharding(mesh, everywhere))
