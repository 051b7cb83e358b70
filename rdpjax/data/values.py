"""Plain Python values of schemas: numpy scalars, arrays and lists, checked and converted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np

from rdpjax.errors import UserError


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
    if isinstance(value, int) and abs(value) > 2**1000:  # float() of it would overflow
        raise UserError(f"{what} must be a finite number, got one of hundreds of digits")
    return value


def whole(value: Any, what: str) -> int:
    """Return `value` as a plain integer of 1 or more; UserError for anything else."""
    value = plain(value)
    if type(value) is not int or value < 1:
        raise UserError(f"{what} must be a whole number, 1 or more, got {value!r}")
    return value
