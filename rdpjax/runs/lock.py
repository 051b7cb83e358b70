"""Run lock: a second process in the same folder is refused, not queued."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from rdpjax.errors import UserError

LOCK = ".lock"


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold a run folder for this process, from before it is inspected until the run ends.

    The lock is the kernel's (`flock` on a file in the folder), so it ends with the process, even a
    killed one. The folder is created for it, and removed at the end if nothing else is in it.

    Args:
      folder: of the run.

    Raises:
      UserError: another process holds it (the message names it), or the file cannot be locked.
    """
    place = folder.absolute()
    missing = [path for path in (place, *place.parents) if not path.exists()]
    try:
        handle = _locked(folder / LOCK)
    except BlockingIOError as error:
        raise UserError(
            f"{folder}: a run is going on here ({error}); wait for it, or choose another --out"
        ) from None
    except OSError as error:
        _remove_empty(missing)
        raise UserError(
            f"{folder}: cannot write there ({error.strerror}); choose another --out"
        ) from None
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)  # before the lock is released: see `_locked`
        os.close(handle)
        _remove_empty(missing)


def _locked(path: Path) -> int:
    """Return a descriptor that holds the lock on the file at `path`; BlockingIOError if taken.

    The last holder unlinks the file, perhaps between open and flock here. A lock on an unlinked
    file excludes no process, so the loop checks that `path` is still this inode, or tries again.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError), _opened(path) as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(handle, 20).decode() or "unknown"
                raise BlockingIOError(f"process {holder}") from None
            if os.path.samestat(os.fstat(handle), path.stat()):
                os.ftruncate(handle, 0)
                os.pwrite(handle, str(os.getpid()).encode(), 0)
                return os.dup(handle)  # a duplicate shares the lock, and outlives `handle`


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders that were created only for a lock, the innermost first."""
    for folder in folders:
        with contextlib.suppress(OSError):  # not empty: a run is in it
            folder.rmdir()
