"""One run, one folder: a second run waits for nobody, it is refused."""

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
    """Hold a run folder for this process, from before it is looked at until the run ends.

    The lock is the kernel's (`flock` on a file in the folder), so that it ends with the process,
    however that ends. The folder is made for it; if nothing else is in it at the end, it goes.

    Args:
      folder: of the run.

    Raises:
      UserError: another process holds it (the message names it), or it cannot be locked there.
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
        (folder / LOCK).unlink(missing_ok=True)  # while it is held: see `_locked`
        os.close(handle)
        _remove_empty(missing)


def _locked(path: Path) -> int:
    """A descriptor that holds the lock on the file at `path`; BlockingIOError if another does.

    The last holder removes the file, perhaps between two calls here: a lock on a file that nobody
    else finds would be none, so that another try is made.
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
                return os.dup(handle)  # the lock is on what both stand for


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders that were made for a lock alone, the innermost first."""
    for folder in folders:
        with contextlib.suppress(OSError):  # not empty: a run is in it
            folder.rmdir()
