"""Check of a user's table in memory: the schema's columns, in kinds that the codec takes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rdpjax.data.fields import Categorical, named_levels
from rdpjax.data.schema import Date, Schema
from rdpjax.data.values import plain
from rdpjax.errors import UserError, nearest


def check_frame(schema: Schema, frame: pd.DataFrame) -> pd.DataFrame:
    """Select and check the schema's columns of a user's frame; UserError where they do not fit."""
    if not isinstance(frame, pd.DataFrame):
        raise UserError(
            f"fit takes a pandas DataFrame, not a {type(frame).__name__}; pandas.DataFrame or "
            "pandas.read_csv make one"
        )
    columns = {}
    for column in schema.columns:
        if column.name not in frame.columns:
            hint = nearest(column.name, [str(c) for c in frame.columns])
            raise UserError(f"column {column.name!r} is missing{hint}")
        given = frame[column.name]
        if isinstance(given, pd.DataFrame):
            raise UserError(f"column {column.name!r} stands twice; remove one")
        if isinstance(column, Categorical):
            # Look up by equality: True is the level 1; the codec compares types too.
            known = {level: level for level in column.levels}
            values = given.astype(object).map(known.get)
            bad = values.isna().to_numpy()
            what = f"is no level; levels are {named_levels(column)}"
            if column.missing:
                absent = given.isna().to_numpy() | given.isin(column.missing).to_numpy()
                bad &= ~absent
                values = values.astype(object).where(~absent, None)
        else:
            values = _dates(column, given) if isinstance(column, Date) else _numbers(given)
            bad = ~np.isfinite(values)
            what = "is no such date" if isinstance(column, Date) else "is no finite number"
            if column.missing:
                bad &= ~(given.isna() | given.astype(object).astype(str).isin(column.missing))
                bad = np.asarray(bad)
                values = np.where(np.isfinite(values), values, np.nan)
        if bad.any():
            row = int(bad.argmax())
            value = plain(given.iloc[row])
            shown = repr(value) if isinstance(value, str) else str(value)
            raise UserError(f"row {row}, column {column.name!r}: {shown} {what}")
        columns[column.name] = np.asarray(values)
    return pd.DataFrame(columns)


def released_frame(schema: Schema, frame: pd.DataFrame) -> pd.DataFrame:
    """Return canonical records as users know them: with datetimes, and determined columns."""
    dates = {
        column.name: column.to_datetimes(frame[column.name].to_numpy(np.float64, na_value=np.nan))
        for column in schema.columns
        if isinstance(column, Date)
    }
    for column in schema.determined:
        frame = frame.assign(**{column.name: column.values(frame)})
    return frame.assign(**dates)


def decoded_values(schema: Schema, frame: pd.DataFrame) -> np.ndarray:
    """Convert canonical records to values as networks' tokens decode to, float64 (rows, columns).

    Args:
      schema: the columns.
      frame: canonical records; missing values are NaN, NA or None.

    Returns:
      Numbers as they are, NaN where missing; levels as their index, after the last where missing.

    Examples:
      >>> schema = Schema("s", (Categorical("sex", ("f", "m")),))
      >>> decoded_values(schema, pd.DataFrame({"sex": ["m", "f", None]})).tolist()
      [[1.0], [0.0], [2.0]]
    """
    values = np.empty((len(frame), len(schema.columns)))
    for j, column in enumerate(schema.columns):
        given = frame[column.name]
        if isinstance(column, Categorical):
            codes = pd.Categorical(given.to_numpy(), categories=list(column.levels)).codes
            values[:, j] = np.where(codes < 0, column.cells, codes)
        else:
            values[:, j] = given.to_numpy(np.float64, na_value=np.nan)
    return values


def _dates(column: Date, values: pd.Series) -> np.ndarray:
    """Convert datetimes, or texts in the column's format; whatever is none becomes NaN."""
    if values.dtype.kind == "M":
        return column.from_datetimes(values)

    def number(text: object) -> float:
        try:
            return column.number(str(text).strip())
        except ValueError:
            return np.nan

    return np.array([number(text) for text in values], np.float64)


def _numbers(values: pd.Series) -> np.ndarray:
    """Convert to float64; whatever is not a number, dates included, becomes NaN."""
    if values.dtype.kind in "mMc":
        return np.full(len(values), np.nan)
    numbers = pd.to_numeric(values, errors="coerce")
    found: np.ndarray = numbers.to_numpy(np.float64, na_value=np.nan)
    return found
