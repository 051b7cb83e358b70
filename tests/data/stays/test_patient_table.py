"""A patient as a row of public bins: every patient has one, of that patient alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdpjax.data.schema import Categorical, Schema
from rdpjax.data.stays.hour_values import ADMISSION_EDGES, Values
from rdpjax.data.stays.patient_table import (
    LENGTHS,
    STATUSES,
    STAY_WEIGHT,
    encode_patients,
    patient_schema,
    stay_levels,
)
from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import LONGEST, VARIABLES
from rdpjax.data.tokenizer import Marginals, Tokenizer, histogram, sensitivity
from rdpjax.errors import UserError

Odd = Callable[[str, int, int], Patients]
Join = Callable[[Sequence[Patients]], Patients]

KINDS = ("constant", "alternating", "random", "sparse", "empty", "borders", "wild", "simulated")
SIZE = sum(v.cells for v in VARIABLES) + LONGEST + 101 + len(ADMISSION_EDGES) - 1
FLAT = Values.of(np.zeros(SIZE))
NOISY = [Values.of(np.random.default_rng(i).normal(0, 10 * i, SIZE)) for i in range(4)]
SCHEMAS = {hours: patient_schema(hours) for hours in (1, 2, 23, 24, 48, 335, 336)}
WIDTHS = {hours: [c.cells for c in schema.columns] for hours, schema in SCHEMAS.items()}


def move(schema: Schema, codes: np.ndarray) -> float:
    """How far the rows move the table's histogram, in L2 norm."""
    return float(np.linalg.norm(histogram(schema, codes)))


@settings(max_examples=200)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 336),
    st.integers(0, 2**32 - 1),
    st.sampled_from(list(SCHEMAS)),
    st.integers(-2, 340),
)
def test_every_patient_has_a_valid_code_in_every_column(
    odd: Odd, kind: str, stay: int, seed: int, hours: int, onset: int
) -> None:
    one = replace(odd(kind, stay, seed), onset=np.array([onset], np.int32))
    (codes,) = encode_patients(one, hours, NOISY[seed % len(NOISY)])
    assert codes.dtype == np.uint8 and (codes < WIDTHS[hours]).all()
    assert move(SCHEMAS[hours], codes[None]) == pytest.approx(sensitivity(SCHEMAS[hours]))
    status, place = stay_levels(hours)[codes[0]]
    assert LENGTHS[place] <= stay < [*LENGTHS[1:], 337][place]
    assert status == ("never" if not 0 <= onset < stay else "within" if onset < hours else "after")
    assert (codes[1] > 0) == (status != "never")
    assert ((codes[7::2] == 0) == (codes[8::2] == 0)).all(), "a level wherever there is a count"


def test_a_code_fits_no_narrower_type_than_it_is_kept_in() -> None:
    assert all(max(widths) <= 256 for widths in WIDTHS.values())


def test_codes_are_those_of_the_patient_alone(crowd: Patients, hours: int) -> None:
    codes = encode_patients(crowd, hours, FLAT)
    for i in range(len(crowd)):
        alone = encode_patients(crowd.take(np.array([i])), hours, FLAT)
        np.testing.assert_array_equal(alone[0], codes[i])


def test_order_and_blocks_change_nothing(crowd: Patients, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = encode_patients(crowd, 48, FLAT)
    order = np.random.default_rng(0).permutation(len(crowd))
    np.testing.assert_array_equal(encode_patients(crowd.take(order), 48, FLAT), codes[order])
    monkeypatch.setattr(Patients.blocks, "__defaults__", (4,))
    np.testing.assert_array_equal(encode_patients(crowd, 48, FLAT), codes)


def test_names_do_not_count(crowd: Patients) -> None:
    alike = replace(crowd, ids=("a",) * len(crowd))
    np.testing.assert_array_equal(
        encode_patients(alike, 24, FLAT), encode_patients(crowd, 24, FLAT)
    )


def test_nobody_has_no_rows(nobody: Patients) -> None:
    codes = encode_patients(nobody, 24, FLAT)
    assert codes.shape == (0, 75) and codes.dtype == np.uint8
    assert not histogram(SCHEMAS[24], codes).any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_stay_ten_times_as_long_moves_no_more(
    odd: Odd, join: Join, crowd: Patients, kind: str, hours: int
) -> None:
    schema = patient_schema(hours)
    before = histogram(schema, encode_patients(crowd, hours, FLAT))
    for stay in (1, 8, 33):
        for long in (stay, 10 * stay):
            both = join([crowd, odd(kind, long, stay)])
            after = histogram(schema, encode_patients(both, hours, FLAT))
            assert np.linalg.norm(after - before) <= sensitivity(schema)


def test_the_weight_of_the_stay_counts(odd: Odd) -> None:
    """Sabotage: a bound that counts every column once would be passed."""
    schema = SCHEMAS[24]
    assert sensitivity(schema) == pytest.approx(np.sqrt(1 + STAY_WEIGHT**2 + 74))
    once = replace(
        schema,
        columns=tuple(
            replace(c, weight=1.0) if isinstance(c, Categorical) else c for c in schema.columns
        ),
    )
    codes = encode_patients(odd("random", 30, 0), 24, FLAT)
    assert sensitivity(once) < move(schema, codes) <= sensitivity(schema) * (1 + 1e-12)


def test_networks_see_the_codes_unchanged(crowd: Patients, hours: int) -> None:
    schema = patient_schema(hours)
    tokenizer = Tokenizer.make(schema, Marginals.uniform(schema, 1000.0))
    codes = encode_patients(crowd, hours, FLAT)
    np.testing.assert_array_equal(tokenizer.encode(codes), codes)


@pytest.mark.parametrize(
    ("statics", "codes"),
    [
        ([64, 1, 0, 1, -3.0], [7, 2, 2, 4]),
        ([24.9, 0, 1, 0, 0.0], [1, 1, 1, 1]),
        ([100, 2, 1, 1, -1e9], [13, 0, 0, 13]),
        ([-5, np.nan, np.nan, np.nan, 7.0], [1, 0, 0, 1]),
        ([np.inf, np.inf, np.inf, 1, -np.inf], [13, 0, 2, 13]),
        ([np.nan, -1, 0, 0, np.nan], [0, 0, 0, 0]),
        ([-np.inf, 0.5, 0.5, 1, np.inf], [1, 0, 2, 1]),
    ],
)
def test_statics(odd: Odd, statics: list[float], codes: list[int]) -> None:
    one = replace(odd("empty", 5, 0), statics=np.array([statics], np.float32))
    assert encode_patients(one, 24, FLAT)[0, 2:6].tolist() == codes


@pytest.mark.parametrize("first", [-1, 0, 1, 336, 2**31 - 1])
def test_a_record_may_begin_at_any_hour(odd: Odd, first: int) -> None:
    one = replace(odd("constant", 3, 0), first=np.array([first], np.int32))
    assert encode_patients(one, 24, FLAT)[0, 6] == {336: 8, 2**31 - 1: 8}.get(first, 0)


def test_counts_are_of_measured_hours_or_of_missed_ones(odd: Odd) -> None:
    """Columns against variables, one by one: j + 1 readings of variable j, in 48 hours."""
    one = odd("empty", 60, 0)
    for j, v in enumerate(VARIABLES):
        one.values[: j + 1, j] = v.usual
    schema = SCHEMAS[48]
    (codes,) = encode_patients(one, 48, FLAT)
    for j, v in enumerate(VARIABLES):
        column = schema.column(f"count {v.name}")
        assert isinstance(column, Categorical)
        first, _, last = str(column.levels[codes[schema.position(column.name)]]).partition("-")
        number = 48 - (j + 1) if v.panel == "monitor" else j + 1
        assert int(first) <= number <= int(last or first), v.name


def test_levels_are_of_the_modelled_hours(odd: Odd) -> None:
    low, high = odd("empty", 60, 0), odd("empty", 60, 0)
    for j, v in enumerate(VARIABLES):
        for one, value in ((low, v.low), (high, v.high)):
            one.values[:24, j], one.values[24:, j] = value, v.usual
    assert (encode_patients(low, 24, FLAT)[0, 8::2] == 1).all()
    assert (encode_patients(high, 24, FLAT)[0, 8::2] == 10).all()


@pytest.mark.parametrize("hours", range(1, 337))
def test_stays_that_cannot_be_have_no_level(hours: int) -> None:
    levels = stay_levels(hours)
    assert len(levels) == len(set(levels)) <= 48
    possible = {
        (status, int(np.searchsorted(LENGTHS, stay, "right")) - 1)
        for stay in (*LENGTHS, *(first - 1 for first in LENGTHS[1:]), LONGEST)
        for status in STATUSES
        if status != "after" or stay > hours
    }
    assert set(levels) == possible


@pytest.mark.parametrize("hours", [0, -1, 337])
def test_hours_out_of_range(hours: int) -> None:
    with pytest.raises(UserError, match=f"max_hours is {hours}; it must lie between 1 and 336"):
        patient_schema(hours)


def test_labels_are_of_the_window_or_of_the_stay() -> None:
    window, stay = patient_schema(24, "window"), patient_schema(24, "stay")
    assert window.columns == stay.columns
    statuses = np.array([status for status, _ in stay_levels(24)])
    np.testing.assert_array_equal(window.is_positive, statuses == "within")
    np.testing.assert_array_equal(stay.is_positive, statuses != "never")
    assert Schema.from_dict(stay.to_dict()) == stay
    assert "one patient" in stay.unit_of_privacy
