from __future__ import annotations

import dataclasses
import math
import tomllib

import numpy as np
import pandas as pd
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from rdpjax.data.cardio import CARDIO
from rdpjax.data.fields import Categorical, Numeric
from rdpjax.data.schema import MOST_BINS, Schema
from rdpjax.errors import UserError
from rdpjax.privacy.events import LATTICE_NUMBERS

LABEL = Categorical("y", (0, 1))
MAYBE = Categorical("y", (0, 1), missing=("?",))
TOY = Schema("toy", (Numeric("x", "m", 0, 9), Numeric("z", "m", 0, 9), LABEL), label="y")


def test_cells_cover_the_bounds():
    assert Numeric("p", "mmHg", 70, 240).cells == 171  # 70 and 240 are values both
    assert Numeric("w", "kg", 30, 200, resolution=0.1, within="halves").cells == 171
    assert Numeric("w", "kg", 30, 200, resolution=0.1, within="halves").bins == 172
    assert Numeric("a", "days", 0, 100, cell=25, within="uniform").cells == 4
    assert Numeric("a", "days", 0, 101, cell=25, within="uniform").cells == 5
    assert Categorical("c", (1, 2, 3)).cells == Categorical("c", (1, 2, 3)).bins == 3


STAY = Categorical("stay", ("a", "b", "c"), runs=(1, 2), scale=(0.0, 0.0, 1.0))
PATIENTS = Schema("p", (STAY, LABEL), label="stay", given="stay", positive=("b", "c"))


@pytest.mark.parametrize("schema", [TOY, CARDIO, PATIENTS, dataclasses.replace(TOY, records=1000)])
def test_survives_toml(schema: Schema):
    assert Schema.from_toml(tomli_w.dumps(schema.to_dict())) == schema


def test_looking_up_a_column():
    assert TOY.names == ("x", "z", "y")
    assert TOY.position("z") == 1
    assert TOY.column("y") is LABEL
    with pytest.raises(UserError, match="has no column 'ap_high'; did you mean 'ap_hi'"):
        CARDIO.position("ap_high")


def test_files_of_before_runs_and_given_still_read():
    values = TOY.to_dict()
    assert not {"given", "positive"} & set(values)
    assert all(not {"runs", "scale"} & set(column) for column in values["columns"])
    assert Schema.from_dict(values) == TOY and TOY.given is None


def test_which_levels_are_positive():
    assert TOY.is_positive.tolist() == [False, True]
    assert dataclasses.replace(TOY, positive=(0,)).is_positive.tolist() == [True, False]
    assert PATIENTS.is_positive.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Numeric("x", "m", 9, 0), "'x': bounds must be finite with low < high"),
        (lambda: Numeric("x", "m", 0, float("inf")), "bounds must be finite"),
        (lambda: Numeric("x", "m", float("nan"), 1), "bounds must be finite"),
        (lambda: Numeric("x", "m", 0, 9, resolution=0), "0 < resolution <= cell"),
        (lambda: Numeric("x", "m", 0, 9, cell=10), "cell <= high - low"),
        (lambda: Numeric("x", "m", 0, 9, 1, 2), "resolution <= cell"),
        (lambda: Categorical("c", (1,)), "'c': needs 2 to 255 distinct levels"),
        (lambda: Categorical("c", (1, 1)), "distinct levels"),
        (lambda: Categorical("c", (1, 2, 3), runs=(1, 1)), "'c': runs must be 1 or more each and"),
        (lambda: Categorical("c", (1, 2, 3), runs=(0, 3)), "add up to the 3 levels"),
        (lambda: Categorical("c", (1, 2), runs=("1", 1)), "runs must be 1 or more"),
        (lambda: Categorical("c", (1, 2), runs=(2,), scale=(1.0,)), "one finite number for each"),
        (lambda: Categorical("c", (1, 2), runs=(2,), scale=(1.0, "x")), "one finite number"),
        (lambda: Categorical("c", (1, 2), scale=(1.0, 2.0)), "a scale needs runs"),
        (lambda: dataclasses.replace(TOY, given="x"), "given 'x' must be a categorical"),
        (lambda: dataclasses.replace(TOY, given="w"), "has no column 'w'"),
        (lambda: dataclasses.replace(TOY, positive=(2,)), "label 'y' has no level 2; see positive"),
        (lambda: dataclasses.replace(TOY, positive=(0, 1)), "every level is positive"),
        (lambda: Schema("s", (LABEL, LABEL), label="y"), "a column name stands twice"),
        (lambda: Schema("s", (LABEL,), label="w"), "has no column 'w'"),
        (lambda: dataclasses.replace(TOY, label="x"), "label 'x' must be a categorical"),
        (lambda: dataclasses.replace(TOY, less=(("x", "y"),)), "rule on 'y', which is no number"),
        (lambda: Schema.from_dict({"name": "s", "columns": [{"kind": "dat"}]}), "kind must be"),
        (lambda: Schema.from_dict(TOY.to_dict() | {"lable": "y"}), "did you mean 'label'"),
        (lambda: Schema.from_dict({"columns": []}), "key 'name' is missing"),
        (lambda: Schema.from_toml("name = "), "schema: not TOML"),
        (lambda: Numeric("x", "u", "1", 5), "column 'x': low must be a number, got '1'"),
        (lambda: Numeric("x", "u", 1, "5"), "column 'x': high must be a number, got '5'"),
        (lambda: Numeric("x", "u", 1, True), "high must be a number, got True"),
        (lambda: Numeric("x", "u", 1, None), "high must be a number, got None"),
        (lambda: Numeric("x", 3, 1, 5), "column 'x': unit must be text, got 3"),
        (lambda: Numeric(0, "u", 1, 5), "a column's name must be text, got 0"),
        (lambda: Numeric("", "u", 1, 5), "a column's name must be text, got ''"),
        (lambda: Numeric("x", "u", 0, 10, within="middle"), "within must be one of 'grid', "),
        (lambda: Numeric("x", "u", 0, 9, spikes=("a",)), "'x': spikes must be a number, got 'a'"),
        (lambda: Numeric("x", "u", 0, 9, spikes=(1, 1)), "spikes must be finite numbers, none of"),
        (lambda: Numeric("x", "u", 0, 9, spikes=(math.inf,)), "spikes must be finite"),
        (lambda: Numeric("x", "u", 0, 9, spikes=range(99)), "99 are too many"),
        (lambda: Numeric("x", "u", 0, 9, within="halves", missing="?"), "do not go with"),
        (lambda: Numeric("x", "u", 0, 9, missing=("?", "?")), "none twice"),
        (lambda: Categorical("c", ("a", "?"), missing=("?",)), "is a level and stands for missing"),
        (lambda: Categorical("c", range(255), missing=("?",)), "254 levels at most"),
        (lambda: Schema("s", (MAYBE,), label="y"), "must not be missing; make '\\?' a level"),
        (lambda: Schema("s", (MAYBE,), given="y"), "given 'y' must not be missing"),
        (lambda: Numeric("x", "u", 0, 10, cell=2.5), "a whole multiple of the resolution"),
        (lambda: Numeric("x", "u", -1e308, 1e308), "more than 2\\*\\*40 values"),
        (lambda: Numeric("x", "u", 0, 1e9, resolution=1e-6), "make the resolution coarser"),
        (lambda: Categorical("c", ("a", None)), "'c': level None stands for a missing value"),
        (lambda: Categorical("c", ("a", float("nan"))), "level nan stands for a missing value"),
        (lambda: Categorical("c", (1, "1")), "'c': levels are of several kinds \\(1, '1'\\)"),
        (lambda: Categorical("c", (1, True)), "several kinds \\(1, True\\)"),
        (lambda: Categorical("c", (1.5, 2.5)), "level 1.5 is a float; levels are whole numbers,"),
        (lambda: Categorical("c", "abc"), "'c': levels must be a list, got 'abc'"),
        (lambda: Categorical("c", ("0", "0\0")), r"'c': level '0\\x00' holds a NUL"),
        (lambda: Categorical("c", 2), "'c': levels must be a list, got 2"),
        (lambda: Categorical("c", {"a", "b"}), "levels must be a list, got {"),
        (lambda: Categorical("c", (1, 2), weight="1"), "'c': weight must be a number, got '1'"),
        (lambda: Categorical("c", range(256)), "got 256; group the rare ones, or take the first"),
        (lambda: Schema("s", LABEL, label="y"), "'s': columns must be a list, got Categorical"),
        (lambda: Schema("s", [("x", "y")], label="x"), "column 1 must be a Numeric or a Cat"),
        (lambda: Schema("s", ()), "columns is empty"),
        (lambda: Schema(3, (LABEL,)), "schema: name must be text, got 3"),
        (lambda: Schema("s", (LABEL,), label=3), "'s': label must be text, got 3"),
        (lambda: Schema("s", (LABEL,), positive=(1,)), "positive needs a label"),
        (lambda: Schema("s", (LABEL,), records=2.5), "records must be a whole number, 1 or more"),
        (lambda: Schema("s", (LABEL,), minimum_records=0), "minimum_records must be a whole"),
        (lambda: Schema("s", (LABEL,)).column(None), "'s' has no label; name its column"),
        (lambda: dataclasses.replace(PATIENTS, positive=()).is_positive, "say which mean positive"),
        (lambda: Schema.from_dict({"columns": 3}), "schema: columns must be a list, got 3"),
        (lambda: Schema.from_dict({"columns": [3]}), "column 1 must be a table"),
    ],
)
def test_what_is_no_schema_is_refused(build, message: str):
    with pytest.raises(UserError, match=message):
        build()


def test_toml_without_columns_says_so():
    text = tomli_w.dumps(TOY.to_dict())
    assert tomllib.loads(text)["columns"][0]["kind"] == "numeric"
    with pytest.raises(UserError):
        Schema.from_toml('name = "s"\nlabel = "y"\n')


TABLE = """
name = "s"
[[columns]]
kind = "numeric"
name = "x"
unit = "u"
low = 0
high = 9
[[columns]]
kind = "categorical"
name = "y"
levels = [0, 1]
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("low = 0", 'low = "0"', "column 'x': low must be a number, got '0'"),
        ("low = 0", "low = 2024-01-01", "column 'x': low must be a number, got datetime.date"),
        ("high = 9", "high = -9", "bounds must be finite with low < high"),
        ("high = 9", 'high = 9\nwithin = "middle"', "within must be one of"),
        ("[0, 1]", "2", "column 'y': levels must be a list, got 2"),
        ("[0, 1]", '"01"', "column 'y': levels must be a list, got '01'"),
        ("[0, 1]", '[1, "1"]', "column 'y': levels are of several kinds"),
        ("[0, 1]", "[0.5, 1.5]", "level 0.5 is a float"),
        ('"s"', '"s"\nless = ["x", "y"]', "a rule must be a list, got 'x'"),
        ('"s"', '"s"\nless = [["x", "x"]]', "rules x < x: no row can keep them"),
        ('"s"', '"s"\nlabel = 1', "label must be text, got 1"),
        ('"s"', '"s"\nrecords = "many"', "records must be a whole number"),
        ("low = 0\n", "", "schema column 1: key 'low' is missing"),
    ],
)
def test_the_same_in_toml(old: str, new: str, message: str):
    assert Schema.from_toml(TABLE).names == ("x", "y")
    with pytest.raises(UserError, match=message):
        Schema.from_toml(TABLE.replace(old, new))


def test_what_numpy_and_pandas_give_becomes_plain():
    """tomli_w takes no numpy scalars: saving used to fail after the budget was spent."""
    y = Categorical("y", tuple(np.array([0, 1])), runs=np.array([2]), scale=np.array([0.0, 1.0]))
    k = Categorical("k", pd.Series(["a", "b", "a"]).unique())
    x = Numeric(np.str_("x"), "u", np.float32(0), np.int64(9), resolution=np.float64(0.5))
    b = Categorical("b", np.array([False, True]))
    schema = Schema("s", np.array([x, y, k, b], object), label=np.str_("y"), records=np.int64(700))
    assert Schema.from_toml(tomli_w.dumps(schema.to_dict())) == schema
    kinds = [type(v) for v in (x.name, x.low, x.high, y.levels[0], k.levels[0], b.levels[0])]
    assert kinds == [str, float, int, int, str, bool] and type(schema.records) is int


def test_a_label_may_be_missing_or_of_many_levels():
    many = Categorical("many", ("a", "b", "c"))
    for schema in (Schema("s", (many, LABEL)), Schema("s", (many, LABEL), label="many")):
        assert not schema.has_classes
        assert Schema.from_toml(tomli_w.dumps(schema.to_dict())) == schema
        with pytest.raises(UserError, match="label"):
            assert schema.is_positive is None
    assert TOY.has_classes and PATIENTS.has_classes


def test_too_many_bins_name_the_widest_column_and_a_cell_that_fits():
    wide = Numeric("fnlwgt", "", 0, 1_500_000, cell=1)
    with pytest.raises(UserError) as caught:
        Schema("adult", (Numeric("age", "years", 17, 90), wide, LABEL), label="y")
    assert str(caught.value) == (
        "schema 'adult': 1500077 bins to measure, at most 262143 can be accounted for; column "
        "'fnlwgt' has 1500001 of them, give it cell = 10 or more"
    )
    fits = dataclasses.replace(wide, cell=10)
    assert Schema("adult", (fits, LABEL)).column("fnlwgt").bins == 150_001
    assert MOST_BINS + 1 == LATTICE_NUMBERS, "the record count is a number too"


@given(st.floats(1, 1e7), st.integers(-3, 3), st.integers(3, MOST_BINS))
def test_the_cell_that_is_suggested_fits(width: float, power: int, room: int):
    column = Numeric("x", "", 0, max(width, 1.01) * 10.0**power, 10.0**power, 10.0**power)
    cell = column.wide_enough(room)
    if cell <= column.high:
        assert dataclasses.replace(column, cell=cell).cells <= room
