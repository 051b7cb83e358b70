"""Checkpoints of a training state: one Orbax folder a step, there whole or not at all.

Orbax writes the arrays to a folder beside; it is made private, forced to the disk, given a digest
of its files and renamed, and only then are older steps removed. So a full disk, a kill or a power
cut leaves the step before as it was.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from rdpjax.errors import UserError

if TYPE_CHECKING:
    from orbax.checkpoint import v1 as ocp

_PART = ".part"  # of a folder that is not whole: Orbax puts a suffix of its own behind
_DIGEST = "digest"
_EXTRA = 2**20  # bytes that a checkpoint takes beside its arrays, and more


def save(folder: Path, step: int, state: Any) -> None:
    """Write `state` as checkpoint `step` of `folder`, and drop older ones.

    Of several processes all have to call it, with the same folder, as Orbax has them meet; process
    0 alone writes.

    Args:
      folder: made where it is missing. In it, whole numbers are checkpoints.
      step: not there yet.
      state: pytree of arrays, with a number in it, that each process has whole: on one device,
        sharded over its own, or replicated over those of all.

    Raises:
      OSError: the step is there already, or the disk refuses, a full one say. Nothing is left of
        the new checkpoint, and all of the older ones.

    Guarantees:
      A folder named by a number is a whole checkpoint, at any moment. Folders have mode 0700 and
      files 0600.
    """
    path = Path(os.path.abspath(folder), str(step))
    part = path.with_name(path.name + _PART)
    arrays = _named(state)
    if jax.process_index() != 0:
        return _write(part, arrays)
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    _remove_parts(path.parent)  # of a process that was killed
    try:
        _make_room(part, sum(array.nbytes for array in arrays.values()) + _EXTRA)
        _write(part, arrays)
        (part / _DIGEST).write_text(_digest(part), encoding="ascii")
        _secure(part)
        part.rename(path)
        _sync(path.parent)
        for old in steps(folder):
            if old < step:  # out of the way at once, so that none is there in parts
                path.with_name(str(old)).rename(path.with_name(f"{old}{_PART}"))
    finally:
        _remove_parts(path.parent)
    return None


def load(folder: Path, step: int, like: Any) -> Any:
    """Read checkpoint `step` of `folder`; one process may do so alone.

    Args:
      folder: as it was given to `save`.
      step: one of `steps(folder)`.
      like: pytree of arrays with the structure, shapes, types and places to return.

    Raises:
      UserError: it is damaged, not one of ours, or of another structure.
    """
    from orbax.checkpoint import v1 as ocp

    path = Path(os.path.abspath(folder), str(step))
    try:
        whole = (path / _DIGEST).read_text(encoding="ascii") == _digest(path)
    except (OSError, ValueError):
        whole = False
    if not whole:
        raise UserError(f"{path}: cannot read the checkpoint; restore it or start anew")
    context = ocp.Context()
    context.multiprocessing.active_processes = {jax.process_index()}
    with context, _quiet():
        found = ocp.load(path)
    leaves, structure = jax.tree.flatten(like)
    if _layout(found) != _layout(_named(like)):
        raise UserError(f"{path}: the checkpoint is of another model; resume with its own version")
    arrays = [found.get(name, leaf) for name, leaf in zip(_names(like), leaves, strict=True)]
    return jax.tree.unflatten(structure, map(_placed, arrays, leaves))


def steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in `folder`, rising; empty where there is none."""
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal() and p.is_dir())


def _names(state: Any) -> list[str]:
    """Where each leaf is, as `state[0]['a']['kernel']`."""
    paths = (path for path, _ in jax.tree_util.tree_leaves_with_path(state))
    return [f"state{jax.tree_util.keystr(path)}" for path in paths]


def _named(state: Any) -> dict[str, np.ndarray]:
    """The leaves on the host, by name; without those of size 0, which Orbax does not keep."""
    arrays = map(np.asarray, jax.tree.leaves(state))
    return {name: array for name, array in zip(_names(state), arrays, strict=True) if array.size}


def _layout(arrays: dict[str, np.ndarray]) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    return {name: (array.shape, array.dtype) for name, array in arrays.items()}


def _placed(array: np.ndarray, like: Any) -> jax.Array:
    """On the devices of `like`; where that is left to jax, so it is here."""
    fixed = isinstance(like, jax.Array) and like.committed
    placed: jax.Array = jax.device_put(array, like.sharding if fixed else None)
    return placed


def _write(part: Path, arrays: dict[str, np.ndarray]) -> None:
    """Have Orbax write: a ValueError of its with an errno in it is one of the disk's."""
    from orbax.checkpoint import v1 as ocp

    context = _lean(ocp.Context())
    with context, _quiet():
        try:
            ocp.save(part, arrays)
        except ValueError as error:
            time.sleep(0.2)  # its other threads fail too, a moment later
            code = re.search(r"os_error_code='(\d+)'", str(error))
            if code is None:
                raise
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(part)) from None


def _lean(context: ocp.Context) -> ocp.Context:
    """Without what costs time and serves larger models: half of a save's time otherwise."""
    context.file.path_permission_mode = 0o700
    saving = context.array.saving
    saving.use_compression = False  # trained numbers look like noise
    saving.enable_write_sharding_file = False  # `like` says where arrays go
    saving.array_metadata_store = None
    saving.enable_post_merge_validation = False  # of the metadata left out above; we have a digest
    return context


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Orbax's log off stderr, and the tracebacks that its threads print when one fails."""
    before = {log: log.level for log in map(logging.getLogger, ("absl", "asyncio"))}
    for log in before:
        log.setLevel(logging.CRITICAL + 1)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for log, level in before.items():
            log.setLevel(level)


def _make_room(part: Path, size: int) -> None:
    """Find out that the disk is full in one place, and not in each of Orbax's threads."""
    try:
        with part.open("wb") as file:
            file.write(bytes(size))
            file.flush()
            os.fsync(file.fileno())
    finally:
        part.unlink(missing_ok=True)


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / _DIGEST)


def _digest(folder: Path) -> str:
    """BLAKE2 of the names and bytes of all files but the digest's."""
    total = hashlib.blake2b()
    for path in _files(folder):
        name, data = str(path.relative_to(folder)).encode(), path.read_bytes()
        total.update(f"{len(name)} {len(data)} ".encode() + name + data)
    return total.hexdigest()


def _secure(folder: Path) -> None:
    """Make all of `folder` private, and wait until the disk has it."""
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o700 if path.is_dir() else 0o600)
        _sync(path)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _remove_parts(folder: Path) -> None:
    for path in folder.glob(f"*{_PART}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
