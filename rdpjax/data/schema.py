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


@dataclass(frozen=True)
class Categorical:
    """A column with a public list of levels, in the order of the data dictionary."""

    name: str
    levels: tuple[int | str, ...]
    source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.levels))
        if not 2 <= len(self.levels) <= 255 or len(set(self.levels)) != len(self.levels):
            raise UserError(f"schema column {self.name!r}: needs 2 to 255 distinct levels")

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
      label: name of the column that the labeler predicts; a `Categorical` with two levels.
      less: pairs (a, b): generated rows should have a < b. Real rows are never dropped for it.
      unit_of_privacy: what one record is, in words ("one row = one person").
      records: the number of records, if public; None keeps it private.
      minimum_records: a public floor for the noisy record count.

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

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "less", tuple((a, b) for a, b in self.less))
        if len(set(self.names)) != len(self.names):
            raise UserError(f"schema {self.name!r}: a column name stands twice")
        if self.minimum_records < 1:
            raise UserError(f"schema {self.name!r}: minimum_records must be 1 or more")
        label = self.column(self.label)
        if not isinstance(label, Categorical) or label.cells != 2:
            raise UserError(f"schema {self.name!r}: label {self.label!r} needs exactly two levels")
        for pair in self.less:
            for name in pair:
                if not isinstance(self.column(name), Numeric):
                    raise UserError(f"schema {self.name!r}: rule on {name!r}, which is no number")

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
        """Plain values for TOML; None is left out, as TOML has none."""
        head = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "columns"
        }
        head["less"] = [list(pair) for pair in self.less]
        columns = []
        for column in self.columns:
            kind = "numeric" if isinstance(column, Numeric) else "categorical"
            fields = dataclasses.asdict(column)
            if isinstance(column, Categorical):
                fields["levels"] = list(column.levels)
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
