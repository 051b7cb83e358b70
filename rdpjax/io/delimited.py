"""Read a delimited table as strings; errors are one line that names the place.

Nothing is repaired or guessed beyond the file format: `;` or `,`, gzip, a byte-order mark, either
line end, quotes. Cells stay strings until `io.cells` checks them, so that a message can show the
cell as it stands in the file. Records become Python objects a block at a time: a table of ten
millions needs little more memory than the file is long.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from rdpjax.errors import UserError
from rdpjax.io.plain import Split, split_plain
from rdpjax.io.records import Record, decompressed, open_delimited
from rdpjax.io.strings import Strings, in_blocks, pack


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
    frame = pd.DataFrame(
        {
            name: pd.array(column, dtype="str")
            for name, column in zip(header, split.columns, strict=True)
        }
    )
    texts = Strings(split.texts.iterchunks())
    return Table(path, file.separator, header, frame, starts, file.header.text, texts)


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
