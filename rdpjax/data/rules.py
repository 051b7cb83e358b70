"""Order rules `a < b` between numeric columns, to be kept by generated rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np
import pandas as pd

from rdpjax.data.dates import Date
from rdpjax.data.fields import Column, Numeric
from rdpjax.data.values import plain_list
from rdpjax.errors import UserError, nearest

Less = tuple[tuple[str, str], ...]


def less_of(rules: Any, columns: Sequence[Column], where: str) -> Less:
    """Validate pairs (a, b) of numeric columns, `a < b`, that some row can satisfy all at once.

    Args:
      rules: pairs of names, tuples or lists.
      columns: the schema's.
      where: name of the schema in messages.

    Raises:
      UserError: not a pair, an unknown or non-numeric column, a cycle of rules, or bounds that
        leave no room.

    Examples:
      >>> columns = (Numeric("low", "mmHg", 40, 140), Numeric("high", "mmHg", 70, 240))
      >>> less_of([["low", "high"]], columns, "schema")
      (('low', 'high'),)
      >>> less_of([["low", "high"], ["high", "low"]], columns, "schema")
      Traceback (most recent call last):
      ...
      rdpjax.errors.UserError: schema: rules high < low < high: no row can keep them; leave one out
    """
    pairs: list[tuple[str, str]] = []
    known = {column.name: column for column in columns}
    for rule in plain_list(rules, f"{where}: less"):
        pair = plain_list(rule, f"{where}: less: a rule")
        if len(pair) != 2:
            raise UserError(f"{where}: less: a rule must be a pair of columns, got {rule!r}")
        for name in pair:
            if not isinstance(name, str) or name not in known:
                hint = nearest(str(name), list(known))
                raise UserError(f"{where}: rule on {name!r}, and it has no column {name!r}{hint}")
            if isinstance(known[name], Date):
                raise UserError(f"{where}: rule on the date {name!r}: write it in rules, as text")
            if not isinstance(known[name], Numeric):
                raise UserError(f"{where}: rule on {name!r}, which is no number")
        pairs.append((pair[0], pair[1]))
    _check_room(pairs, known, where)
    return tuple(pairs)


def _check_room(pairs: Iterable[tuple[str, str]], known: Mapping[str, Column], where: str) -> None:
    """Raise UserError if the rules form a cycle, or the bounds leave a column no value."""
    below: dict[str, list[str]] = {}
    for low, high in pairs:
        below.setdefault(high, []).append(low)
    try:
        order = list(TopologicalSorter(below).static_order())
    except CycleError as error:
        circle = " < ".join(error.args[1])
        raise UserError(f"{where}: rules {circle}: no row can keep them; leave one out") from None
    least: dict[str, float] = {}
    for name in order:
        column = known[name]
        assert isinstance(column, Numeric)
        least[name] = column.low
        for lower in below.get(name, ()):
            least[name] = max(least[name], _above(column, least[lower]))
            if least[name] > column.high + 1e-6 * column.step:
                raise UserError(
                    f"{where}: rule {lower} < {name}: the bounds allow no such row, as {lower} is "
                    f"{least[lower]:g} or more and {name} at most {column.high:g}"
                )


def _above(column: Numeric, value: float) -> float:
    """Return the column's smallest value above `value`."""
    origin = 0.0 if column.within == "uniform" else column.low
    steps = math.floor((value - origin) / column.step + 1e-6) + 1
    return origin + steps * column.step


def breaking(less: Less, frame: pd.DataFrame) -> dict[tuple[str, str], np.ndarray]:
    """Return the rows that break each rule, bool `[rows]`; a missing value breaks none.

    Examples:
      >>> breaking((("a", "b"),), pd.DataFrame({"a": [1, 2], "b": [2, 2]}))[("a", "b")].tolist()
      [False, True]
    """
    values = {
        name: frame[name].to_numpy(np.float64, na_value=np.nan) for pair in less for name in pair
    }
    return {(a, b): values[a] >= values[b] for a, b in less}
