"""Guess the description of a column from its cells. Not private: a draft says so (`peeked`)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from rdpjax.data.fields import MOST_STEPS
from rdpjax.data.guess_dates import guess_dates
from rdpjax.data.levels import MISSING, MOST_TOKENS
from rdpjax.io.cells import NUMBER

FEW_NUMBERS = 10
"""Most distinct whole numbers that are taken for levels."""
FEW_WORDS = 20
"""Most distinct words that are taken for levels, however few rows there are."""
OFTEN = 0.3
"""Share of a column's values from which on one value is taken for a spike."""
CODED = 0.01
"""Share of a column's values from which on a remote one is taken for a missing value."""
UNIQUE = 0.9
"""Distinct words per row from which on words are taken for names or free text."""

_LARGEST = Decimal(2**53)  # above it float64 skips whole numbers
_FINEST = 12  # decimals
_IDENTIFIER = re.compile(r"(?:^|[\W_])(?:id|nr|no|number|key|uuid|index)$", re.IGNORECASE)


@dataclass(frozen=True)
class Guess:
    """Guess about a column.

    Attributes:
      keys: keys of its entry in the schema, without the name; None for a column to be dropped.
      note: why it is dropped, or what a person should look at.
    """

    keys: Mapping[str, Any] | None
    note: str = ""


def guess_column(name: str, cells: Mapping[str, int]) -> Guess:
    """Guess a column's kind, bounds, levels and missing texts.

    Args:
      name: the column's name.
      cells: number of records by cell, stripped of blanks.

    Examples:
      >>> guess_column("sex", {"f": 4, "m": 5, "?": 1}).keys
      {'kind': 'categorical', 'levels': ['f', 'm'], 'missing': ['?']}
      >>> guess_column("age", {str(age): 1 for age in (17, 21.5, 88)}).keys
      {'kind': 'numeric', 'low': 10, 'high': 90, 'resolution': 0.1, 'unit': ''}
    """
    gaps = sorted((text for text in MISSING if text in cells), key=lambda text: -cells[text])
    known = {text: count for text, count in cells.items() if text not in MISSING}
    if len(known) < 2:
        return Guess(None, "the same value in every row" if known else "no value in any row")
    numbers = [text for text in known if _is_number(text)]
    if len(numbers) == len(known) and not any(re.match(r"[+-]?0\d", text) for text in known):
        guess = _of_numbers(name, known)
    elif (dates := guess_dates(known)) is not None:
        guess = Guess(*dates)
    else:
        guess = _of_words(known, numbers, MOST_TOKENS - bool(gaps))
    if guess.keys is None or not gaps:
        return guess
    return Guess({**guess.keys, "missing": [*gaps, *guess.keys.get("missing", ())]}, guess.note)


def _is_number(text: str) -> bool:
    return NUMBER.fullmatch(text) is not None and math.isfinite(float(text))


def _of_numbers(name: str, cells: Mapping[str, int]) -> Guess:
    values: dict[Decimal, int] = {}
    for text, count in cells.items():
        value = Decimal(text)
        values[value] = values.get(value, 0) + count
    if code := _missing_code(values):
        said = f"is {code} a missing value? it was taken for one"
        guess = _of_numbers(name, {t: n for t, n in cells.items() if Decimal(t) != Decimal(code)})
        if guess.keys is None:
            return guess
        return Guess({**guess.keys, "missing": [code, *guess.keys.get("missing", ())]}, said)
    rows, least, most = sum(values.values()), min(values), max(values)
    whole = all(value == value.to_integral_value() for value in values)
    if max(-least, most) >= _LARGEST:
        return Guess(None, "numbers of more than 15 digits: an identifier?")
    numbered = most - least + 1 == rows or _IDENTIFIER.search(name)
    if whole and len(values) == rows > FEW_WORDS and numbered:
        return Guess(None, "another whole number in every row: an identifier?")
    if len(values) < 2:
        return Guess(None, "the same value in every row")
    if whole and len(values) <= FEW_NUMBERS:
        return Guess({"kind": "categorical", "levels": [int(value) for value in sorted(values)]})
    spikes = []
    if len(values) > FEW_WORDS:
        spikes = sorted(value for value, count in values.items() if count > OFTEN * rows)
    return Guess(_numeric([value for value in values if value not in spikes], spikes))


def _missing_code(values: Mapping[Decimal, int]) -> str:
    """Return a number that seems to stand for a missing value, such as -200; "" for none.

    It is frequent, and the only negative one or as far from all others as these from each other.
    """
    ordered = sorted(values)
    if len(ordered) <= FEW_NUMBERS:  # levels, more likely
        return ""
    low, high = (ordered[0], ordered[1:]), (ordered[-1], ordered[:-1])
    for code, others in (low, high):
        alone = code < 0 <= others[0]
        far = min(abs(code - others[0]), abs(code - others[-1])) >= others[-1] - others[0]
        frequent = values[code] >= CODED * sum(values.values()) and values[code] > 1
        if code and frequent and (alone or far):
            return f"{_plain(code)}"
    return ""


def _numeric(values: Iterable[Decimal], spikes: list[Decimal]) -> dict[str, Any]:
    """Return the keys of a numeric column: bounds outside the values, resolution of all."""
    inside = list(values)
    digits = max(-int(value.normalize().as_tuple().exponent) for value in [*inside, *spikes])
    resolution = Decimal(1).scaleb(-min(max(digits, 0), _FINEST))
    while True:
        low, high = outwards(min(inside), max(inside), resolution)
        largest = max(-low, high, *map(abs, spikes))
        if (high - low) / resolution < MOST_STEPS and largest / resolution < _LARGEST:
            break
        resolution *= 10
    keys = {"kind": "numeric", "low": _plain(low), "high": _plain(high)}
    keys |= {"resolution": _plain(resolution), "unit": ""}
    return keys | ({"spikes": [_plain(value) for value in spikes]} if spikes else {})


def outwards(least: Decimal, most: Decimal, resolution: Decimal) -> tuple[Decimal, Decimal]:
    """Round bounds outwards to multiples of 1, 2 or 5 times a power of ten, ten or so between.

    Examples:
      >>> outwards(Decimal(17), Decimal(88), Decimal(1))
      (Decimal('1E+1'), Decimal('9E+1'))
      >>> outwards(Decimal("-0.31"), Decimal("0.4"), Decimal("0.01"))
      (Decimal('-0.4'), Decimal('0.4'))
    """
    tenth = (most - least) / 10
    power = Decimal(1).scaleb(tenth.adjusted())
    step = max(resolution, next(m * power for m in (1, 2, 5, 10) if m * power >= tenth))
    down = (least / step).to_integral_value(ROUND_FLOOR)
    up = (most / step).to_integral_value(ROUND_CEILING)
    return (down * step).normalize(), (up * step).normalize()


def _plain(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def _of_words(cells: Mapping[str, int], numbers: list[str], most: int) -> Guess:
    rows = sum(cells.values())
    if len(cells) <= most and (len(cells) <= FEW_WORDS or len(cells) < UNIQUE * rows):
        return Guess({"kind": "categorical", "levels": sorted(cells)})
    if len(numbers) > len(cells) / 2:
        other = next(text for text in cells if text not in numbers)
        return Guess(None, f"numbers beside {other[:40]!r}: does it stand for a missing value?")
    if all(re.fullmatch(r"[+-]?[\d.,]+", text) for text in cells):
        return Guess(None, "write decimals with a point, thousands without a mark")
    if len(cells) < UNIQUE * rows:
        return Guess(None, f"{len(cells):,} levels, at most {most} are possible: group them")
    return Guess(None, "another text in nearly every row: an identifier or free text?")
