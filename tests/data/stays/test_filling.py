"""From rows of the table back to patients: what has to come back, and what must never happen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from rdpjax.codecs.two_level import PatientEncoding, TwoLevelCodec
from rdpjax.data.stays.filling import KNOTS, Filling
from rdpjax.data.stays.hour_profiles import Profiles
from rdpjax.data.stays.hour_values import Values, values_vector
from rdpjax.data.stays.patient_table import (
    ADMISSIONS,
    COUNTS,
    OFFSETS,
    STATUSES,
    TAILS,
    encode_patients,
    stay_levels,
)
from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import BOUNDS, LONGEST, VARIABLES
from tests.exact import exact_encoding

STEPS = np.array([v.step for v in VARIABLES])
DENSE = np.array([v.panel == "monitor" for v in VARIABLES])


@dataclass(frozen=True)
class Filled:
    """Codes, what fills them in, and the patients that came of it."""

    codec: TwoLevelCodec
    filling: Filling
    codes: np.ndarray
    patients: Patients

    @property
    def again(self) -> np.ndarray:
        return PatientEncoding(self.filling).cells(self.patients)

    @property
    def length(self) -> np.ndarray:
        """Modelled hours of each patient."""
        return np.minimum(self.patients.stays, self.codec.hours)


@pytest.fixture(scope="module")
def real(cohort: Patients, hours: int) -> Filled:
    """Codes of patients that exist."""
    codec, some = TwoLevelCodec(hours), cohort.take(np.arange(200 if hours == LONGEST else 600))
    encoding = exact_encoding(codec, some)
    codes = encoding.cells(some)
    filling = encoding.filling.fitted(codes, np.random.default_rng(1))
    return Filled(codec, filling, codes, filling.patients(codes, np.random.default_rng(0)))


@pytest.fixture(scope="module")
def made_up(real: Filled) -> Filled:
    """Any codes whatever, consistent or not: what a network may draw."""
    widths = [column.cells for column in real.codec.schema.columns]
    codes = np.random.default_rng(2).integers(0, widths, (400, len(widths))).astype(np.uint8)
    filling = real.filling.fitted(codes, np.random.default_rng(1))
    return Filled(real.codec, filling, codes, filling.patients(codes, np.random.default_rng(0)))


@pytest.fixture(params=["real", "made_up"])
def filled(request: pytest.FixtureRequest, real: Filled, made_up: Filled) -> Filled:
    return {"real": real, "made_up": made_up}[request.param]


def onset_fits(f: Filled) -> np.ndarray:
    """Whether the bin of hours from onset to the end holds one that stay and status allow."""
    status = np.array([STATUSES.index(s) for s, _ in stay_levels(f.codec.hours)])[f.codes[:, 0]]
    stays, place = f.patients.stays, np.maximum(f.codes[:, 1].astype(int) - 1, 0)
    least = np.where(status == 2, np.maximum(stays - f.codec.hours + 1, 1), 1)
    most = np.where(status == 1, stays - f.codec.hours, stays)
    first, end = np.array(TAILS)[place], np.array([*TAILS[1:], LONGEST + 1])[place]
    fits = np.maximum(least, first) <= np.minimum(most, end - 1)
    return np.where(f.codes[:, 1] > 0, (status > 0) & fits, status == 0)


def counts_fit(f: Filled) -> np.ndarray:
    """Whether a stay has room for the bin's least number of readings (or of hours missed)."""
    place = f.codes[:, 7::2].astype(int) - DENSE
    first = np.array(COUNTS)[np.clip(place, 0, None)]
    room = f.length[:, None] - DENSE  # what a monitor shows is measured at least once
    return (f.codes[:, 7::2] == 0) | (first <= room)


def test_stay_and_statics_come_back_exactly(filled: Filled) -> None:
    again = filled.again
    for j in (0, 2, 3, 4):
        np.testing.assert_array_equal(again[:, j], filled.codes[:, j])


def test_onset_comes_back_wherever_it_fits_the_stay(filled: Filled) -> None:
    fits, same = onset_fits(filled), filled.again[:, 1] == filled.codes[:, 1]
    assert same[fits].all()
    assert not same[~fits].any() and (filled.again[~fits, 0] == filled.codes[~fits, 0]).all()


def test_onset_of_real_codes_nearly_always_fits(real: Filled) -> None:
    """Not always: another length of the same bin may have no room for it."""
    ill = real.codes[:, 1] > 0
    assert onset_fits(real)[ill].mean() > 0.8 and onset_fits(real)[~ill].all()


def test_hours_before_admission_come_back_but_for_rounding(filled: Filled) -> None:
    """Of hundredths of an hour; the last of a bin may be rounded to the first of the next."""
    same = filled.again[:, 5] == filled.codes[:, 5]
    assert same.mean() > 0.97
    before = -filled.patients.statics[~same, 4].astype(float)
    assert (np.abs(before[:, None] - np.array(ADMISSIONS)).min(axis=1) < 1e-6).all()


def test_the_first_hour_comes_back_wherever_the_stay_leaves_room(filled: Filled) -> None:
    fits = np.array(OFFSETS)[filled.codes[:, 6]] <= LONGEST + 1 - filled.patients.stays
    assert (filled.again[:, 6] == filled.codes[:, 6])[fits].all()
    assert filled.patients.first.min() >= 1 and filled.patients.hours.max() <= LONGEST


def test_counts_come_back_wherever_the_stay_has_room(filled: Filled) -> None:
    fits = counts_fit(filled)
    assert (filled.again[:, 7::2] == filled.codes[:, 7::2])[fits].all()


def test_counts_of_real_codes_fit(real: Filled) -> None:
    assert counts_fit(real).mean() > 0.999


def test_most_levels_come_back(real: Filled) -> None:
    """Not all: readings are drawn, so their mean scatters; with few it does most."""
    if real.codec.hours == 1:
        pytest.skip("in one hour a single reading is the mean: cells are as wide as levels")
    levels, again = real.codes[:, 8::2].astype(int), real.again[:, 8::2].astype(int)
    seen = levels > 0
    np.testing.assert_array_equal(again > 0, seen)
    assert (again == levels)[seen].mean() > 0.7
    assert (np.abs(again - levels) <= 1)[seen].mean() > 0.95
    for j, v in enumerate(VARIABLES):
        some = seen[:, j]
        if some.sum() > 150:
            # Against another variable's the correlation is about 0.
            assert np.corrcoef(levels[some, j], again[some, j])[0, 1] > 0.85, v.name


def test_lengths_and_onset_are_possible(filled: Filled) -> None:
    patients, hours = filled.patients, filled.codec.hours
    assert patients.stays.min() >= 1 and patients.stays.max() <= LONGEST
    assert (patients.onset < patients.stays).all()
    status = np.array([s for s, _ in stay_levels(hours)])[filled.codes[:, 0]]
    onset = patients.onset
    np.testing.assert_array_equal(onset < 0, status == "never")
    np.testing.assert_array_equal((onset >= 0) & (onset < hours), status == "within")
    labels = np.array([part.max() for part in np.split(patients.labels, patients.starts[1:-1])])
    np.testing.assert_array_equal(labels == 1, status != "never")


def test_all_lengths_occur() -> None:
    """1 to 336 hours, also those at the ends of bins."""
    filling = Filling(1, FLAT, EVEN).fitted(np.zeros((1, 75), np.uint8), np.random.default_rng(0))
    codes = np.zeros((20_000, 75), np.uint8)
    codes[:, 0] = np.arange(len(codes)) % len([s for s, _ in stay_levels(1) if s == "never"])
    stays, _ = filling._stays(codes, np.random.default_rng(0))
    assert set(stays) == set(range(1, LONGEST + 1))


def test_nothing_is_measured_after_the_modelled_hours_or_beyond_the_count(filled: Filled) -> None:
    patients = filled.patients
    seen = ~np.isnan(patients.values)
    assert not seen[patients.row >= filled.codec.hours].any()
    counts = np.add.reduceat(seen.astype(int), patients.starts[:-1], axis=0)
    assert (counts <= filled.length[:, None]).all()
    np.testing.assert_array_equal(counts > 0, filled.codes[:, 7::2] > 0)


def test_values_lie_in_bounds_on_steps(filled: Filled) -> None:
    values = filled.patients.values
    seen = ~np.isnan(values)
    low, high = BOUNDS.astype(np.float32).T
    assert ((values >= low) & (values <= high))[seen].all()
    on_step = (np.rint(values / STEPS) * STEPS).astype(np.float32)
    np.testing.assert_allclose(values[seen], on_step[seen], rtol=1e-6)
    whole = np.array([v.decimals == 0 for v in VARIABLES])
    np.testing.assert_array_equal(values[:, whole], np.rint(values[:, whole]))


def test_statics_are_possible(filled: Filled) -> None:
    age, gender, unit1, unit2, before = filled.patients.statics.T
    assert set(age[~np.isnan(age)]) <= {*range(90), 100}
    assert set(gender[~np.isnan(gender)]) <= {0, 1}
    np.testing.assert_array_equal(np.isnan(unit1), np.isnan(unit2))
    assert ((unit1 + unit2)[~np.isnan(unit1)] == 1).all()
    assert (before[~np.isnan(before)] <= 0).all()
    np.testing.assert_allclose(before, np.round(before.astype(float), 2), rtol=1e-6)


def test_the_same_numbers_give_the_same_patients(real: Filled) -> None:
    """Also from arrays: that is what a release holds."""
    other = Filling.from_arrays(real.filling.to_arrays())
    again = other.patients(real.codes[:50], np.random.default_rng(3))
    first = real.filling.patients(real.codes[:50], np.random.default_rng(3))
    different = real.filling.patients(real.codes[:50], np.random.default_rng(4))
    for name in ("values", "starts", "first", "onset", "statics"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    assert again.ids == first.ids and first.stays.tolist() != different.stays.tolist()


def test_no_codes_give_nobody(real: Filled) -> None:
    nobody = real.filling.patients(real.codes[:0], np.random.default_rng(0))
    assert len(nobody) == 0 and nobody.values.shape == (0, 34)


def test_quantiles_come_first() -> None:
    with pytest.raises(ValueError, match="fit the quantiles"):
        Filling(24, FLAT, EVEN).patients(np.zeros((1, 75), np.uint8), np.random.default_rng(0))


FLAT = Values.of(np.zeros(len(values_vector(Patients(
    np.zeros((0, 34)), np.zeros(1, int), np.zeros(0), np.zeros(0), np.zeros((0, 5)), ()
), 1))))  # fmt: skip
EVEN = Profiles(np.ones((11, LONGEST)), np.full(34, 0.3), np.full(34, 0.7), np.eye(7))


def test_each_variable_has_its_own_histogram() -> None:
    """Names against values, one by one: each histogram is a single cell, at a place of its own."""
    place = [1 + 5 * j % (v.cells - 2) for j, v in enumerate(VARIABLES)]
    shares = tuple(np.eye(v.cells)[k] for v, k in zip(VARIABLES, place, strict=True))
    values = Values(shares, FLAT.lengths, FLAT.ages, FLAT.admissions)
    widths = [c.cells for c in TwoLevelCodec(24).schema.columns]
    codes = np.random.default_rng(0).integers(1, widths, (300, 75)).astype(np.uint8)
    filling = Filling(24, values, EVEN).fitted(codes, np.random.default_rng(1))
    found = filling.patients(codes, np.random.default_rng(2)).values
    for j, (v, k) in enumerate(zip(VARIABLES, place, strict=True)):
        seen = found[~np.isnan(found[:, j]), j]
        assert len(seen) > 100
        inside = (seen > v.edges[k] - 1e-6) & (seen < v.edges[k + 1] + 1e-6)
        # A score beyond all that quantiles were read off may take an outermost cell.
        assert inside.mean() > 0.99, v.name


def test_generated_readings_follow_the_noisy_histograms(cohort: Patients) -> None:
    """Variable by variable: the distribution and the mean, at the histograms' weights."""
    encoding = exact_encoding(TwoLevelCodec(24), cohort)
    codes = np.repeat(encoding.cells(cohort), 4, axis=0)
    filling = encoding.filling.fitted(codes, np.random.default_rng(1))
    patients = filling.patients(codes, np.random.default_rng(0))
    generated = Values.of(values_vector(patients, 24))
    for share, found, v in zip(
        filling.values.variables, generated.variables, VARIABLES, strict=True
    ):
        assert np.abs(np.cumsum(share) - np.cumsum(found)).max() < 0.08, v.name
        place = np.arange(v.cells)
        mean, spread = share @ place, np.sqrt(share @ place**2 - (share @ place) ** 2)
        assert abs(found @ place - mean) < 0.12 * spread, v.name


def test_a_higher_level_gives_higher_readings(real: Filled) -> None:
    """In every variable, and in no other."""
    if real.codec.hours == 1:
        pytest.skip("as for 24 hours")
    codes = np.tile(real.codes[:100], (2, 1))
    codes[:, 7::2] = np.maximum(codes[:, 7::2], 1)
    codes[:, 8::2] = 5
    codes[:100, 8::4], codes[100:, 8::4] = 2, 9  # every other variable
    found = real.filling.patients(codes, np.random.default_rng(0))
    ends = found.starts[100]
    for j, v in enumerate(VARIABLES):
        low, high = found.values[:ends, j], found.values[ends:, j]
        low, high = np.nanmean(low), np.nanmean(high)
        spread = np.nanstd(found.values[:, j])
        assert (high - low > 0.5 * spread) == (j % 2 == 0), v.name


def test_what_is_encoded_and_filled_in_persists_as_it_did(cohort: Patients) -> None:
    """Heart rate's correlation with the next hour, in what was generated and what it came from."""
    filling = exact_encoding(TwoLevelCodec(48), cohort).filling
    codes = encode_patients(cohort, 48, filling.values)
    filling = filling.fitted(codes, np.random.default_rng(1))
    generated = filling.patients(codes, np.random.default_rng(0))

    def persistence(patients: Patients, j: int) -> float:
        x = patients.values[:, j]
        pair = (np.diff(patients.row) == 1) & (patients.row[1:] < 48)
        pair &= ~np.isnan(x[:-1]) & ~np.isnan(x[1:])
        return float(np.corrcoef(x[:-1][pair], x[1:][pair])[0, 1])

    for j in (0, 3, 4, 5, 6):
        assert abs(persistence(generated, j) - persistence(cohort, j)) < 0.08


def test_readings_need_no_other_knots() -> None:
    arrays = (
        Filling(24, FLAT, EVEN)
        .fitted(np.zeros((2, 75), np.uint8), np.random.default_rng(0))
        .to_arrays()
    )
    assert arrays["knots"].shape == (34, KNOTS)
    assert (np.diff(arrays["knots"], axis=1) > 0).all()
