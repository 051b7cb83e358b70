"""Plain values of a TOML file as frozen dataclasses: keys and kinds are checked by declaration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rdpjax.errors import UserError, nearest

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def check_keys(kind: type, values: Mapping[str, Any], where: str) -> None:
    """UserError for a key that `kind` has no field for, or one that it needs and is not given."""
    known = {f.name: f for f in dataclasses.fields(kind) if f.init}
    for key in values:
        if key not in known:
            raise UserError(f"{where}: unknown key {key!r}{nearest(key, list(known))}")
    for key, field in known.items():
        absent = (field.default, field.default_factory) == (dataclasses.MISSING,) * 2
        if absent and key not in values:
            raise UserError(f"{where}: key {key!r} is missing")


def build(kind: type, values: Any, where: str) -> Any:
    """A dataclass from plain values.

    Args:
      kind: a dataclass of numbers, texts, booleans, tuples, mappings and None.
      values: a mapping from its fields; what is not given keeps its default.
      where: begins every message.

    Raises:
      UserError: an unknown or missing key, a value of a wrong kind, or what the class refuses.

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
    """A plain value as the kind that a field declares; a whole number will do for a float."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is UnionType:  # a kind or None, which TOML cannot say
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
