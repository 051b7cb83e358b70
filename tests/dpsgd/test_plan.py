from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdpjax.dpsgd.plan import SCALE, Plan
from rdpjax.errors import UserError


def plan(**fields: float) -> Plan:
    given_fields = {"threshold": 2**30, "noise_multiplier": 1.1, "clip_norm": 2.0, "steps": 10}
    return Plan(**(given_fields | fields))  # type: ignore[arg-type]


@given(st.floats(2**-40, 1))
def test_the_rate_is_rounded_up_to_what_the_sampler_can_draw(rate: float):
    made = Plan.at_rate(rate, noise_multiplier=1, clip_norm=1, steps=1)
    assert rate <= made.sampling_rate < rate + 1 / SCALE
    assert made.sampling_rate * SCALE == made.threshold


@pytest.mark.parametrize(
    ("rate", "threshold"),
    [(1, 2**32), (2**-32, 1), (1e-300, 1), (0.5, 2**31), (0.04, 171_798_692)],
)
def test_thresholds_are_exact(rate: float, threshold: int):
    made = Plan.at_rate(rate, noise_multiplier=1, clip_norm=1, steps=1)
    assert made.threshold == threshold


def test_the_event_says_what_the_loop_does():
    made = Plan.at_rate(0.04, noise_multiplier=1.3, clip_norm=2.5, steps=100)
    event = made.event("vae", start=20, steps=30)
    assert event.stage == "vae"
    assert event.mechanism == "poisson_gaussian"
    assert event.sampling_rate * SCALE == made.threshold
    assert (event.noise_multiplier, event.clip_norm) == (1.3, 2.5)
    assert (event.start, event.steps) == (20, 30)


def test_no_privacy_is_only_had_on_purpose():
    free = plan(noise_multiplier=0, clip_norm=math.inf)
    assert not free.private
    assert free.event("vae", 0, 1).noise_multiplier == 0
    assert plan().private


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"threshold": 0}, "sampling rate must be in"),
        ({"threshold": SCALE + 1}, "sampling rate must be in"),
        ({"steps": 0}, "steps must be 1 or more, got 0"),
        ({"noise_multiplier": 0}, "noise multiplier must be positive, got 0"),
        ({"noise_multiplier": -1}, "noise multiplier must be positive"),
        ({"noise_multiplier": math.nan}, "noise multiplier must be positive"),
        ({"noise_multiplier": math.inf}, "noise multiplier must be positive"),
        ({"clip_norm": 0}, "clip norm must lie in"),
        ({"clip_norm": -1}, "clip norm must lie in"),
        ({"clip_norm": math.inf}, "clip norm must lie in"),
        ({"clip_norm": math.nan}, "clip norm must lie in"),
    ],
)
def test_what_is_no_plan_is_refused(fields: dict[str, float], message: str):
    with pytest.raises(UserError, match=message):
        plan(**fields)


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, math.nan, math.inf])
def test_what_is_no_rate_is_refused(rate: float):
    with pytest.raises(UserError, match="sampling_rate"):
        Plan.at_rate(rate, noise_multiplier=1, clip_norm=1, steps=1)


def test_a_plan_cannot_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan().noise_multiplier = 0.1  # type: ignore[misc]
