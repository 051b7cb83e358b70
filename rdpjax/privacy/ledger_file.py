"""Ledger file: one JSON object a line, each appended and fsynced whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple, cast

from rdpjax.errors import UserError
from rdpjax.privacy.events import Event, check_version

VERSION = 1
_BEGINNING = b'{"version": '


class Entry(NamedTuple):
    """One line: an event, and the public fingerprint of its noise key."""

    event: Event
    noise_id: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the line as plain JSON values."""
        fields = {"version": VERSION, **self.event.to_dict()}
        return fields if self.noise_id is None else {**fields, "noise_id": self.noise_id}

    @staticmethod
    def from_dict(values: object) -> Entry:
        """Make an entry from plain JSON values, the inverse of `to_dict`.

        Raises:
          ValueError: no object.
          UserError: another version, or an event that cannot be accounted.
        """
        if not isinstance(values, dict):
            raise ValueError("no object")
        fields = dict(cast(dict[str, Any], values))
        check_version("ledger", fields, VERSION)
        fields.pop("version")
        noise_id = fields.pop("noise_id", None)
        return Entry(Event.from_dict(fields), noise_id)


def create_file(path: Path) -> None:
    """Make a new, empty file (mode 0600) that no crash can lose.

    Raises:
      UserError: The file exists, or cannot be made.
    """
    try:
        with _opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
            os.fsync(file)
        with _opened(path.parent, os.O_RDONLY) as folder:
            os.fsync(folder)
    except FileExistsError:
        raise UserError(f"{path}: a ledger is there; resume its run or archive it") from None
    except OSError as error:
        raise UserError(f"{path}: cannot create the ledger: {error.strerror}") from None


def read_file(path: Path, *, mend: bool = False) -> list[Entry]:
    """Read the entries of a file; a last line torn by a crash is none of them.

    Args:
      path: The file.
      mend: Remove the torn line, so that the file can be appended to.

    Raises:
      UserError: No such file, or a line is no ledger entry.
    """
    entries, text, kept = _read(path)
    if mend and (kept < len(text) or (text and not text.endswith(b"\n"))):
        try:
            with _opened(path, os.O_WRONLY | os.O_APPEND) as file:
                os.ftruncate(file, kept)
                if kept == len(text):  # the entry is whole, only its end of line is missing
                    os.write(file, b"\n")
                os.fsync(file)
        except OSError as error:
            raise UserError(f"{path}: cannot repair the ledger: {error.strerror}") from None
    return entries


def append(path: Path, entry: Entry) -> None:
    """Append one line and fsync it; on any failure the file is as before."""
    line = json.dumps(entry.to_dict(), allow_nan=False).encode() + b"\n"
    try:
        with _opened(path, os.O_WRONLY | os.O_APPEND) as file:
            before = os.fstat(file).st_size
            try:
                if os.write(file, line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file)
            except OSError:
                os.ftruncate(file, before)
                raise
    except OSError as error:
        raise UserError(
            f"{path}: cannot write the ledger ({error.strerror}), so nothing was read; mend it "
            "and resume"
        ) from None


def _read(path: Path) -> tuple[list[Entry], bytes, int]:
    """Return the entries, the bytes of the file, and how many of these bytes the entries are."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such ledger") from None
    except OSError as error:
        raise UserError(f"{path}: cannot read the ledger: {error.strerror}") from None
    entries: list[Entry] = []
    kept = 0
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        try:
            entries.append(Entry.from_dict(json.loads(line)))
        except (ValueError, TypeError, RecursionError):
            if not line.endswith(b"\n") and _BEGINNING.startswith(line[: len(_BEGINNING)]):
                break  # torn: only the last line can lack its end
            raise UserError(
                f"{path}: line {number} is no ledger entry; the file was changed after it was "
                "written, restore it"
            ) from None
        except UserError as error:
            raise UserError(f"{path}: line {number}: {error}") from None
        kept += len(line)
    return entries, text, kept


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Generator[int]:
    file = os.open(path, flags, 0o600)
    try:
        yield file
    finally:
        os.close(file)
