"""Checkpoints by Orbax, the only file that knows it.

A checkpoint is a folder named after its step. Orbax writes it beside and renames it, so it is
there whole or not at all.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from orbax.checkpoint import v1 as orbax


def save(folder: Path, step: int, state: Any) -> None:
    """Write `state` (a tree of arrays) as checkpoint `step` of `folder`, and drop older ones."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    orbax.save(folder / str(step), state, overwrite=True)
    for old in steps(folder):
        if old < step:
            shutil.rmtree(folder / str(old), ignore_errors=True)


def load(folder: Path, step: int, like: Any) -> Any:
    """Checkpoint `step` of `folder`, in the structure, shapes and types of `like`."""
    return orbax.load(folder.resolve() / str(step), like)


def steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in `folder`, rising; empty where there is none."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
