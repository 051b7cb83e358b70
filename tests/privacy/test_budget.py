"""Calibration: the target is met from below, and shares mean what they say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdpjax.errors import UserError
from rdpjax.privacy.accountants import orders, rdp_epsilon
from rdpjax.privacy.budget import Budget, Demand, _round_up, calibrate, calibrate_alone
from rdpjax.privacy.events import round_up_rate

ORIGINAL = [
    (Demand(name, "poisson_gaussian", round_up_rate(1 / 274), steps), epsilon, sigma)
    for name, steps, epsilon, sigma in (
        ("vae", 5480, 3.0, 0.7795), ("gan", 6850, 4.0, 0.7276), ("labeler", 2192, 2.0, 0.8162),
    )
]  # fmt: skip
STAGES = [
    Demand("marginals", "gaussian", 1.0, 1),
    Demand("vae", "poisson_gaussian", round_up_rate(0.04), 1500),
    Demand("gan", "poisson_gaussian", round_up_rate(0.02), 3000),
    Demand("labeler", "poisson_gaussian", round_up_rate(0.02), 500),
]
SHARES = {"marginals": 0.1, "vae": 0.5, "gan": 0.3, "labeler": 0.1}


def cost(noise: dict[str, float], demands: list[Demand], delta: float) -> float:
    return rdp_epsilon([d.event(noise[d.name]) for d in demands], delta)[0]


def test_the_original_plan_stage_by_stage() -> None:
    noise = {}
    for demand, epsilon, sigma in ORIGINAL:
        noise[demand.name] = calibrate_alone(epsilon, 1e-5, demand)
        assert noise[demand.name] == pytest.approx(sigma, abs=1e-4)
        own = cost(noise, [demand], 1e-5)
        assert epsilon - 1e-3 < own <= epsilon
    assert cost(noise, [d for d, _, _ in ORIGINAL], 1e-5) == pytest.approx(5.041, abs=1e-3)


def test_calibrate_alone_is_the_least_noise_of_six_digits() -> None:
    demand, epsilon, _ = ORIGINAL[0]
    sigma = calibrate_alone(epsilon, 1e-5, demand)
    assert float(f"{sigma:.6g}") == sigma
    assert rdp_epsilon([demand.event(sigma - 2e-6)], 1e-5)[0] > epsilon


@pytest.mark.parametrize("epsilon", [0.5, 1, 5, 10.0])
def test_all_stages_together_meet_the_target_from_below(epsilon: float) -> None:
    noise = calibrate(Budget(epsilon), STAGES, SHARES)
    assert list(noise) == [demand.name for demand in STAGES]
    assert epsilon - 1e-3 < cost(noise, STAGES, 1e-5) <= epsilon
    for sigma in noise.values():
        assert float(f"{sigma:.6g}") == sigma  # what is printed is what is used


@settings(max_examples=6)
@given(
    st.floats(0.1, 12), st.sampled_from([1e-4, 1e-5, 1e-7]),
    st.lists(
        st.tuples(st.floats(1e-3, 0.2), st.integers(1, 4000), st.floats(0.1, 1)),
        min_size=1, max_size=3,
    ),
)  # fmt: skip
def test_round_trip_never_exceeds_the_target(
    epsilon: float, delta: float, stages: list[tuple[float, int, float]]
) -> None:
    demands = [
        Demand(f"s{i}", "poisson_gaussian", round_up_rate(q), steps)
        for i, (q, steps, _) in enumerate(stages)
    ]
    total = math.fsum(weight for *_, weight in stages)
    shares = {f"s{i}": weight / total for i, (*_, weight) in enumerate(stages)}
    try:
        noise = calibrate(Budget(epsilon, delta), demands, shares)
    except UserError as error:
        assert "too little to cost anything" in str(error) or "cannot be" in str(error)
    else:
        assert epsilon - 1e-3 < cost(noise, demands, delta) <= epsilon


def test_gaussians_get_their_share_of_mu_squared() -> None:
    """For plain Gaussians mu adds in squares, so the shares come out exactly."""
    shares = {"a": 0.2, "b": 0.8}
    demands = [Demand("a", "gaussian", 1.0, 1), Demand("b", "gaussian", 1.0, 9)]
    noise = calibrate(Budget(2.0), demands, shares)
    mu2 = {d.name: d.steps / noise[d.name] ** 2 for d in demands}
    assert mu2["a"] / (mu2["a"] + mu2["b"]) == pytest.approx(0.2, abs=1e-4)
    a = np.array(orders())
    total = sum(mu2.values()) / 2
    bound = total * a + np.log1p(-1 / a) - (np.log(1e-5) + np.log(a)) / (a - 1)
    assert 2.0 - 1e-3 < bound.min() <= 2.0


def test_more_share_is_less_noise() -> None:
    more = calibrate(Budget(), STAGES, SHARES | {"vae": 0.6, "gan": 0.2})
    base = calibrate(Budget(), STAGES, SHARES)
    assert more["vae"] < base["vae"] and more["gan"] > base["gan"]


def test_one_stage_with_everything_is_calibrated_alone() -> None:
    noise = calibrate(Budget(3.0), [ORIGINAL[0][0]], {"vae": 1.0})
    assert noise["vae"] == pytest.approx(calibrate_alone(3.0, 1e-5, ORIGINAL[0][0]), rel=3e-4)


@pytest.mark.parametrize("epsilon", [0, -1, math.inf, math.nan, "5", None, True])
def test_epsilon_is_checked(epsilon: Any) -> None:
    with pytest.raises(UserError, match=r"epsilon is .* positive, finite"):
        Budget(epsilon)


@pytest.mark.parametrize("delta", [0, 1, -0.1, math.nan, "1e-5"])
def test_delta_is_checked(delta: Any) -> None:
    with pytest.raises(UserError, match="delta is"):
        Budget(5.0, delta)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        (SHARES | {"vae": 0.4}, r"shares sum to 0.9 \(marginals 0.1, vae 0.4, gan 0.3, labeler"),
        (SHARES | {"vae": 0.6, "gan": 0.2001}, "shares sum to 1.0001"),
        (SHARES | {"vae": 0.8, "gan": 0.0}, "shares: gan is 0.0; it must be a positive number"),
        (SHARES | {"gan": -0.3, "vae": 1.1}, "shares: gan is -0.3"),
        (SHARES | {"gan": math.nan}, "shares: gan is nan"),
        (SHARES | {"gan": "0.3"}, "shares: gan is '0.3'"),
        ({"vae": 1.0}, "shares are given for vae, but the stages are marginals, vae, gan"),
        (SHARES | {"other": 0.1}, "but the stages are"),
        ({}, "shares are given for nothing"),
    ],
)
def test_shares_that_do_not_fit_are_named(shares: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        calibrate(Budget(), STAGES, shares)


def test_stages_that_do_not_fit_are_named() -> None:
    with pytest.raises(UserError, match="no stage"):
        calibrate(Budget(), [], {})
    with pytest.raises(UserError, match="same name"):
        calibrate(Budget(), [STAGES[0], STAGES[0]], {"marginals": 1.0})
    with pytest.raises(UserError, match="'vae': steps is 0"):
        calibrate(Budget(), [Demand("vae", "gaussian", 1.0, 0)], {"vae": 1.0})


@pytest.mark.parametrize(
    ("epsilon", "steps", "message"),
    [
        (1e-3, 1, "needs a noise multiplier above 10000"),
        (0.1, 10**12, "stage 'vae': .* needs a noise multiplier above 10000"),
        (1e7, 1, "even a noise multiplier of 0.05 costs less"),
    ],
)
def test_what_cannot_be_reached_is_refused(epsilon: float, steps: int, message: str) -> None:
    demand = Demand("vae", "gaussian", 1.0, steps)
    for run in (
        lambda: calibrate(Budget(epsilon), [demand], {"vae": 1.0}),
        lambda: calibrate_alone(epsilon, 1e-5, demand),
    ):
        with pytest.raises(UserError, match=message.removeprefix("stage 'vae': .* ")):
            run()


@given(st.floats(0.05, 1e4))
def test_noise_is_rounded_up_to_six_digits(sigma: float) -> None:
    rounded = _round_up(sigma)
    assert sigma <= rounded <= sigma * (1 + 1e-5)
    assert float(f"{rounded:.6g}") == rounded
