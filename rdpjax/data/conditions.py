"""Conditions on columns: `ap_lo < ap_hi`, `sex = f`, `if smokes = no then packs missing`.

A rule is a condition that every generated row keeps; the rows that `--where` asks for meet one.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rdpjax.data.dates import Date
from rdpjax.data.fields import Categorical, Column
from rdpjax.errors import UserError, nearest

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, "=": operator.eq, "==": operator.eq,
    "!=": operator.ne, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_WORD = re.compile(r"\s*(?:`([^`]+)`|'([^']*)'|\"([^\"]*)\"|(<=|>=|==|!=|<|>|=)|([^\s<>=!`'\"]+))")
_MISSING = "missing"


@dataclass(frozen=True)
class Condition:
    """One comparison: of a column with a value or another column, or with a missing value.

    Attributes:
      column: position of the column.
      compare: "<", "<=", "=", "!=", ">", ">=" or "missing".
      value: a number, or the index of a level; None with `other`.
      other: position of the other column; None for a value.
      scale: the other column's values are multiplied by this,
      shift: and then moved by it: dates of two columns count from two days, in two units.
    """

    column: int
    compare: str
    value: float | None = None
    other: int | None = None
    scale: float = 1.0
    shift: float = 0.0

    def holds(self, values: np.ndarray, gaps: np.ndarray, *, unknown: bool) -> np.ndarray:
        """Return the rows that meet the condition, bool (rows,).

        Args:
          values: decoded values (rows, columns); categoricals as the index of their level.
          gaps: missing values, bool (rows, columns).
          unknown: what a comparison with a missing value counts as.
        """
        if self.compare == _MISSING:
            missing: np.ndarray = gaps[:, self.column]
            return missing
        against: Any = self.value
        blank = gaps[:, self.column]
        if self.other is not None:
            against = values[:, self.other] * self.scale + self.shift
            blank = blank | gaps[:, self.other]
        met: np.ndarray = _COMPARE[self.compare](values[:, self.column], against)
        met[blank] = unknown
        return met


@dataclass(frozen=True)
class Rule:
    """`then` of every row, or of those that meet all of `when`."""

    then: Condition
    when: tuple[Condition, ...] = ()

    def broken(self, values: np.ndarray, gaps: np.ndarray) -> np.ndarray:
        """Return the rows that break the rule, bool (rows,); an unknown value breaks none."""
        broken: np.ndarray = ~self.then.holds(values, gaps, unknown=True)
        for condition in self.when:
            broken &= condition.holds(values, gaps, unknown=False)
        return broken


def rule_of(rule: str, columns: Sequence[Column], where: str) -> Rule:
    """Parse a rule, `a < b` or `if ... and ... then ...`.

    Raises:
      UserError: names the rule, and what in it is no column, level or comparison.

    Examples:
      >>> from rdpjax.data.fields import Numeric
      >>> columns = (Categorical("smokes", ("no", "yes")), Numeric("packs", "", 0, 9, missing="-"))
      >>> rule = rule_of("if smokes = no then packs missing", columns, "schema")
      >>> values, gaps = np.array([[0, 3.0], [1, 3.0]]), np.zeros((2, 2), bool)
      >>> rule.broken(values, gaps).tolist()
      [True, False]
    """
    where = f"{where}: rule {rule!r}"
    words = _words(rule, where)
    if words and words[0] == "if":
        plain = ["" if isinstance(word, _Name) else word for word in words]
        if "then" not in plain:
            raise UserError(f"{where}: an 'if' needs a 'then'")
        middle = plain.index("then")
        when = _conditions(words[1:middle], columns, where)
        return Rule(_condition(words[middle + 1 :], columns, where), when)
    always = _condition(words, columns, where)
    if not _possible(always, columns):
        raise UserError(f"{where}: the bounds allow no such row; mend the rule or the bounds")
    return Rule(always)


def conditions_of(text: str, columns: Sequence[Column], where: str) -> tuple[Condition, ...]:
    """Parse conditions joined by `and`; UserError as `rule_of`."""
    return _conditions(_words(text, where), columns, where)


class _Name(str):
    """Word in backticks or quotes: never a keyword."""


def _words(text: str, where: str) -> list[str]:
    words: list[str] = []
    end = 0
    text = text.rstrip()
    while end < len(text):
        found = _WORD.match(text, end)
        if found is None:
            raise UserError(f"{where}: cannot be read from {text[end:].strip()!r} on")
        end = found.end()
        *quoted, sign, plain = found.groups()
        held = next((word for word in quoted if word is not None), None)
        words.append(_Name(held) if held is not None else sign or plain)
    return words


def _conditions(
    words: Sequence[str], columns: Sequence[Column], where: str
) -> tuple[Condition, ...]:
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "and" and not isinstance(word, _Name):
            parts.append([])
        else:
            parts[-1].append(word)
    return tuple(_condition(part, columns, where) for part in parts)


def _condition(words: Sequence[str], columns: Sequence[Column], where: str) -> Condition:
    names = [column.name for column in columns]
    signs = [i for i, word in enumerate(words) if word in _COMPARE and not isinstance(word, _Name)]
    if not signs and len(words) > 1 and words[-1] == _MISSING:
        left = " ".join(words[: -2 if words[-2] == "is" else -1])
        place = _place(left, names, where)
        if not columns[place].missing:
            raise UserError(f"{where}: column {left!r} has no missing values; declare their texts")
        return Condition(place, _MISSING)
    if len(signs) != 1 or not 0 < signs[0] < len(words) - 1:
        raise UserError(
            f"{where}: must be like `a < b`, `a = level`, `a missing`, or `if ... then ...`"
        )
    sign = {"==": "="}.get(words[signs[0]], words[signs[0]])
    left, right = " ".join(words[: signs[0]]), " ".join(words[signs[0] + 1 :])
    place = _place(left, names, where)
    column = columns[place]
    if isinstance(column, Categorical):
        known = {str(level): i for i, level in enumerate(column.levels)}
        if sign not in ("=", "!=") and not column.runs:
            raise UserError(f"{where}: {left!r} has no order; compare with = or !=")
        if right not in known:
            raise UserError(f"{where}: {left!r} has no level {right!r}{nearest(right, [*known])}")
        return Condition(place, sign, known[right])
    if right in names:
        if isinstance(columns[names.index(right)], Categorical):
            raise UserError(f"{where}: {right!r} is no number")
        scale, shift = _common(column, columns[names.index(right)], where)
        return Condition(place, sign, None, names.index(right), scale, shift)
    try:
        value = column.number(right)
    except ValueError as problem:
        hint = nearest(right, names)
        raise UserError(f"{where}: {problem}, and no column is called so{hint}") from None
    return Condition(place, sign, value)


def _common(column: Column, other: Column, where: str) -> tuple[float, float]:
    """Return scale and shift that bring the other column's values to this one's units."""
    if isinstance(column, Date) and isinstance(other, Date):
        return other.seconds / column.seconds, column.count(other.start)
    if isinstance(column, Date) or isinstance(other, Date):
        raise UserError(f"{where}: a date and a number cannot be compared")
    return 1.0, 0.0


def _possible(condition: Condition, columns: Sequence[Column]) -> bool:
    """Return whether the bounds and spikes allow a row that meets the condition."""
    places = [condition.column, *([] if condition.other is None else [condition.other])]
    ranges = []
    for column in (columns[place] for place in places):
        if column.missing or isinstance(column, Categorical):
            return True  # a missing value breaks no rule, and every level can occur
        ranges.append((min(column.low, *column.spikes, column.high),
                       max(column.high, *column.spikes, column.low)))  # fmt: skip
    low, high = ranges[0]
    least = most = condition.value or 0.0
    if condition.other is not None:
        least, most = (end * condition.scale + condition.shift for end in ranges[1])
    return {
        "<": low < most, "<=": low <= most, ">": high > least, ">=": high >= least,
        "=": low <= most and high >= least, "!=": True,
    }[condition.compare]  # fmt: skip


def _place(name: str, names: Sequence[str], where: str) -> int:
    if name not in names:
        raise UserError(f"{where}: no column {name!r}{nearest(name, list(names))}")
    return list(names).index(name)
