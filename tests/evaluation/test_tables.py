import numpy as np
import pandas as pd
import pytest

from rdpjax.data.schema import Numeric
from rdpjax.errors import UserError
from rdpjax.evaluation.tables import bin_count, binned, numbers, ordered, positives


def test_numerics_come_first_in_the_frames_order_and_the_label_last(toy, toy_schema):
    assert ordered(toy(), toy_schema) == ("age", "high_p", "low_p", "grade", "sick")
    turned = toy()[["sick", "grade", "low_p", "high_p", "age"]]
    assert ordered(turned, toy_schema) == ("low_p", "high_p", "age", "grade", "sick")


def test_a_missing_column_is_named(toy, toy_schema):
    with pytest.raises(UserError, match="'low_p' is missing; did you mean 'lowp'"):
        ordered(toy().rename(columns={"low_p": "lowp"}), toy_schema)


def test_an_unknown_level_is_named_with_its_row(toy, toy_schema):
    frame = toy()
    frame.loc[6, "grade"] = "z"
    with pytest.raises(UserError, match=r"row 7, column 'grade': 'z' is not one of"):
        binned(frame, toy_schema)


def test_numbers_are_clipped_in_years_and_levels_become_positions(toy, toy_schema):
    frame = toy()
    frame.loc[0, ["age", "high_p", "grade"]] = [0, 1600, "c"]
    frame.loc[1, "age"] = 40 * 365.25
    values = numbers(frame, toy_schema, ["age", "high_p", "grade"])
    assert values.loc[0].tolist() == [29.0, 240.0, 2.0]
    assert values.loc[1, "age"] == 40.0


@pytest.mark.parametrize("count", [10, 20])
def test_bins_cover_the_public_range_evenly(toy, toy_schema, count):
    bins = binned(toy(2000), toy_schema, count)
    assert set(bins) == set(toy_schema.names)
    for name, cells in bins.items():
        assert cells.min() >= 0 and cells.max() < bin_count(toy_schema, name, count)


def test_bins_of_days_are_bins_of_years(toy_schema):
    days = np.arange(29 * 365.25, 66 * 365.25, 7.0)
    frame = pd.DataFrame(
        {"age": days, "high_p": 100, "low_p": 90, "grade": "a", "sick": np.arange(len(days)) % 2}
    )
    years = ((days / 365.25 - 29) / 37 * 20).astype(int)
    np.testing.assert_array_equal(binned(frame, toy_schema)["age"], years)


def test_the_ends_lie_in_the_outer_bins(toy, toy_schema):
    frame = toy(60)
    for name in ("age", "high_p", "low_p"):
        column = toy_schema.column(name)
        assert isinstance(column, Numeric)
        frame[name] = np.resize([-1e6, column.low, column.high, 1e6], 60)
        assert binned(frame, toy_schema)[name][:4].tolist() == [0, 0, 19, 19]


def test_the_second_level_is_positive(toy, toy_schema):
    frame = toy()
    np.testing.assert_array_equal(positives(frame, toy_schema), frame["sick"])
