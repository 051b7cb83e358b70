"""Convert a canonical frame to the numbers and public bins of the scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rdpjax.data.schema import Categorical, Numeric, Schema
from rdpjax.errors import UserError, nearest

BINS = 20
"""Equal public bins of a numeric's [low, high]."""

_DAYS_PER_YEAR = 365.25


def shown_in(column: Numeric) -> tuple[float, str]:
    """Return divisor and unit of a numeric in evaluation: days become years.

    The field's scripts use ages in years. Dividing by 365.25 is immaterial in exact arithmetic, but
    bin edges and the forests' split points equal theirs in floating point only if the division is
    done first.

    Examples:
      >>> shown_in(Numeric("age", "days", 0, 36525))
      (365.25, 'years')
      >>> shown_in(Numeric("height", "cm", 120, 210))
      (1.0, 'cm')
    """
    return (_DAYS_PER_YEAR, "years") if column.unit == "days" else (1.0, column.unit)


def bounds(column: Numeric) -> tuple[float, float]:
    """Return public bounds in the unit of `shown_in`.

    Examples:
      >>> bounds(Numeric("age", "days", 29 * 365.25, 66 * 365.25))
      (29.0, 66.0)
    """
    divisor, _ = shown_in(column)
    return column.low / divisor, column.high / divisor


def ordered(frame: pd.DataFrame, schema: Schema) -> tuple[str, ...]:
    """Return the schema's columns in the frame's order: numerics, categoricals, the label.

    A random forest samples candidate columns by position, so the order affects the scores.

    Raises:
      UserError: if the frame lacks a column of the schema.

    Examples:
      >>> from rdpjax.data.schema import Categorical
      >>> s = Schema("toy", (Categorical("y", (0, 1)), Numeric("x", "m", 0, 9)), label="y")
      >>> ordered(pd.DataFrame({"y": [0], "x": [1.0], "id": [7]}), s)
      ('x', 'y')
    """
    present = [str(name) for name in frame.columns]
    for name in schema.names:
        if name not in present:
            raise UserError(f"records: column {name!r} is missing{nearest(name, present)}")
    names = [name for name in present if name in schema.names]
    numeric = [n for n in names if isinstance(schema.column(n), Numeric)]
    levels = [n for n in names if n not in numeric and n != schema.label]
    return (*numeric, *levels, *(n for n in names if n == schema.label))


def level_codes(frame: pd.DataFrame, column: Categorical) -> np.ndarray:
    """Return each cell's index in `column.levels`, int64[rows]; after them, a missing value.

    Raises:
      UserError: if a cell is none of the levels.

    Examples:
      >>> level_codes(pd.DataFrame({"c": [3, 1, 1]}), Categorical("c", (1, 2, 3)))
      array([2, 0, 0])
    """
    values = pd.Index(frame[column.name])
    codes: np.ndarray = pd.Index(column.levels).get_indexer(values)
    if column.missing:
        codes = np.where(values.isna(), column.cells, codes)
    if (codes < 0).any():
        row = int(np.argmax(codes < 0))
        raise UserError(
            f"row {row + 1}, column {column.name!r}: {frame[column.name].iloc[row]!r} is not one "
            f"of {list(column.levels)}"
        )
    return codes.astype(np.int64)


def numbers(frame: pd.DataFrame, schema: Schema, names: Sequence[str]) -> pd.DataFrame:
    """Convert columns `names` to float64: numerics clipped to their bounds, levels as numbers.

    Numerics are in the unit of `shown_in`. Numeric levels keep their value; others become their
    index in the schema.

    Examples:
      >>> s = Schema("t", (Numeric("x", "m", 0, 9), Categorical("y", (1, 2))), label="y")
      >>> numbers(pd.DataFrame({"x": [-5.0, 4.0], "y": [2, 1]}), s, s.names).to_numpy().tolist()
      [[0.0, 2.0], [4.0, 1.0]]
    """
    columns = {}
    for name in names:
        column = schema.column(name)
        if isinstance(column, Numeric):
            values = frame[name].to_numpy(np.float64, na_value=np.nan) / shown_in(column)[0]
            columns[name] = np.clip(values, *bounds(column))
        else:
            codes = level_codes(frame, column)
            plain = all(isinstance(level, int) for level in column.levels)
            known = np.array(column.levels if plain else range(column.cells), np.float64)
            columns[name] = np.append(known, np.nan)[codes]
    return pd.DataFrame(columns)


def positives(frame: pd.DataFrame, schema: Schema) -> np.ndarray:
    """Encode the label as 0 and 1, int64[rows]: 1 for the schema's positive levels.

    Examples:
      >>> s = Schema("t", (Categorical("y", ("no", "late", "soon")),), label="y",
      ...            positive=("late", "soon"))
      >>> positives(pd.DataFrame({"y": ["late", "no", "soon"]}), s).tolist()
      [1, 0, 1]
    """
    label = schema.column(schema.label)
    assert isinstance(label, Categorical)  # checked by Schema
    positive: np.ndarray = schema.is_positive[level_codes(frame, label)].astype(np.int64)
    return positive


def binned(frame: pd.DataFrame, schema: Schema, count: int = BINS) -> dict[str, np.ndarray]:
    """Bin every cell publicly: `count` equal parts of [low, high], or the level's index.

    Values are clipped first, so the outer bins hold those out of bounds; missing ones have a bin
    of their own, the last.

    Returns:
      int64[rows] for each column of the schema.

    Examples:
      >>> s = Schema("t", (Numeric("x", "m", 0, 10), Categorical("y", (1, 2))), label="y")
      >>> parts = binned(pd.DataFrame({"x": [-1.0, 4.9, 10.0], "y": [2, 1, 1]}), s, count=10)
      >>> parts["x"].tolist(), parts["y"].tolist()
      ([0, 4, 9], [1, 0, 0])
    """
    names = [c.name for c in schema.columns if isinstance(c, Numeric)]
    values = numbers(frame, schema, names)
    bins = {}
    for column in schema.columns:
        if isinstance(column, Numeric):
            low, high = bounds(column)
            places = (values[column.name].to_numpy() - low) / (high - low) * count
            cells = np.clip(np.nan_to_num(places), 0, count - 1).astype(int)
            bins[column.name] = np.where(np.isnan(places), count, cells)
        else:
            bins[column.name] = level_codes(frame, column)
    return bins


def bin_count(schema: Schema, name: str, count: int = BINS) -> int:
    """Return the number of bins of `binned` for the column `name`."""
    column = schema.column(name)
    return count + bool(column.missing) if isinstance(column, Numeric) else column.outcomes
