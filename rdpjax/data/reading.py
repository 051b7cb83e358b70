"""Read a delimited table as strings, and say in one line what is wrong with it if it is.

Nothing is repaired or guessed beyond the file format: `;` or `,`, gzip, a byte-order mark, either
line end, quotes. Cells stay strings until `numbers` or `levels` checks them, so that a message can
show the cell as it stands in the file.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rdpjax.errors import UserError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_OTHER_SEPARATORS = {"\t": "tabs", "|": "'|'", ":": "':'", " ": "blanks"}


@dataclass(frozen=True)
class Table:
    """A file's records as strings.

    Attributes:
      path: the file, for messages.
      separator: `;` or `,`.
      header: the column names, stripped; a column without a name is called `column <position>`.
      frame: one string column per name, `[records, columns]`.
      lines: the 1-based number of each record's (first) line in the file, `[records]`.
      header_text: the header line as it stands in the file, without its line end.
      texts: each record as it stands in the file, without its line end.
    """

    path: Path
    separator: str
    header: tuple[str, ...]
    frame: pd.DataFrame
    lines: np.ndarray
    header_text: str
    texts: tuple[str, ...]


def sniff(header: str) -> str | None:
    """The separator of a header line: `;` or `,`, whichever is more frequent; None without either.

    Examples:
      >>> sniff("id;age;weight"), sniff("id,age,weight"), sniff("id|age|weight")
      (';', ',', None)
    """
    semicolons, commas = header.count(";"), header.count(",")
    if not semicolons and not commas:
        return None
    return ";" if semicolons >= commas else ","


def read_table(path: Path | str) -> Table:
    """Read a delimited file, gzipped or not (decided by its first bytes, not by its name).

    Args:
      path: the file.

    Returns:
      Its records as strings.

    Raises:
      UserError: for a missing or unreadable file, and for all that `parse_table` objects to.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name the file in it")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its rights") from None
    return parse_table(content, path)


def parse_table(content: bytes, path: Path | str) -> Table:
    """Turn a file's bytes into records of strings. Blank lines are skipped.

    Args:
      content: the bytes of the file, gzipped or not.
      path: what to call the file in messages.

    Returns:
      The records.

    Raises:
      UserError: truncated gzip, undecodable bytes, an empty file, a header without records, neither
        `;` nor `,` in the header, a doubled column, or a line with another number of fields.

    Examples:
      >>> table = parse_table(b"id;age\\r\\n7;18393\\r\\n", "two.csv")
      >>> table.header, table.frame["age"].tolist(), table.lines.tolist(), table.texts
      (('id', 'age'), ['18393'], [2], ('7;18393',))
    """
    path = Path(path)
    text = _decode(_decompress(content, path), path)
    # newline="" splits at \n, \r\n and \r only; str.splitlines would also split inside a cell.
    physical = list(io.StringIO(text, newline=""))
    top = next((i for i, line in enumerate(physical) if line.strip()), None)
    if top is None:
        raise UserError(f"{path}: the file is empty; it needs a header line and records")
    separator = sniff(physical[top])
    if separator is None:
        found = next(
            (name for mark, name in _OTHER_SEPARATORS.items() if mark in physical[top]), ""
        )
        guess = f"; they seem to be separated by {found}" if found else ""
        raise UserError(
            f"{path}: line {top + 1} is a single field without ';' or ','{guess}; "
            "save the table with ';' or ',' between fields"
        )
    rows, starts, texts = _split(physical, separator, path)
    header = _header(rows[0], path, int(starts[0]))
    if len(rows) == 1:
        raise UserError(f"{path}: only a header, no record; check the export")
    for row, start in zip(rows, starts, strict=True):
        if len(row) != len(header):
            fields = "1 field" if len(row) == 1 else f"{len(row)} fields"
            raise UserError(
                f"{path}: line {start} has {fields} where the header has {len(header)}; "
                f"mend the line (the separator is {separator!r})"
            )
    columns = zip(*rows[1:], strict=True)
    frame = pd.DataFrame(
        {name: pd.array(column, dtype="str") for name, column in zip(header, columns, strict=True)}
    )
    lines = np.asarray(starts[1:], dtype=np.int64)
    return Table(path, separator, header, frame, lines, texts[0], tuple(texts[1:]))


def numbers(table: Table, name: str) -> np.ndarray:
    """A column as finite numbers, float64 `[records]`.

    Raises:
      UserError: names the line and column of the first cell that is empty, text, NaN or infinite.

    Examples:
      >>> numbers(parse_table(b"x;y\\n1;2.5\\n", "t.csv"), "y")
      array([2.5])
      >>> numbers(parse_table(b"x;y\\n1;?\\n", "t.csv"), "y")
      Traceback (most recent call last):
      ...
      rdpjax.errors.UserError: t.csv: line 2, column 'y': '?' stands for a missing value; fill it in
    """
    values, codes = _convert(table, name, _number)
    return np.asarray(values, dtype=np.float64)[codes]


def levels(table: Table, name: str, allowed: Sequence[int | str]) -> np.ndarray:
    """A column as the given levels, `[records]`; whole numbers may be written `1`, `01` or `1.0`.

    Args:
      table: the records.
      name: the column.
      allowed: the public levels, all whole numbers or all words.

    Raises:
      UserError: names the line and column of the first cell that holds none of them.

    Examples:
      >>> table = parse_table(b"x;gluc\\n1;1\\n2;7\\n", "t.csv")
      >>> levels(table, "x", (1, 2))
      array([1, 2])
      >>> levels(table, "gluc", (1, 2, 3))
      Traceback (most recent call last):
      ...
      rdpjax.errors.UserError: t.csv: line 3, column 'gluc': '7' is no level; levels are 1, 2, 3
    """
    known = set(allowed)
    mend = f"levels are {', '.join(str(level) for level in allowed)}"

    def level(cell: str) -> Any:
        value: Any = cell
        if cell not in known and _NUMBER.fullmatch(cell):
            value = float(cell)
        if value not in known:
            shown = f"{cell!r} is no level" if cell else "empty"
            raise ValueError(f"{shown}; {mend}")
        return value if isinstance(value, str) else int(value)

    values, codes = _convert(table, name, level)
    words_allowed = any(isinstance(value, str) for value in allowed)
    return np.asarray(values, dtype=object if words_allowed else np.int64)[codes]


def words(table: Table, name: str) -> tuple[str, ...]:
    """A column as stripped, non-empty strings; UserError names the first empty cell."""

    def word(cell: str) -> str:
        if not cell:
            raise ValueError("empty; fill it in")
        return cell

    values, codes = _convert(table, name, word)
    return tuple(values[code] for code in codes)


def _convert(
    table: Table, name: str, convert: Callable[[str], Any]
) -> tuple[list[Any], np.ndarray]:
    """Convert each distinct stripped cell; returns them and, per record, an index into them.

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
    # Python's float also takes "1_0", "nan" and "inf": hence the expression.
    if _NUMBER.fullmatch(cell) and math.isfinite(value := float(cell)):
        return value
    if not cell:
        raise ValueError("empty; fill it in or remove the line")
    if re.fullmatch(r"[+-]?\d*,\d+", cell):
        raise ValueError(f"{cell!r} is no number; write decimals with a point")
    if cell.lower() in ("nan", "na", "n/a", "null", "none", "?", "-"):
        raise ValueError(f"{cell!r} stands for a missing value; fill it in")
    raise ValueError(f"{cell[:40]!r} is no finite number; correct the cell or remove the line")


def _decompress(content: bytes, path: Path) -> bytes:
    if content[:2] == b"PK":
        raise UserError(f"{path}: is a zip archive or an Excel file; unpack it or export it as CSV")
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error):
        raise UserError(f"{path}: the gzip file is cut off or damaged; fetch it again") from None


def _decode(content: bytes, path: Path) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{path}: is encoded as UTF-16; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}: line {line} holds the byte 0x{content[error.start]:02x}, which is no UTF-8; "
            "save the table as UTF-8"
        ) from None


def _split(
    physical: list[str], separator: str, path: Path
) -> tuple[list[list[str]], list[int], list[str]]:
    """Records as fields, the 1-based line at which each starts, and each one's text."""
    reader = csv.reader(physical, delimiter=separator, skipinitialspace=True, strict=True)
    rows: list[list[str]] = []
    starts: list[int] = []
    texts: list[str] = []
    end = 0
    try:
        for row in reader:
            start, end = end, reader.line_num
            text = physical[start] if end == start + 1 else "".join(physical[start:end])
            if text.strip():
                rows.append(row)
                starts.append(start + 1)
                texts.append(text.rstrip("\r\n"))
    except csv.Error as error:
        raise UserError(f"{path}: line {end + 1}: {error}; check the quotes") from None
    return rows, starts, texts


def _header(row: list[str], path: Path, line: int) -> tuple[str, ...]:
    names = tuple(name.strip() or f"column {i}" for i, name in enumerate(row, start=1))
    for i, name in enumerate(names):
        if name in names[:i]:
            raise UserError(f"{path}: line {line} names the column {name!r} twice; remove one")
    return names
