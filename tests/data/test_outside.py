"""Values outside the bounds: counted, explained, and refused before anything is spent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdpjax.data.cardio import CARDIO, DAYS
from rdpjax.data.dates import Date
from rdpjax.data.fields import Categorical, Numeric
from rdpjax.data.outside import count_outside, facts_of, heed
from rdpjax.data.schema import Schema
from rdpjax.errors import UserError


@pytest.fixture
def cohort() -> pd.DataFrame:
    """600 adults in the cardio schema's columns and units, all within its bounds."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {c.name: rng.choice(c.levels, 600) for c in CARDIO.columns if isinstance(c, Categorical)}
    )
    frame["height"] = rng.normal(165, 8, 600).round().clip(145, 190)
    frame["weight"] = rng.normal(74, 12, 600).round().clip(45, 125)
    frame["age"] = rng.uniform(40, 64, 600) * DAYS
    frame["ap_hi"] = rng.normal(128, 12, 600).round().clip(100, 160)
    frame["ap_lo"] = (frame["ap_hi"] - rng.normal(45, 6, 600).round()).clip(50, 100)
    return frame


def found(frame: pd.DataFrame, schema: Schema = CARDIO) -> dict[str, str]:
    return {entry.what: str(entry) for entry in count_outside(schema, frame)}


def test_nothing_is_said_of_what_fits(cohort: pd.DataFrame) -> None:
    assert count_outside(CARDIO, cohort) == ()
    assert heed((), accept=False, mend="") == () and facts_of(()) == {}


@pytest.mark.parametrize(
    ("column", "change", "guess"),
    [
        ("height", lambda cm: (cm / 30.48).round(2), "in feet?"),
        ("height", lambda cm: (cm / 2.54).round(), "in inches?"),
        ("height", lambda cm: cm / 100, "in metres?"),
        ("height", lambda cm: cm * 10, "in millimetres?"),
        ("weight", lambda kg: kg * 1000, "in grams?"),
        ("age", lambda days: (days / DAYS * 12).round(), "in months?"),
        ("age", lambda days: days / DAYS, "in years?"),
        ("age", lambda days: -days, "with a wrong sign?"),
        ("ap_hi", lambda mmhg: mmhg / 1000, "in thousands?"),
        ("ap_hi", lambda mmhg: mmhg * 1000, "in thousandths?"),
        ("ap_hi", lambda mmhg: -mmhg, "with a wrong sign?"),
    ],
)
def test_the_unit_is_guessed(cohort: pd.DataFrame, column: str, change: Any, guess: str) -> None:
    said = found(cohort.assign(**{column: change(cohort[column])}))[f"column {column!r}"]
    assert said.endswith(guess) and "100%" in said, said


def test_feet_in_one_line(cohort: pd.DataFrame) -> None:
    feet = count_outside(CARDIO, cohort.assign(height=cohort["height"] / 30.48))
    with pytest.raises(UserError) as caught:
        heed(feet, accept=False, mend="--accept-clipping")
    assert str(caught.value) == (
        "column 'height': 100% of 600 values lie outside 120 to 210 cm and are clipped; in feet?; "
        "mend the table or the schema, or go on with --accept-clipping"
    )
    assert heed(feet, accept=True, mend="") == (str(feet[0]),)
    assert facts_of(feet) == {"column 'height'": {"outside": 600, "records": 600}}


def test_swapped_columns_are_seen_by_the_rule_or_by_the_bounds(cohort: pd.DataFrame) -> None:
    pressures = cohort.rename(columns={"ap_hi": "ap_lo", "ap_lo": "ap_hi"})
    assert found(pressures)["rule ap_lo < ap_hi"] == (
        "rule ap_lo < ap_hi: 100% of 600 rows break it; are the two columns swapped?"
    )
    with pytest.raises(UserError, match="are the two columns swapped"):
        heed(count_outside(CARDIO, pressures), accept=False, mend="")
    body = cohort.rename(columns={"height": "weight", "weight": "height"})
    assert "is it swapped with 'weight'?" in found(body)["column 'height'"]


def test_a_code_for_missing_values_is_no_wrong_sign() -> None:
    """Air quality: -200 in 90 % of the rows, where -1 times it lies within the bounds."""
    schema = Schema("air", (Numeric("NMHC_GT", "ug", 0, 1200, cell=10),))
    frame = pd.DataFrame({"NMHC_GT": [-200.0] * 90 + [150.0] * 10})
    assert found(frame, schema)["column 'NMHC_GT'"] == (
        "column 'NMHC_GT': 90% of 100 values lie outside 0 to 1200 ug and are clipped; does -200 "
        "stand for a missing value?"
    )


def test_wide_bounds_take_the_likeliest_unit() -> None:
    schema = Schema("s", (Numeric("age", "years", 0, 120), Numeric("height", "cm", 50, 250)))
    months = pd.DataFrame({"age": np.arange(360.0, 780.0), "height": np.linspace(1.5, 1.9, 420)})
    said = found(months, schema)
    assert said["column 'age'"].endswith("in months?")
    assert said["column 'height'"].endswith("in metres?"), "and not feet, 52 cm"


def test_few_are_counted_some_are_told_and_many_refuse(cohort: pd.DataFrame) -> None:
    for count, told in ((5, False), (6, True), (120, True)):
        frame = cohort.assign(height=np.where(np.arange(600) < count, 250.5, cohort["height"]))
        entries = count_outside(CARDIO, frame)
        assert facts_of(entries)["column 'height'"]["outside"] == count
        assert bool(heed(entries, accept=False, mend="")) == told
    frame.loc[120, "height"] = 1.0
    with pytest.raises(UserError, match="20% of 600"):
        heed(count_outside(CARDIO, frame), accept=False, mend="")


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=30),
    st.sampled_from(["", "cm", "years", "Kg", " day ", "furlongs"]),
)
def test_any_values_are_counted_exactly_and_none_end_it(values: list[float], unit: str) -> None:
    schema = Schema("s", (Numeric("x", unit, -1, 3), Numeric("y", unit, 0, 9)), less=(("x", "y"),))
    frame = pd.DataFrame({"x": values, "y": values[::-1]})
    entries = {entry.what: entry for entry in count_outside(schema, frame)}
    wrong = sum(not (-1 <= v <= 3) and v == v for v in values)
    assert (entries["column 'x'"].count if wrong else 0) == wrong
    assert all(0 < entry.share <= 1 and "\n" not in str(entry) for entry in entries.values())


def test_a_few_slips_are_no_other_unit(cohort: pd.DataFrame) -> None:
    """Of weights in kg nearly all lie within the bounds of a pressure too."""
    pressures = cohort["ap_lo"].to_numpy(float).copy()
    pressures[:18] = np.linspace(900, 1100, 18)
    (slips,) = (
        e for e in count_outside(CARDIO, cohort.assign(ap_lo=pressures)) if "ap_lo'" in e.what
    )
    assert slips.count >= 18 and slips.guess == ""


def test_texts_of_rules_are_counted_like_pairs() -> None:
    columns = (
        Categorical("smokes", ("no", "yes")),
        Numeric("packs", "", 0, 9, missing=("",)),
        Numeric("years", "years", 0, 60),
    )
    rules = ("if smokes = no then packs missing", "packs <= years")
    frame = pd.DataFrame(
        {"smokes": ["no", "no", "yes", "yes"], "packs": [np.nan, 1, 4, 5], "years": [0, 0, 3, 9]}
    )
    entries = count_outside(Schema("s", columns, rules=rules), frame)
    assert list(map(str, entries)) == [
        "rule if smokes = no then packs missing: 25% of 4 rows break it",
        "rule packs <= years: 50% of 4 rows break it",
    ]


def test_missing_values_and_spikes_do_not_hide_the_unit(cohort: pd.DataFrame) -> None:
    """Values beside the bins were taken for ones that no unit explains."""
    column = Numeric("height", "cm", 120, 210, missing=("?",), spikes=(0,))
    height = (cohort["height"] / 100).where(np.arange(600) >= 200)
    frame = pd.DataFrame({"height": height.where(~np.isin(np.arange(600), range(200, 350)), 0.0)})
    said = found(frame, Schema("s", (column,)))["column 'height'"]
    assert said.endswith("42% of 600 values lie outside 120 to 210 cm and are clipped; in metres?")


def test_dates_have_no_unit_to_guess_and_are_shown_as_dates() -> None:
    visit = Date("visit", first="2024-01-01", last="2024-12-31")
    born = Date("born", first="1930-01-01", last="2010-12-31")
    length = Numeric("length", "days", 0, 400)
    schema = Schema("s", (visit, born, length))
    swapped = pd.DataFrame(
        {
            "visit": visit.numbers(["1950-02-03", "1960-12-09", "2001-05-06"]),
            "born": born.numbers(["2024-02-03", "2024-05-04", "2024-05-04"]),
            "length": [1.0, 2.0, 3.0],
        }
    )
    said = found(swapped, schema)
    assert said["column 'visit'"] == (
        "column 'visit': 100% of 3 values lie outside 2024-01-01 to 2024-12-31 and are clipped"
    )
    code = swapped.assign(visit=visit.numbers(["1900-01-01"] * 3))
    assert found(code, schema)["column 'visit'"].endswith(
        "; does 1900-01-01 stand for a missing value?"
    )


def test_a_column_of_missing_values_alone_ends_nothing() -> None:
    schema = Schema("s", (Numeric("x", "m", 0, 1, resolution=0.1), Numeric("y", "m", 5, 9)))
    frame = pd.DataFrame({"x": [7.0, 8.0], "y": [np.nan, np.nan]})
    assert "x" in found(frame, schema)["column 'x'"]
