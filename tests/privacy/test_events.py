"""Events: what can be accounted gets in, everything else is refused by name."""

from __future__ import annotations

import dataclasses
import json
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdpjax.errors import UserError
from rdpjax.privacy.events import Event, events_from_list, events_to_list, merge, round_up_rate

GOOD = Event("vae", "poisson_gaussian", 0.25, 1.1, 0.5, 100, 7)


@given(st.floats(min_value=0, max_value=1, exclude_min=True))
def test_rates_are_rounded_up_by_less_than_one_unit(rate: float) -> None:
    rounded = Fraction(round_up_rate(rate))
    assert (rounded * 2**32).denominator == 1
    assert 0 <= rounded - Fraction(rate) < Fraction(1, 2**32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mechanism": "shuffled_gaussian"}, "shuffled batches are not Poisson"),
        ({"mechanism": "weighted_gaussian"}, "weighted sampling"),
        ({"mechanism": "truncated_poisson_gaussian"}, "truncated batches"),
        ({"mechanism": "without_replacement"}, "another analysis"),
        ({"mechanism": "laplace"}, "'laplace' is not accounted; use one of gaussian"),
        ({"mechanism": "gaussian"}, "'gaussian' reads every record"),
        ({"relation": "replace-one"}, "doubles the sensitivity"),
        ({"sampling_rate": 0.01}, "not a multiple of 2\\*\\*-32"),
        ({"sampling_rate": 0.0}, r"must lie in \(0, 1\]"),
        ({"sampling_rate": 1.5}, r"must lie in \(0, 1\]"),
        ({"sampling_rate": True}, "give a number"),
        ({"noise_multiplier": -1.0}, "must be 0, or from 1e-6 to 1e6"),
        ({"noise_multiplier": 1e-7}, "must be 0, or from 1e-6 to 1e6"),
        ({"noise_multiplier": 1e200}, "must be 0, or from 1e-6 to 1e6"),
        ({"noise_multiplier": 10**400}, "too large a number"),
        ({"steps": 10**400}, "too large a number"),
        ({"noise_multiplier": math.nan}, "finite"),
        ({"noise_multiplier": math.inf}, "finite"),
        ({"noise_multiplier": "1"}, "give a number"),
        ({"clip_norm": 0.0}, "must be positive"),
        ({"clip_norm": math.nan}, "finite"),
        ({"clip_norm": math.inf}, "bounded contribution"),
        ({"steps": 0}, "at least 1"),
        ({"steps": 2.0}, "whole number"),
        ({"steps": True}, "whole number"),
        ({"start": -1}, "at least 0"),
        ({"stage": ""}, "name of one line"),
        ({"stage": "a\nb"}, "name of one line"),
    ],
)
def test_what_cannot_be_accounted_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(GOOD, **change)


def test_numpy_scalars_become_python_numbers() -> None:
    event = Event(
        "vae", "poisson_gaussian", np.float64(0.25), np.float32(1.5), np.float32(1), np.int64(3)
    )
    for name in ("sampling_rate", "noise_multiplier", "clip_norm"):
        assert type(getattr(event, name)) is float
    assert type(event.steps) is int


@given(st.floats(1e-3, 1e3), st.floats(1e-6, 1e6), st.integers(1, 10**9))
def test_json_keeps_every_bit(sigma: float, clip: float, steps: int) -> None:
    event = Event("gan", "poisson_gaussian", round_up_rate(1 / 274), sigma, clip, steps)
    assert events_from_list(json.loads(json.dumps(events_to_list([event])))) == (event,)


def test_no_clipping_survives_strict_json() -> None:
    event = Event("vae", "poisson_gaussian", 0.25, 0.0, math.inf, 10)
    assert Event.from_dict(json.loads(json.dumps(event.to_dict(), allow_nan=False))) == event


def test_an_event_list_with_holes_is_refused() -> None:
    values = GOOD.to_dict()
    with pytest.raises(UserError, match="steps missing"):
        Event.from_dict({key: value for key, value in values.items() if key != "steps"})
    with pytest.raises(UserError, match="unknown key 'weights'"):
        Event.from_dict({**values, "weights": [1, 2]})
    for bad in (None, {}, "x", [1], [None]):
        with pytest.raises(UserError, match="incomplete"):
            events_from_list(bad)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_contiguous_chunks_merge_into_one(chunks: list[int]) -> None:
    starts = np.cumsum([0, *chunks[:-1]])
    events = [
        dataclasses.replace(GOOD, start=start, steps=steps)
        for start, steps in zip(starts, chunks, strict=True)
    ]
    assert merge(events) == (dataclasses.replace(GOOD, start=0, steps=sum(chunks)),)


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from([1.0, 2.0]), st.integers(0, 9),
                  st.integers(1, 5)), max_size=15)
)  # fmt: skip
def test_merging_never_loses_a_step(chunks: list[tuple[str, float, int, int]]) -> None:
    def steps(events: Any) -> dict[tuple[str, float], int]:
        total: dict[tuple[str, float], int] = {}
        for e in events:
            key = (e.stage, e.noise_multiplier)
            total[key] = total.get(key, 0) + e.steps
        return total

    events = [Event(s, "gaussian", 1.0, sigma, 1.0, n, start) for s, sigma, start, n in chunks]
    assert steps(merge(events)) == steps(events)


def test_gaps_overlaps_and_other_plans_do_not_merge() -> None:
    after = dataclasses.replace(GOOD, start=GOOD.end)
    for other in (
        dataclasses.replace(after, start=GOOD.end + 1),
        dataclasses.replace(after, start=GOOD.end - 1),
        dataclasses.replace(after, stage="gan"),
        dataclasses.replace(after, noise_multiplier=2.0),
        dataclasses.replace(after, clip_norm=2.0),
        dataclasses.replace(after, sampling_rate=0.5),
    ):
        assert merge([GOOD, other]) == (GOOD, other)
