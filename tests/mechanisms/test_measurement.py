"""Measurements: entered before they are made, one noise at the public sensitivity."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from rdpjax.data.cardio import CARDIO
from rdpjax.data.grid import GRID
from rdpjax.data.schema import Schema
from rdpjax.data.tokenizer import encode_cells, histogram, sensitivity
from rdpjax.dpsgd.keys import stream_key
from rdpjax.errors import UserError
from rdpjax.mechanisms.measurement import measurement_event, noisy
from rdpjax.privacy.events import LATTICE_NUMBERS, LATTICE_STEPS, Event

KEY = stream_key(bytes(32), "marginals", "noise")


def counts(schema: Schema, frame: pd.DataFrame) -> np.ndarray:
    return histogram(schema, encode_cells(schema, frame))


def marginals_event(schema: Schema, noise: float) -> Event:
    return measurement_event("marginals", noise, sensitivity(schema))


def test_the_event_states_what_is_done() -> None:
    event = marginals_event(CARDIO, 1.5)
    assert (event.stage, event.mechanism, event.sampling_rate) == (
        "marginals",
        "discrete_gaussian",
        1.0,
    )
    assert (event.noise_multiplier, event.steps, event.start) == (1.5, 1, 0)
    assert event.clip_norm == pytest.approx(math.sqrt(13)), "twelve columns and the count"
    assert event.clip_norm**2 >= 13, "rounded up"
    assert math.isinf(marginals_event(CARDIO, 0.0).clip_norm), "no noise, no claim"


def test_the_noise_is_sigma_times_the_sensitivity_on_every_entry(toy_schema: Schema) -> None:
    """Sabotage: noise on all entries but the count, or at sensitivity 1, would show."""
    empty = np.empty((0, 4), np.int32)
    event = marginals_event(toy_schema, 2.0)
    draws = []
    for step in range(400):
        key = stream_key(bytes(32), "marginals", "noise", step)
        drawn, deviation = noisy(histogram(toy_schema, empty), event, key)
        draws.append(drawn)
    assert deviation == pytest.approx(2.0 * sensitivity(toy_schema)) == pytest.approx(2 * 5**0.5)
    found = np.array(draws)
    assert np.abs(found.mean(axis=0)).max() < 5 * deviation / 20
    # 400 draws tell a standard deviation to 3.5 %, the worst of some 120 entries to 14 %.
    assert np.abs(found.std(axis=0) / deviation - 1).max() < 0.16
    assert np.corrcoef(found[:, 0], found[:, -1])[0, 1] < 0.25


def test_the_noise_is_added_to_the_counts(toy_schema: Schema, toy_frame: pd.DataFrame) -> None:
    exact, empty = counts(toy_schema, toy_frame), counts(toy_schema, toy_frame[:0])
    event = marginals_event(toy_schema, 1.0)
    some, none = noisy(exact, event, KEY)[0], noisy(empty, event, KEY)[0]
    np.testing.assert_array_equal(some - none, exact)
    np.testing.assert_array_equal(noisy(exact, event, KEY)[0], some, "a replay has the same noise")


def test_without_noise_the_counts_are_exact(toy_schema: Schema, toy_frame: pd.DataFrame) -> None:
    event = marginals_event(toy_schema, 0.0)
    exact = counts(toy_schema, toy_frame)
    same, deviation = noisy(exact, event, KEY)
    np.testing.assert_array_equal(same, exact)
    assert deviation == 0


def test_the_noise_keeps_to_the_sensitivity_of_the_event() -> None:
    """Sabotage: noise at another sensitivity than the entry's (1, say) would show."""
    event = measurement_event("levels", 0.5, 40.0)
    drawn, deviation = noisy(np.zeros(20_000), event, KEY)
    assert deviation == 20.0
    assert drawn.std() == pytest.approx(20, rel=0.03)
    np.testing.assert_array_less(0, np.abs(drawn))


def test_the_sum_is_not_rounded_to_single_precision() -> None:
    """A large sum and its neighbour lie as far apart as they are, or the bound is not one."""
    event = measurement_event("levels", 1.0, 1.0)
    sums = np.array([2.0**25 + 1, 2.0**25])
    one, two = (noisy(s, event, KEY)[0] for s in (sums, sums - 1))
    np.testing.assert_array_equal(one - two, [1, 1])


@pytest.mark.parametrize("noise", [0.05, 1.0, 40.0, 1e4])
def test_sums_and_noise_are_whole_steps_of_one_lattice(noise: float) -> None:
    """The last digits are the noise's own: a sum on a finer grid would show in them."""
    event = measurement_event("levels", noise, 3.0)
    sums = np.arange(2_000) * GRID
    drawn, deviation = noisy(sums, event, KEY)
    zero, _ = noisy(np.zeros(2_000), event, KEY)
    step = min(GRID, 2.0 ** np.floor(np.log2(3.0 * noise / LATTICE_STEPS)))
    assert deviation >= 3.0 * noise and deviation / step >= LATTICE_STEPS
    np.testing.assert_array_equal(drawn / step, np.rint(drawn / step))
    np.testing.assert_array_equal(drawn - zero, sums)
    with pytest.raises(ValueError, match="off the grid"):
        noisy(sums + step / 2, event, KEY)


def test_no_more_numbers_than_the_accountant_allows_for() -> None:
    event = measurement_event("levels", 1.0, 1.0)
    noisy(np.zeros(LATTICE_NUMBERS), event, KEY)
    with pytest.raises(UserError, match="levels: 262145 numbers to measure, at most 262144"):
        noisy(np.zeros(LATTICE_NUMBERS + 1), event, KEY)


@pytest.mark.parametrize("sums", [np.nan, np.inf, 2.0**60])
def test_sums_that_no_integer_can_hold_are_a_fault(sums: float) -> None:
    with pytest.raises(ValueError, match="too large"):
        noisy(np.array([sums]), measurement_event("levels", 0.05, 2.0), KEY)


def test_one_record_moves_the_histogram_by_the_sensitivity(
    toy_schema: Schema, toy_frame: pd.DataFrame
) -> None:
    cells = encode_cells(toy_schema, toy_frame)
    moves = {
        float(np.linalg.norm(histogram(toy_schema, cells[:k]) - histogram(toy_schema, cells[1:k])))
        for k in range(2, 50)
    }
    assert max(moves) == pytest.approx(sensitivity(toy_schema)) == min(moves)


def test_an_event_is_one_gaussian() -> None:
    assert marginals_event(CARDIO, 1.0) == Event(
        "marginals", "discrete_gaussian", 1.0, 1.0, sensitivity(CARDIO), steps=1
    )
