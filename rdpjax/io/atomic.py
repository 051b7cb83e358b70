"""Write files and folders that are there whole or not at all: beside, fsync, rename."""

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
_BESIDE = ".rdpjax-"  # tempfile adds what makes it a name that nobody else has


@contextlib.contextmanager
def new_file(path: Path, *, mode: int = PRIVATE, overwrite: bool = True) -> Iterator[BinaryIO]:
    """Open a file to write, which gets its name when the block ends without an error.

    A link is followed: what it points to is replaced, not the link. What is no regular file (a
    device, a pipe) is written through, and `-` is standard output.

    Args:
      path: the file.
      mode: of a new file; one that is replaced gets it too.
      overwrite: replace a regular file.

    Raises:
      OSError: what the disk refuses; nothing is left behind, and an older file stays as it is.
      UserError: a folder, or a file that is not to be replaced.

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
        check_absent(target, path, overwrite)  # somebody may have made it meanwhile
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
    """Write plain values as JSON, whole, for this user alone.

    Raises:
      UserError: the disk refuses; what was there stays.
    """
    try:
        write_file(path, json.dumps(values, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); check the path") from None


@contextlib.contextmanager
def new_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Fill a folder beside `target`, which gets that name when the block ends without an error.

    Args:
      target: the folder; those above it are made if need be.
      overwrite: replace an older one, which is ours.

    Raises:
      OSError: what the disk refuses; nothing is left behind, and an older folder stays as it is.
      UserError: there is something, and it is not to be replaced.
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
            target.rename(old)  # and removed with the folder that it is in now
        try:
            part.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    _sync(target.parent)


def is_stdout(path: Path) -> bool:
    """Whether `path` is `-`, or another name of standard output, such as /dev/stdout."""
    try:
        return path == STDOUT or os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):  # no such file; a standard output that is no file
        return False


def check_absent(target: Path, shown: Path, overwrite: bool) -> None:
    """UserError naming `shown` if there is something at `target` that is not to be replaced."""
    if not overwrite and os.path.lexists(target):
        mend = "choose another folder" if target.is_dir() else "give --overwrite, or another name"
        raise UserError(f"{shown}: exists; {mend}")


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the disk refuses (it is full, say) into a UserError naming `path`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot write there: {error.strerror or error}") from None


def _sync(folder: Path) -> None:
    """Make a new name in a folder outlast a crash, where the file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
