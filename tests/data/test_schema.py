from __future__ import annotations

import dataclasses
import tomllib

import pytest
import tomli_w

from rdpjax.data.cardio import CARDIO
from rdpjax.data.schema import Categorical, Numeric, Schema
from rdpjax.errors import UserError

LABEL = Categorical("y", (0, 1))
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
        (lambda: Numeric("x", "m", 0, 9, cell=0), "0 < resolution <= cell"),
        (lambda: Numeric("x", "m", 0, 9, cell=10), "cell <= high - low"),
        (lambda: Numeric("x", "m", 0, 9, resolution=2), "resolution <= cell"),
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
        (lambda: dataclasses.replace(PATIENTS, positive=()), "'stay' needs exactly two levels"),
        (lambda: Schema("s", (LABEL, LABEL), label="y"), "a column name stands twice"),
        (lambda: Schema("s", (LABEL,), label="w"), "has no column 'w'"),
        (lambda: dataclasses.replace(TOY, label="x"), "label 'x' needs exactly two levels"),
        (lambda: dataclasses.replace(TOY, less=(("x", "y"),)), "rule on 'y', which is no number"),
        (lambda: Schema.from_dict({"name": "s", "columns": [{"kind": "date"}]}), "kind must be"),
        (lambda: Schema.from_dict(TOY.to_dict() | {"lable": "y"}), "did you mean 'label'"),
        (lambda: Schema.from_dict({"columns": []}), "key 'name' is missing"),
        (lambda: Schema.from_toml("name = "), "schema: not TOML"),
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
