"""What is public about a table: columns, bounds, levels, units, the unit of privacy.

Nothing in a schema may be read off private records. Bounds come from public knowledge and each
names its source; levels come from the data dictionary.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rdpjax.data.grid import GRID
from rdpjax.errors import UserError, nearest

Within = Literal["start", "uniform", "halves"]
"""Where a generated value lies in its cell: at the start (integers), anywhere on the resolution
grid (days inside a quarter of a year), or at the start or the middle by a noisy share."""


@dataclass(frozen=True)
class Numeric:
    """A bounded number, counted in public cells `[low + k * cell, low + (k + 1) * cell)`.

    Attributes:
      name: the column's name.
      unit: unit of measurement of `low`, `high`, `cell` and of the values.
      low: public lower bound; smaller values are clipped to it.
      high: public upper bound; larger values are clipped to it.
      cell: width of a histogram cell.
      resolution: generated values are multiples of this (1 for whole numbers).
      within: where a generated value lies in its cell.
      source: where the bounds come from.
    """

    name: str
    unit: str
    low: float
    high: float
    cell: float = 1.0
    resolution: float = 1.0
    within: Within = "start"
    source: str = ""

    def __post_init__(self) -> None:
        finite = all(math.isfinite(v) for v in (self.low, self.high, self.cell, self.resolution))
        if not finite or not self.low < self.high:
            raise UserError(f"schema column {self.name!r}: bounds must be finite with low < high")
        if not 0 < self.resolution <= self.cell <= self.high - self.low:
            raise UserError(
                f"schema column {self.name!r}: needs 0 < resolution <= cell <= high - low"
            )

    @property
    def cells(self) -> int:
        """How many cells cover `[low, high]`; `high` itself is in the last one."""
        count = (self.high - self.low) / self.cell
        closed = self.within != "uniform"  # 240 mmHg is a value of its own, 66.0 years is an end
        return math.floor(count + 1e-9) + 1 if closed else math.ceil(count - 1e-9)

    @property
    def bins(self) -> int:
        """Histogram bins: the cells, and one for "not whole" where halves are modelled."""
        return self.cells + (self.within == "halves")

    @property
    def weight(self) -> float:
        """Of its histogram, as `Categorical.weight`."""
        return 1.0


@dataclass(frozen=True)
class Categorical:
    """A column with a public list of levels, in the order of the data dictionary.

    Attributes:
      name: the column's name.
      levels: what a value can be.
      source: where the levels come from.
      runs: lengths of the consecutive runs of ordered levels that the levels fall into: (1, 10) is
        a level apart, then ten ordered ones. Empty where nothing is known about order.
      scale: each level's place on a scale that the runs share (hours, say), so that levels of
        different runs can be the same place; empty for 0, 1, 2, ... within each run.
      weight: how many times as precisely as others its histogram is measured: it counts as much
        against the sensitivity.
    """

    name: str
    levels: tuple[int | str, ...]
    source: str = ""
    runs: tuple[int, ...] = ()
    scale: tuple[float, ...] = ()
    weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("levels", "runs", "scale"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        where, count = f"schema column {self.name!r}", len(self.levels)
        if not 2 <= count <= 255 or len(set(self.levels)) != count:
            raise UserError(f"{where}: needs 2 to 255 distinct levels")
        whole = all(type(length) is int and length >= 1 for length in self.runs)
        if self.runs and not (whole and sum(self.runs) == count):
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


@dataclass(frozen=True)
class Schema:
    """A table's public description.

    Attributes:
      name: name of the data set.
      columns: modelled columns, in the order of the networks' positions.
      label: name of the column that holds the label; a `Categorical`, with two levels unless
        `positive` is given.
      less: pairs (a, b): generated rows should have a < b. Real rows are never dropped for it.
      unit_of_privacy: what one record is, in words ("one row = one person").
      records: the number of records, if public; None keeps it private.
      minimum_records: a public floor for the noisy record count.
      given: name of the `Categorical` that generators draw first, from its noisy share, and that
        networks are conditioned on; None for no such column.
      positive: levels of the label that mean "positive"; empty for its second one.

    Examples:
      >>> s = Schema("toy", (Numeric("x", "m", 0, 9), Categorical("y", (0, 1))), label="y")
      >>> s.names, [c.bins for c in s.columns]
      (('x', 'y'), [10, 2])
      >>> Schema.from_dict(s.to_dict()) == s
      True
    """

    name: str
    columns: tuple[Column, ...]
    label: str
    less: tuple[tuple[str, str], ...] = ()
    unit_of_privacy: str = "one row = one person"
    records: int | None = None
    minimum_records: int = 500
    given: str | None = None
    positive: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "less", tuple((a, b) for a, b in self.less))
        if len(set(self.names)) != len(self.names):
            raise UserError(f"schema {self.name!r}: a column name stands twice")
        if self.minimum_records < 1:
            raise UserError(f"schema {self.name!r}: minimum_records must be 1 or more")
        object.__setattr__(self, "positive", tuple(self.positive))
        self._check_label()
        if self.given is not None and not isinstance(self.column(self.given), Categorical):
            raise UserError(f"schema {self.name!r}: given {self.given!r} must be a categorical")
        for pair in self.less:
            for name in pair:
                if not isinstance(self.column(name), Numeric):
                    raise UserError(f"schema {self.name!r}: rule on {name!r}, which is no number")

    def _check_label(self) -> None:
        where, label = f"schema {self.name!r}: label {self.label!r}", self.column(self.label)
        if not isinstance(label, Categorical) or (label.cells != 2 and not self.positive):
            raise UserError(f"{where} needs exactly two levels, or say which are positive")
        for level in self.positive:
            if level not in label.levels:
                raise UserError(f"{where} has no level {level!r}; see positive")
        if len(set(self.positive)) == label.cells:
            raise UserError(f"{where}: every level is positive; leave one out")

    @property
    def is_positive(self) -> np.ndarray:
        """Which of the label's levels mean "positive", bool (levels,).

        Examples:
          >>> y = Categorical("y", ("well", "ill", "dead"))
          >>> Schema("s", (y,), label="y", positive=("ill", "dead")).is_positive.tolist()
          [False, True, True]
        """
        label = self.column(self.label)
        assert isinstance(label, Categorical)  # as checked above
        positive = self.positive or label.levels[1:]
        return np.array([level in positive for level in label.levels])

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def position(self, name: str) -> int:
        """Index of the column called `name`; UserError if there is none."""
        if name not in self.names:
            raise UserError(
                f"schema {self.name!r} has no column {name!r}{nearest(name, self.names)}"
            )
        return self.names.index(name)

    def column(self, name: str) -> Column:
        return self.columns[self.position(name)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for TOML; what is None or not known is left out."""
        head = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "columns"
        }
        head["less"] = [list(pair) for pair in self.less]
        head["positive"] = list(self.positive) or None
        columns = []
        for column in self.columns:
            kind = "numeric" if isinstance(column, Numeric) else "categorical"
            fields = dataclasses.asdict(column)
            lists = {k: list(v) for k, v in fields.items() if isinstance(v, tuple)}
            fields = {k: v for k, v in (fields | lists).items() if v != []}
            columns.append({"kind": kind, **fields})
        return {k: v for k, v in head.items() if v is not None} | {"columns": columns}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Schema:
        """The inverse of `to_dict`; UserError names an unknown or missing key."""
        kinds = {"numeric": Numeric, "categorical": Categorical}
        columns = []
        for i, entry in enumerate(values.get("columns", ())):
            fields = dict(entry)
            kind = fields.pop("kind", None)
            if kind not in kinds:
                raise UserError(f"schema column {i + 1}: kind must be one of {sorted(kinds)}")
            columns.append(_build(kinds[kind], fields, f"schema column {i + 1}"))
        head = {k: v for k, v in values.items() if k != "columns"}
        return _build(Schema, head | {"columns": tuple(columns)}, "schema")

    @staticmethod
    def from_toml(text: str) -> Schema:
        try:
            return Schema.from_dict(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"schema: not TOML: {error}") from None


def _build(kind: type, fields: Mapping[str, Any], where: str) -> Any:
    known = {f.name: f for f in dataclasses.fields(kind)}
    for key in fields:
        if key not in known:
            raise UserError(f"{where}: unknown key {key!r}{nearest(key, list(known))}")
    for key, field in known.items():
        if field.default is dataclasses.MISSING and key not in fields:
            raise UserError(f"{where}: key {key!r} is missing")
    return kind(**fields)
