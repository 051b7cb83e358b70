"""Public schema of a table: columns, bounds, levels, units, the unit of privacy.

Nothing in a schema may be derived from private records. Bounds come from public knowledge and
each names its source; levels come from the data dictionary.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rdpjax.data.fields import (
    Categorical,
    Column,
    Level,
    Numeric,
    Within,
    plain_list,
    text,
    whole,
)
from rdpjax.data.rules import less_of
from rdpjax.errors import UserError, nearest
from rdpjax.structure import check_keys

__all__ = ["Categorical", "Column", "Numeric", "Schema", "Within"]

MOST_BINS = 2**18 - 1
"""Most bins of all columns together: with the record count, the most that is accounted for."""


@dataclass(frozen=True)
class Schema:
    """Public schema of a table.

    Attributes:
      name: name of the data set.
      columns: modelled columns, in the order of the networks' positions.
      label: name of the `Categorical` to be predicted from the others; None for none.
      less: pairs (a, b): generated rows should have a < b. Real rows that break it are kept.
      unit_of_privacy: what one record is, in words ("one row = one person").
      records: the number of records, if public; None keeps it private.
      minimum_records: a public floor for the noisy record count.
      given: name of the condition column, a `Categorical` that generators draw first, from its
        noisy share, and that networks are conditioned on; None for none.
      positive: levels of the label that mean "positive"; empty for the second of two.

    Raises:
      UserError: names the column and the key that is wrong, the widest column where all columns
        together have more than `MOST_BINS` bins, and rules that no row can keep.

    Examples:
      >>> s = Schema("toy", (Numeric("x", "m", 0, 9), Categorical("y", (0, 1))), label="y")
      >>> s.names, [c.bins for c in s.columns]
      (('x', 'y'), [10, 2])
      >>> Schema.from_dict(s.to_dict()) == s
      True
    """

    name: str
    columns: tuple[Column, ...]
    label: str | None = None
    less: tuple[tuple[str, str], ...] = ()
    unit_of_privacy: str = "one row = one person"
    records: int | None = None
    minimum_records: int = 500
    given: str | None = None
    positive: tuple[Level, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", text(self.name, "schema: name", empty=False))
        where = f"schema {self.name!r}"
        object.__setattr__(self, "columns", plain_list(self.columns, f"{where}: columns"))
        for i, column in enumerate(self.columns, start=1):
            if not isinstance(column, Numeric | Categorical):
                raise UserError(
                    f"{where}: column {i} must be a Numeric or a Categorical, got {column!r}"
                )
        if not self.columns:
            raise UserError(f"{where}: columns is empty; describe one or more")
        for name in self.names:
            if self.names.count(name) > 1:
                raise UserError(f"{where}: a column name stands twice: {name!r}; rename one")
        _check_width(self.columns, where)
        unit = text(self.unit_of_privacy, f"{where}: unit_of_privacy")
        object.__setattr__(self, "unit_of_privacy", unit)
        if self.records is not None:
            object.__setattr__(self, "records", whole(self.records, f"{where}: records"))
        least = whole(self.minimum_records, f"{where}: minimum_records")
        object.__setattr__(self, "minimum_records", least)
        object.__setattr__(self, "positive", plain_list(self.positive, f"{where}: positive"))
        for key in ("label", "given"):
            if (name := getattr(self, key)) is not None:
                object.__setattr__(self, key, text(name, f"{where}: {key}"))
        self._check_label(where)
        if self.given is not None and not isinstance(self.column(self.given), Categorical):
            raise UserError(f"{where}: given {self.given!r} must be a categorical")
        object.__setattr__(self, "less", less_of(self.less, self.columns, where))

    def _check_label(self, where: str) -> None:
        if self.label is None:
            if self.positive:
                raise UserError(f"{where}: positive needs a label; name the column")
            return
        where, label = f"{where}: label {self.label!r}", self.column(self.label)
        if not isinstance(label, Categorical):
            raise UserError(f"{where} must be a categorical")
        for level in self.positive:
            if level not in label.levels:
                raise UserError(f"{where} has no level {level!r}; see positive")
        if len(set(self.positive)) == label.cells:
            raise UserError(f"{where}: every level is positive; leave one out")

    @property
    def has_classes(self) -> bool:
        """Whether the label divides records into positives and negatives."""
        return self.label is not None and (
            bool(self.positive) or self.column(self.label).cells == 2
        )

    @property
    def is_positive(self) -> np.ndarray:
        """Levels of the label that count as positive, bool `[levels]`.

        Raises:
          UserError: no label, or other than two levels while `positive` is empty.

        Examples:
          >>> y = Categorical("y", ("well", "ill", "dead"))
          >>> Schema("s", (y,), label="y", positive=("ill", "dead")).is_positive.tolist()
          [False, True, True]
        """
        label = self.column(self.label)
        assert isinstance(label, Categorical)  # as checked above
        if not self.has_classes:
            raise UserError(
                f"schema {self.name!r}: label {self.label!r} has {label.cells} levels; say which "
                "mean positive, as in positive = [...]"
            )
        positive = self.positive or label.levels[1:]
        return np.array([level in positive for level in label.levels])

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def position(self, name: str | None) -> int:
        """Return the index of the column called `name`; UserError if there is none.

        `name` is None where the schema has no label.
        """
        if name is None:
            raise UserError(f"schema {self.name!r} has no label; name its column in label = ...")
        if name not in self.names:
            raise UserError(
                f"schema {self.name!r} has no column {name!r}{nearest(name, self.names)}"
            )
        return self.names.index(name)

    def column(self, name: str | None) -> Column:
        """Return the column called `name`; UserError if there is none."""
        return self.columns[self.position(name)]

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for TOML; None and unknown values are left out."""
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
        """Build a schema from `to_dict`; UserError names an unknown or missing key."""
        kinds = {"numeric": Numeric, "categorical": Categorical}
        columns = []
        for i, entry in enumerate(plain_list(values.get("columns", ()), "schema: columns")):
            where = f"schema column {i + 1}"
            if not isinstance(entry, Mapping):
                raise UserError(f"{where} must be a table [[columns]], got {entry!r}")
            fields = dict(entry)
            kind = fields.pop("kind", None)
            if kind not in kinds:
                raise UserError(f"{where}: kind must be one of {', '.join(kinds)}, got {kind!r}")
            columns.append(_build(kinds[kind], fields, where))
        schema: Schema = _build(Schema, dict(values) | {"columns": tuple(columns)}, "schema")
        return schema

    @staticmethod
    def from_toml(toml: str) -> Schema:
        """Build a schema from the TOML of `to_dict`; UserError where the text is not TOML."""
        try:
            return Schema.from_dict(tomllib.loads(toml))
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"schema: not TOML: {error}") from None


def _build(kind: type, fields: Mapping[str, Any], where: str) -> Any:
    check_keys(kind, fields, where)
    return kind(**fields)


def _check_width(columns: tuple[Column, ...], where: str) -> None:
    """Raise UserError, naming the widest column, where there are more bins than `MOST_BINS`."""
    bins = sum(column.bins for column in columns)
    if bins <= MOST_BINS:
        return
    widest = max(columns, key=lambda column: column.bins)
    room = MOST_BINS - (bins - widest.bins)
    mend = "describe fewer columns"
    if isinstance(widest, Numeric) and room > 1:
        mend = f"give it cell = {_wide_enough(widest, room):g} or more"
    raise UserError(
        f"{where}: {bins} bins to measure, at most {MOST_BINS} can be accounted for; column "
        f"{widest.name!r} has {widest.bins} of them, {mend}"
    )


def _wide_enough(column: Numeric, bins: int) -> float:
    """Suggest a bin width of 1, 2 or 5 times a power of 10 resolutions, for at most `bins` bins."""
    least = (column.high - column.low) / (bins - 1) / column.resolution
    power: int = 10 ** max(0, math.floor(math.log10(least)))
    return column.resolution * next(m * power for m in (1, 2, 5, 10) if m * power >= least)
