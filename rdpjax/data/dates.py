"""Dates and times of day: numerics that count units from their first possible value."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from rdpjax.data.fields import Numeric
from rdpjax.data.values import text
from rdpjax.errors import UserError

UNITS = {"days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}
"""Seconds of each unit."""


@dataclass(frozen=True)
class Date(Numeric):
    """Date, time of day or both, as the number of units since `first`.

    Bounds and bins are those of a `Numeric` from 0; `low` and `high` follow from `first` and
    `last`, and are not given.

    Attributes:
      first: public first value, written in the column's format; earlier ones are clipped to it.
      last: public last value, likewise.
      format: format of `datetime.strptime`, "%d/%m/%Y" or "%H:%M" say; "%-d" writes no leading 0.
      unit: days, hours, minutes or seconds: values are whole numbers of `resolution` units.

    Raises:
      UserError: names the column and the key that is wrong.

    Examples:
      >>> visit = Date("visit", first="1/3/2024", last="30/6/2024", format="%-d/%-m/%Y")
      >>> visit.numbers(["8/3/2024", "31/5/2024"]).tolist(), visit.cells
      ([7.0, 91.0], 122)
      >>> visit.texts(np.array([7.0]))
      ['8/3/2024']
    """

    unit: str = "days"
    low: float = 0.0
    high: float = 0.0
    first: str = ""
    last: str = ""
    format: str = "%Y-%m-%d"

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", text(self.name, "schema: a column's name", empty=False))
        where = f"schema column {self.name!r}"
        for key in ("first", "last", "format", "unit"):
            object.__setattr__(self, key, text(getattr(self, key), f"{where}: {key}", empty=False))
        if self.unit not in UNITS:
            raise UserError(f"{where}: unit must be one of {', '.join(UNITS)}, got {self.unit!r}")
        if self.spikes or self.within not in ("grid", "uniform"):
            raise UserError(f"{where}: a date takes no spikes, and within = 'grid' or 'uniform'")
        for key in ("first", "last"):
            try:
                self._parsed(getattr(self, key))
            except ValueError:
                raise UserError(
                    f"{where}: {key} {getattr(self, key)!r} is not of the format {self.format!r}"
                ) from None
        if not self.start < self._parsed(self.last):
            raise UserError(f"{where}: first must be before last")
        object.__setattr__(self, "low", 0.0)
        object.__setattr__(self, "high", self.count(self._parsed(self.last)))
        super().__post_init__()

    @property
    def bounds(self) -> str:
        return f"{self.first} to {self.last}"

    def number(self, cell: str) -> float:
        """Convert one text; ValueError states the fault and the mend."""
        try:
            return self.count(self._parsed(cell))
        except ValueError:
            raise ValueError(f"{cell[:40]!r} is not of the format {self.format}") from None

    def numbers(self, cells: Iterable[str]) -> np.ndarray:
        """Convert texts to units since `first`, float64; ValueError as `number`."""
        return np.array([self.number(cell) for cell in cells], np.float64)

    def texts(self, values: np.ndarray) -> list[str | None]:
        """Format numbers in the column's format; None for NaN."""
        distinct, places = np.unique(values, return_inverse=True)
        known = [None if math.isnan(v) else self._text(v) for v in distinct.tolist()]
        return [known[i] for i in places]

    def from_datetimes(self, values: pd.Series) -> np.ndarray:
        """Convert pandas datetimes to units since `first`; NaN where one is missing."""
        spans = values.dt.tz_localize(None) - pd.Timestamp(self.start)
        found: np.ndarray = spans.dt.total_seconds().to_numpy(np.float64) / UNITS[self.unit]
        return found

    def to_datetimes(self, values: np.ndarray) -> pd.Series:
        """Invert `from_datetimes`."""
        spans = pd.to_timedelta(values * UNITS[self.unit], unit="s")
        return pd.Series(pd.Timestamp(self.start) + spans).dt.as_unit("s")

    @cached_property
    def start(self) -> datetime.datetime:
        """The first value: the origin of the column's numbers."""
        return self._parsed(self.first)

    def _parsed(self, cell: str) -> datetime.datetime:
        return datetime.datetime.strptime(cell, self.format.replace("%-", "%"))

    @property
    def seconds(self) -> int:
        """Seconds of one unit."""
        return UNITS[self.unit]

    def count(self, moment: datetime.datetime) -> float:
        """Return the units from the first value to a moment."""
        return (moment - self.start).total_seconds() / self.seconds

    def _text(self, value: float) -> str:
        moment = self.start + datetime.timedelta(seconds=value * self.seconds)
        return moment.strftime(self.format)
