"""Rules between columns: what no row can keep is refused when the schema is made."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdpjax.data.fields import Categorical, Numeric
from rdpjax.data.rules import less_of
from rdpjax.errors import UserError

COLUMNS = (
    Numeric("a", "u", 0, 2),
    Numeric("b", "u", 0, 2),
    Numeric("c", "u", 0, 2),
    Numeric("d", "u", 0, 2),
    Numeric("high", "u", 5, 9),
    Numeric("fine", "u", 0, 1, resolution=0.5, cell=0.5),
    Categorical("y", (0, 1)),
)


@pytest.mark.parametrize(
    ("less", "message"),
    [
        ([("a", "a")], "rules a < a: no row can keep them"),
        ([("a", "b"), ("b", "a")], "no row can keep them; leave one out"),
        ([("a", "b"), ("b", "c"), ("c", "a")], "no row can keep them"),
        (
            [("high", "a")],
            "rule high < a: the bounds allow no such row, as high is 5 or more and a ",
        ),
        ([("a", "b"), ("b", "c"), ("c", "d")], "as c is 2 or more and d at most 2"),
        ([("a", "b"), ("b", "fine")], "as b is 1 or more and fine at most 1"),
        ([("a", "y")], "rule on 'y', which is no number"),
        ([("a", "hihg")], "no column 'hihg'; did you mean 'high'"),
        ([("a", 3)], "no column 3"),
        ([("a", "b", "c")], "a rule must be a pair of columns"),
        (["ab"], "a rule must be a list, got 'ab'"),
        ("ab", "less must be a list"),
        (3, "less must be a list"),
    ],
)
def test_rules_that_are_none_or_cannot_be_kept(less: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        less_of(less, COLUMNS, "schema 's'")


def test_rules_that_can_be_kept() -> None:
    kept = [["a", "b"], ("b", "c"), ("a", "c"), ("c", "high"), ("a", "fine"), ("fine", "b")]
    assert less_of(kept, COLUMNS, "s") == tuple(map(tuple, kept))
    assert less_of((), COLUMNS, "s") == ()


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(1, 3)), min_size=3, max_size=3),
    st.lists(st.permutations("abc").map(lambda names: tuple(names[:2])), max_size=4),
)
def test_refused_exactly_where_no_row_of_whole_numbers_keeps_them(
    bounds: list[tuple[int, int]], less: list[tuple[str, str]]
) -> None:
    columns = [
        Numeric(name, "", low, low + width)
        for name, (low, width) in zip("abc", bounds, strict=True)
    ]
    grids = [range(low, low + width + 1) for low, width in bounds]
    rows = [
        dict(zip("abc", (a, b, c), strict=True))
        for a in grids[0]
        for b in grids[1]
        for c in grids[2]
    ]
    if any(all(row[a] < row[b] for a, b in less) for row in rows):
        assert less_of(less, columns, "s") == tuple(less)
    else:
        with pytest.raises(UserError):
            less_of(less, columns, "s")
