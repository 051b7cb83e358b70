"""Ways to break the pipeline.

A mutation is a small patch of our own code, of a kind that has been found in real libraries. Its
name says what is broken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdpjax import checkpoint, pipeline, training
from rdpjax.audits.subject import Subject
from rdpjax.data import forms
from rdpjax.dpsgd import loop
from rdpjax.dpsgd.keys import Roots
from rdpjax.dpsgd.plan import Plan
from rdpjax.privacy import ledger as ledgers
from rdpjax.privacy.ledger import Ledger
from rdpjax.privacy.sealed import Access
from tests.dpsgd import test_sabotage as engine

Patch = pytest.MonkeyPatch
Mutation = Callable[[Patch, Subject], None]


def of_engine(mutation: Callable[[Patch], None]) -> Mutation:
    def mutate(patch: Patch, subject: Subject) -> None:
        mutation(patch)

    return mutate


def record_used_twice_in_a_step(patch: Patch, subject: Subject) -> None:
    true = loop.drawn_sum

    def twice(*args: Any) -> Any:
        part, count = true(*args)
        return jax.tree.map(lambda leaf: 2 * leaf, part), count

    patch.setattr(loop, "drawn_sum", twice)


def real_records_in_the_generators_update(patch: Patch, subject: Subject) -> None:
    """A stage's update closes over the mean of the records' cells."""
    box, true_cells = {"mean": 0.0}, forms.TableForm.cells
    stage = type(next(iter(subject.config.stages.values())))
    true = stage.training

    def cells(self: Any, records: Any, filling: Any) -> np.ndarray:
        found = true_cells(self, records, filling)
        box["mean"] = float(found.mean())
        return found

    def leaky(self: Any, context: Any) -> Any:
        own = true(self, context)

        def update(state: Any, given: Any, key: Any) -> Any:
            state, metrics = own.update(state, given, key)
            return jax.tree.map(lambda leaf: leaf + 1e-3 * box["mean"], state), metrics

        return own._replace(update=update)

    patch.setattr(forms.TableForm, "cells", cells)
    patch.setattr(stage, "training", leaky)


def free_mean_in_the_codec(patch: Patch, subject: Subject) -> None:
    """Numbers are centred on their own mean."""
    true = forms.encode_cells

    def centred(schema: Any, frame: Any) -> np.ndarray:
        low = frame["low"].astype(float)
        shifted = low - low[np.isfinite(low)].mean() + 10
        return true(schema, frame.assign(low=shifted))

    patch.setattr(forms, "encode_cells", centred)


def bounds_from_the_data(patch: Patch, subject: Subject) -> None:
    true = forms.encode_cells

    def scaled(schema: Any, frame: Any) -> np.ndarray:
        high = frame["high"].clip(0, 1e4)
        return true(schema, frame.assign(high=90 * high / high.max()))

    patch.setattr(forms, "encode_cells", scaled)


def best_state_by_the_records_loss(patch: Patch, subject: Subject) -> None:
    true = training.make_chunk

    def make_chunk(*args: Any) -> Any:
        chunk = true(*args)

        def choose(*given: Any) -> Any:
            state, metrics = chunk(*given)
            weight = 1 + 1e-3 * jnp.tanh(metrics["loss"][-1])
            floats = (jnp.float32,)
            return jax.tree.map(
                lambda leaf: leaf * weight if leaf.dtype in floats else leaf, state
            ), metrics

        return choose

    patch.setattr(training, "make_chunk", make_chunk)


def measurement_unbounded(patch: Patch, subject: Subject) -> None:
    true = pipeline.histogram
    patch.setattr(pipeline, "histogram", lambda schema, cells: 2 * true(schema, cells))


def measurement_repeated_and_averaged(patch: Patch, subject: Subject) -> None:
    true = pipeline.noisy

    def averaged(sums: Any, event: Any, key: bytes) -> Any:
        found = [true(sums, event, bytes([i]) + key[1:]) for i in range(16)]
        return np.mean([vector for vector, _ in found], axis=0), found[0][1]

    patch.setattr(pipeline, "noisy", averaged)


def measured_twice_and_averaged(patch: Patch, subject: Subject) -> None:
    """Each of the two under an entry of its own, which equals the other."""
    true = pipeline.noisy

    def averaged(sums: Any, event: Any, key: bytes) -> Any:
        found = [true(sums, event, bytes([i]) + key[1:]) for i in range(2)]
        return np.mean([vector for vector, _ in found], axis=0), found[0][1]

    patch.setattr(pipeline, "noisy", averaged)
    _opened_twice(patch, lambda event: event.stage == "marginals")


def each_chunk_taken_twice(patch: Patch, subject: Subject) -> None:
    """The second time with other draws and other noise, as if it were a replay."""
    true = training.make_chunk

    def make_chunk(*args: Any) -> Any:
        chunk = true(*args)

        def twice(state: Any, records: Any, keys: Any, divisor: Any) -> Any:
            others = jax.tree.map(lambda key: key[::-1], keys)
            return chunk(chunk(state, records, others, divisor)[0], records, keys, divisor)

        return twice

    patch.setattr(training, "make_chunk", make_chunk)
    _opened_twice(patch, lambda event: event.stage != "marginals")


def _opened_twice(patch: Patch, chosen: Callable[[Any], bool]) -> None:
    true = Ledger.access

    @contextmanager
    def access(self: Ledger, event: Any) -> Iterator[Access]:
        if chosen(event):
            self.open(event)
        with true(self, event) as opened:
            yield opened

    patch.setattr(Ledger, "access", access)


def exact_count_of_records(patch: Patch, subject: Subject) -> None:
    true = pipeline.noisy

    def leaky(sums: Any, event: Any, key: bytes) -> Any:
        vector, deviation = true(sums, event, key)
        vector[-1] = sums[-1]
        return vector, deviation

    patch.setattr(pipeline, "noisy", leaky)


def noise_of_a_measurement_known(patch: Patch, subject: Subject) -> None:
    patch.setattr(pipeline, "stream_key", lambda *args: bytes(32))


def entry_with_twice_the_noise(patch: Patch, subject: Subject) -> None:
    true = Plan.event

    def event(self: Plan, *args: Any) -> Any:
        found = true(self, *args)
        return dataclasses.replace(found, noise_multiplier=2 * found.noise_multiplier)

    patch.setattr(Plan, "event", event)


def entry_with_half_the_rate(patch: Patch, subject: Subject) -> None:
    true = Plan.event

    def event(self: Plan, *args: Any) -> Any:
        found = true(self, *args)
        return dataclasses.replace(found, sampling_rate=found.sampling_rate / 2)

    patch.setattr(Plan, "event", event)


def unlogged_access(patch: Patch, subject: Subject) -> None:
    true = Ledger.open

    def sometimes(self: Ledger, event: Any) -> bool:
        return False if event.start > 0 else true(self, event)

    patch.setattr(Ledger, "open", sometimes)


def entry_after_the_access(patch: Patch, subject: Subject) -> None:
    @contextmanager
    def late(self: Ledger, event: Any) -> Iterator[Access]:
        yield Access(event)
        self.open(event)

    patch.setattr(Ledger, "access", late)


def read_before_the_first_entry(patch: Patch, subject: Subject) -> None:
    true = training.StageRun.train

    def peek(self: Any, context: Any, codes: Any, *rest: Any) -> Any:
        codes.sealed.read(None)
        return true(self, context, codes, *rest)

    patch.setattr(training.StageRun, "train", peek)


def budget_guard_off(patch: Patch, subject: Subject) -> None:
    patch.setattr(ledgers, "rdp_epsilon", lambda events, delta: (0.0, None))


def resumed_with_fresh_noise(patch: Patch, subject: Subject) -> None:
    """After a checkpoint was loaded, noise comes from another root, under the old name."""
    true_load, true_keys, loaded = checkpoint.load, training.chunk_keys, [False]

    def load(*args: Any) -> Any:
        loaded[0] = True
        return true_load(*args)

    def chunk_keys(plan: Plan, roots: Roots, *args: Any) -> Any:
        other = dataclasses.replace(roots, noise=Roots.make(77).noise)
        return true_keys(plan, other if loaded[0] else roots, *args)

    patch.setattr(checkpoint, "load", load)
    patch.setattr(training, "chunk_keys", chunk_keys)


def noise_scaled_by_the_draw(patch: Patch, subject: Subject) -> None:
    """As if the batch's own size were public."""
    engine.scale_by_the_draw(patch, lambda divisor, count: 1 + 0.5 / jnp.maximum(count, 1))


MUTATIONS: dict[str, Mutation] = {
    mutation.__name__.replace("_", " "): of_engine(mutation)
    for mutation in (
        engine.noise_off,
        engine.noise_halved,
        engine.same_noise_every_step,
        engine.one_key_for_two_stages,
        engine.one_key_for_two_purposes,
        engine.clip_off,
        engine.clip_doubled,
        engine.clip_after_the_sum,
        engine.mask_off,
        engine.non_finite_let_through,
        engine.realised_batch_as_divisor,
        engine.draw_truncated,
        engine.rate_doubled,
        engine.fixed_size_batch,
    )
} | {
    mutation.__name__.replace("_", " "): mutation
    for mutation in (
        record_used_twice_in_a_step,
        real_records_in_the_generators_update,
        free_mean_in_the_codec,
        bounds_from_the_data,
        best_state_by_the_records_loss,
        noise_scaled_by_the_draw,
        measurement_unbounded,
        measurement_repeated_and_averaged,
        measured_twice_and_averaged,
        each_chunk_taken_twice,
        exact_count_of_records,
        noise_of_a_measurement_known,
        entry_with_twice_the_noise,
        entry_with_half_the_rate,
        unlogged_access,
        entry_after_the_access,
        read_before_the_first_entry,
        budget_guard_off,
        resumed_with_fresh_noise,
    )
}
