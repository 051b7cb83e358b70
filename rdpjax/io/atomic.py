"""Atomic writes of files and folders: write under a temporary name, fsync, rename."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from rdpjax.errors import UserError

PRIVATE = 0o600
PUBLIC = 0o644
STDOUT = Path("-")
_BESIDE = ".rdpjax-"  # prefix; tempfile appends a unique suffix


@contextlib.contextmanager
def new_file(path: Path, *, mode: int = PRIVATE, overwrite: bool = True) -> Iterator[BinaryIO]:
    """Open a file to write, which gets its name when the block ends without an error.

    A symbolic link is followed: its target is replaced. Files that are not regular (devices, pipes)
    are written through, and `-` is standard output.

    Args:
      path: the file.
      mode: of a new file; one that is replaced gets it too.
      overwrite: replace a regular file.

    Raises:
      OSError: a write fails (disk full, ...); nothing is left behind, and an older file stays.
      UserError: `path` is a folder, or a file that must not be replaced.

    Examples:
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     with new_file(Path(folder, "a.txt")) as file:
      ...         _ = file.write(b"whole")
      ...     Path(folder, "a.txt").read_bytes()
      b'whole'
    """
    if is_stdout(path):
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("wb") as file:
            yield file
        return
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise UserError(f"{path}: cannot write there: is a folder; name a file in it")
    check_absent(target, path, overwrite)
    handle, part = tempfile.mkstemp(prefix=_BESIDE, dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield cast(BinaryIO, file)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        check_absent(target, path, overwrite)  # it may have been created meanwhile
        os.replace(part, target)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    _sync(target.parent)


def write_file(path: Path, content: str | bytes, *, mode: int = PRIVATE) -> None:
    """Write a small file whole; arguments and errors as for `new_file`."""
    with new_file(path, mode=mode) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


def write_json(path: Path, values: Any) -> None:
    """Write plain values as JSON atomically, readable by this user alone.

    Raises:
      UserError: a write fails (disk full, ...); the older file stays.
    """
    try:
        write_file(path, json.dumps(values, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); check the path") from None


@contextlib.contextmanager
def new_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a folder to fill, which gets the name `target` when the block ends without an error.

    Args:
      target: the folder; its parents are created if missing.
      overwrite: replace an older one, which must be ours.

    Raises:
      OSError: a write fails (disk full, ...); nothing is left behind, and an older folder stays.
      UserError: `target` exists and must not be replaced.
    """
    check_absent(target, target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=_BESIDE, dir=target.parent, ignore_cleanup_errors=True
    ) as beside:
        part, old = Path(beside, "new"), Path(beside, "old")
        part.mkdir()
        yield part
        check_absent(target, target, overwrite)
        if target.exists():
            target.rename(old)  # removed with the temporary folder
        try:
            part.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    _sync(target.parent)


def is_stdout(path: Path) -> bool:
    """Return whether `path` is `-`, or another name of standard output, such as /dev/stdout."""
    try:
        return path == STDOUT or os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):  # no such file, or a standard output without a descriptor
        return False


def check_absent(target: Path, shown: Path, overwrite: bool) -> None:
    """Raise a UserError naming `shown` if `target` exists and must not be replaced."""
    if not overwrite and os.path.lexists(target):
        mend = "choose another folder" if target.is_dir() else "give --overwrite, or another name"
        raise UserError(f"{shown}: exists; {mend}")


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn OSError (disk full, ...) into a UserError naming `path`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot write there: {error.strerror or error}") from None


def _sync(folder: Path) -> None:
    """Fsync a folder, so that a new name survives a crash, where the file system supports it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
