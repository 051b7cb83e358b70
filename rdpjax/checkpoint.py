"""Checkpoints: the state of a stage after a step, as one file named after the step.

A file is written beside, forced to the disk and renamed, so it is there whole or not at all; the
one before is removed only then. Nothing here waits for other processes: of several, one writes.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rdpjax.errors import UserError

_SUFFIX = ".npz"


def save(folder: Path, step: int, state: Any) -> None:
    """Write `state` (a tree of arrays) as checkpoint `step` of `folder`, and drop older ones.

    Raises:
      OSError: the disk is full, say; the checkpoints that were there are left as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
    part = folder / f"{step}{_SUFFIX}.part"
    try:
        with part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        part.rename(_path(folder, step))
        _sync(folder)
    finally:
        part.unlink(missing_ok=True)
    for old in steps(folder):
        if old < step:
            _path(folder, old).unlink()


def load(folder: Path, step: int, like: Any) -> Any:
    """Checkpoint `step` of `folder`, in the structure, shapes and types of `like`.

    Raises:
      UserError: it is damaged, or of another structure.
    """
    path = _path(folder, step)
    leaves, structure = jax.tree.flatten(like)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            found = [stored[str(i)] for i in range(len(stored.files))]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise UserError(f"{path}: cannot read the checkpoint; restore it or start anew") from None
    # NumPy knows no bfloat16 and stores its bytes.
    found = [
        array.view(leaf.dtype) if array.dtype.kind == "V" else array
        for array, leaf in zip(found, leaves, strict=False)
    ]
    shapes = [(array.shape, array.dtype) for array in found]
    if shapes != [(leaf.shape, leaf.dtype) for leaf in leaves]:
        raise UserError(f"{path}: the checkpoint is of another model; resume with its own version")
    return jax.tree.unflatten(structure, [jnp.asarray(array) for array in found])


def steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in `folder`, rising; empty where there is none."""
    if not folder.is_dir():
        return []
    names = (path.name.removesuffix(_SUFFIX) for path in folder.glob(f"*{_SUFFIX}"))
    return sorted(int(name) for name in names if name.isdigit())


def _path(folder: Path, step: int) -> Path:
    return folder / f"{step}{_SUFFIX}"


def _sync(folder: Path) -> None:
    """Wait until the disk has the names in `folder`."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
