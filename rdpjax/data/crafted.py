"""Canaries of a table: rows that are valid under the schema, atypical and mutually distinct.

Each column is a separately shuffled, balanced permutation of its values. So a canary combines
rare values at random with a label independent of them, and hardly any other record explains
what a network memorises of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from rdpjax.data.fields import Categorical
from rdpjax.data.schema import Schema


def table_canaries(schema: Schema, count: int, random: np.random.Generator) -> pd.DataFrame:
    """Craft `count` canaries as canonical records, frame `[count, columns]`.

    Guarantees:
      Every value lies within the schema's bounds or is one of its levels; no record is read.

    Examples:
      >>> from rdpjax.data.schema import Numeric
      >>> schema = Schema("s", (Numeric("x", "m", 0, 9), Categorical("y", (0, 1))), label="y")
      >>> crafted = table_canaries(schema, 20, np.random.default_rng(0))
      >>> sorted(crafted.x) == sorted([*range(10)] * 2), crafted.y.sum()
      (True, np.int64(10))
    """
    columns = {}
    for column in schema.columns:
        cells = evenly(column.cells, count, random)
        if isinstance(column, Categorical):
            columns[column.name] = np.asarray(column.levels)[cells]
        else:
            values = np.ceil((column.low + column.cell * cells) / column.resolution)
            columns[column.name] = np.minimum(values * column.resolution, column.high)
    return pd.DataFrame(columns)


def extreme_rows(
    base: pd.DataFrame, records: pd.DataFrame, schema: Schema
) -> dict[str, pd.DataFrame]:
    """Craft single rows at the bounds of every column, and far beyond them.

    Args:
      base: rows that give the crafted ones their columns and dtypes.
      records: all rows; unused here.
      schema: public columns.

    Returns:
      One-row frames by name: `extreme` has each column's upper bound or last level, `out of range`
      numbers beyond any bound.
    """
    last = {c.name: c.levels[-1] if isinstance(c, Categorical) else c.high for c in schema.columns}
    far = [1e300, -np.inf, np.nan]
    numerics = [c.name for c in schema.columns if not isinstance(c, Categorical)]
    beyond = last | {name: far[i % len(far)] for i, name in enumerate(numerics)}
    return {
        what: pd.DataFrame([row])[list(base.columns)].astype(base.dtypes)
        for what, row in {"extreme": last, "out of range": beyond}.items()
    }


def positive_rows(records: pd.DataFrame, schema: Schema) -> np.ndarray:
    """Return the mask of rows with a positive label, bool `[rows]`; all False without a label.

    Examples:
      >>> from rdpjax.data.fields import Numeric
      >>> schema = Schema("s", (Numeric("x", "m", 0, 9), Categorical("y", (0, 1))), label="y")
      >>> positive_rows(pd.DataFrame({"x": [1.0, 2.0], "y": [0, 1]}), schema).tolist()
      [False, True]
    """
    if not schema.has_classes:
        return np.zeros(len(records), bool)
    column: Any = schema.column(schema.label)
    levels = [v for v, is_so in zip(column.levels, schema.is_positive, strict=True) if is_so]
    mask: np.ndarray = records[schema.label].isin(levels).to_numpy()
    return mask


def take_rows(records: pd.DataFrame, chosen: np.ndarray) -> pd.DataFrame:
    """Select rows by a mask or by indices, with a fresh index."""
    taken = records[chosen] if chosen.dtype == bool else records.iloc[chosen]
    return taken.reset_index(drop=True)


def join_frames(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Concatenate two frames, with the columns of the second."""
    return pd.concat([first[list(second)], second], ignore_index=True)


def evenly(values: int, count: int, random: np.random.Generator) -> np.ndarray:
    """Draw `count` integers below `values`, in balanced numbers and shuffled order."""
    return random.permutation(
        np.arange(count) * values // max(count, 1)
        if count > values
        else random.permutation(values)[:count]
    )
