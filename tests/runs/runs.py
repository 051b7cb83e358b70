"""What a run left behind, and how to kill one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

Go: TypeAlias = Callable[..., dict[str, Any]]
"""The fixture `go`."""


class Killed(BaseException):
    """Stands for a kill: no `except Exception` may catch it."""


def released(out: Path) -> dict[str, bytes]:
    """Every file of the release, by its name."""
    release = out / "release"
    return {str(p.relative_to(release)): p.read_bytes() for p in release.rglob("*") if p.is_file()}


def entries(out: Path) -> list[dict[str, Any]]:
    lines = (out / "internal" / "ledger.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def tree(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def killed_at(
    patch: pytest.MonkeyPatch, owner: Any, name: str, number: int, *, after: bool
) -> None:
    """The call `number` of a function ends in `Killed`: before its work, or after it."""
    original, calls = getattr(owner, name), iter(range(1, 1000))

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        fatal = next(calls) == number
        if fatal and not after:
            raise Killed
        result = original(*args, **kwargs)
        if fatal:
            raise Killed
        return result

    patch.setattr(owner, name, wrapped)
