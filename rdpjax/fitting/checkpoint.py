"""Checkpoints of a training state: one Orbax folder a step, written atomically.

Orbax writes the arrays to a folder beside; it gets a digest of its files, mode 0700, an fsync and
its final name, and only then are older steps removed. So a full disk, a kill or a power cut leaves
the step before intact.
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

_PART = ".part"  # suffix of an incomplete folder; Orbax appends its own suffix
_DIGEST = "digest"
_EXTRA = 2**20  # upper bound on the bytes that a checkpoint takes beside its arrays


def save(folder: Path, step: int, state: Any) -> None:
    """Write `state` as checkpoint `step` of `folder`, and remove older ones.

    Orbax synchronises the processes, so each of several must call it, with the same folder; process
    0 alone writes.

    Args:
      folder: created if missing; entries named by whole numbers are checkpoints.
      step: of a checkpoint that does not exist yet.
      state: pytree of arrays, at least one of them not empty, that each process holds in full: on
        one device, sharded over its own devices, or replicated over those of all processes.

    Raises:
      OSError: the step exists already, or a write fails (disk full, ...). Nothing is left of the
        new checkpoint, and all of the older ones.

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
    _remove_parts(path.parent)  # left by a process that was killed
    try:
        _make_room(part, sum(array.nbytes for array in arrays.values()) + _EXTRA)
        _write(part, arrays)
        (part / _DIGEST).write_text(_digest(part), encoding="ascii")
        _secure(part)
        part.rename(path)
        _sync(path.parent)
        for old in steps(folder):
            if old < step:  # rename first: deletion is not atomic, a rename is
                path.with_name(str(old)).rename(path.with_name(f"{old}{_PART}"))
    finally:
        _remove_parts(path.parent)
    return None


def load(folder: Path, step: int, like: Any) -> Any:
    """Read checkpoint `step` of `folder`; one process may do so alone.

    Args:
      folder: as passed to `save`.
      step: one of `steps(folder)`.
      like: pytree of arrays with the structure, shapes, dtypes and shardings to return.

    Raises:
      UserError: it is damaged, not an rdpjax checkpoint, or of another structure.
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
    """Return the steps of the checkpoints in `folder`, rising; empty where there is none."""
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal() and p.is_dir())


def _names(state: Any) -> list[str]:
    """Return the tree path of each leaf, as `state[0]['a']['kernel']`."""
    paths = (path for path, _ in jax.tree_util.tree_leaves_with_path(state))
    return [f"state{jax.tree_util.keystr(path)}" for path in paths]


def _named(state: Any) -> dict[str, np.ndarray]:
    """Copy the leaves to the host, by name; without those of size 0, which Orbax does not keep."""
    arrays = map(np.asarray, jax.tree.leaves(state))
    return {name: array for name, array in zip(_names(state), arrays, strict=True) if array.size}


def _layout(arrays: dict[str, np.ndarray]) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    return {name: (array.shape, array.dtype) for name, array in arrays.items()}


def _placed(array: np.ndarray, like: Any) -> jax.Array:
    """Put an array on the sharding of `like` if that is committed, else on jax's default device."""
    fixed = isinstance(like, jax.Array) and like.committed
    placed: jax.Array = jax.device_put(array, like.sharding if fixed else None)
    return placed


def _write(part: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write through Orbax; turn its ValueError with an errno into the OSError that caused it."""
    from orbax.checkpoint import v1 as ocp

    context = _lean(ocp.Context())
    with context, _quiet():
        try:
            ocp.save(part, arrays)
        except ValueError as error:
            time.sleep(0.2)  # Orbax's other threads fail too, a moment later
            code = re.search(r"os_error_code='(\d+)'", str(error))
            if code is None:
                raise
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(part)) from None


def _lean(context: ocp.Context) -> ocp.Context:
    """Switch off Orbax's compression, sharding file and metadata, half of the time of a save."""
    context.file.path_permission_mode = 0o700
    saving = context.array.saving
    saving.use_compression = False  # trained parameters do not compress
    saving.enable_write_sharding_file = False  # `like` gives the shardings
    saving.array_metadata_store = None
    saving.enable_post_merge_validation = False  # needs that metadata; the digest does it
    return context


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence Orbax's log, and the tracebacks that its threads print to stderr when one fails."""
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
    """Reserve `size` bytes first, so that a full disk fails here and not in each Orbax thread."""
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
    """Return BLAKE2b over names and contents of all files except the digest's."""
    total = hashlib.blake2b()
    for path in _files(folder):
        name, data = str(path.relative_to(folder)).encode(), path.read_bytes()
        total.update(f"{len(name)} {len(data)} ".encode() + name + data)
    return total.hexdigest()


def _secure(folder: Path) -> None:
    """Set modes 0700 and 0600 on all of `folder`, and fsync every file and folder."""
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
