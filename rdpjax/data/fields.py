"""Columns of a schema: bounded numerics and categoricals with public levels.

Arguments of any kind (numpy scalars, arrays, lists of TOML) are stored as plain Python values, so
that a schema compares, hashes and serialises.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from rdpjax.data.grid import GRID
from rdpjax.errors import UserError

Level = bool | int | str
Within = Literal["grid", "start", "uniform", "halves"]
"""Placement of a generated value within its bin.

"grid": at any `low + k * resolution`, both bounds included; input is rounded to the nearest.
"start": at the bin's start.
"uniform": at any multiple of the resolution; `high` ends the last bin and is no value itself.
"halves": at the start, or in the middle with a noisy probability (half units).
"""

MOST_STEPS = 2**40
"""Most values of a column's grid: above it, float64 cannot separate neighbouring values."""


def plain(value: Any) -> Any:
    """Convert a numpy scalar to the Python value; return anything else unchanged.

    Examples:
      >>> plain(np.int64(3)), plain("a")
      (3, 'a')
    """
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, str) else value


def plain_list(value: Any, what: str) -> tuple[Any, ...]:
    """Convert the items of a list, tuple or array to plain values, as a tuple.

    Raises:
      UserError: a string, a mapping, a set (unordered) or not a collection.
    """
    ordered = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    if not ordered or isinstance(value, AbstractSet) or getattr(value, "ndim", 1) == 0:
        raise UserError(f"{what} must be a list, got {value!r}")
    return tuple(plain(item) for item in value)


def text(value: Any, what: str, *, empty: bool = True) -> str:
    """Return `value` as a plain string; UserError for anything else."""
    if not isinstance(value, str) or not (value or empty):
        raise UserError(f"{what} must be text, got {plain(value)!r}")
    return str(value)


def number(value: Any, what: str) -> int | float:
    """Return `value` as a plain number; UserError for anything else, strings and bools included."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{what} must be a number, got {value!r}")
    return value


def whole(value: Any, what: str) -> int:
    """Return `value` as a plain integer of 1 or more; UserError for anything else."""
    value = plain(value)
    if type(value) is not int or value < 1:
        raise UserError(f"{what} must be a whole number, 1 or more, got {value!r}")
    return value


@dataclass(frozen=True)
class Numeric:
    """Bounded numeric column with public bins `[low + k * cell, low + (k + 1) * cell)`.

    Attributes:
      name: the column's name.
      unit: unit of measurement of `low`, `high`, `cell` and of the values.
      low: public lower bound; smaller values are clipped to it.
      high: public upper bound; larger values are clipped to it.
      cell: width of a histogram bin; with "grid" a whole multiple of `resolution`.
      resolution: distance of neighbouring values, 1 for whole numbers and 0.1 for one decimal.
      within: where a generated value lies in its bin; see `Within`.
      source: where the bounds come from.

    Raises:
      UserError: names the column and the key that is wrong.

    Examples:
      >>> bmi = Numeric("bmi", "kg/m2", 10, 60, resolution=0.1)
      >>> bmi.cells, bmi.is_whole, Numeric("age", "years", 0, 120).is_whole
      (51, False, True)
    """

    name: str
    unit: str
    low: float
    high: float
    cell: float = 1.0
    resolution: float = 1.0
    within: Within = "grid"
    source: str = ""

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
        if not 0 < self.resolution <= self.cell <= self.high - self.low:
            raise UserError(f"{where}: needs 0 < resolution <= cell <= high - low")
        if not (self.high - self.low) / self.resolution < MOST_STEPS:
            raise UserError(
                f"{where}: more than 2**40 values between low and high; make the resolution coarser"
            )
        if self.within == "grid" and abs(self.cell / self.resolution - self.per_cell) > 1e-6:
            raise UserError(
                f"{where}: cell must be a whole multiple of the resolution, and {self.cell:g} is "
                f"none of {self.resolution:g}; change one, or take within = 'uniform'"
            )

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
        parts = (self.low, self.resolution, self.step)
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
    def bins(self) -> int:
        """Length of the column's histogram: `cells`, plus one for "not whole" with half units."""
        return self.cells + (self.within == "halves")

    @property
    def step(self) -> float:
        """Spacing of generated values."""
        return {"start": self.cell, "halves": self.cell / 2}.get(self.within, self.resolution)

    @property
    def is_whole(self) -> bool:
        """Whether bounds and steps are whole, so that every generated value is an integer."""
        parts = (self.low, self.high, self.resolution, self.step)
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

    Raises:
      UserError: names the column and the key that is wrong.

    Examples:
      >>> Categorical("ill", np.array([0, 1])).levels
      (0, 1)
    """

    name: str
    levels: tuple[Level, ...]
    source: str = ""
    runs: tuple[int, ...] = ()
    scale: tuple[float, ...] = ()
    weight: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", text(self.name, "schema: a column's name", empty=False))
        where = f"schema column {self.name!r}"
        object.__setattr__(self, "source", text(self.source, f"{where}: source"))
        for key in ("levels", "runs", "scale"):
            object.__setattr__(self, key, plain_list(getattr(self, key), f"{where}: {key}"))
        object.__setattr__(self, "weight", number(self.weight, f"{where}: weight"))
        _check_levels(self.levels, where)
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
    def bins(self) -> int:
        return len(self.levels)


Column = Numeric | Categorical


def _check_levels(levels: tuple[Any, ...], where: str) -> None:
    for level in levels:
        # pandas reads a missing word as NaN too.
        if level is None or (isinstance(level, float) and math.isnan(level)):
            raise UserError(
                f"{where}: level {level} stands for a missing value; give it another name"
            )
        if isinstance(level, str) and "\0" in level:  # NumPy drops one at the end
            raise UserError(f"{where}: level {level!r} holds a NUL character; give it another name")
        if not isinstance(level, Level):
            raise UserError(
                f"{where}: level {level!r} is a {type(level).__name__}; levels are whole numbers, "
                "words or booleans"
            )
    if len({type(level) for level in levels}) > 1:
        raise UserError(
            f"{where}: levels are of several kinds ({', '.join(map(repr, levels[:9]))}); make them "
            "all numbers or all words"
        )
    if not 2 <= len(levels) <= 255 or len(set(levels)) != len(levels):
        raise UserError(
            f"{where}: needs 2 to 255 distinct levels, got {len(levels)}"
            + ("; group the rare ones, or take the first digits of a code" * (len(levels) > 255))
        )


def named_levels(column: Categorical) -> str:
    """Format the levels for messages: words quoted, numbers marked as numbers.

    Examples:
      >>> named_levels(Categorical("c", ("a ", "b"))), named_levels(Categorical("y", (0, 1)))
      ("'a ', 'b'", '0, 1 (numbers)')
    """
    kind = " (numbers)" if type(column.levels[0]) is int else ""
    return ", ".join(map(repr, column.levels)) + kind
