"""Check of a table against its schema, for the curator alone: exact shares, hence not private."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from rdpjax.data.determined import Determined
from rdpjax.data.levels import MISSING
from rdpjax.data.outside import judged, percent
from rdpjax.data.schema import Categorical, Schema
from rdpjax.datasets.table import read_rows
from rdpjax.io.delimited import Table

EXACT = "exact figures, computed without noise: for you alone, not for publication"


def check_table(schema: Schema, table: Table) -> Iterator[str]:
    """Yield lines on what of a table a schema does not cover, of which the first is `EXACT`.

    There is a line for each column: the share of its values that lie outside the bounds, with the
    unit that would explain them, or the levels that no row has; and the share of missing ones. Then
    one for each rule, with the rows that break it, and for each determined column of the file, with
    the rows whose own value is the computed one.

    Raises:
      UserError: the file does not fit the schema; see `read_rows`.

    Examples:
      >>> from rdpjax.data.schema import Numeric
      >>> from rdpjax.io.delimited import parse_table
      >>> columns = (Numeric("low", "mmHg", 40, 140), Numeric("high", "mmHg", 70, 240))
      >>> schema = Schema("s", columns, rules=("low < high",))
      >>> table = parse_table(b"low,high\\n80,120\\n900,130\\n", "t.csv")
      >>> for line in check_table(schema, table):
      ...     print(line)
      exact figures, computed without noise: for you alone, not for publication
      t.csv: 2 rows
      column 'low': 50% of 2 values lie outside 40 to 140 mmHg and are clipped
      column 'high': every value lies within 70 to 240 mmHg
      rule low < high: 50% of 2 rows break it
    """
    frame = read_rows(schema, table)
    yield EXACT
    yield f"{table.path}: {len(frame):,} rows"
    entries = {entry.what: entry for entry in judged(schema, frame)}
    for column in schema.columns:
        values = frame[column.name]
        if isinstance(column, Categorical):
            said = f"column {column.name!r}: {_levels(column, values)}"
        else:
            entry = entries.pop(f"column {column.name!r}")
            within = f"{entry.what}: every value lies within {column.bounds}"
            said = str(entry) if entry.count else within
        yield said + (f"; {percent(values.isna().mean())} missing" if column.missing else "")
    yield from map(str, entries.values())
    for determined in schema.determined:
        values = determined.values(frame)
        frame = frame.assign(**{determined.name: values})
        if determined.name in table.header:
            share = _agreeing(determined, values, table.frame[determined.name].str.strip()).mean()
            yield f"determined column {determined.name!r}: {percent(share)} of rows agree with it"


def _levels(column: Categorical, values: pd.Series) -> str:
    found = set(values)
    absent = [repr(level) for level in column.levels if level not in found]
    return f"no row has {', '.join(absent)}" if absent else "every level occurs"


def _agreeing(column: Determined, values: np.ndarray, cells: pd.Series) -> np.ndarray:
    """Return the rows whose cell holds the computed value, bool (rows,)."""
    blank = cells.isin(MISSING).to_numpy(bool)
    numbers = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64)
    if column.formula:
        agree: np.ndarray = np.abs(numbers - values) <= 10.0**-column.decimals * (0.5 + 1e-6)
        agree |= blank & np.isnan(values)
        return agree
    absent = np.array([value is None for value in values.tolist()], bool)
    texts = pd.Series([str(value) for value in values.tolist()], index=cells.index)
    equal = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64) == numbers
    same: np.ndarray = np.where(absent, blank, (texts == cells).to_numpy(bool) | equal)
    return same
