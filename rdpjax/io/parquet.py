"""Convert columns of a table to Arrow's types, for a Parquet file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from rdpjax.io.layout import Cells


def as_arrow(columns: Mapping[str, Cells]) -> pa.Table:
    """Build a block of records: whole numbers as int64, others as float64, texts as strings.

    Examples:
      >>> table = as_arrow({"id": Cells(np.array(["s1"])), "bmi": Cells(np.array([21.966]), 2)})
      >>> table.to_pylist()
      [{'id': 's1', 'bmi': 21.97}]
    """
    return pa.table({name: _array(*cells) for name, cells in columns.items()})


def _array(values: np.ndarray, decimals: int | None) -> pa.Array:
    if decimals is None:
        return pa.array(values, pa.string())
    rounded = np.round(values.astype(np.float64), decimals)
    return pa.array(rounded if decimals else rounded.astype(np.int64))
