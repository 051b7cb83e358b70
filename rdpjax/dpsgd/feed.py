"""DP-SGD chunks over records in host memory: only sampled records go to the device.

The mechanism is that of `rdpjax.dpsgd.loop`: the same Poisson draws from the same keys, the same
clipped sums, one noise. A step's records are sampled on the device and gathered on the host, from
memory or from a memory-mapped file, by a thread that works one round ahead of the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rdpjax.dpsgd.clipping import ClippedSum, Examples
from rdpjax.dpsgd.execution import Execution
from rdpjax.dpsgd.keys import StepKeys
from rdpjax.dpsgd.loop import (
    Chunk,
    Metrics,
    Objective,
    Records,
    Seen,
    State,
    Update,
    across,
    add_drawn,
    metrics_of,
    on_all,
    place,
    private_gradient,
)
from rdpjax.dpsgd.plan import Plan
from rdpjax.dpsgd.sampling import Draw, draw

HOST_ROOM = 4 * 2**30
"""Bytes of records that a CPU backend, which shares the host's memory, copies to a JAX array."""


def room(device: jax.Device | None = None) -> int:
    """Return the bytes of records a device (the default one) keeps; more are fed by batches.

    A quarter of an accelerator's memory, where it reports its size: the rest is for the model and a
    microbatch.
    """
    (device,) = [device] if device else jnp.zeros(()).devices()
    known = None if device.platform == "cpu" else device.memory_stats()
    return int(known["bytes_limit"]) // 4 if known else HOST_ROOM


class _Round(NamedTuple):
    """One round of a step's draw, with its records.

    Attributes:
      step: index of the step within the chunk.
      last: whether this round completes the step's draw.
      drawn: the sampled indices.
      batch: the records at those indices in the first rows, then padding.
    """

    step: int
    last: bool
    drawn: Draw
    batch: Examples


def make_fed_chunk(plan: Plan, execution: Execution, objective: Objective, update: Update) -> Chunk:
    """Build the function of `rdpjax.dpsgd.loop.make_chunk` for a pytree of host arrays.

    The arrays hold one or more records.

    Guarantees:
      The same mechanism as `make_chunk`. The same keys give the same steps: on one device, and
      where a step's draw takes one round, the same sums in the same order, else in another order.
      The device holds the records of no more than a few rounds.
    """

    def summed(
        state: State, drawn: Draw, batch: Examples, total: Any, keys: StepKeys
    ) -> ClippedSum:
        params, loss = objective(state)

        def fetch(rows: jax.Array, first: jax.Array) -> Examples:
            cut = partial(jax.lax.dynamic_slice_in_dim, start_index=first, slice_size=len(rows))
            return jax.tree.map(cut, batch)

        zero = execution.zero_sum(params)
        return add_drawn(zero, plan, execution, loss, params, drawn, fetch, total, keys)

    def add(state: State, part: ClippedSum, *round_and_keys: Any) -> ClippedSum:
        mine = summed(state, *round_and_keys)
        heard = across(execution, (mine.loss, mine.clipped))
        more = ClippedSum(across(execution, mine.gradient), *heard)
        both: ClippedSum = jax.tree.map(jnp.add, part, more)
        return both

    def end(
        state: State,
        part: ClippedSum,
        count: jax.Array,
        drawn: Draw,
        batch: Examples,
        total: Any,
        keys: StepKeys,
        divisor: jax.Array,
    ) -> tuple[State, Metrics]:
        first = place(execution)[0] == 0  # earlier rounds' sum counts once
        part = jax.tree.map(
            lambda before, more: jnp.where(first, before, 0) + more,
            part,
            summed(state, drawn, batch, total, keys),
        )
        gradient = private_gradient(plan, execution, part.gradient, keys, divisor)
        state, metrics = update(state, gradient, keys.update)  # type: ignore[arg-type]  # traced
        return state, metrics_of(execution, Seen(part.loss, part.clipped, count)) | metrics

    def settled(result: Any) -> Any:
        # Queued programs on several CPU devices can deadlock in their collectives.
        if execution.mesh is not None:
            jax.block_until_ready(result)
        return result

    add_round = on_all(execution, add)
    end_step = on_all(execution, end, donate=True)

    def chunk(
        state: State, records: Records, keys: StepKeys, divisor: jax.Array
    ) -> tuple[State, Metrics]:
        columns = [np.asarray(column) for column in keys]
        total = np.int32(len(jax.tree.leaves(records)[0]))
        shapes = jax.eval_shape(lambda state: execution.zero_sum(objective(state)[0]), state)
        zero = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        part, count, taken = zero, 0, list[Metrics]()
        rounds = _rounds(plan, execution, records, np.asarray(keys.sampling))
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(next, rounds, None)
            while (found := coming.result()) is not None:
                coming = ahead.submit(next, rounds, None)
                read = found.drawn, found.batch, total, StepKeys(*(c[found.step] for c in columns))
                count += int(found.drawn.drawn)
                if not found.last:
                    part = settled(add_round(state, part, *read))
                    continue
                done = end_step(state, part, np.int32(count), *read, divisor)
                state, metrics = settled(done)
                part, count = zero, 0
                taken.append(metrics)
                np.asarray(taken[-2:][0]["drawn"])  # blocks: the host runs one step ahead at most
        stacked: Metrics = jax.tree.map(lambda *steps: np.stack(steps), *jax.device_get(taken))
        return state, stacked

    return chunk


def _rounds(
    plan: Plan, execution: Execution, records: Records, keys: np.ndarray
) -> Iterator[_Round]:
    """Yield all rounds of the steps with these sampling keys, uint32 `[steps, 2]`, in order."""
    total = len(jax.tree.leaves(records)[0])
    step, turn, following = 0, 0, 0
    coming = _draw(keys[0], total, plan.threshold, np.uint32(0), np.int32(0))
    while step < len(keys):
        drawn, now = jax.device_get(coming), step
        last = int(drawn.following) == total
        step, turn, following = (now + 1, 0, 0) if last else (now, turn + 1, drawn.following)
        if step < len(keys):
            # Before this round's records are handed over: the device runs programs in order, and
            # the next draw must not queue behind their gradients.
            coming = _draw(keys[step], total, plan.threshold, np.uint32(following), np.int32(turn))
        padding = execution.microbatches(len(drawn.indices))[0]
        batch = _gathered(records, drawn, padding)
        # A mesh may span processes, each holding the batch: there the call itself transfers it.
        yield _Round(now, last, drawn, jax.device_put(batch) if execution.mesh is None else batch)


_draw = jax.jit(draw, static_argnums=(1, 2))


def _gathered(records: Records, drawn: Draw, padding: int) -> Examples:
    """Gather the drawn records in order, then `padding` more rows of zeros than indices."""
    count = int(drawn.drawn)

    def gather(leaf: np.ndarray) -> np.ndarray:
        batch = np.zeros((len(drawn.indices) + padding, *leaf.shape[1:]), leaf.dtype)
        np.take(leaf, drawn.indices[:count], axis=0, out=batch[:count], mode="clip")
        return batch

    return jax.tree.map(gather, records)
