"""What hours are like within a stay: what one patient can do to it, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings, target
from hypothesis import strategies as st

from rdpjax.data.grid import GRID
from rdpjax.data.stays import hour_profiles
from rdpjax.data.stays.hour_profiles import (
    BOUND,
    DEFAULT_LAG,
    DEFAULT_WITHIN,
    HOURLY,
    HOURS,
    MONITORED,
    PANELS,
    Profiles,
    clipped,
    profiles_vector,
)
from rdpjax.data.stays.hour_values import ADMISSION_EDGES, Values, Window, values_vector
from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import LONGEST, VARIABLES

Odd = Callable[[str, int, int], Patients]
Join = Callable[[Sequence[Patients]], Patients]

KINDS = ("constant", "alternating", "random", "sparse", "empty", "borders", "wild", "simulated")
# Nothing measured: every cell alike.
FLAT = Values.of(
    np.zeros(sum(v.cells for v in VARIABLES) + LONGEST + 101 + len(ADMISSION_EDGES) - 1)
)
seeds = st.integers(0, 2**32 - 1)
stays = st.one_of(st.sampled_from([1, 2, 335, 336]), st.integers(1, 336))
hours_modelled = st.sampled_from([1, 2, 24, 48, 336])


def unclipped(patients: Patients, hours: int, values: Values = FLAT) -> np.ndarray:
    return hour_profiles._vectors(Window.of(patients, hours), values)


def differences(patients: Patients, hours: int) -> float:
    whole, everyone = profiles_vector(patients, hours, FLAT), np.arange(len(patients))
    return max(
        np.abs(
            whole
            - profiles_vector(patients.take(everyone != i), hours, FLAT)
            - profiles_vector(patients.take(everyone == i), hours, FLAT)
        ).max()
        for i in everyone
    )


@settings(max_examples=80)
@given(st.sampled_from(KINDS), stays, seeds, hours_modelled)
def test_a_patient_adds_no_more_than_the_bound(
    odd: Odd, kind: str, stay: int, seed: int, hours: int
) -> None:
    one = odd(kind, stay, seed)
    norm = float(np.linalg.norm(profiles_vector(one, hours, FLAT)))
    target(float(np.linalg.norm(unclipped(one, hours))))
    assert norm <= BOUND


@settings(max_examples=30)
@given(seeds, st.sampled_from(KINDS), st.floats(0, 2))
def test_whatever_the_noisy_histograms_the_bound_holds(
    odd: Odd, seed: int, kind: str, scale: float
) -> None:
    size = sum(v.cells for v in VARIABLES) + LONGEST + 101 + len(ADMISSION_EDGES) - 1
    values = Values.of(np.random.default_rng(seed).normal(0, 10.0**scale, size))
    norm = float(np.linalg.norm(profiles_vector(odd(kind, 60, seed), 48, values)))
    target(norm)
    assert norm <= BOUND


def test_the_bound_is_reached_and_would_be_passed(odd: Odd) -> None:
    """Extremes hour after hour: what clipping is there for."""
    extreme = odd("alternating", 336, 0)
    assert np.linalg.norm(unclipped(extreme, 336)) > 2 * BOUND
    assert BOUND * (1 - 1e-3) < np.linalg.norm(profiles_vector(extreme, 336, FLAT)) <= BOUND


def test_without_the_clip_the_check_fails(odd: Odd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hour_profiles, "clipped", lambda vectors: vectors)
    assert np.linalg.norm(profiles_vector(odd("alternating", 336, 0), 336, FLAT)) > BOUND


def test_ordinary_patients_are_hardly_clipped(cohort: Patients) -> None:
    values = Values.of(values_vector(cohort, 24))
    vectors = unclipped(cohort, 24, values)
    assert (np.linalg.norm(vectors, axis=1) > BOUND).mean() < 0.05
    short = np.linalg.norm(vectors, axis=1) < BOUND * 0.99
    np.testing.assert_allclose(clipped(vectors)[short], vectors[short], atol=GRID)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200, 1e308])
def test_what_is_not_finite_counts_as_zero(bad: float) -> None:
    vectors = np.ones((3, 4))
    vectors[1, 2] = bad
    found = clipped(vectors)
    np.testing.assert_array_equal(found[1], 0)
    np.testing.assert_array_equal(found[[0, 2]], 1)


def test_rows_are_clipped_each_for_itself() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 500)) * 10.0 ** rng.integers(-8, 9, (50, 1))
    whole = clipped(vectors)
    assert np.linalg.norm(whole, axis=1).max() <= BOUND
    for i in range(50):
        np.testing.assert_array_equal(clipped(vectors[i : i + 1])[0], whole[i])
    np.testing.assert_array_equal(clipped(np.zeros((1, 3))), 0)
    assert clipped(np.zeros((0, 3))).shape == (0, 3)


def test_with_and_without_a_patient_differ_by_that_patient_alone(
    crowd: Patients, hours: int
) -> None:
    """To the last bit: sums of multiples of a grid are never rounded."""
    assert differences(crowd.take(np.arange(hours % 2, len(crowd), 3)), hours) == 0


def test_sums_that_round_are_seen(crowd: Patients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hour_profiles, "on_grid", lambda amounts: amounts)
    assert differences(crowd.take(np.arange(0, len(crowd), 3)), 24) > 0


def test_order_and_blocks_change_nothing(crowd: Patients, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = profiles_vector(crowd, 48, FLAT)
    shuffled = crowd.take(np.random.default_rng(0).permutation(len(crowd)))
    np.testing.assert_array_equal(profiles_vector(shuffled, 48, FLAT), whole)
    for size in (1, 5):
        monkeypatch.setattr(Patients.blocks, "__defaults__", (size,))
        np.testing.assert_array_equal(profiles_vector(crowd, 48, FLAT), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stay_ten_times_as_long_moves_no_more(
    odd: Odd, join: Join, crowd: Patients, kind: str
) -> None:
    before = profiles_vector(crowd, 336, FLAT)
    for stay in (1, 8, 33):
        for long in (stay, 10 * stay):
            after = profiles_vector(join([crowd, odd(kind, long, stay)]), 336, FLAT)
            assert np.linalg.norm(after - before) <= BOUND


@pytest.mark.parametrize("kind", ["empty", "wild"])
def test_a_patient_without_readings_adds_nothing(odd: Odd, kind: str) -> None:
    one = odd(kind, 30, 0)
    one.values[~np.isnan(one.values)] = np.inf  # no reading at all
    assert not profiles_vector(one, 24, FLAT).any()


def test_nobody_gives_zeros(nobody: Patients) -> None:
    assert not profiles_vector(nobody, 24, FLAT).any()


def test_one_hour_tells_of_times_alone(odd: Odd) -> None:
    vector = unclipped(odd("constant", 1, 0), 24)[0]
    times = vector[: len(PANELS) * len(HOURS)].reshape(len(PANELS), -1)
    np.testing.assert_array_equal(times[:, 0], 1)
    np.testing.assert_array_equal(vector[times.size : times.size + len(PANELS)], 1)
    assert not times[:, 1:].any() and not vector[times.size + len(PANELS) :].any()


def test_the_next_patients_hour_is_not_the_next_hour(odd: Odd, join: Join) -> None:
    """Persistence is within a stay: two stays of one hour each have none."""
    pair = join([odd("random", 1, 0), odd("random", 1, 1)])
    start = len(PANELS) * (len(HOURS) + 1)
    assert not unclipped(pair, 24)[:, start:].any()


def made_of(lag: float, within: float, correlation: float, stay: int = 240) -> Patients:
    """150 patients whose scores are autoregressive; heart rate and mean pressure go together."""
    rng = np.random.default_rng(1)
    n, names = 150, [v.name for v in VARIABLES]
    noise = rng.standard_normal((n, stay, len(VARIABLES)))
    a, b = names.index("HR"), names.index("MAP")
    noise[:, :, b] = correlation * noise[:, :, a] + np.sqrt(1 - correlation**2) * noise[:, :, b]
    for t in range(1, stay):
        noise[:, t] = lag * noise[:, t - 1] + np.sqrt(1 - lag**2) * noise[:, t]
    level = np.sqrt(1 - within) * rng.standard_normal((n, 1, len(VARIABLES)))
    scores = (level + np.sqrt(within) * noise).reshape(n * stay, -1)
    low, high = np.array([v.low for v in VARIABLES]), np.array([v.high for v in VARIABLES])
    values = (low + high) / 2 + (high - low) / 12 * scores
    return Patients(
        np.clip(values, low, high).astype(np.float32),
        np.arange(n + 1) * stay,
        np.ones(n, np.int32),
        np.full(n, -1, np.int32),
        np.full((n, 5), np.nan, np.float32),
        tuple(map(str, range(n))),
    )


@pytest.mark.parametrize(("lag", "within", "correlation"), [(0.5, 0.3, 0.6), (0.8, 0.2, -0.5)])
def test_what_was_put_in_comes_back(lag: float, within: float, correlation: float) -> None:
    patients = made_of(lag, within, correlation)
    values = Values.of(values_vector(patients, 336))
    profiles = Profiles.of(profiles_vector(patients, 336, values), 0.0, values.lengths, 336)
    fine = [j for j in MONITORED if VARIABLES[j].name not in ("O2Sat", "Temp")]
    np.testing.assert_allclose(profiles.lag[list(fine)], lag, atol=0.06)
    np.testing.assert_allclose(profiles.within[fine], within, atol=0.05)
    names = [VARIABLES[j].name for j in MONITORED]
    a, b = names.index("HR"), names.index("MAP")
    assert profiles.correlation[a, b] == pytest.approx(correlation, abs=0.07)
    rest = profiles.correlation - np.eye(len(names))
    rest[a, b] = rest[b, a] = 0
    assert np.abs(rest).max() < 0.05


def test_a_simulated_cohort_comes_back(cohort: Patients) -> None:
    """Its pressures go together by 0.8, its deviations persist by 0.9, seen through short stays."""
    values = Values.of(values_vector(cohort, 48))
    profiles = Profiles.of(profiles_vector(cohort, 48, values), 0.0, values.lengths, 48)
    assert profiles.lag[list(HOURLY)].min() > 0.7 and profiles.lag[list(HOURLY)].max() < 0.92
    names = [VARIABLES[j].name for j in MONITORED]
    expected = np.eye(len(names))
    for a, b, tie in (("SBP", "MAP", 0.8), ("DBP", "MAP", 0.8), ("SBP", "DBP", 0.64)):
        i, k = names.index(a), names.index(b)
        expected[i, k] = expected[k, i] = tie
    np.testing.assert_allclose(profiles.correlation, expected, atol=0.07)
    # The steadiest are blood counts and what has a wide spread between patients.
    within = dict(zip([v.name for v in VARIABLES], profiles.within, strict=True))
    assert within["Temp"] > within["HR"] > within["Hct"]


def test_times_are_those_at_which_a_panel_is_taken(odd: Odd, join: Join) -> None:
    """Glucose at the 3rd and the 12th hour alone, in stays of 24 hours."""
    one = odd("empty", 24, 0)
    glucose = [v.name for v in VARIABLES].index("Glucose")
    one.values[[2, 11], glucose] = 120
    many = join([one] * 300)
    values = Values.of(values_vector(many, 24))
    profiles = Profiles.of(profiles_vector(many, 24, values), 0.0, values.lengths, 24)
    odds = profiles.odds[PANELS.index("glucose"), :24]
    assert set(np.argsort(-odds)[:2]) == {2, 11}
    assert odds[[2, 11]] == pytest.approx([0.985 / 0.015] * 2, rel=1e-3), "as near 1 as a chance is"
    assert np.delete(odds, [2, 11]).max() < 0.003


SIZE = sum(hour_profiles._SIZES)


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e6])
def test_noise_alone_gives_possible_profiles(scale: float, hours: int) -> None:
    """Where there is nothing but noise, public defaults or thereabouts, and never nonsense."""
    noise = scale * np.random.default_rng(0).standard_normal(SIZE)
    profiles = Profiles.of(noise, scale, FLAT.lengths, hours)
    assert profiles.odds.shape == (len(PANELS), LONGEST)
    assert (profiles.odds > 0).all() and profiles.odds.max() < 66
    assert ((profiles.within >= 0.02) & (profiles.within <= 2)).all()
    assert ((profiles.lag >= 0) & (profiles.lag <= 0.98)).all()
    np.testing.assert_array_equal(profiles.correlation, profiles.correlation.T)
    np.testing.assert_allclose(np.diag(profiles.correlation), 1)
    assert np.linalg.eigvalsh(profiles.correlation)[0] > 0.01
    if scale == 0:
        np.testing.assert_allclose(profiles.within, DEFAULT_WITHIN)
        np.testing.assert_allclose(profiles.lag, DEFAULT_LAG)
