"""From the bytes of a delimited file to its records, one at a time."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from rdpjax.errors import UserError

BOM = b"\xef\xbb\xbf"


class Record(NamedTuple):
    """One record: its fields, the 1-based number of its first line, its text without line end."""

    fields: list[str]
    line: int
    text: str


def decompressed(content: bytes, path: Path) -> bytes:
    """The bytes themselves, or what is in them if they are gzip; UserError for an archive."""
    if content[:2] == b"PK":
        raise UserError(f"{path}: is a zip archive or an Excel file; unpack it or export it as CSV")
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error):
        raise UserError(f"{path}: the gzip file is cut off or damaged; fetch it again") from None


def lines_of(content: bytes, path: Path) -> Iterator[str]:
    """The lines of a file with their ends, decoded one by one once all of it is known to decode."""
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


def records_of(lines: Iterable[str], separator: str, path: Path) -> Iterator[Record]:
    """Every line that is not blank, as fields; a quoted field may reach over several lines."""
    taken: list[str] = []

    def feed() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    reader = csv.reader(feed(), delimiter=separator, skipinitialspace=True, strict=True)
    end = 0
    try:
        for row in reader:
            start, end = end, reader.line_num
            text = taken[0] if len(taken) == 1 else "".join(taken)
            taken.clear()
            if text.strip():
                yield Record(row, start + 1, text.rstrip("\r\n"))
    except csv.Error as error:
        raise UserError(f"{path}: line {end + 1}: {error}; check the quotes") from None
