"""Strict reader of one patient's `.psv` file: every error is one line with place and remedy.

`psv_block` parses many plain files at once with the same result, and hands all others to this one.

- Blank lines, either line end and a byte-order mark are accepted. Columns may have any order; an
  absent one counts as not measured, an unknown one is ignored: both are noted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from rdpjax.data.stays.psv_stay import Stay, stay_of
from rdpjax.data.stays.sepsis import COLUMNS, MISSING, SEPARATOR
from rdpjax.errors import UserError, nearest
from rdpjax.io.archive import MOST_BYTES
from rdpjax.io.cells import NUMBER, number
from rdpjax.io.records import Dialect, Record, open_delimited

PSV = Dialect((SEPARATOR,), quotes=False, field="column")
_GREATEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Header:
    """Columns of a file's header.

    Attributes:
      names: all names, stripped.
      positions: position of each of `COLUMNS`, None where it is absent.
      notes: unknown and absent columns.
    """

    names: tuple[str, ...]
    positions: tuple[int | None, ...]
    notes: tuple[str, ...]


def parse_psv(content: bytes, name: str) -> Stay:
    """Parse one patient's file.

    Args:
      content: the bytes of the file.
      name: the file's name in messages.

    Returns:
      The stay, with a row for each hour from the first to the last.

    Raises:
      UserError: no header, or two; another separator than `|`; `ICULOS` or `SepsisLabel` absent; no
        row; a row with another number of fields than the header; text or infinity in a cell; a file
        that is not text; an error of `stay_of`.

    Examples:
      >>> stay = parse_psv(b"HR|ICULOS|SepsisLabel\\n80|3|0\\nNaN|5|1\\n82|5|1\\n", "p1.psv")
      >>> stay.values[:, 0].tolist(), stay.first, stay.onset
      ([80.0, nan, 82.0], 3, 2)
      >>> parse_psv(b"HR|ICULOS|SepsisLabel\\n80|3|0\\nhigh|4|0\\n", "p1.psv")
      Traceback (most recent call last):
      ...
      rdpjax.errors.UserError: p1.psv: line 3, column 'HR': 'high' is no finite number; \
correct the value, or write NaN for a missing value
    """
    if len(content) > MOST_BYTES:
        raise UserError(
            f"{name}: is longer than {MOST_BYTES >> 20} MiB; one patient's file is wanted"
        )
    file = open_delimited(content, Path(name), PSV)
    try:
        header = find_columns(file.header.fields)
    except ValueError as problem:
        raise UserError(f"{name}: line {file.header.line}: {problem}") from None
    records = list(file.records)
    if not records:
        raise UserError(f"{name}: only a header, zero rows; remove the file or export it again")
    lines = np.array([record.line for record in records])
    return stay_of(np.array([*_rows(records, header, name)]), lines, name, header.notes)


def find_columns(names: Sequence[str]) -> Header:
    """Match the stripped fields of a header to the columns.

    Raises:
      ValueError: describes the fault of the header.

    Examples:
      >>> found = find_columns(["SepsisLabel", "ICULOS", "Mood"])
      >>> found.positions[-2:], found.notes[0]
      ((1, 0), "column 'Mood' is unknown and ignored")
    """
    if all(name.lower() in ("", "nan") or NUMBER.fullmatch(name) for name in names):
        raise ValueError("holds numbers where the header belongs; put the column names above it")
    for name in COLUMNS:
        if names.count(name) > 1:
            raise ValueError(f"names the column {name!r} twice; remove one")
    for name in ("ICULOS", "SepsisLabel"):
        if name not in names:
            raise ValueError(
                f"has no column {name!r}{nearest(name, list(names))}; every file needs it"
            )
    unknown = [
        name or f"number {i}" for i, name in enumerate(names, start=1) if name not in COLUMNS
    ]
    return Header(
        tuple(names),
        tuple(names.index(name) if name in names else None for name in COLUMNS),
        (
            *(f"column {name[:40]!r} is unknown and ignored" for name in unknown),
            *(f"column {name!r} is absent: not measured" for name in COLUMNS if name not in names),
        ),
    )


def _rows(records: Sequence[Record], header: Header, name: str) -> Iterator[list[float]]:
    """Convert the cells of each record to numbers, in the order of `COLUMNS`."""
    for cells, line, _ in records:
        try:
            yield [
                math.nan if at is None or cells[at] == MISSING else _number(cells[at])
                for at in header.positions
            ]
        except ValueError as problem:
            if tuple(cell.strip() for cell in cells) == header.names:
                raise UserError(
                    f"{name}: line {line} repeats the header; remove the line"
                ) from None
            column = next(
                column
                for column, at in zip(COLUMNS, header.positions, strict=True)
                if at is not None and _fault(cells[at])
            )
            raise UserError(f"{name}: line {line}, column {column!r}: {problem}") from None


@lru_cache(2**14)  # few distinct readings: most calls are hits
def _number(cell: str) -> float:
    cell = cell.strip()
    if cell.lower() in ("", "nan"):
        return math.nan
    return number(cell, "correct the value, or write NaN for a missing value", _GREATEST)


def _fault(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return True
    return False
