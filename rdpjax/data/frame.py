"""Check of a user's table in memory: the schema's columns, in kinds that the codec takes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rdpjax.data.fields import Categorical, named_levels, plain
from rdpjax.data.schema import Schema
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
        else:
            values = _numbers(given)
            bad, what = ~np.isfinite(values), "is no finite number"
        if bad.any():
            row = int(bad.argmax())
            value = plain(given.iloc[row])
            shown = repr(value) if isinstance(value, str) else str(value)
            raise UserError(f"row {row}, column {column.name!r}: {shown} {what}")
        columns[column.name] = np.asarray(values)
    return pd.DataFrame(columns)


def _numbers(values: pd.Series) -> np.ndarray:
    """Convert to float64; whatever is not a number, dates included, becomes NaN."""
    if values.dtype.kind in "mMc":
        return np.full(len(values), np.nan)
    numbers = pd.to_numeric(values, errors="coerce")
    found: np.ndarray = numbers.to_numpy(np.float64, na_value=np.nan)
    return found
