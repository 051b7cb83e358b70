"""Build frozen dataclasses from plain TOML values; keys and types are checked by declaration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rdpjax.errors import UserError, nearest

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def check_keys(kind: type, values: Mapping[str, Any], where: str) -> None:
    """Raise a UserError for a key that is no field of `kind`, or for a missing required one."""
    known = {f.name: f for f in dataclasses.fields(kind) if f.init}
    for key in values:
        if key not in known:
            raise UserError(f"{where}: unknown key {key!r}{nearest(key, list(known))}")
    for key, field in known.items():
        absent = (field.default, field.default_factory) == (dataclasses.MISSING,) * 2
        if absent and key not in values:
            raise UserError(f"{where}: key {key!r} is missing")


def build(kind: type, values: Any, where: str) -> Any:
    """Build a dataclass from plain values.

    Args:
      kind: a dataclass with fields of numbers, texts, booleans, tuples, mappings and None.
      values: a mapping from its fields; a missing one keeps its default.
      where: prefix of every error message.

    Raises:
      UserError: an unknown or missing key, a value of the wrong type, or what the class refuses.

    Examples:
      >>> @dataclasses.dataclass(frozen=True)
      ... class Point:
      ...     x: float
      >>> build(Point, {"x": 1}, "point").x
      1.0
      >>> build(Point, {"x": "1"}, "point")
      Traceback (most recent call last):
      ...
      rdpjax.errors.UserError: point: x must be a number, got '1'
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: must be a table")
    check_keys(kind, values, where)
    declared = get_type_hints(kind)
    clean = {key: _value(declared[key], value, f"{where}: {key}") for key, value in values.items()}
    try:
        return kind(**clean)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _value(kind: Any, value: Any, what: str) -> Any:
    """Convert a plain value to a field's declared type; a whole number will do for a float."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is UnionType:  # a type or None, which TOML cannot express
        return _value(parts[0], value, what)
    if origin is Literal and value not in parts:
        raise UserError(f"{what} must be one of {', '.join(map(repr, parts))}, got {value!r}")
    if origin is tuple:
        items = value if isinstance(value, list) else [value]
        return tuple(_value(parts[0], item, what) for item in items)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{what} must be a table, got {value!r}")
        return {key: _value(parts[1], item, f"{what}.{key}") for key, item in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    if kind in _KINDS and type(value) is not kind:
        raise UserError(f"{what} must be {_KINDS[kind]}, got {value!r}")
    return value
