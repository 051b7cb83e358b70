"""Columns as plain values: an entry `[[columns]]` of a schema file, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from rdpjax.data.dates import Date
from rdpjax.data.determined import Determined
from rdpjax.data.fields import Categorical, Column, Numeric
from rdpjax.errors import UserError
from rdpjax.structure import check_keys

KINDS: dict[str, type[Column]] = {"numeric": Numeric, "categorical": Categorical, "date": Date}
"""Classes of columns by their `kind`."""

SHORT = ("ordinal", "boolean")
"""Kinds that stand for a categorical: with its levels in order, and of true and false."""


def column_to_dict(column: Column) -> dict[str, Any]:
    """Convert a column to plain values for TOML; empty lists are left out.

    Examples:
      >>> column_to_dict(Categorical("ill", ("no", "yes"), missing=("?",)))["missing"]
      ['?']
    """
    fields = dataclasses.asdict(column)
    if isinstance(column, Date):
        del fields["low"], fields["high"]  # they follow from first and last
    lists = {key: list(value) for key, value in fields.items() if isinstance(value, tuple)}
    kept = {key: value for key, value in (fields | lists).items() if value != []}
    return {"kind": next(k for k, own in KINDS.items() if type(column) is own), **kept}


def column_from_dict(values: Any, where: str) -> Column:
    """Build a column from `column_to_dict`; UserError names an unknown or missing key.

    Examples:
      >>> column_from_dict({"kind": "ordinal", "name": "pain", "levels": [0, 1, 2]}, "").runs
      (3,)
      >>> column_from_dict({"kind": "boolean", "name": "smokes"}, "").levels
      (False, True)
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{where} must be a table [[columns]], got {values!r}")
    fields = dict(values)
    kind = fields.pop("kind", None)
    if kind == "boolean":
        fields = {"levels": (False, True)} | fields
    if kind == "numeric":
        fields = {"unit": ""} | fields
    if kind == "ordinal" and isinstance(fields.get("levels"), list | tuple):
        fields = fields | {"runs": (len(fields["levels"]),)}
    known = ", ".join((*KINDS, *SHORT))
    if kind is None:
        named = f" ({fields['name']!r})" if "name" in fields else ""
        raise UserError(f"{where}{named}: no kind yet; fill in kind = one of {known}")
    if kind not in (*KINDS, *SHORT):
        raise UserError(f"{where}: kind must be one of {known}, got {kind!r}")
    column: Column = construct(KINDS.get(kind, Categorical), fields, where)
    return column


def determined_from_dict(values: Any, where: str) -> Determined:
    """Build a determined column from its `to_dict`."""
    if not isinstance(values, Mapping):
        raise UserError(f"{where} must be a table [[determined]], got {values!r}")
    column: Determined = construct(Determined, values, where)
    return column


def construct(kind: type, fields: Mapping[str, Any], where: str) -> Any:
    """Call a dataclass with the keys of a table; UserError for an unknown or missing one."""
    check_keys(kind, fields, where)
    return kind(**fields)
