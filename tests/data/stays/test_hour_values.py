"""Histograms of readings: what one patient can do to them, and what is read off them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings, target
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rdpjax.data.grid import GRID, on_grid
from rdpjax.data.stays import hour_values
from rdpjax.data.stays.hour_values import (
    Values,
    Window,
    value_weights,
    values_sensitivity,
    values_vector,
)
from rdpjax.data.stays.patient_table import encode_patients
from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import LONGEST, VARIABLES

Odd = Callable[[str, int, int], Patients]
Join = Callable[[Sequence[Patients]], Patients]

KINDS = ("constant", "alternating", "random", "sparse", "empty", "borders", "wild", "simulated")
SIZES = (*(v.cells for v in VARIABLES), LONGEST, 101, len(hour_values.ADMISSION_EDGES) - 1)
hours_modelled = st.sampled_from([1, 2, 24, 47, 48, 336])
stays = st.one_of(st.sampled_from([1, 2, 335, 336]), st.integers(1, 336))
seeds = st.integers(0, 2**32 - 1)


def excess(vector: np.ndarray) -> float:
    """How far the part of a single patient lies beyond what is declared; 0 or less is sound."""
    parts = np.split(vector, np.cumsum(SIZES)[:-1])
    most = max(np.abs(part).sum() for part in parts) - 1
    return max(most, np.linalg.norm(vector) - values_sensitivity())


def differences(patients: Patients, hours: int) -> np.ndarray:
    """Largest amount by which the vector with and without one differs from that one's own."""
    whole, everyone = values_vector(patients, hours), np.arange(len(patients))
    return np.array(
        [
            np.abs(
                whole
                - values_vector(patients.take(everyone != i), hours)
                - values_vector(patients.take(everyone == i), hours)
            ).max()
            for i in everyone
        ]
    )


@settings(max_examples=150)
@given(st.sampled_from(KINDS), stays, seeds, hours_modelled)
def test_a_patient_adds_no_more_than_declared(
    odd: Odd, kind: str, stay: int, seed: int, hours: int
) -> None:
    vector = values_vector(odd(kind, stay, seed), hours)
    assert np.isfinite(vector).all() and (vector >= 0).all()
    target(float(np.linalg.norm(vector)))
    assert excess(vector) <= 0
    for part in np.split(vector, np.cumsum(SIZES)[:-1])[-3:]:
        assert part.sum() == 1, "stay, age and admission count everyone, whatever they hold"


@given(arrays(np.float64, (1, 34), elements=st.floats(0, 336)), hours_modelled)
def test_the_readings_of_a_variable_weigh_at_most_one(counts: np.ndarray, hours: int) -> None:
    counts = np.minimum(np.floor(counts), hours)
    together = (value_weights(counts, hours) * counts).max()
    target(float(together))
    assert together <= 1
    more = value_weights(counts + 1, hours) * (counts + 1)
    assert (more >= value_weights(counts, hours) * counts - 1e-12).all(), "never less for more"


def test_the_bound_is_tight(odd: Odd, hours: int) -> None:
    longest = np.linalg.norm(values_vector(odd("constant", LONGEST, 0), hours))
    assert values_sensitivity() * (1 - 5e-3) < longest <= values_sensitivity()


def test_with_and_without_a_patient_differ_by_that_patient_alone(
    crowd: Patients, hours: int
) -> None:
    """To the last bit: sums of multiples of `GRID` are never rounded."""
    assert differences(crowd, hours).max() == 0


def test_order_and_blocks_change_nothing(
    crowd: Patients, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    whole = values_vector(crowd, hours)
    shuffled = crowd.take(np.random.default_rng(0).permutation(len(crowd)))
    np.testing.assert_array_equal(values_vector(shuffled, hours), whole)
    monkeypatch.setattr(Patients.blocks, "__defaults__", (5,))
    np.testing.assert_array_equal(values_vector(crowd, hours), whole)


def test_patients_of_one_name_are_two(crowd: Patients, join: Join) -> None:
    twice = values_vector(join([crowd, crowd]), 24)
    np.testing.assert_array_equal(twice, 2 * values_vector(crowd, 24))


def test_nobody_gives_zeros(nobody: Patients, hours: int) -> None:
    vector = values_vector(nobody, hours)
    assert vector.shape == (sum(SIZES),) and not vector.any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_stay_ten_times_as_long_moves_no_more(
    odd: Odd, join: Join, crowd: Patients, kind: str, hours: int
) -> None:
    before = values_vector(crowd, hours)
    for stay in (1, 8, 33):
        for long in (stay, 10 * stay):
            after = values_vector(join([crowd, odd(kind, long, stay)]), hours)
            assert excess(after - before) <= 0


def test_hours_after_the_modelled_ones_are_not_read(odd: Odd) -> None:
    for kind in KINDS:
        one = odd(kind, 60, 3)
        other = Patients(one.values.copy(), one.starts, one.first, one.onset, one.statics, one.ids)
        other.values[24:] = 50
        np.testing.assert_array_equal(values_vector(one, 24), values_vector(other, 24))


def test_weights_without_a_cap_are_seen(odd: Odd, monkeypatch: pytest.MonkeyPatch) -> None:
    def uncapped(counts: np.ndarray, hours: int) -> np.ndarray:
        return np.ones(counts.shape) / np.array([v.daily for v in VARIABLES])

    monkeypatch.setattr(hour_values, "value_weights", uncapped)
    assert excess(values_vector(odd("constant", 336, 0), 336)) > 0


def test_a_bound_without_stay_age_and_admission_is_seen(
    odd: Odd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "values_sensitivity", lambda: len(VARIABLES) ** 0.5)
    assert excess(values_vector(odd("constant", 336, 0), 48)) > 0


def test_sums_that_round_are_seen(crowd: Patients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hour_values, "on_grid", lambda amounts: amounts)
    assert differences(crowd, 48).max() > 0


# Scores so small that a sum of others swallows them: a histogram that is empty but for its ends.
def nearly_empty() -> Values:
    shares = []
    for v in VARIABLES:
        share = np.full(v.cells, 1e-13)
        share[[0, -1]] = (1 - share[1:-1].sum()) / 2
        shares.append(share)
    return Values(tuple(shares), np.ones(336) / 336, np.ones(101) / 101, np.ones(48) / 48)


def faint_and_loud(odd: Odd, join: Join) -> tuple[Patients, Patients, Values]:
    """Patients of faint scores alone, the same behind a patient of loud ones, and the values."""
    middle = np.array([v.edges[v.cells // 2 : v.cells // 2 + 2].mean() for v in VARIABLES])
    faint = []
    for i in range(40):
        one = odd("constant", 3, i)
        one.values[:] = middle
        faint.append(one)
    loud = odd("constant", 336, 0)
    loud.values[:] = [v.high for v in VARIABLES]
    return join(faint), join([loud, *faint]), nearly_empty()


def test_nobody_changes_how_the_mean_of_another_rounds(odd: Odd, join: Join) -> None:
    faint, both, values = faint_and_loud(odd, join)
    alone = Window.of(faint, 336).means(values)
    np.testing.assert_array_equal(Window.of(both, 336).means(values)[1:], alone)
    assert (encode_patients(both, 336, values)[1:] == encode_patients(faint, 336, values)).all()


def test_sums_as_differences_of_a_running_sum_are_seen(
    odd: Odd, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One patient would then change the codes of others: no bound would hold."""

    def running(self: Window, amounts: np.ndarray) -> np.ndarray:
        edges = np.searchsorted(self.patient, np.arange(self.patients + 1))
        clean = np.nan_to_num(amounts.astype(np.float64))
        totals = np.concatenate([np.zeros((1, clean.shape[1])), np.cumsum(clean, axis=0)])
        return totals[edges[1:]] - totals[edges[:-1]]

    monkeypatch.setattr(Window, "sums", running)
    faint, both, values = faint_and_loud(odd, join)
    assert (encode_patients(both, 336, values)[1:] != encode_patients(faint, 336, values)).any()


def test_counts_and_cells_of_a_window(odd: Odd) -> None:
    window = Window.of(odd("wild", 30, 1), 24)
    assert len(window.values) == 24 and window.row.tolist() == list(range(24))
    assert not np.isinf(window.values).any()
    np.testing.assert_array_equal(window.counts[0], (~np.isnan(window.values)).sum(axis=0))
    for j, v in enumerate(VARIABLES):
        cells = window.cells(j)
        assert ((cells >= -1) & (cells < v.cells)).all()
        np.testing.assert_array_equal(cells < 0, np.isnan(window.values[:, j]))


def test_every_reading_is_counted_in_its_own_cell(odd: Odd) -> None:
    """Variable by variable: a value in the middle of a cell, at every cell of it."""
    one = odd("empty", 336, 0)
    for j, v in enumerate(VARIABLES):
        one.values[:] = np.nan
        place = np.arange(336) % v.cells
        middle = (v.edges[place] + v.edges[place + 1]) / 2
        one.values[:, j] = np.clip(middle, v.low, v.high)
        parts = np.split(values_vector(one, 336), np.cumsum(SIZES)[:-1])
        assert all(not part.any() for i, part in enumerate(parts[:34]) if i != j), v.name
        expected = np.bincount(place, minlength=v.cells) / 336
        np.testing.assert_allclose(parts[j] / parts[j].sum(), expected, atol=1e-4)


@given(arrays(np.float64, 12, elements=st.floats(-4, 4)))
def test_the_grid_makes_no_number_larger(amounts: np.ndarray) -> None:
    found = on_grid(amounts)
    assert (np.abs(found) <= np.abs(amounts)).all()
    assert (np.abs(found - amounts) < GRID).all()
    assert np.linalg.norm(found) <= np.linalg.norm(amounts)
    np.testing.assert_array_equal(found / GRID, np.rint(found / GRID))
    sums = [np.sum(np.array(order)) for order in itertools.islice(itertools.permutations(found), 9)]
    assert len(set(sums)) == 1


def test_noisy_shares_are_shares_whatever_the_noise() -> None:
    rng = np.random.default_rng(0)
    for scale in (0, 1, 1e6):
        values = Values.of(rng.normal(0, scale, sum(SIZES)))
        for share, size in zip(
            (*values.variables, values.lengths, values.ages, values.admissions), SIZES, strict=True
        ):
            assert share.shape == (size,) and (share >= 0).all()
            assert share.sum() == pytest.approx(1)
        for score in values.scores:
            assert (np.diff(score) >= 0).all() and np.abs(score).max() <= 3


def test_without_noise_medians_are_those_of_the_readings(cohort: Patients) -> None:
    values = Values.of(values_vector(cohort, 24))
    for j, v in enumerate(VARIABLES):
        found = cohort.values[cohort.row < 24, j]
        ranks = np.nanmean(found < values.medians[j]), np.nanmean(found <= values.medians[j])
        width = np.diff(v.edges)[np.searchsorted(v.edges, values.medians[j]) - 1]
        near = abs(values.medians[j] - np.nanmedian(found)) <= 2 * width
        assert near or ranks[0] - 0.05 <= 0.5 <= ranks[1] + 0.05, v.name


def test_without_noise_lengths_and_ages_are_counted(cohort: Patients) -> None:
    values = Values.of(values_vector(cohort, 24))
    lengths = np.bincount(cohort.stays, minlength=337)[1:] / len(cohort)
    np.testing.assert_allclose(values.lengths, lengths, atol=1e-12)
    ages = np.bincount(cohort.statics[:, 0].astype(int), minlength=101) / len(cohort)
    np.testing.assert_allclose(values.ages, ages, atol=1e-12)
