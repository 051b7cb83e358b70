"""Determined columns: codes and formulas of other columns, computed, never evaluated as Python."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rdpjax.data.determined import Determined
from rdpjax.data.fields import Categorical, Numeric
from rdpjax.data.schema import Schema
from rdpjax.errors import UserError

COLUMNS = (
    Numeric("weight", "kg", 30, 200, missing=("?",)),
    Numeric("height-cm", "cm", 100, 220),
    Categorical("school", ("primary", "college"), missing=("?",)),
)
BMI = Determined("bmi", formula="weight / (`height-cm` / 100) ** 2", decimals=1)
CLASS = Determined("fat", formula="floor(bmi / 25)")
GRADE = Determined("grade", of="school", codes={"primary": 1, "college": 3})  # type: ignore[arg-type]


def test_they_are_computed_in_the_order_of_their_sources() -> None:
    schema = Schema("s", COLUMNS, determined=(CLASS, GRADE, BMI))
    assert [c.name for c in schema.determined].index("bmi") == 0 or schema.determined[0] is GRADE
    frame = pd.DataFrame(
        {"weight": [80.0, np.nan], "height-cm": [170, 170], "school": ["college", None]}
    )
    for column in schema.determined:
        frame[column.name] = column.values(frame)
    assert frame.bmi[0] == 27.7 and np.isnan(frame.bmi[1]) and frame.fat[0] == 1
    assert frame.grade.tolist() == [3, None]
    assert schema.written[:3] == schema.names
    assert Schema.from_dict(schema.to_dict()) == schema


@pytest.mark.parametrize(
    "formula",
    ["__import__('os').system('true')", "weight.__class__", "[weight]", "weight if 1 else 2",
     "(lambda: weight)()", "'a' * weight", "weight == 3", "eval(weight)", "round(weight, n=1)"],
)  # fmt: skip
def test_a_formula_is_arithmetic_alone(formula: str) -> None:
    with pytest.raises(UserError, match=r"is no arithmetic on columns|cannot be read"):
        Determined("x", formula=formula)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ((Determined("a", formula="b"), Determined("b", formula="a")), "in a circle"),
        ((Determined("weight", formula="`height-cm`"),), "a column name stands twice: 'weight'"),
        ((BMI, BMI), "stands twice: 'bmi'"),
        ((Determined("a", formula="wieght * 2"),), "no column 'wieght'; did you mean 'weight'"),
        (
            (Determined("g", of="school", codes=(("primary", 1),)),),
            "no code for school = 'college'",
        ),
    ],
)
def test_what_no_row_can_have_is_refused(columns: tuple[Determined, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Schema("s", COLUMNS, determined=columns)


def test_a_division_by_zero_is_missing() -> None:
    half = Determined("x", formula="1 / weight", decimals=2)
    assert np.isnan(half.values(pd.DataFrame({"weight": [0.0]}))).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [({}, "give a formula, or of"), ({"of": "school"}, "give a formula, or of"),
     ({"formula": "3"}, "names no column"), ({"formula": "a", "decimals": -1}, "decimals must lie"),
     ({"formula": "a +"}, "cannot be read")],
)  # fmt: skip
def test_half_a_description_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Determined("x", **given)  # type: ignore[arg-type]
