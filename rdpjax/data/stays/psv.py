"""Read one patient's `.psv` file carefully: every fault is one line that says where and the mend.

`psv_block` reads many plain files at once and gives the same; what it finds unusual comes here.

- Blank lines, either line end and a byte-order mark are taken as they come. Columns may stand in
  any order; one that is absent counts as not measured, an unknown one is ignored: both are noted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from rdpjax.data.records import lines_of
from rdpjax.data.stays.psv_stay import Stay, stay_of
from rdpjax.data.stays.sepsis import COLUMNS, MISSING, SEPARATOR
from rdpjax.errors import UserError, nearest

MOST_BYTES = 2**24
"""A longer file is no patient's: two weeks take a hundredth of that."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_OTHER_SEPARATORS = {",": "','", ";": "';'", "\t": "tabs"}
_GREATEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Header:
    """Where a file has the columns.

    Attributes:
      names: all names as they stand, stripped.
      positions: of each of `COLUMNS`, None where it is absent.
      notes: unknown and absent columns.
    """

    names: tuple[str, ...]
    positions: tuple[int | None, ...]
    notes: tuple[str, ...]


def parse_psv(content: bytes, name: str) -> Stay:
    """Read one patient's file.

    Args:
      content: the bytes of the file.
      name: what to call it in messages.

    Returns:
      The stay, with a row for each hour from the first to the last.

    Raises:
      UserError: no header, or two; another separator than `|`; `ICULOS` or `SepsisLabel` absent; no
        row; a row with another number of fields than the header; text or infinity in a cell; a file
        that is no text; what `stay_of` objects to.

    Examples:
      >>> stay = parse_psv(b"HR|ICULOS|SepsisLabel\\n80|3|0\\nNaN|5|1\\n82|5|1\\n", "p1.psv")
      >>> stay.values[:, 0].tolist(), stay.first, stay.onset
      ([80.0, nan, 82.0], 3, 2)
      >>> parse_psv(b"HR|ICULOS|SepsisLabel\\n80|3|0\\nhigh|4|0\\n", "p1.psv")
      Traceback (most recent call last):
      ...
      rdpjax.errors.UserError: p1.psv: line 3, column 'HR': 'high' is no finite number; \
correct the cell, or write NaN for a missing value
    """
    if len(content) > MOST_BYTES:
        raise UserError(
            f"{name}: is longer than {MOST_BYTES >> 20} MiB; one patient's file is wanted"
        )
    lines = [
        (number, line.rstrip("\r\n"))
        for number, line in enumerate(lines_of(content, Path(name)), start=1)
        if line.strip()
    ]
    if not lines:
        raise UserError(
            f"{name}: the file is empty; it needs a header line and a line for each hour"
        )
    try:
        header = parse_header(lines[0][1])
    except ValueError as problem:
        raise UserError(f"{name}: line {lines[0][0]}: {problem}") from None
    if len(lines) == 1:
        raise UserError(f"{name}: only a header, zero rows; remove the file or export it again")
    numbers = np.array([number for number, _ in lines[1:]])
    rows = np.array([*_rows(lines[1:], header, name)])
    return stay_of(rows, numbers, name, header.notes)


def parse_header(line: str) -> Header:
    """Find the columns in a header line.

    Raises:
      ValueError: says what is wrong with it.

    Examples:
      >>> found = parse_header("SepsisLabel|ICULOS|Mood")
      >>> found.positions[-2:], found.notes[0]
      ((1, 0), "column 'Mood' is unknown and ignored")
    """
    if SEPARATOR not in line:
        mark = max(_OTHER_SEPARATORS, key=line.count)
        seen = f"; they seem to be separated by {_OTHER_SEPARATORS[mark]}" if mark in line else ""
        raise ValueError(
            f"is a single field without '|'{seen}; save the file with '|' between fields"
        )
    names = tuple(cell.strip() for cell in line.split(SEPARATOR))
    if all(name.lower() in ("", "nan") or _NUMBER.fullmatch(name) for name in names):
        raise ValueError("holds numbers where the header belongs; put the column names above it")
    for name in COLUMNS:
        if names.count(name) > 1:
            raise ValueError(f"names the column {name!r} twice; remove one")
    for name in ("ICULOS", "SepsisLabel"):
        if name not in names:
            raise ValueError(f"has no column {name!r}{nearest(name, names)}; every file needs it")
    unknown = [
        name or f"number {i}" for i, name in enumerate(names, start=1) if name not in COLUMNS
    ]
    return Header(
        names,
        tuple(names.index(name) if name in names else None for name in COLUMNS),
        (
            *(f"column {name[:40]!r} is unknown and ignored" for name in unknown),
            *(f"column {name!r} is absent: not measured" for name in COLUMNS if name not in names),
        ),
    )


def _rows(lines: list[tuple[int, str]], header: Header, name: str) -> Iterator[list[float]]:
    """The cells of each line as numbers, in the order of `COLUMNS`."""
    width = len(header.names)
    for number, line in lines:
        cells = line.split(SEPARATOR)
        if len(cells) != width:
            counted = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
            raise UserError(
                f"{name}: line {number} has {counted} where the header has {width}; mend the line "
                "(the separator is '|')"
            )
        try:
            yield [
                math.nan if at is None or cells[at] == MISSING else _number(cells[at])
                for at in header.positions
            ]
        except ValueError as problem:
            if tuple(cell.strip() for cell in cells) == header.names:
                raise UserError(
                    f"{name}: line {number} repeats the header; remove the line"
                ) from None
            column = next(
                column
                for column, at in zip(COLUMNS, header.positions, strict=True)
                if at is not None and _fault(cells[at])
            )
            raise UserError(f"{name}: line {number}, column {column!r}: {problem}") from None


@lru_cache(2**14)  # the same readings come again and again
def _number(cell: str) -> float:
    # Python's float also takes "1_0" and "inf": hence the expression.
    cell = cell.strip()
    if cell.lower() in ("", "nan"):
        return math.nan
    if _NUMBER.fullmatch(cell) and abs(value := float(cell)) <= _GREATEST:
        return value
    if re.fullmatch(r"[+-]?\d*(,\d+)+", cell):
        raise ValueError(
            f"{cell!r} is no number; write decimals with a point, and no comma between thousands"
        )
    raise ValueError(
        f"{cell[:40]!r} is no finite number; correct the cell, or write NaN for a missing value"
    )


def _fault(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return True
    return False
