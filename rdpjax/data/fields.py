"""Columns of a schema: bounded numerics and categoricals with public levels.

Arguments of any kind (numpy scalars, arrays, lists of TOML) are stored as plain Python values, so
that a schema compares, hashes and serialises.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Literal, get_args

from rdpjax.data.grid import GRID
from rdpjax.data.levels import MOST_TOKENS, Level, check_levels, missing_of
from rdpjax.data.values import number, plain_list, text
from rdpjax.errors import UserError

Within = Literal["grid", "start", "uniform", "halves"]
"""Placement of a generated value within its bin.

"grid": at any `low + k * resolution`, both bounds included; input is rounded to the nearest.
"start": at the bin's start.
"uniform": at any multiple of the resolution; `high` ends the last bin and is no value itself.
"halves": at the start, or in the middle with a noisy probability (half units).
"""

MOST_STEPS = 2**40
"""Most values of a column's grid: above it, float64 cannot separate neighbouring values."""

EXACT, COARSE = 200, 100
"""A numeric with more than `EXACT` values, and no bin width given, has `COARSE` bins at most: more
would mostly hold noise."""


@dataclass(frozen=True)
class Numeric:
    """Bounded numeric column with public bins `[low + k * cell, low + (k + 1) * cell)`.

    Beside the bins there can be points: exact values (`spikes`) with a bin each, and a missing
    value.

    Attributes:
      name: the column's name.
      unit: unit of measurement of `low`, `high`, `cell` and of the values.
      low: public lower bound; smaller values are clipped to it.
      high: public upper bound; larger values are clipped to it.
      cell: width of a histogram bin; with "grid" a whole multiple of `resolution`. 0 for the
        resolution up to 200 values, and above for the narrowest of 1, 2 or 5 times a power of ten
        resolutions with at most 100 bins; with "start" and "halves" for 1.
      resolution: distance of neighbouring values, 1 for whole numbers and 0.1 for one decimal.
      within: where a generated value lies in its bin; see `Within`.
      source: where the bounds come from.
      spikes: public values with a bin of their own, within the bounds or outside (0, or a code such
        as 99999): they are generated exactly, and none of their neighbours is taken for them.
      missing: texts that stand for a missing value in files, "" for an empty cell; missing values
        are written as the first of them. Empty if no value may be missing.

    Raises:
      UserError: names the column and the key that is wrong.

    Examples:
      >>> bmi = Numeric("bmi", "kg/m2", 10, 60, cell=1, resolution=0.1)
      >>> bmi.cells, bmi.is_whole, Numeric("age", "years", 0, 120).is_whole
      (51, False, True)
      >>> gain = Numeric("gain", "dollars", 1, 50000, spikes=(0, 99999), missing=("?",))
      >>> gain.cell, gain.cells, gain.outcomes
      (1000.0, 50, 53)
    """

    name: str
    unit: str
    low: float
    high: float
    cell: float = 0.0
    resolution: float = 1.0
    within: Within = "grid"
    source: str = ""
    spikes: tuple[float, ...] = ()
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", text(self.name, "schema: a column's name", empty=False))
        where = f"schema column {self.name!r}"
        for key in ("unit", "source"):
            object.__setattr__(self, key, text(getattr(self, key), f"{where}: {key}"))
        for key in ("low", "high", "cell", "resolution"):
            object.__setattr__(self, key, number(getattr(self, key), f"{where}: {key}"))
        if self.within not in get_args(Within):
            known = ", ".join(map(repr, get_args(Within)))
            raise UserError(f"{where}: within must be one of {known}, got {self.within!r}")
        finite = all(math.isfinite(v) for v in (self.low, self.high, self.cell, self.resolution))
        if not finite or not self.low < self.high:
            raise UserError(f"{where}: bounds must be finite with low < high")
        if self.resolution > 0 and not (self.high - self.low) / self.resolution < MOST_STEPS:
            raise UserError(
                f"{where}: more than 2**40 values between low and high; make the resolution coarser"
            )
        if not self.cell and 0 < self.resolution <= self.high - self.low:
            exact = self.last_step < EXACT
            width = self.resolution if exact else self.wide_enough(COARSE)
            by_rule = self.within in ("grid", "uniform")
            object.__setattr__(self, "cell", width if by_rule else 1.0)
        if not 0 < self.resolution <= self.cell <= self.high - self.low:
            raise UserError(f"{where}: needs 0 < resolution <= cell <= high - low")
        if self.within == "grid" and abs(self.cell / self.resolution - self.per_cell) > 1e-6:
            raise UserError(
                f"{where}: cell must be a whole multiple of the resolution, and {self.cell:g} is "
                f"none of {self.resolution:g}; change one, or take within = 'uniform'"
            )
        self._check_points(where)

    def _check_points(self, where: str) -> None:
        spikes = tuple(
            number(value, f"{where}: spikes")
            for value in plain_list(self.spikes, f"{where}: spikes")
        )
        object.__setattr__(self, "spikes", spikes)
        object.__setattr__(self, "missing", missing_of(self.missing, where))
        if not all(map(math.isfinite, spikes)) or len(set(spikes)) != len(spikes):
            raise UserError(f"{where}: spikes must be finite numbers, none of them twice")
        if len(self.points) > MOST_TOKENS // 4:
            raise UserError(
                f"{where}: spikes are the few special values, {len(spikes)} are too many"
            )
        if self.points and self.within == "halves":
            raise UserError(
                f"{where}: spikes and missing values do not go with within = 'halves'; take 'grid'"
            )

    def wide_enough(self, bins: int) -> float:
        """Return a bin width of 1, 2 or 5 times a power of 10 resolutions, for `bins` at most."""
        least = (self.high - self.low) / max(bins - 1, 1) / self.resolution
        power: int = 10 ** max(0, math.floor(math.log10(least)))
        width = self.resolution * next(m * power for m in (1, 2, 5, 10) if m * power >= least)
        return float(f"{width:.12g}")

    @property
    def points(self) -> tuple[float, ...]:
        """Outcomes beside the bins, in their order: the spikes, then NaN for a missing value."""
        return (*self.spikes, *(math.nan,) * bool(self.missing))

    @property
    def bounds(self) -> str:
        """The bounds with their unit, for messages."""
        return f"{self.low:g} to {self.high:g} {self.unit}".rstrip()

    def number(self, text: str) -> float:
        """Convert a text to a value of the column; ValueError states the fault."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"{text[:40]!r} is no finite number")
        return value

    @property
    def per_cell(self) -> int:
        """Number of grid values in a bin, with "grid"."""
        return round(self.cell / self.resolution)

    @cached_property
    def last_step(self) -> int:
        """Largest k with `low + k * resolution` not above `high`."""
        return math.floor((self.high - self.low) / self.resolution + 1e-6)

    @cached_property
    def decimals(self) -> int:
        """Decimals of generated values in the output."""
        parts = (self.low, self.resolution, self.step, *self.spikes)
        exponents = [Decimal(repr(v)).normalize().as_tuple().exponent for v in parts]
        return max(0, *(-int(exponent) for exponent in exponents))

    @property
    def cells(self) -> int:
        """Number of bins that cover `[low, high]`; `high` itself is in the last one."""
        if self.within == "grid":
            return self.last_step // self.per_cell + 1
        count = (self.high - self.low) / self.cell
        closed = self.within != "uniform"  # closed: 240 mmHg is a value, 66.0 years is not
        return math.floor(count + 1e-9) + 1 if closed else math.ceil(count - 1e-9)

    @property
    def outcomes(self) -> int:
        """Number of bins and points."""
        return self.cells + len(self.points)

    @property
    def bins(self) -> int:
        """Length of the column's histogram: outcomes, plus one for "not whole" with half units."""
        return self.outcomes + (self.within == "halves")

    @property
    def step(self) -> float:
        """Spacing of generated values."""
        return {"start": self.cell, "halves": self.cell / 2}.get(self.within, self.resolution)

    @property
    def is_whole(self) -> bool:
        """Whether bounds and steps are whole, so that every generated value is an integer."""
        parts = (self.low, self.high, self.resolution, self.step, *self.spikes)
        return all(float(v).is_integer() and abs(v) <= 2**53 for v in parts)

    @property
    def weight(self) -> float:
        """Weight of its histogram in a record's vector, as `Categorical.weight`."""
        return 1.0


@dataclass(frozen=True)
class Categorical:
    """Categorical column with public levels, in the order of the data dictionary.

    Attributes:
      name: the column's name.
      levels: the possible values: whole numbers, words or booleans, all of one kind.
      source: where the levels come from.
      runs: lengths of the ordered groups, consecutive levels each, that the levels divide into:
        (1, 10) is a single level, then ten ordered ones. Empty where no order is known.
      scale: each level's position on a scale common to all groups (hours, say), so that levels of
        different groups can have equal positions; empty for 0, 1, 2, ... within each group.
      weight: relative precision of its histogram: a record's entry in it is multiplied by this, and
        counts as much against the sensitivity.
      missing: texts that stand for a missing value, as those of `Numeric`.

    Raises:
      UserError: names the column and the key that is wrong.

    Examples:
      >>> Categorical("ill", [0, 1]).levels
      (0, 1)
    """

    name: str
    levels: tuple[Level, ...]
    source: str = ""
    runs: tuple[int, ...] = ()
    scale: tuple[float, ...] = ()
    weight: float = 1.0
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", text(self.name, "schema: a column's name", empty=False))
        where = f"schema column {self.name!r}"
        object.__setattr__(self, "source", text(self.source, f"{where}: source"))
        for key in ("levels", "runs", "scale"):
            object.__setattr__(self, key, plain_list(getattr(self, key), f"{where}: {key}"))
        object.__setattr__(self, "weight", number(self.weight, f"{where}: weight"))
        check_levels(self.levels, where)
        object.__setattr__(self, "missing", missing_of(self.missing, where))
        if both := [text for text in self.missing if text in self.levels]:
            raise UserError(f"{where}: {both[0]!r} is a level and stands for missing; drop one")
        if len(self.levels) + bool(self.missing) > MOST_TOKENS:
            raise UserError(
                f"{where}: needs {MOST_TOKENS - 1} levels at most beside missing values"
            )
        count = len(self.levels)
        lengths = all(type(length) is int and length >= 1 for length in self.runs)
        if self.runs and not (lengths and sum(self.runs) == count):
            raise UserError(
                f"{where}: runs must be 1 or more each and add up to the {count} levels"
            )
        if self.scale and not self.runs:
            raise UserError(f"{where}: a scale needs runs; give runs = [{count}] for a single one")
        finite = all(isinstance(v, int | float) and math.isfinite(v) for v in self.scale)
        if self.scale and not (finite and len(self.scale) == count):
            raise UserError(f"{where}: scale needs one finite number for each of {count} levels")
        if not 0 < self.weight <= 100 or self.weight % GRID:
            raise UserError(
                f"{where}: weight must lie above 0 and not above 100, and be a multiple of 2**-16 "
                "(0.25 or 5, say)"
            )

    @property
    def cells(self) -> int:
        return len(self.levels)

    @property
    def outcomes(self) -> int:
        """Number of levels, and one for a missing value where there may be any."""
        return len(self.levels) + bool(self.missing)

    @property
    def bins(self) -> int:
        return self.outcomes


Column = Numeric | Categorical


def named_levels(column: Categorical) -> str:
    """Format the levels for messages: words quoted, numbers marked as numbers.

    Examples:
      >>> named_levels(Categorical("c", ("a ", "b"))), named_levels(Categorical("y", (0, 1)))
      ("'a ', 'b'", '0, 1 (numbers)')
    """
    kind = " (numbers)" if type(column.levels[0]) is int else ""
    return ", ".join(map(repr, column.levels)) + kind
