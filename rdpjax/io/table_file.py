"""Write a table block by block; its file name's suffix determines the format."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow.parquet as pq

from rdpjax.errors import UserError
from rdpjax.io.atomic import PUBLIC, is_stdout, new_file
from rdpjax.io.layout import Cells, format_cells
from rdpjax.io.parquet import as_arrow

Block = Mapping[str, Cells]


@contextlib.contextmanager
def table_file(
    path: Path, separator: str, *, mode: int = PUBLIC, overwrite: bool = False
) -> Iterator[Callable[[Block], None]]:
    """Open a table to write: delimited (`.csv`, `.csv.gz`) or `.parquet`.

    Standard output (`-`), devices and pipes get delimited text, whatever their name.

    Args:
      path: the file.
      separator: field separator of a delimited file, with a blank after it or without.
      mode: of a new file.
      overwrite: replace an older file.

    Yields:
      A function that writes a block of records: a mapping from the names of the columns, in the
      order of the file, to their cells. All blocks have the same columns.

    Raises:
      OSError: a write fails (disk full, ...); nothing is left behind.
      UserError: another suffix, or a file that must not be replaced.
    """
    writer = _writer(path, separator)
    with new_file(path, mode=mode, overwrite=overwrite) as file, writer(file) as write:
        yield write


def _writer(
    path: Path, separator: str
) -> Callable[[BinaryIO], contextlib.AbstractContextManager[Callable[[Block], None]]]:
    name = path.name.lower()
    if is_stdout(path) or path.is_dir() or (path.exists() and not path.is_file()):
        name = ".csv"  # `new_file` refuses a folder
    if name.endswith(".csv"):
        return lambda file: _delimited(file, separator)
    if name.endswith(".csv.gz"):
        return lambda file: _gzipped(file, separator)
    if name.endswith(".parquet"):
        return _parquet
    raise UserError(
        f"{path}: the ending decides the format; name a .csv, .csv.gz or .parquet file, or - for "
        "standard output"
    )


@contextlib.contextmanager
def _delimited(file: BinaryIO, separator: str) -> Iterator[Callable[[Block], None]]:
    begun = False

    def write(block: Block) -> None:
        nonlocal begun
        if not begun:
            text = io.StringIO()
            first, *others = block
            names = [first, *(separator[1:] + name for name in others)]
            csv.writer(text, delimiter=separator[0], lineterminator="\n").writerow(names)
            file.write(text.getvalue().encode())
            begun = True
        file.write(format_cells(list(block.values()), separator))

    yield write


@contextlib.contextmanager
def _gzipped(file: BinaryIO, separator: str) -> Iterator[Callable[[Block], None]]:
    # No name and no time in the gzip header: equal rows give equal files.
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
        _delimited(cast(BinaryIO, packed), separator) as write,
    ):
        yield write


@contextlib.contextmanager
def _parquet(file: BinaryIO) -> Iterator[Callable[[Block], None]]:
    with contextlib.ExitStack() as stack:
        writer: pq.ParquetWriter | None = None

        def write(block: Block) -> None:
            nonlocal writer
            table = as_arrow(block)
            if writer is None:
                writer = stack.enter_context(pq.ParquetWriter(file, table.schema))
            writer.write_table(table)

        yield write
