"""Ways to break a DP-SGD step, beside those of tests/dpsgd/test_sabotage.py: noise, clip, draw."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdpjax.audits.subject import Subject
from rdpjax.dpsgd import feed, keys, loop
from rdpjax.dpsgd.clipping import ClippedSum
from rdpjax.dpsgd.execution import Execution
from rdpjax.dpsgd.ghost import gradients
from rdpjax.dpsgd.keys import Roots, StepKeys
from rdpjax.dpsgd.plan import Plan
from rdpjax.fitting import checkpoint, session
from rdpjax.fitting import fit as pipeline
from rdpjax.fitting import stage_run as training
from tests.dpsgd import test_sabotage as engine

Patch = pytest.MonkeyPatch
Mutation = Callable[[Patch, Any], None]


def record_used_twice_in_a_step(patch: Patch, subject: Subject) -> None:
    true = loop.drawn_sum

    def twice(*args: Any) -> Any:
        part, count = true(*args)
        return jax.tree.map(lambda leaf: 2 * leaf, part), count

    patch.setattr(loop, "drawn_sum", twice)


def noise_scaled_by_the_draw(patch: Patch, subject: Subject) -> None:
    """As if the batch's own size were public."""
    engine.scale_by_the_draw(patch, lambda divisor, count: 1 + 0.5 / jnp.maximum(count, 1))


def noise_small_on_the_last_tenth(patch: Patch, subject: Subject) -> None:
    true = loop.add_gaussian

    def add(key: jax.Array, flat: jax.Array, deviation: float, *at: Any) -> jax.Array:
        drawn = true(key, jnp.zeros_like(flat), deviation, *at)
        late = np.arange(flat.size) >= 0.9 * flat.size
        return flat + jnp.where(late, math.sqrt(0.5), 1.0) * drawn

    patch.setattr(loop, "add_gaussian", add)


def noise_3_percent_small(patch: Patch, subject: Subject) -> None:
    true = loop.add_gaussian
    patch.setattr(loop, "add_gaussian", lambda key, x, sd, *at: true(key, x, 0.97 * sd, *at))


def lattice_noise_3_percent_small(patch: Patch, subject: Subject) -> None:
    true = loop.lattice_noise
    patch.setattr(loop, "lattice_noise", lambda *args: true(*args[:-1], 0.97 * args[-1]))


def noise_small_where_records_are_fed(patch: Patch, subject: Subject) -> None:
    """On the path of data sets that the device has no room for."""
    true = feed.private_gradient

    def less(plan: Plan, *args: Any) -> Any:
        noise = plan.noise_multiplier * math.sqrt(0.5)
        return true(dataclasses.replace(plan, noise_multiplier=noise), *args)

    patch.setattr(pipeline, "room", lambda: 0)
    patch.setattr(feed, "private_gradient", less)


def noise_repeated_after_64_steps(patch: Patch, subject: Subject) -> None:
    true = keys.derive

    def derive(root: bytes, stage: str, purpose: str, step: int = 0) -> np.ndarray:
        return true(root, stage, purpose, step % 64 if purpose == "noise" else step)

    patch.setattr(keys, "derive", derive)


def noise_keys_of_the_first_chunk_in_every_chunk(patch: Patch, subject: Subject) -> None:
    true = session.chunk_keys

    def chunk_keys(plan: Plan, roots: Roots, stage: str, start: int, *rest: Any) -> StepKeys:
        first = true(plan, roots, stage, 0, *rest)
        return true(plan, roots, stage, start, *rest)._replace(noise=first.noise)

    patch.setattr(session, "chunk_keys", chunk_keys)


def noise_keys_shifted_by_a_step_for_two_stages(patch: Patch, subject: Subject) -> None:
    true = keys.derive

    def derive(root: bytes, stage: str, purpose: str, step: int = 0) -> np.ndarray:
        if purpose == "noise" and stage != "vae":
            stage, step = "vae", step + 1
        return true(root, stage, purpose, step)

    patch.setattr(keys, "derive", derive)


def resumed_with_fresh_noise(patch: Patch, subject: Subject) -> None:
    """After a checkpoint was loaded, noise comes from another root, under the old name."""
    true_load, true_keys, loaded = checkpoint.load, session.chunk_keys, [False]

    def load(*args: Any) -> Any:
        loaded[0] = True
        return true_load(*args)

    def chunk_keys(plan: Plan, roots: Roots, *args: Any) -> Any:
        other = dataclasses.replace(roots, noise=Roots.make(77).noise)
        return true_keys(plan, other if loaded[0] else roots, *args)

    patch.setattr(checkpoint, "load", load)
    patch.setattr(session, "chunk_keys", chunk_keys)


def clipped_leaf_by_leaf(patch: Patch, subject: Subject) -> None:
    """Each leaf to the clip norm, and not all of them together."""
    true = Execution.clipped_sum

    def by_leaf(self: Execution, loss: Any, params: Any, *rest: Any) -> ClippedSum:
        leaves, structure = jax.tree.flatten(params)

        def alone(i: int) -> ClippedSum:
            def of_one(leaf: jax.Array, *record: Any) -> jax.Array:
                whole = [*leaves[:i], leaf, *leaves[i + 1 :]]
                found: jax.Array = loss(structure.unflatten(whole), *record)
                return found

            return true(self, of_one, leaves[i], *rest)

        parts = [alone(i) for i in range(len(leaves))]
        return parts[0]._replace(gradient=structure.unflatten([part.gradient for part in parts]))

    patch.setattr(Execution, "clipped_sum", by_leaf)


def small_leaves_left_out_of_the_norm(patch: Patch, subject: Subject) -> None:
    engine.measure_only(patch, lambda sizes: sizes.index(max(sizes)))


def last_use_left_out_of_the_norm(patch: Patch, subject: Subject) -> None:
    """Of a weight that is met several times."""
    true = gradients.Products.squares

    def squares(self: gradients.Products) -> jax.Array:
        if self.activations.shape[2] == 1:
            return true(self)
        return true(gradients.Products(self.activations[:, :, :-1], self.signals[:, :, :-1]))

    patch.setattr(gradients.Products, "squares", squares)


def last_smaller_microbatch_not_clipped(patch: Patch, subject: Subject) -> None:
    true_sizes, true_sum, largest = Execution.microbatches, Execution.clipped_sum, [0]

    def microbatches(self: Execution, most: int) -> tuple[int, ...]:
        sizes = true_sizes(self, most)
        largest[0] = sizes[0]
        return sizes

    def summed(self: Execution, *args: Any) -> ClippedSum:
        *others, valid, row_keys, clip = args
        bound = clip if len(valid) == largest[0] else 1e30
        return true_sum(self, *others, valid, row_keys, bound)

    patch.setattr(Execution, "microbatches", microbatches)
    patch.setattr(Execution, "clipped_sum", summed)


def _positive(rows: Any) -> jax.Array:
    """Which records have a positive last column: the label, of the toy table."""
    table = jax.tree.leaves(rows)[0]
    kind: jax.Array = table.reshape(len(table), -1)[:, -1] > 0
    return kind


def one_kind_of_record_weighs_more(patch: Patch, subject: Subject) -> None:
    """Half as much again, after clipping."""
    true = Execution.clipped_sum

    def heavier(self: Execution, loss: Any, params: Any, rows: Any, valid: Any, *rest: Any) -> Any:
        part = true(self, loss, params, rows, valid, *rest)
        more = true(self, loss, params, rows, valid & _positive(rows), *rest)
        heavy = jax.tree.map(lambda a, b: a + b / 2, part.gradient, more.gradient)
        return part._replace(gradient=heavy)

    patch.setattr(Execution, "clipped_sum", heavier)


def one_kind_of_record_drawn_a_second_time(patch: Patch, subject: Subject) -> None:
    """By other keys; the size of the draw is told as planned."""
    true_sum, true_clip = loop.drawn_sum, Execution.clipped_sum

    def masked(
        self: Execution, loss: Any, params: Any, rows: Any, valid: Any, *rest: Any
    ) -> ClippedSum:
        return true_clip(self, loss, params, rows, valid & _positive(rows), *rest)

    def summed(*args: Any) -> Any:
        *others, own = args
        part, count = true_sum(*args)
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Execution, "clipped_sum", masked)
            more, _ = true_sum(*others, own._replace(sampling=own.sampling + 1))
        return jax.tree.map(jnp.add, part, more), count

    patch.setattr(loop, "drawn_sum", summed)


def rate_4_percent_up(patch: Patch, subject: Subject) -> None:
    engine.rate_times(patch, 1.04)


def drawn_once_a_chunk(patch: Patch, subject: Subject) -> None:
    true = keys.step_keys

    def step_keys(*args: Any) -> StepKeys:
        found = true(*args)
        return found._replace(sampling=np.broadcast_to(found.sampling[:1], found.sampling.shape))

    patch.setattr(keys, "step_keys", step_keys)
    patch.setattr(loop, "step_keys", step_keys)


def around_chunks(patch: Patch, change: Callable[..., Any]) -> None:
    """Every chunk is taken by `change(chunk, state, records, keys, divisor)`."""
    true = training.make_chunk

    def make_chunk(*args: Any) -> Any:
        chunk = true(*args)

        def changed(*given: Any) -> Any:
            return change(chunk, *given)

        return changed

    patch.setattr(training, "make_chunk", make_chunk)


def best_state_by_the_records_loss(patch: Patch, subject: Subject) -> None:
    def choose(chunk: Any, *given: Any) -> Any:
        state, metrics = chunk(*given)
        weight = 1 + 1e-3 * jnp.tanh(metrics["loss"][-1])
        floats = (jnp.float32,)
        return jax.tree.map(
            lambda leaf: leaf * weight if leaf.dtype in floats else leaf, state
        ), metrics

    around_chunks(patch, choose)


def chunk_thrown_away_unless_the_loss_fell(patch: Patch, subject: Subject) -> None:
    def choose(chunk: Any, state: Any, *given: Any) -> Any:
        before = jax.tree.map(jnp.copy, state)  # the state is donated
        after, metrics = chunk(state, *given)
        high = metrics["loss"][-1] > 0.9 * metrics["loss"][0]
        return jax.tree.map(lambda a, b: jnp.where(high, a, b), before, after), metrics

    around_chunks(patch, choose)


def chunk_taken_twice_under_one_entry(patch: Patch, subject: Subject) -> None:
    """The second time with another draw and other noise, as if it were a replay."""

    def twice(chunk: Any, state: Any, records: Any, own: StepKeys, divisor: Any) -> Any:
        state, _ = chunk(state, records, own, divisor)
        other = own._replace(sampling=own.sampling + 1, noise=own.noise + 1)
        return chunk(state, records, other, divisor)

    around_chunks(patch, twice)
