"""Read a delimited table as strings, and say in one line what is wrong with it if it is.

Nothing is repaired or guessed beyond the file format: `;` or `,`, gzip, a byte-order mark, either
line end, quotes. Cells stay strings until `numbers` or `levels` checks them, so that a message can
show the cell as it stands in the file. Records become Python objects a block at a time: a table of
ten millions needs little more memory than the file is long.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from rdpjax.data.plain import Split, split_plain
from rdpjax.data.records import BOM, Record, decompressed, lines_of, records_of
from rdpjax.data.strings import BLOCK, Strings, in_blocks, pack
from rdpjax.errors import UserError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_TRUTHS = {"true": True, "false": False}
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
    texts: Strings


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
      >>> table.header, table.frame["age"].tolist(), table.lines.tolist(), table.texts[0]
      (('id', 'age'), ['18393'], [2], '7;18393')
    """
    path = Path(path)
    content = decompressed(content, path)
    lines = lines_of(content, path)
    top: list[str] = []
    for line in lines:
        top.append(line)
        if line.strip():
            break
    else:
        raise UserError(f"{path}: the file is empty; it needs a header line and records")
    separator = sniff(top[-1])
    if separator is None:
        found = next((name for mark, name in _OTHER_SEPARATORS.items() if mark in top[-1]), "")
        guess = f"; they seem to be separated by {found}" if found else ""
        raise UserError(
            f"{path}: line {len(top)} is a single field without ';' or ','{guess}; "
            "save the table with ';' or ',' between fields"
        )
    records = records_of(chain(top, lines), separator, path)
    first = next(records)
    header = _header(first.fields, path, first.line)
    body = content.startswith(BOM) * len(BOM) + sum(len(line.encode()) for line in top)
    split = split_plain(content, body, separator, len(header))
    if split is not None:
        starts = first.line + 1 + np.arange(len(split.texts))
    else:
        starts, split = _split(_of_width(len(header), records, separator, path), len(header))
    if not starts.size:
        raise UserError(f"{path}: only a header, no record; check the export")
    frame = pd.DataFrame(
        {
            name: pd.array(column, dtype="str")
            for name, column in zip(header, split.columns, strict=True)
        }
    )
    texts = Strings(split.texts.iterchunks())
    return Table(path, separator, header, frame, starts, first.text, texts)


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

    1 and 0 may be written `true` and `false` in any case, and the other way round.

    Args:
      table: the records.
      name: the column.
      allowed: the public levels, all whole numbers, all words or all booleans.

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
    known = {level: level for level in allowed}
    mend = f"levels are {', '.join(str(level) for level in allowed)}"

    def level(cell: str) -> Any:
        value: Any = cell
        if cell not in known and _NUMBER.fullmatch(cell):
            value = float(cell)
        elif cell not in known:
            value = _TRUTHS.get(cell.lower(), cell)
        if value not in known:
            shown = f"{cell!r} is no level" if cell else "empty"
            raise ValueError(f"{shown}; {mend}")
        return known[value]

    values, codes = _convert(table, name, level)
    words_allowed = any(isinstance(value, str) for value in allowed)
    return np.asarray(values, dtype=object if words_allowed else type(allowed[0]))[codes]


def words(table: Table, name: str) -> Strings:
    """A column as stripped, non-empty strings; UserError names the first empty cell."""
    column = table.frame[name]
    blocks = []
    for start in range(0, len(column), BLOCK):
        cells = [cell.strip() for cell in column[start : start + BLOCK].tolist()]
        if not all(cells):
            line = table.lines[start + cells.index("")]
            raise UserError(f"{table.path}: line {line}, column {name!r}: empty; fill it in")
        blocks.append(pack(cells))
    return Strings(blocks)


def verbatim(header_text: str, texts: Strings, mask: np.ndarray) -> str:
    """A file of the header and the records chosen by a bool `[records]`, as they stood in theirs.

    Examples:
      >>> table = parse_table(b"x;y\\n1;2\\n3; 4\\n", "t.csv")
      >>> verbatim(table.header_text, table.texts, np.array([False, True]))
      'x;y\\n3; 4\\n'
    """
    pieces = ["\n".join([*block, ""]) for block in texts.blocks(mask)]
    return "".join([header_text, "\n", *pieces])


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


def _split(records: Iterable[Record], width: int) -> tuple[np.ndarray, Split]:
    """The line number of each record, and their fields in packed columns."""
    columns: list[list[pa.Array]] = [[] for _ in range(width)]
    starts, texts = [np.empty(0, np.int64)], []
    for block in in_blocks(records):
        rows, numbers_of_lines, texts_of_rows = zip(*block, strict=True)
        for column, cells in zip(columns, zip(*rows, strict=True), strict=True):
            column.append(pack(cells))
        starts.append(np.array(numbers_of_lines, dtype=np.int64))
        texts.append(pack(texts_of_rows))
    strings = pa.large_string()
    packed = [pa.chunked_array(column, strings) for column in columns]
    return np.concatenate(starts), Split(packed, pa.chunked_array(texts, strings))


def _of_width(
    width: int, records: Iterable[Record], separator: str, path: Path
) -> Iterator[Record]:
    """The records as they come; UserError at the first with another number of fields."""
    for record in records:
        if len(record.fields) != width:
            fields = "1 field" if len(record.fields) == 1 else f"{len(record.fields)} fields"
            raise UserError(
                f"{path}: line {record.line} has {fields} where the header has {width}; "
                f"mend the line (the separator is {separator!r})"
            )
        yield record


def _header(row: list[str], path: Path, line: int) -> tuple[str, ...]:
    names = tuple(name.strip() or f"column {i}" for i, name in enumerate(row, start=1))
    for i, name in enumerate(names):
        if name in names[:i]:
            raise UserError(f"{path}: line {line} names the column {name!r} twice; remove one")
    return names
