"""Conditions: parsed against a schema, met or broken by decoded values, unknown ones by none."""

from __future__ import annotations

import numpy as np
import pytest

from rdpjax.data.conditions import conditions_of
from rdpjax.data.fields import Categorical, Numeric
from rdpjax.data.schema import Schema
from rdpjax.errors import UserError

COLUMNS = (
    Numeric("low", "mmHg", 40, 140),
    Numeric("high", "mmHg", 70, 240, missing=("?",)),
    Categorical("smokes now", ("no", "yes", "then")),
    Numeric("packs", "", 0, 9, missing=("",)),
    Categorical("stage", (1, 2, 3), runs=(3,), missing=("?",)),
)
ROWS = np.array(
    [[80, 120, 0, np.nan, 0], [120, 80, 1, 2, 2], [90, np.nan, 0, 1, 3], [80, 80, 2, 0, 1]]
)


def broken(*rules: str) -> list[bool]:
    return Schema("s", COLUMNS, rules=rules).breaks_rule(ROWS).tolist()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("low < high", [False, True, False, True]),
        ("low <= high", [False, True, False, False]),
        ("high != 80", [False, True, False, True]),
        ("if `smokes now` = no then packs missing", [False, False, True, False]),
        ("if smokes now = no then packs is missing", [False, False, True, False]),
        ("if `smokes now` = 'then' then packs > 1", [False, False, False, True]),
        ("if low > 85 and high > 10 then packs = 1", [False, True, False, False]),
        ("stage >= 2", [True, False, False, False]),
        ("if stage missing then low = 80", [False, False, True, False]),
    ],
)
def test_rules(rule: str, expected: list[bool]) -> None:
    assert broken(rule) == expected


def test_no_rule_is_broken_by_no_rows() -> None:
    assert Schema("s", COLUMNS, rules=("low < high",)).breaks_rule(ROWS[:0]).tolist() == []
    assert broken() == [False] * 4
    assert broken("low < high", "packs < 2") == [False, True, False, True]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("low", "rule 'low': must be like"),
        ("low < ", "must be like"),
        ("low < high < packs", "must be like"),
        ("lwo < high", "no column 'lwo'; did you mean 'low'"),
        ("low < hihg", "'hihg' is no finite number, and no column is called so"),
        ("smokes now = maybe", "'smokes now' has no level 'maybe'"),
        ("smokes now < yes", "'smokes now' has no order; compare with = or !="),
        ("low < stage", "'stage' is no number"),
        ("low missing", "column 'low' has no missing values; declare their texts"),
        ("if low < 3", "an 'if' needs a 'then'"),
        ("low < 40", "the bounds allow no such row"),
        ("low > 140", "the bounds allow no such row"),
        ("low = 9", "the bounds allow no such row"),
        ("low < `high", "cannot be read from '`high' on"),
    ],
)
def test_what_is_no_rule_is_refused(rule: str, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        Schema("s", COLUMNS, rules=(rule,))


def test_what_some_row_can_keep_is_no_mistake() -> None:
    far = (Numeric("a", "", 0, 9, spikes=(99,)), Numeric("b", "", 20, 30))
    Schema("s", far, rules=("a > b", "a <= 0", "a != 3", "if a > 500 then b = 20"))
    for rule in ("b > 30", "a > 99", "b = 31", "b <= 19"):
        with pytest.raises(UserError, match="the bounds allow no such row"):
            Schema("s", far, rules=(rule,))


def test_conditions_are_joined_by_and() -> None:
    found = conditions_of("low>=80 and `smokes now`!=no", COLUMNS, "--where")
    assert [(c.column, c.compare, c.value) for c in found] == [(0, ">=", 80.0), (2, "!=", 0)]
