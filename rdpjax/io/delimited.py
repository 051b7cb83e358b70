"""Read a delimited table as strings; errors are one line that names the place.

Nothing is repaired or guessed beyond the file format: separator, gzip, a byte-order mark, either
line end, quotes; or Parquet. Cells stay strings until `io.cells` checks them: a message can show
the cell as it stands in the file. Records become Python objects a block at a time: a table of ten
millions needs little more memory than the file is long.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from rdpjax.errors import UserError
from rdpjax.io.parquet import MAGIC, parquet_names, split_parquet
from rdpjax.io.plain import Split, split_plain
from rdpjax.io.records import BOM, Record, decompressed, open_delimited
from rdpjax.io.strings import Strings, in_blocks, pack


@dataclass(frozen=True)
class Table:
    """A file's records as strings.

    Attributes:
      path: the file, for messages.
      separator: `;`, `,`, a tab or `|`.
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
    return parse_table(_read(path, lambda file: file.read()), path)


def read_header(path: Path | str) -> tuple[str, ...]:
    """Read the column names of a delimited or Parquet file, and none of its records.

    Args:
      path: the file.

    Returns:
      The names, as `Table.header` has them.

    Raises:
      UserError: a missing or unreadable file, and what `parse_table` objects to in a header.
    """
    path = Path(path)
    if _read(path, lambda file: file.peek(4)[:4]) == MAGIC:
        return _header(parquet_names(path), path, 1)
    top = decompressed(_read(path, lambda file: _top(file, path)), path)
    found = open_delimited(top, path)
    return _header(found.header.fields, path, found.header.line)


def _read(path: Path, read: Callable[[BufferedReader], bytes]) -> bytes:
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name the file in it")
    try:
        with path.open("rb") as file:
            return read(file)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its rights") from None


def _top(file: BufferedReader, path: Path) -> bytes:
    """Return the bytes up to the end of the first record that is not blank, not compressed."""
    top = b""
    lines = gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == b"\x1f\x8b" else file
    try:
        for line in lines:
            top += line
            if top.removeprefix(BOM).strip() and top.count(b'"') % 2 == 0:
                break
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise UserError(f"{path}: the gzip file is cut off or damaged; fetch it again") from None
    return top


def parse_table(content: bytes, path: Path | str) -> Table:
    """Turn a file's bytes into records of strings. Blank lines are skipped.

    Args:
      content: the bytes of the file, gzipped or not.
      path: the file's name in messages.

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
    if content.startswith(MAGIC):
        names, columns = split_parquet(content, path)
        header, lines = _header(names, path, 1), 2 + np.arange(len(columns.texts))
        return _table(path, ",", header, lines, _line(names), columns)
    content = decompressed(content, path)
    file = open_delimited(content, path)
    header = _header(file.header.fields, path, file.header.line)
    split = split_plain(content, file.start, file.separator, len(header))
    if split is not None:
        starts = file.header.line + 1 + np.arange(len(split.texts))
    else:
        starts, split = _split(file.records, len(header))
    if not starts.size:
        raise UserError(f"{path}: only a header, no record; check the export")
    return _table(path, file.separator, header, starts, file.header.text, split)


def _line(names: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(names)
    return text.getvalue()


def _table(
    path: Path,
    separator: str,
    header: tuple[str, ...],
    lines: np.ndarray,
    header_text: str,
    split: Split,
) -> Table:
    frame = pd.DataFrame(
        {
            name: pd.array(column, dtype="str")
            for name, column in zip(header, split.columns, strict=True)
        }
    )
    texts = Strings(split.texts.iterchunks())
    return Table(path, separator, header, frame, lines, header_text, texts)


def fingerprint(table: Table) -> str:
    """Hash a table's header and records, as they stand in the file."""
    digest = hashlib.blake2b(table.header_text.encode(), digest_size=16)
    for block in table.texts.blocks():
        digest.update("\n".join(["", *block]).encode())
    return digest.hexdigest()


def verbatim(header_text: str, texts: Strings, mask: np.ndarray) -> str:
    """Join the header and the records chosen by a bool `[records]`, byte for byte as in their file.

    Examples:
      >>> table = parse_table(b"x;y\\n1;2\\n3; 4\\n", "t.csv")
      >>> verbatim(table.header_text, table.texts, np.array([False, True]))
      'x;y\\n3; 4\\n'
    """
    pieces = ["\n".join([*block, ""]) for block in texts.blocks(mask)]
    return "".join([header_text, "\n", *pieces])


def _split(records: Iterable[Record], width: int) -> tuple[np.ndarray, Split]:
    """Return the line number of each record, and the fields in packed columns."""
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


def _header(row: list[str], path: Path, line: int) -> tuple[str, ...]:
    names = tuple(name or f"column {i}" for i, name in enumerate(row, start=1))
    for i, name in enumerate(names):
        if name in names[:i]:
            raise UserError(f"{path}: line {line} names the column {name!r} twice; remove one")
    return names
