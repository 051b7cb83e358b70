"""Ways to break the pipeline.

A mutation is a small patch of our own code, of a kind that has been found in real libraries. Its
name says what is broken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import jax
import numpy as np
import pytest

from rdpjax.audits.subject import Subject
from rdpjax.dpsgd.plan import Plan
from rdpjax.fitting import plans as planning
from rdpjax.fitting import session
from rdpjax.fitting import stage_run as training
from rdpjax.mechanisms import measurement
from rdpjax.privacy import ledger as ledgers
from rdpjax.privacy.ledger import Ledger
from rdpjax.privacy.sealed import Access
from tests.audits import sabotage_leaks as leaks
from tests.audits import sabotage_steps as steps
from tests.dpsgd import test_sabotage as engine

Patch = pytest.MonkeyPatch
Mutation = Callable[[Patch, Subject], None]


def of_engine(mutation: Callable[[Patch], None]) -> Mutation:
    @wraps(mutation)
    def mutate(patch: Patch, subject: Subject) -> None:
        mutation(patch)

    return mutate


def measurement_unbounded(patch: Patch, subject: Subject) -> None:
    true = planning.histogram
    patch.setattr(planning, "histogram", lambda schema, cells: 2 * true(schema, cells))


def measurement_repeated_and_averaged(patch: Patch, subject: Subject) -> None:
    true = measurement.noisy

    def averaged(sums: Any, event: Any, key: bytes) -> Any:
        found = [true(sums, event, bytes([i]) + key[1:]) for i in range(16)]
        return np.mean([vector for vector, _ in found], axis=0), found[0][1]

    patch.setattr(measurement, "noisy", averaged)


def measured_twice_and_averaged(patch: Patch, subject: Subject) -> None:
    """Each of the two under an entry of its own, which equals the other."""
    true = measurement.noisy

    def averaged(sums: Any, event: Any, key: bytes) -> Any:
        found = [true(sums, event, bytes([i]) + key[1:]) for i in range(2)]
        return np.mean([vector for vector, _ in found], axis=0), found[0][1]

    patch.setattr(measurement, "noisy", averaged)
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
    true = measurement.noisy

    def leaky(sums: Any, event: Any, key: bytes) -> Any:
        vector, deviation = true(sums, event, key)
        vector[-1] = sums[-1]
        return vector, deviation

    patch.setattr(measurement, "noisy", leaky)


def noise_of_a_measurement_known(patch: Patch, subject: Subject) -> None:
    patch.setattr(session, "stream_key", lambda *args: bytes(32))


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


ENGINE = (
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

PIPELINE = (
    steps.record_used_twice_in_a_step,
    leaks.real_records_in_the_generators_update,
    leaks.free_mean_in_the_codec,
    leaks.bounds_from_the_data,
    steps.best_state_by_the_records_loss,
    steps.noise_scaled_by_the_draw,
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
    steps.resumed_with_fresh_noise,
    steps.noise_small_on_the_last_tenth,
    steps.noise_3_percent_small,
    steps.lattice_noise_3_percent_small,
    steps.noise_small_where_records_are_fed,
    steps.noise_repeated_after_64_steps,
    steps.noise_keys_of_the_first_chunk_in_every_chunk,
    steps.noise_keys_shifted_by_a_step_for_two_stages,
    steps.clipped_leaf_by_leaf,
    steps.small_leaves_left_out_of_the_norm,
    steps.last_use_left_out_of_the_norm,
    steps.last_smaller_microbatch_not_clipped,
    steps.one_kind_of_record_weighs_more,
    steps.one_kind_of_record_drawn_a_second_time,
    steps.rate_4_percent_up,
    steps.drawn_once_a_chunk,
    steps.chunk_thrown_away_unless_the_loss_fell,
    steps.chunk_taken_twice_under_one_entry,
    leaks.state_starts_from_a_mean_of_the_records,
    leaks.mean_added_to_released_parameters,
    leaks.codec_from_the_exact_histogram,
    leaks.exact_count_as_divisor,
    leaks.tilt_fitted_on_real_records,
    leaks.labels_offset_from_the_real_share_in_two_stages,
)

MUTATIONS: dict[str, Mutation] = {
    mutation.__name__.replace("_", " "): mutation
    for mutation in (*map(of_engine, ENGINE), *PIPELINE)
}
