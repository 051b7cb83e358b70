"""Public schema of a table: columns, bounds, levels, units, the unit of privacy.

Nothing in a schema may be derived from private records. Bounds come from public knowledge and
each names its source; levels come from the data dictionary.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from rdpjax.data.columns import (
    column_from_dict,
    column_to_dict,
    construct,
    determined_from_dict,
)
from rdpjax.data.conditions import Rule, rule_of
from rdpjax.data.dates import Date
from rdpjax.data.determined import Determined, in_order
from rdpjax.data.fields import Categorical, Column, Numeric, Within
from rdpjax.data.levels import Level
from rdpjax.data.rules import less_of
from rdpjax.data.values import plain_list, text, whole
from rdpjax.errors import UserError, nearest

__all__ = ["Categorical", "Column", "Date", "Determined", "Numeric", "Schema", "Within"]

PEEKED = (
    "the schema's bounds and levels were guessed from the records (schema --peek): epsilon does "
    "not cover them"
)
"""Note on every claim under a schema that is `peeked`."""

MOST_BINS = 2**18 - 1
"""Most bins of all columns together: with the record count, the most that is accounted for."""


@dataclass(frozen=True)
class Schema:
    """Public schema of a table.

    Attributes:
      name: name of the data set.
      columns: modelled columns, in the order of the networks' positions.
      label: name of the `Categorical` to be predicted from the others; None for none.
      less: pairs (a, b): generated rows have a < b. Real rows that break it are kept.
      rules: further rules as text, as `rdpjax.data.conditions` reads them, likewise.
      determined: columns that others determine; they are not modelled.
      drop: columns of the file that are left out: identifiers, free text.
      peeked: bounds and levels were guessed from the records, which the guarantee does not cover.
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
    rules: tuple[str, ...] = ()
    determined: tuple[Determined, ...] = ()
    drop: tuple[str, ...] = ()
    peeked: bool = False

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
        if self.given is not None and self.column(self.given).missing:
            raise UserError(f"{where}: given {self.given!r} must not be missing")
        object.__setattr__(self, "less", less_of(self.less, self.columns, where))
        for key in ("rules", "drop", "determined"):
            object.__setattr__(self, key, plain_list(getattr(self, key), f"{where}: {key}"))
        if type(self.peeked) is not bool:
            raise UserError(f"{where}: peeked must be true or false, got {self.peeked!r}")
        for name in self.drop:
            if name in (*self.names, *(column.name for column in self.determined)):
                raise UserError(
                    f"{where}: column {name!r} is described and dropped; do one of both"
                )
        levels = {
            c.name: [str(v) for v in c.levels] if isinstance(c, Categorical) else []
            for c in self.columns
        }
        object.__setattr__(self, "determined", in_order(self.determined, levels, where))
        _ = self.conditions

    def _check_label(self, where: str) -> None:
        if self.label is None:
            if self.positive:
                raise UserError(f"{where}: positive needs a label; name the column")
            return
        where, label = f"{where}: label {self.label!r}", self.column(self.label)
        if not isinstance(label, Categorical):
            raise UserError(f"{where} must be a categorical")
        if label.missing:
            raise UserError(
                f"{where} must not be missing; make {label.missing[0]!r} a level, or drop records"
            )
        for level in self.positive:
            if level not in label.levels:
                raise UserError(f"{where} has no level {level!r}; see positive")
        if len(set(self.positive)) == label.cells:
            raise UserError(f"{where}: every level is positive; leave one out")

    @cached_property
    def conditions(self) -> tuple[Rule, ...]:
        """The rules, parsed."""
        where = f"schema {self.name!r}"
        return tuple(rule_of(text(r, f"{where}: rules"), self.columns, where) for r in self.rules)

    @property
    def has_rules(self) -> bool:
        return bool(self.less or self.rules)

    def gaps(self, values: np.ndarray) -> np.ndarray:
        """Return the missing ones of decoded values, bool (rows, columns)."""
        gaps: np.ndarray = np.isnan(values)
        for j, column in enumerate(self.columns):
            if isinstance(column, Categorical):
                gaps[:, j] = values[:, j] >= column.cells
        return gaps

    def breaks_rule(self, values: np.ndarray) -> np.ndarray:
        """Return the rows of decoded values that break any rule, bool (rows,)."""
        broken = np.zeros(len(values), bool)
        for low, high in self.less:
            broken |= values[:, self.position(low)] >= values[:, self.position(high)]
        if self.rules:
            gaps = self.gaps(values)
            for rule in self.conditions:
                broken |= rule.broken(values, gaps)
        return broken

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

    def with_label(self, label: str | None) -> Schema:
        """Return the schema with another label; None keeps its own."""
        if label in (None, self.label):
            return self
        return dataclasses.replace(self, label=label, positive=())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def written(self) -> tuple[str, ...]:
        """Names of the columns of a released file: modelled, then determined ones."""
        return (*self.names, *(column.name for column in self.determined))

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
        head["rules"] = list(self.rules) or None
        head["drop"] = list(self.drop) or None
        head["peeked"] = self.peeked or None
        head["determined"] = [column.to_dict() for column in self.determined] or None
        columns = [column_to_dict(column) for column in self.columns]
        return {k: v for k, v in head.items() if v is not None} | {"columns": columns}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Schema:
        """Build a schema from `to_dict`; UserError names an unknown or missing key."""
        given = dict(values)
        for key, read in (("columns", column_from_dict), ("determined", determined_from_dict)):
            entries = plain_list(given.get(key, ()), f"schema: {key}")
            what = "column" if key == "columns" else "determined column"
            given[key] = tuple(
                read(entry, f"schema {what} {i}") for i, entry in enumerate(entries, start=1)
            )
        schema: Schema = construct(Schema, given, "schema")
        return schema

    @staticmethod
    def from_toml(toml: str) -> Schema:
        """Build a schema from the TOML of `to_dict`; UserError where the text is not TOML."""
        try:
            return Schema.from_dict(tomllib.loads(toml))
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"schema: not TOML: {error}") from None


def _check_width(columns: tuple[Column, ...], where: str) -> None:
    """Raise UserError, naming the widest column, where there are more bins than `MOST_BINS`."""
    bins = sum(column.bins for column in columns)
    if bins <= MOST_BINS:
        return
    widest = max(columns, key=lambda column: column.bins)
    room = MOST_BINS - (bins - widest.bins)
    mend = "describe fewer columns"
    if isinstance(widest, Numeric) and room > 1:
        mend = f"give it cell = {widest.wide_enough(room):g} or more"
    raise UserError(
        f"{where}: {bins} bins to measure, at most {MOST_BINS} can be accounted for; column "
        f"{widest.name!r} has {widest.bins} of them, {mend}"
    )
