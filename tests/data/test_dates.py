"""Dates: numbers of units since their first value, read and written in the column's own format."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rdpjax.data.dates import Date
from rdpjax.data.frame import check_frame, released_frame
from rdpjax.data.outside import count_outside
from rdpjax.data.schema import Categorical, Numeric, Schema
from rdpjax.errors import UserError

VISIT = Date("visit", first="1/3/2004", last="4/4/2005", format="%-d/%-m/%Y", missing=("?",))
HOUR = Date("hour", "hours", first="00:00:00", last="23:00:00", format="%H:%M:%S")
SCHEMA = Schema("visits", (VISIT, HOUR, Categorical("ill", (0, 1))))


def test_texts_come_back_in_their_format() -> None:
    cells = ["1/3/2004", "29/2/2004", "4/4/2005"]
    assert VISIT.numbers(cells).tolist() == [0, -1, 399]
    assert VISIT.texts(np.array([0, 399, np.nan])) == ["1/3/2004", "4/4/2005", None]
    assert HOUR.texts(HOUR.numbers(["8:00:00"])) == ["08:00:00"]


def test_the_bounds_follow_from_first_and_last() -> None:
    assert (VISIT.low, VISIT.high, VISIT.cell, HOUR.cells) == (0, 399, 5, 24)
    assert Schema.from_dict(SCHEMA.to_dict()) == SCHEMA
    assert "low" not in SCHEMA.to_dict()["columns"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": "2004-03-01"}, "first '2004-03-01' is not of the format '%d"),
        ({"last": "01/03/2004"}, "first must be before last"),
        ({"unit": "months"}, "unit must be one of days, hours, minutes, seconds"),
        ({"spikes": (3,)}, "takes no spikes"),
        ({"format": 3}, "format must be text"),
        ({"last": ""}, "last must be text"),
    ],
)
def test_what_is_no_date_is_refused(change: dict[str, object], message: str) -> None:
    given = {"first": "01/03/2004", "last": "04/04/2005", "format": "%d/%m/%Y"} | change
    with pytest.raises(UserError, match=message):
        Date("visit", **given)  # type: ignore[arg-type]


def test_frames_of_datetimes_or_texts_give_the_same_records() -> None:
    days = pd.to_datetime(pd.Series(["2004-03-08", None]))
    frame = pd.DataFrame({"visit": days, "hour": ["08:00:00", "09:00:00"], "ill": [0, 1]})
    texts = frame.assign(visit=["8/3/2004", "?"])
    first, second = check_frame(SCHEMA, frame), check_frame(SCHEMA, texts)
    pd.testing.assert_frame_equal(first, second)
    assert first.visit.tolist()[0] == 7 and np.isnan(first.visit[1])
    back = released_frame(SCHEMA, first)
    assert back.visit[0] == pd.Timestamp("2004-03-08") and back.visit.isna()[1]
    with pytest.raises(UserError, match="row 0, column 'visit': 'next week' is no such date"):
        check_frame(SCHEMA, texts.assign(visit=["next week", "?"]))


def test_dates_out_of_bounds_are_told_as_dates() -> None:
    frame = pd.DataFrame({"visit": [-9.0, 3], "hour": [0.0, 1], "ill": [0, 1]})
    (found,) = count_outside(SCHEMA, frame)
    assert "50% of 2 values lie outside 1/3/2004 to 4/4/2005 and are clipped" in str(found)


def test_rules_compare_dates_whatever_they_are_counted_from() -> None:
    born = Date("born", first="2000-01-01", last="2020-01-01")
    seen = Date("seen", "hours", first="2010-01-01", last="2020-01-01")
    schema = Schema("s", (born, seen), rules=("born <= seen",))
    days = born.number("2010-01-03")
    rows = np.array([[days, 48], [days, 47], [days, 49], [0, 0]], float)
    assert schema.breaks_rule(rows).tolist() == [False, True, False, False]
    turned = Schema("s", (born, seen), rules=("seen >= born",))
    assert turned.breaks_rule(rows).tolist() == [False, True, False, False]
    number = Numeric("n", "", 0, 9)
    with pytest.raises(UserError, match="a date and a number cannot be compared"):
        Schema("s", (born, number), rules=("born < n",))
    with pytest.raises(UserError, match="rule on the date 'born': write it in rules"):
        Schema("s", (born, seen), less=(("born", "seen"),))
