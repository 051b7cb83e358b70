"""Parse cells of a table, as strings, into numbers, levels and words; errors name the line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rdpjax.errors import UserError
from rdpjax.io.delimited import Table
from rdpjax.io.strings import BLOCK, Strings, pack

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_TRUTHS = {"true": True, "false": False}
_MISSING = ("nan", "na", "n/a", "null", "none", "?", "-")


def number(cell: str, mend: str, greatest: float = math.inf) -> float:
    """Parse a finite number from a stripped cell.

    Args:
      cell: the text in the file.
      mend: advice on a cell that holds no number, for the message.
      greatest: largest absolute value allowed.

    Raises:
      ValueError: states the fault and the mend.

    Examples:
      >>> number("-1e3", "correct it")
      -1000.0
      >>> number("18,393", "correct it")
      Traceback (most recent call last):
      ...
      ValueError: '18,393' is no number; write decimals with a point, thousands without a mark
    """
    # A regular expression, since Python's float also takes "1_0", "nan" and "inf".
    if NUMBER.fullmatch(cell):
        value = float(cell)
        if math.isfinite(value) and abs(value) <= greatest:
            return value
    if re.fullmatch(r"[+-]?\d[\d.]*(,\d+)+(\.\d+)?|[+-]?,\d+", cell):
        advice = "write decimals with a point, thousands without a mark"
        raise ValueError(f"{cell[:40]!r} is no number; {advice}")
    raise ValueError(f"{cell[:40]!r} is no finite number; {mend}")


def numbers(
    table: Table,
    name: str,
    missing: Sequence[str] = (),
    parse: Callable[[str], float] | None = None,
) -> np.ndarray:
    """Parse a column as finite numbers, float64 `[records]`.

    Args:
      table: the records.
      name: the column.
      missing: texts that stand for a missing value, read as NaN; a number among them in any
        spelling.
      parse: converts a stripped cell, of a date say; ValueError for one that it does not take. By
        default any finite number is taken.

    Raises:
      UserError: names the line and column of the first cell that is empty, text, NaN or infinite.

    Examples:
      >>> from rdpjax.io.delimited import parse_table
      >>> numbers(parse_table(b"x;y\\n1;2.5\\n", "t.csv"), "y")
      array([2.5])
      >>> numbers(parse_table(b"x;y\\n1;?\\n", "t.csv"), "y")
      Traceback (most recent call last):
      ...
      rdpjax.errors.UserError: t.csv: line 2, column 'y': '?' stands for a missing value; fill it in
    """
    gaps, parse = _Gaps(missing), parse or _number
    values, codes = _convert(table, name, lambda cell: np.nan if cell in gaps else parse(cell))
    found: np.ndarray = np.asarray(values, dtype=np.float64)[codes]
    return found


def levels(
    table: Table, name: str, allowed: Sequence[int | str], missing: Sequence[str] = ()
) -> np.ndarray:
    """Parse a column as public levels, `[records]`; whole numbers may be `1`, `01` or `1.0`.

    1 and 0 may be written `true` and `false` in any case, and vice versa.

    Args:
      table: the records.
      name: the column.
      allowed: the public levels, all whole numbers, all words or all booleans.
      missing: texts that stand for a missing value, read as None.

    Raises:
      UserError: names the line and column of the first cell that holds none of them.

    Examples:
      >>> from rdpjax.io.delimited import parse_table
      >>> table = parse_table(b"x;gluc\\n1;1\\n2;7\\n", "t.csv")
      >>> levels(table, "x", (1, 2))
      array([1, 2])
      >>> levels(table, "gluc", (1, 2, 3))
      Traceback (most recent call last):
      ...
      rdpjax.errors.UserError: t.csv: line 3, column 'gluc': '7' is no level; levels are 1, 2, 3
    """
    known = {level: level for level in allowed}
    gaps = _Gaps(missing)
    mend = f"levels are {', '.join(str(level) for level in allowed)}"

    def level(cell: str) -> Any:
        value: Any = cell
        if cell in gaps:
            return None
        if cell not in known and NUMBER.fullmatch(cell):
            value = float(cell)
        elif cell not in known:
            value = _TRUTHS.get(cell.lower(), cell)
        if value not in known:
            shown = f"{cell!r} is no level" if cell else "empty"
            raise ValueError(f"{shown}; {mend}")
        return known[value]

    values, codes = _convert(table, name, level)
    words_allowed = bool(missing) or any(isinstance(value, str) for value in allowed)
    kind = object if words_allowed else type(allowed[0])
    found: np.ndarray = np.asarray(values, dtype=kind)[codes]
    return found


def words(table: Table, name: str) -> Strings:
    """Return a column as stripped, non-empty strings; UserError names the first empty cell."""
    column = table.frame[name]
    blocks = []
    for start in range(0, len(column), BLOCK):
        cells = [cell.strip() for cell in column[start : start + BLOCK].tolist()]
        if not all(cells):
            line = table.lines[start + cells.index("")]
            raise UserError(f"{table.path}: line {line}, column {name!r}: empty; fill it in")
        blocks.append(pack(cells))
    return Strings(blocks)


class _Gaps:
    """Texts that stand for a missing value; numbers among them in any spelling."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = set(texts)
        self._numbers = {float(text) for text in texts if NUMBER.fullmatch(text)}

    def __contains__(self, cell: str) -> bool:
        if cell in self._texts:
            return True
        is_number = self._numbers and NUMBER.fullmatch(cell)
        return bool(is_number) and float(cell) in self._numbers


def _convert(
    table: Table, name: str, convert: Callable[[str], Any]
) -> tuple[list[Any], np.ndarray]:
    """Convert each distinct stripped cell; return the values and, per record, an index into them.

    A ValueError of `convert` becomes a UserError that names the first line holding the cell.
    """
    codes, distinct = pd.factorize(table.frame[name])  # in order of appearance
    values = []
    for code, cell in enumerate(distinct):
        try:
            values.append(convert(cell.strip()))
        except ValueError as problem:
            line = table.lines[int(np.argmax(codes == code))]
            raise UserError(f"{table.path}: line {line}, column {name!r}: {problem}") from None
    return values, codes


def _number(cell: str) -> float:
    if not cell:
        raise ValueError("empty; fill it in or remove the line")
    if cell.lower() in _MISSING:
        raise ValueError(f"{cell!r} stands for a missing value; fill it in")
    return number(cell, "correct the value or remove the line")
