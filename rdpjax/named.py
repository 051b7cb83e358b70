"""Parts known by name: built in, or brought by an installed package through entry points."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TypeVar

from rdpjax.errors import UserError, nearest

T = TypeVar("T")


def with_installed(group: str, built_in: Mapping[str, T]) -> dict[str, T]:
    """Return the built-in parts by name, and those of installed packages.

    Args:
      group: of entry points, each `name = "package.module:OBJECT"`.
      built_in: our own.
    """
    return {**built_in, **{point.name: point.load() for point in entry_points(group=group)}}


def find(kind: str, name: str, known: Mapping[str, T]) -> T:
    """Return the part called `name`.

    Raises:
      UserError: there is none; names the nearest, and all.

    Examples:
      >>> find("generator", "vea", {"vae": 1, "vaegan": 2})
      Traceback (most recent call last):
      ...
      rdpjax.errors.UserError: generator: unknown 'vea'; did you mean 'vae'?; known are vae, vaegan
    """
    if name not in known:
        raise UserError(
            f"{kind}: unknown {name!r}{nearest(name, list(known))}; known are {', '.join(known)}"
        )
    return known[name]
