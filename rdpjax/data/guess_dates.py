"""Guess the format, unit and bounds of a column of dates or times of day."""

from __future__ import annotations

import calendar
from collections.abc import Collection
from datetime import datetime
from itertools import islice
from typing import Any

_DAYS = (
    "%Y-%m-%d", "%Y/%m/%d", "%d/%m/%Y", "%-d/%-m/%Y", "%m/%d/%Y", "%-m/%-d/%Y", "%d.%m.%Y",
    "%-d.%-m.%Y", "%d-%m-%Y", "%-d-%-m-%Y", "%m-%d-%Y", "%-m-%-d-%Y", "%d %b %Y", "%d-%b-%Y",
)  # fmt: skip
_TIMES = ("%H:%M", "%H:%M:%S", "%-H:%M", "%-H:%M:%S")
FORMATS = (
    *_DAYS,
    *(f"{day} {time}" for day in _DAYS for time in _TIMES),
    *(f"%Y-%m-%dT{time}{zone}" for time in _TIMES[:2] for zone in ("", "Z")),
    *_TIMES,
)
"""Formats that are tried; of days and months that could be either, the day comes first."""

_FIRST_LOOK = 200  # distinct cells: most formats fail at the first


def guess_dates(cells: Collection[str]) -> tuple[dict[str, Any], str] | None:
    """Guess the keys of a column of dates, and a note; None where no format fits every cell.

    Args:
      cells: the distinct cells, without missing values.

    Examples:
      >>> keys, note = guess_dates(["3/12/2023", "25/1/2024"])
      >>> keys["format"], keys["first"], keys["last"], keys["unit"]
      ('%-d/%-m/%Y', '1/12/2023', '31/1/2024', 'days')
      >>> guess_dates(["3/4/2024", "4/3/2024"])[1]
      'a day or a month first? both fit'
    """
    look = list(islice(cells, _FIRST_LOOK))
    likely = [form for form in FORMATS if _parsed(look, form)]
    found = [(form, moments) for form in likely if (moments := _parsed(cells, form))]
    if not found:
        return None
    # The one that writes the cells as they came; if none does, the first that reads them.
    form, moments = next(
        (
            (form, moments)
            for form, moments in found
            if all(m.strftime(form) == cell for m, cell in zip(moments, cells, strict=True))
        ),
        found[0],
    )
    if min(moments) == max(moments):  # one value in several spellings
        return None
    unit = _unit(moments)
    first, last = _bounds(min(moments), max(moments), unit, dated="%Y" in form)
    keys = {"kind": "date", "first": first.strftime(form), "last": last.strftime(form)}
    keys |= {"format": form, "unit": unit}
    either = len({_order(form) for form, _ in found}) > 1
    return keys, "a day or a month first? both fit" if either else ""


def _order(form: str) -> bool:
    """Return whether the day stands before the month."""
    form = form.replace("%-", "%")
    return form.find("%d") < form.find("%m")


def _parsed(cells: Collection[str], form: str) -> list[datetime]:
    """Parse cells; no moments where one is of another format."""
    read = form.replace("%-", "%")
    try:
        moments = [datetime.strptime(cell, read) for cell in cells]
    except ValueError:
        return []
    # strftime writes earlier years with fewer digits than strptime reads.
    return moments if all(moment.year >= 1000 for moment in moments) else []


def _unit(moments: Collection[datetime]) -> str:
    """Return the largest unit that every moment is a whole number of."""
    if any(moment.second for moment in moments):
        return "seconds"
    if any(moment.minute for moment in moments):
        return "minutes"
    return "hours" if any(moment.hour for moment in moments) else "days"


def _bounds(
    least: datetime, most: datetime, unit: str, *, dated: bool
) -> tuple[datetime, datetime]:
    """Round bounds outwards: to years, to months below two years, and to days of a time alone."""
    first = least.replace(hour=0, minute=0, second=0)
    last = most.replace(
        hour=23 if unit != "days" else 0,
        minute=59 if unit in ("minutes", "seconds") else 0,
        second=59 if unit == "seconds" else 0,
    )
    if not dated:
        return first, last
    years = most.year - least.year >= 2
    first = first.replace(day=1, month=1 if years else first.month)
    month = 12 if years else last.month
    return first, last.replace(day=calendar.monthrange(last.year, month)[1], month=month)
