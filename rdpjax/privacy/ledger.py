"""The list of every access to the records, written before the access happens.

One JSON object a line, appended and fsynced. What a crash leaves behind is therefore a list of all
accesses that can have happened, and perhaps of one that did not.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from rdpjax.errors import UserError
from rdpjax.privacy.accountants import check_delta, rdp_epsilon
from rdpjax.privacy.events import (
    Event,
    check_version,
    events_from_list,
    events_to_list,
    merge,
)
from rdpjax.privacy.sealed import Access

__all__ = ["BudgetExceeded", "Event", "Ledger", "read_ledger"]

_VERSION = 1
_BEGINNING = b'{"version": '


class BudgetExceeded(UserError):
    """The next access would cost more than the target; it was neither entered nor made."""


class _Entry(NamedTuple):
    event: Event
    noise_id: str | None


class Ledger:
    """Accesses in the order in which they were opened, on disk (`create`, `load`) or in memory.

    Guarantees:
      When `open` returns, the entry is on the disk (of a ledger with a file) and the epsilon of
      all entries is at most the target (of a ledger with one). When `open` raises, the entry does
      not count and the caller must not touch the records. No entry is ever removed.

    Args:
      target: `(epsilon, delta)` that the entries together may cost by RDP; None for no limit.
      noise_id: A public name for the source of noise of this run, a keyed hash of its root say,
        never the root. Entries of another source are never taken for replays.

    Examples:
      >>> ledger = Ledger(target=(1.0, 1e-5))
      >>> chunk = Event("vae", "gaussian", 1.0, 10.0, 1.0, steps=4)
      >>> ledger.open(chunk), ledger.open(chunk)
      (True, False)
      >>> round(ledger.epsilon(1e-5), 4)
      0.7945
      >>> ledger.open(Event("vae", "gaussian", 1.0, 10.0, 1.0, steps=4, start=4))
      Traceback (most recent call last):
      ...
      rdpjax.privacy.ledger.BudgetExceeded: stage 'vae', steps 4 to 7: epsilon would be 1.158 ...
    """

    def __init__(
        self, *, target: tuple[float, float] | None = None, noise_id: str | None = None
    ) -> None:
        self.path: Path | None = None
        self.target = target
        self.noise_id = noise_id
        self._entries: list[_Entry] = []
        if target is not None:
            check_delta(target[1])

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        target: tuple[float, float] | None = None,
        noise_id: str | None = None,
    ) -> Ledger:
        """A ledger in a new, empty file (mode 0600) that no crash can lose.

        Raises:
          UserError: The file exists, or cannot be made.
        """
        ledger = cls(target=target, noise_id=noise_id)
        ledger.path = Path(path)
        try:
            with _opened(ledger.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
                os.fsync(file)
            with _opened(ledger.path.parent, os.O_RDONLY) as folder:
                os.fsync(folder)
        except FileExistsError:
            raise UserError(f"{path}: a ledger is there; resume its run or archive it") from None
        except OSError as error:
            raise UserError(f"{path}: cannot create the ledger: {error.strerror}") from None
        return ledger

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        target: tuple[float, float] | None = None,
        noise_id: str | None = None,
    ) -> Ledger:
        """Continue the ledger in a file; a last line that `kill -9` tore is removed.

        Its `open` cannot have returned, so nothing was read under it.

        Raises:
          UserError: No such file, or a line is no ledger entry.
        """
        ledger = cls(target=target, noise_id=noise_id)
        ledger.path = Path(path)
        ledger._entries, text, kept = _read(ledger.path)
        if kept < len(text) or (text and not text.endswith(b"\n")):
            try:
                with _opened(ledger.path, os.O_WRONLY | os.O_APPEND) as file:
                    os.ftruncate(file, kept)
                    if kept == len(text):  # the entry is whole, only its end of line is missing
                        os.write(file, b"\n")
                    os.fsync(file)
            except OSError as error:
                raise UserError(f"{path}: cannot mend the ledger: {error.strerror}") from None
        return ledger

    def open(self, event: Event) -> bool:
        """Enter an access. Call it before the records are touched, and go on only if it returns.

        The same chunk of the same source of noise is a replay: it gives the same output as the
        first time, costs nothing and adds no entry. The ledger cannot see the noise; that a
        replay starts from the same state, with the same masks and noise, is the caller's promise.
        Anything else costs in full, also where its steps overlap with earlier ones.

        Args:
          event: The chunk of steps that comes next.

        Returns:
          True for a new entry, False for a replay.

        Raises:
          BudgetExceeded: The entries and this one together cost more than the target.
          UserError: The entry cannot be written.
        """
        entry = _Entry(event, self.noise_id)
        if entry in self._entries:
            return False
        if self.target is not None:
            limit, delta = self.target
            epsilon, _ = rdp_epsilon([*self.events, event], delta)
            if not epsilon <= limit:
                raise BudgetExceeded(
                    f"stage {event.stage!r}, steps {event.start} to {event.end - 1}: epsilon would "
                    f"be {epsilon:.4g} at delta {delta:g}, above the target {limit:g}; raise the "
                    "target or take fewer steps"
                )
        if self.path is not None:
            _append(self.path, entry)
        self._entries.append(entry)
        return True

    @contextlib.contextmanager
    def access(self, event: Event) -> Generator[Access]:
        """Enter an access as `open` does; inside the block, and there alone, records can be read.

        What is computed from the records inside must be on the host, or noisy, when it ends.
        """
        self.open(event)
        access = Access(event)
        try:
            yield access
        finally:
            access.close()

    def covers(self, event: Event) -> bool:
        """Whether every step of this event was entered, in whatever chunks."""
        same = [replace(e, start=0, steps=1) for e in (event, *self.entries)]
        entered = {
            step
            for plan, entry in zip(same[1:], self.entries, strict=True)
            if plan == same[0]
            for step in range(entry.start, entry.end)
        }
        return entered.issuperset(range(event.start, event.end))

    @property
    def events(self) -> tuple[Event, ...]:
        """Everything that counts, contiguous chunks of the same plan as one event."""
        return merge(entry.event for entry in self._entries)

    @property
    def entries(self) -> tuple[Event, ...]:
        """The entries one by one, as opened."""
        return tuple(entry.event for entry in self._entries)

    def epsilon(self, delta: float) -> float:
        """Epsilon of everything entered so far by RDP; see `accountants.rdp_epsilon`."""
        return rdp_epsilon(self.events, delta)[0]

    def to_dict(self) -> dict[str, Any]:
        """The entries as plain JSON values, without the name of the noise source: publishable."""
        return {"version": _VERSION, "events": events_to_list(self.entries)}

    @staticmethod
    def from_dict(
        values: Mapping[str, Any],
        *,
        target: tuple[float, float] | None = None,
        noise_id: str | None = None,
    ) -> Ledger:
        """A ledger in memory with the entries of `to_dict`.

        Raises:
          UserError: Another version, or an event that cannot be accounted.
        """
        check_version("ledger", values, _VERSION)
        ledger = Ledger(target=target, noise_id=noise_id)
        ledger._entries = [_Entry(event, None) for event in events_from_list(values.get("events"))]
        return ledger


def read_ledger(path: str | os.PathLike[str]) -> tuple[Event, ...]:
    """The merged events of a ledger file, which is left as it is: its run may be in progress.

    Raises:
      UserError: No such file, or a line is no ledger entry.
    """
    entries, _, _ = _read(Path(path))
    return merge(entry.event for entry in entries)


def _read(path: Path) -> tuple[list[_Entry], bytes, int]:
    """The entries, the bytes of the file, and how many of these bytes the entries are."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such ledger") from None
    except OSError as error:
        raise UserError(f"{path}: cannot read the ledger: {error.strerror}") from None
    entries: list[_Entry] = []
    kept = 0
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        try:
            entries.append(_parse(line))
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


def _parse(line: bytes) -> _Entry:
    values = json.loads(line)
    if not isinstance(values, dict):
        raise ValueError("no object")
    fields = cast(dict[str, Any], values)
    check_version("ledger", fields, _VERSION)
    fields.pop("version")
    noise_id = fields.pop("noise_id", None)
    return _Entry(Event.from_dict(fields), noise_id)


def _append(path: Path, entry: _Entry) -> None:
    """Write one line and wait until the disk has it; on any failure the file is as before."""
    fields = {"version": _VERSION, **entry.event.to_dict()}
    if entry.noise_id is not None:
        fields["noise_id"] = entry.noise_id
    line = json.dumps(fields, allow_nan=False).encode() + b"\n"
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


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Generator[int]:
    file = os.open(path, flags, 0o600)
    try:
        yield file
    finally:
        os.close(file)
