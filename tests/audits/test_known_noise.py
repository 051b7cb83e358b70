"""Noise that is not that of its key is found, to the last number; no key is taken twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rdpjax.audits.replay.known_noise import measurement_noise, noise, repeated_keys, step_noise
from rdpjax.audits.replay.recording import Recording
from rdpjax.config_file import load_config
from rdpjax.dpsgd.keys import Roots, derive, stream_key
from rdpjax.dpsgd.lattice import UNITS, lattice_noise
from rdpjax.dpsgd.noise import add_gaussian
from rdpjax.fitting.plans import Plans, make_plans
from rdpjax.mechanisms.measurement import noisy
from rdpjax.privacy.events import Event
from tests.audits import sabotage_steps as sabotage

ROOTS = (Roots.make(1), Roots.make(2))
STAGE = Event("vae", "poisson_gaussian", 0.5, 1.5, 2.0, 3)
EVENTS = {"vae": STAGE, "marginals": Event("marginals", "discrete_gaussian", 1.0, 5.0, 3.0, 1)}
DIVISOR, NUMBERS, STEPS = 40.0, 11_504, 3
CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.toml"))


def recording(roots: Roots) -> Recording:
    """As a fit would have it, from the engine's own noise; sums are larger than the noise."""
    rng = np.random.default_rng(0)
    sums = rng.normal(size=(STEPS, NUMBERS)).astype(np.float32) * 200
    keys = [derive(roots.noise, "vae", "noise", step) for step in range(STEPS)]
    noised = [np.asarray(add_gaussian(key, row, 3.0)) for key, row in zip(keys, sums, strict=True)]
    answer, _ = noisy(
        np.arange(300.0), EVENTS["marginals"], stream_key(roots.noise, "marginals", "noise")
    )
    return Recording({"marginals": answer}, {"vae": np.stack(noised) / np.float32(DIVISOR)})


@pytest.fixture
def pair() -> tuple[Recording, Recording]:
    return recording(ROOTS[0]), recording(ROOTS[1])


def broken(pair: tuple[Recording, Recording]) -> list[tuple[str, str]]:
    found = noise([pair], ROOTS, EVENTS, {"vae": DIVISOR})
    assert {each.what for each in found} == {
        "noise, off that of its key",
        "noise, off the claimed deviation",
    }
    return [(each.what, each.where) for each in found if not each.holds]


def test_the_engines_own_noise_holds(pair: tuple[Recording, Recording]) -> None:
    assert broken(pair) == []
    found = noise([pair, pair], ROOTS, EVENTS, {"vae": DIVISOR})
    over = {each.where: each.over for each in found}
    assert over == {"vae": 2 * STEPS * NUMBERS, "marginals": 2 * 300}


@pytest.mark.parametrize("change", ["one number bare", "a bias bare", "2 % small", "steps swapped"])
def test_a_fault_of_noise_is_found(change: str, pair: tuple[Recording, Recording]) -> None:
    """Each in one fit, and each within what a statistical comparison has to allow."""
    bare = [recording(roots).gradients["vae"].copy() for roots in ROOTS]
    for root, fit, clean in zip(ROOTS, pair, bare, strict=True):
        noises = np.stack([step_noise(STAGE, root.noise, t, NUMBERS) for t in range(STEPS)])
        noises = (noises / DIVISOR).astype(np.float32)
        given = fit.gradients["vae"]
        if change == "one number bare":
            given[2, 77] -= noises[2, 77]
        elif change == "a bias bare":
            given[:, 100:196] -= noises[:, 100:196]
        elif change == "2 % small":
            given -= np.float32(0.02) * noises
        else:
            fit.gradients["vae"] = clean - noises + noises[::-1]
    assert broken(pair) == [("noise, off that of its key", "vae")]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_off(value: float, pair: tuple[Recording, Recording]) -> None:
    pair[1].gradients["vae"][1, 5] = value
    assert broken(pair) == [("noise, off that of its key", "vae")]


def test_noise_of_a_measurement_is_known_exactly(pair: tuple[Recording, Recording]) -> None:
    event = EVENTS["marginals"]
    key = stream_key(ROOTS[0].noise, "marginals", "noise")
    expected, _ = noisy(np.zeros(300), event, key)
    np.testing.assert_array_equal(measurement_noise(event, ROOTS[0].noise, 300), expected)
    pair[0].answers["marginals"][299] += event.noise_multiplier * event.clip_norm / 1000
    assert broken(pair) == [("noise, off that of its key", "marginals")]


def test_lattice_noise_is_known_exactly() -> None:
    event = Event("vae", "poisson_discrete_gaussian", 0.5, 1.5, 2.0, 3)
    for step in range(2):
        own = lattice_noise(ROOTS[0], "vae", step, 1, 500, 1.5)[0] * (2.0 / UNITS)
        np.testing.assert_array_equal(step_noise(event, ROOTS[0].noise, step, 500), own)


def plans_of(config: Path) -> Plans:
    return make_plans(load_config(config))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_no_shipped_plan_takes_a_key_twice(config: Path) -> None:
    """Sampling and noise keys of all steps of all stages, chunk by chunk as training takes them."""
    plans = plans_of(config)
    found = repeated_keys(plans, ROOTS[0], 50)
    assert found.holds and found.over == 2 * sum(plan.steps for plan in plans.stages.values())


@pytest.mark.parametrize(
    "mutation",
    [
        sabotage.noise_repeated_after_64_steps,
        sabotage.noise_keys_of_the_first_chunk_in_every_chunk,
        sabotage.noise_keys_shifted_by_a_step_for_two_stages,
        sabotage.drawn_once_a_chunk,
    ],
    ids=lambda mutation: mutation.__name__,
)
def test_keys_that_come_again_are_counted(
    mutation: sabotage.Mutation, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = plans_of(Path("cardio.toml"))
    mutation(monkeypatch, None)
    assert not repeated_keys(plans, ROOTS[0], 50).holds
