"""Parse a delimited file's bytes into its header and its records, one at a time.

The one strict parser of all delimited formats, which differ in their `Dialect`.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from rdpjax.errors import UserError

BOM = b"\xef\xbb\xbf"
_SHOWN = {"\t": "tabs", " ": "blanks"}
_GUESSED = ("\t", "|", ":", ";", ",", " ")


@dataclass(frozen=True)
class Dialect:
    """Dialect of delimited files.

    Attributes:
      separators: allowed field separators; the most frequent one in the header is used.
      quotes: whether a field in double quotes may hold separators and line ends.
      field: the word for a field in messages.
    """

    separators: tuple[str, ...]
    quotes: bool
    field: str = "field"

    def separator(self, header: str) -> str | None:
        """Return the most frequent separator of a header line; None where there is none.

        Examples:
          >>> [TABLE.separator(text) for text in ("id;age;weight", "id,age,weight", "id:age")]
          [';', ',', None]
        """
        found = max(self.separators, key=header.count)
        return found if found in header else None


TABLE = Dialect((";", ",", "\t", "|"), quotes=True)


class Record(NamedTuple):
    """One record: its fields, the 1-based number of its first line, its text without line end."""

    fields: list[str]
    line: int
    text: str


@dataclass(frozen=True)
class Delimited:
    """A delimited file, read as far as its header.

    Attributes:
      separator: field separator.
      header: the first line that is not blank; its fields are stripped.
      start: byte of the content at which the records begin.
      records: the records, an iterator; UserError at the first with another number of fields.
    """

    separator: str
    header: Record
    start: int
    records: Iterator[Record]


def open_delimited(content: bytes, path: Path, dialect: Dialect = TABLE) -> Delimited:
    """Parse the header of a file. Blank lines are skipped, here and among the records.

    Args:
      content: the bytes of the file, not compressed.
      path: the file's name in messages.
      dialect: its dialect.

    Raises:
      UserError: undecodable bytes, an empty file, no separator in the header; from `records`:
        faulty quotes, or another number of fields than in the header.

    Examples:
      >>> file = open_delimited(b"id;age\\n\\n7;18393\\n", Path("two.csv"))
      >>> file.header.fields, [(record.fields, record.line) for record in file.records]
      (['id', 'age'], [(['7', '18393'], 3)])
    """
    lines = lines_of(content, path)
    top: list[str] = []
    for line in lines:
        top.append(line)
        if line.strip():
            break
    else:
        raise UserError(f"{path}: the file is empty; it needs a header line and records")
    separator = dialect.separator(top[-1])
    if separator is None:
        *others, last = (repr(mark) if mark != "\t" else "tabs" for mark in dialect.separators)
        wanted = " or ".join([", ".join(others), last] if others else [last])
        mark = max(_GUESSED, key=top[-1].rstrip("\r\n").count)
        seen = f"; they seem to be separated by {_SHOWN.get(mark, repr(mark))}"
        raise UserError(
            f"{path}: line {len(top)} is a single field without {wanted}"
            f"{seen if mark in top[-1] else ''}; save the table with "
            f"{'one of them' if others else wanted} between fields"
        )
    records = records_of(chain(top, lines), separator, path, quotes=dialect.quotes)
    header = next(records)
    start = content.startswith(BOM) * len(BOM) + sum(len(line.encode()) for line in top)
    header = header._replace(fields=[name.strip() for name in header.fields])
    whole = _of_width(len(header.fields), records, path, f"{separator!r}", dialect.field)
    return Delimited(separator, header, start, whole)


def decompressed(content: bytes, path: Path) -> bytes:
    """Decompress gzip, or return other content unchanged; UserError for an archive."""
    if content[:2] == b"PK":
        raise UserError(f"{path}: is a zip archive or an Excel file; unpack it or export it as CSV")
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error):
        raise UserError(f"{path}: the gzip file is cut off or damaged; fetch it again") from None


def lines_of(content: bytes, path: Path) -> Iterator[str]:
    """Yield the lines of a file with their ends, after checking that all of it decodes."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{path}: is encoded as UTF-16; save it as UTF-8")
    try:
        if not content.isascii():
            content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}: line {line} holds the byte 0x{content[error.start]:02x}, which is no UTF-8; "
            "save the table as UTF-8"
        ) from None
    # newline="" splits at \n, \r\n and \r only; str.splitlines would also split inside a cell.
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")


def records_of(
    lines: Iterable[str], separator: str, path: Path, *, quotes: bool = True
) -> Iterator[Record]:
    """Yield every line that is not blank, as fields; a quoted field may span several lines."""
    taken: list[str] = []

    def feed() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    reader = csv.reader(
        feed(),
        delimiter=separator,
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
        skipinitialspace=True,
        strict=True,
    )
    end = 0
    try:
        for row in reader:
            start, end = end, reader.line_num
            text = taken[0] if len(taken) == 1 else "".join(taken)
            taken.clear()
            if text.strip():
                yield Record(row, start + 1, text.rstrip("\r\n"))
    except csv.Error as error:
        mend = "check the quotes" if quotes else "mend the line"
        raise UserError(f"{path}: line {end + 1}: {error}; {mend}") from None


def _of_width(
    width: int, records: Iterable[Record], path: Path, separator: str, noun: str
) -> Iterator[Record]:
    """Yield the records; UserError at the first with another number of fields."""
    for record in records:
        if len(record.fields) != width:
            found = len(record.fields)
            raise UserError(
                f"{path}: line {record.line} has {found} {noun}{'s' if found != 1 else ''} where "
                f"the header has {width}; mend the line (the separator is {separator})"
            )
        yield record
