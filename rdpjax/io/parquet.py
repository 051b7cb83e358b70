"""Convert columns of a table to Arrow's types for a Parquet file, and such a file to texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rdpjax.errors import UserError
from rdpjax.io.layout import Cells
from rdpjax.io.plain import Split

MAGIC = b"PAR1"
"""First bytes of a Parquet file."""


def as_arrow(columns: Mapping[str, Cells]) -> pa.Table:
    """Build a block of records: whole numbers as int64, others as float64, texts as strings.

    Examples:
      >>> table = as_arrow({"id": Cells(np.array(["s1"])), "bmi": Cells(np.array([21.966]), 2)})
      >>> table.to_pylist()
      [{'id': 's1', 'bmi': 21.97}]
    """
    return pa.table({name: _array(cells) for name, cells in columns.items()})


def _array(cells: Cells) -> pa.Array:
    """Convert a column; missing values are nulls."""
    if cells.decimals is None:
        return pa.array(cells.values, pa.string())
    values = cells.values.astype(np.float64)
    gaps = np.isnan(values)
    rounded = np.round(np.where(gaps, 0, values), cells.decimals)
    return pa.array(rounded if cells.decimals else rounded.astype(np.int64), mask=gaps)


def parquet_names(path: Path) -> list[str]:
    """Read the column names of a Parquet file; UserError for a damaged one."""
    try:
        names: list[str] = pq.read_schema(path).names
    except (pa.ArrowInvalid, OSError):
        raise _damaged(path) from None
    return names


def _damaged(path: Path) -> UserError:
    return UserError(f"{path}: the Parquet file is cut off or damaged; fetch it again")


def split_parquet(content: bytes, path: Path) -> tuple[list[str], Split]:
    """Read the columns of a Parquet file as texts, and each record as a line of them.

    Numbers are in their shortest form, dates as in ISO 8601, nulls are empty.

    Raises:
      UserError: a damaged file, or a column of lists, structures or bytes.

    Examples:
      >>> sink = pa.BufferOutputStream()
      >>> pq.write_table(pa.table({"age": [61, None], "bmi": [22.5, 30.0]}), sink)
      >>> names, split = split_parquet(sink.getvalue().to_pybytes(), Path("t.parquet"))
      >>> names, split.texts.to_pylist()
      (['age', 'bmi'], ['61,22.5', ',30'])
    """
    try:
        table = pq.read_table(pa.BufferReader(content))
    except (pa.ArrowInvalid, OSError):
        raise _damaged(path) from None
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
            raise UserError(
                f"{path}: column {name!r} holds {column.type}; save it as numbers, dates or texts"
            )
        columns.append(column.cast(pa.large_string()).fill_null(""))
    if not columns or not table.num_rows:
        raise UserError(f"{path}: no record; check the export")
    texts = pc.binary_join_element_wise(*map(_quoted, columns), pa.scalar(",", pa.large_string()))
    return table.column_names, Split(columns, texts)


def _quoted(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Quote the cells that hold a comma, a quote or a line end, as CSV does."""
    doubled = pc.replace_substring(cells, '"', '""')
    mark = pa.scalar('"', pa.large_string())
    inside = pc.binary_join_element_wise(mark, doubled, mark, pa.scalar("", pa.large_string()))
    return pc.if_else(pc.match_substring_regex(cells, '[,"\\r\\n]'), inside, cells)
