"""Count values outside a schema's bounds and rules, and suggest a unit or scale as the cause.

A column in feet under a schema in cm is clipped to one bound throughout, and a run would spend
budget on a constant. The counts are exact, hence not DP: they go to the curator's screen and to
`internal/`, never into a release, and refuse a table before any mechanism runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rdpjax.data.dates import Date
from rdpjax.data.fields import Numeric
from rdpjax.data.frame import decoded_values
from rdpjax.data.rules import breaking
from rdpjax.data.schema import Schema
from rdpjax.errors import UserError

NOTED = 0.01
"""Share of a column's values outside its bounds from which on the curator is warned."""
REFUSED = 0.2
"""Share above which a table is refused unless the curator accepts the clipping."""
EXPLAINED = 0.9
"""Share of the values that a suggested factor must bring within the bounds."""
SAMPLE = 20_000
"""Sample size per column on which factors are tried."""

_SIZES = {
    "length": {"metres": 1, "centimetres": 0.01, "millimetres": 0.001, "inches": 0.0254,
               "feet": 0.3048},
    "mass": {"kilograms": 1, "grams": 0.001, "pounds": 0.45359237, "ounces": 0.028349523125,
             "stones": 6.35029318},
    "time": {"years": 365.25, "months": 30.4375, "weeks": 7, "days": 1, "hours": 1 / 24,
             "minutes": 1 / 1440, "seconds": 1 / 86_400},
}  # fmt: skip
_SHORT = {
    "m": "metres", "cm": "centimetres", "mm": "millimetres", "in": "inches", "inch": "inches",
    "ft": "feet", "foot": "feet", "kg": "kilograms", "g": "grams", "lb": "pounds", "lbs": "pounds",
    "oz": "ounces", "y": "years", "yr": "years", "a": "years", "mo": "months", "d": "days",
    "h": "hours", "min": "minutes", "s": "seconds",
}  # fmt: skip


@dataclass(frozen=True)
class Outside:
    """Values of a column outside its bounds, or rows that break a rule. Exact, not DP.

    Attributes:
      what: the column or the rule, as messages show it.
      wrong: what is wrong with these values.
      count: number of such values, or rows.
      records: number of values, or rows, in all.
      guess: the suggested cause; empty if none fits.
    """

    what: str
    wrong: str
    count: int
    records: int
    guess: str = ""

    @property
    def share(self) -> float:
        return self.count / self.records

    def __str__(self) -> str:
        guess = f"; {self.guess}?" if self.guess else ""
        return f"{self.what}: {percent(self.share)} of {self.records:,} {self.wrong}{guess}"


def percent(share: float) -> str:
    """Format a share as a percentage; one that is not 0 does not look like it.

    Examples:
      >>> percent(0.0), percent(0.0004), percent(0.254)
      ('0%', '0.04%', '25%')
    """
    return f"{100 * share:.1g}%" if 0 < share < 0.01 else f"{share:.0%}"


def count_outside(schema: Schema, frame: pd.DataFrame) -> tuple[Outside, ...]:
    """Count the values outside each column's bounds, and the rows that break each rule.

    Args:
      schema: bounds and rules.
      frame: canonical records, `[records, columns]`.

    Returns:
      One entry for each column and rule with any, in the schema's order, columns first. Missing
      values count as within.

    Examples:
      >>> schema = Schema("s", (Numeric("height", "cm", 120, 210),))
      >>> for found in count_outside(schema, pd.DataFrame({"height": [5.41, 5.9, 6.2]})):
      ...     print(found)
      column 'height': 100% of 3 values lie outside 120 to 210 cm and are clipped; in feet?
    """
    return tuple(entry for entry in judged(schema, frame) if entry.count)


def judged(schema: Schema, frame: pd.DataFrame) -> Iterator[Outside]:
    """Yield an entry as those of `count_outside` for every numeric column and rule, also of 0."""
    for column in schema.columns:
        if not isinstance(column, Numeric):
            continue
        values = frame[column.name].to_numpy(np.float64, na_value=np.nan)
        outside = values[(values < column.low) | (values > column.high)]
        outside = outside[~np.isin(outside, column.spikes)]
        guess = ""
        if len(outside) and len(outside) / len(values) >= NOTED:
            guess = _guess(column, outside, schema, frame)
        wrong = f"values lie outside {column.bounds} and are clipped"
        yield Outside(f"column {column.name!r}", wrong, len(outside), len(values), guess)
    for (low, high), broken in breaking(schema.less, frame).items():
        count = int(broken.sum())
        guess = "are the two columns swapped" if count > len(broken) / 2 else ""
        yield Outside(f"rule {low} < {high}", "rows break it", count, len(broken), guess)
    if schema.rules:
        decoded = decoded_values(schema, frame)
        gaps = schema.gaps(decoded)
        for text, rule in zip(schema.rules, schema.conditions, strict=True):
            broken = rule.broken(decoded, gaps)
            yield Outside(f"rule {text}", "rows break it", int(broken.sum()), len(broken))


def heed(found: Sequence[Outside], *, accept: bool, mend: str) -> tuple[str, ...]:
    """Return warnings for the curator; refuse a table that is mostly clipped.

    Args:
      found: as `count_outside` returns them.
      accept: whether to continue whatever the shares are.
      mend: the flag or key that accepts, for the message.

    Raises:
      UserError: a share above `REFUSED`, unless accepted.
    """
    worst = max(found, key=lambda entry: entry.share, default=None)
    if worst is not None and worst.share > REFUSED and not accept:
        raise UserError(f"{worst}; mend the table or the schema, or go on with {mend}")
    return tuple(str(entry) for entry in found if entry.share >= NOTED)


def facts_of(found: Sequence[Outside]) -> dict[str, Any]:
    """Return the exact counts, for `internal/facts.json`."""
    return {entry.what: {"outside": entry.count, "records": entry.records} for entry in found}


def _guess(column: Numeric, outside: np.ndarray, schema: Schema, frame: pd.DataFrame) -> str:
    """Suggest a cause that brings most of a column's values within its bounds; "" for none."""
    kinds, counts = np.unique(outside, return_counts=True)
    if len(outside) > 1 and counts.max() >= EXPLAINED * len(outside):
        often = kinds[[counts.argmax()]]
        shown = column.texts(often)[0] if isinstance(column, Date) else f"{often[0]:g}"
        return f"does {shown} stand for a missing value"
    values = _sample(frame, column)
    if _inside(column, values) >= EXPLAINED:
        return ""  # few outliers: the unit is right
    for other in schema.columns:
        if type(other) is type(column) and other.name != column.name:
            theirs = _sample(frame, other)
            if min(_inside(column, theirs), _inside(other, values)) >= EXPLAINED:
                return f"is it swapped with {other.name!r}"
    if isinstance(column, Date):
        return ""  # a format determines the unit
    middle = (column.low + column.high) / 2
    median = float(np.nanquantile(values, 0.5, method="lower"))  # a mean would be infinite or NaN
    fits = []
    for guess, factor in _factors(column.unit):
        with np.errstate(over="ignore"):
            share = _inside(column, values * factor)
        if share >= EXPLAINED:
            # Several units can fit wide bounds: prefer a median near the middle of the bounds.
            fits.append((-round(share, 2), abs(median * factor - middle), guess))
    return min(fits)[2] if fits else ""


def _factors(unit: str) -> Iterator[tuple[str, float]]:
    """Yield candidate factors for a unit, each with its meaning."""
    name = _SHORT.get(unit.strip().lower(), unit.strip().lower())
    for sizes in _SIZES.values():
        own = next((sizes[n] for n in (name, f"{name}s") if n in sizes), None)
        if own is not None:
            yield from ((f"in {n}", size / own) for n, size in sizes.items() if size != own)
    yield from (("in thousands", 1000.0), ("in thousandths", 0.001), ("with a wrong sign", -1.0))


def _sample(frame: pd.DataFrame, column: Numeric) -> np.ndarray:
    """Return some of the values that are neither missing nor spikes."""
    values: np.ndarray = frame[column.name].to_numpy(np.float64, na_value=np.nan)
    values = values[~(np.isnan(values) | np.isin(values, column.spikes))]
    return values[:: max(1, -(-len(values) // SAMPLE))]


def _inside(column: Numeric, values: np.ndarray) -> float:
    inside = (values >= column.low) & (values <= column.high)
    return float(inside.mean()) if len(inside) else 0.0
