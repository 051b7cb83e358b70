"""Ledger: the list of all events, each written before its mechanism reads the records.

One JSON object a line, appended and fsynced. After a crash the file therefore lists every mechanism
run that can have happened, and perhaps one that did not.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rdpjax.errors import UserError
from rdpjax.privacy.accountants import check_delta, rdp_epsilon
from rdpjax.privacy.events import (
    Event,
    check_version,
    events_from_list,
    events_to_list,
    merge,
)
from rdpjax.privacy.ledger_file import VERSION, Entry, append, create_file, read_file
from rdpjax.privacy.sealed import Access

__all__ = ["BudgetExceeded", "Event", "Ledger", "read_ledger"]


class BudgetExceeded(UserError):
    """The next event would exceed the target; it was neither entered nor its mechanism run."""


class Ledger:
    """Events in the order in which they were opened, on disk (`create`, `load`) or in memory.

    Guarantees:
      When `open` returns, the entry is on the disk (of a ledger with a file) and the epsilon of
      all entries is at most the target (of a ledger with one). When `open` raises, the entry does
      not count and the caller must not touch the records. No entry is ever removed. Two `open` of
      one process never share an entry: an event is free only where `load` found an equal one, and
      then once.

    Args:
      target: `(epsilon, delta)` that the entries together may cost by RDP; None for no limit.
      noise_id: Public fingerprint of this run's noise key, such as a keyed hash of its root, never
        the root. Entries with another fingerprint are never taken for replays.

    Examples:
      >>> ledger = Ledger(target=(1.0, 1e-5))
      >>> chunk = Event("vae", "gaussian", 1.0, 10.0, 1.0, steps=4)
      >>> ledger.open(chunk)
      True
      >>> round(ledger.epsilon(1e-5), 4)
      0.7945
      >>> ledger.open(chunk)
      Traceback (most recent call last):
      ...
      rdpjax.privacy.ledger.BudgetExceeded: stage 'vae', steps 0 to 3: epsilon would be 1.158 ...
      >>> resumed = Ledger.resumed(ledger.to_lines())
      >>> resumed.open(chunk), resumed.open(chunk)
      (False, True)
    """

    def __init__(
        self, *, target: tuple[float, float] | None = None, noise_id: str | None = None
    ) -> None:
        self.path: Path | None = None
        self.target = target
        self.noise_id = noise_id
        self._entries: list[Entry] = []
        self._replayable: list[Entry] = []  # loaded, and not opened since
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
        """Create a ledger in a new, empty file (mode 0600) that no crash can lose.

        Raises:
          UserError: The file exists, or cannot be made.
        """
        ledger = cls(target=target, noise_id=noise_id)
        ledger.path = Path(path)
        create_file(ledger.path)
        return ledger

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        target: tuple[float, float] | None = None,
        noise_id: str | None = None,
    ) -> Ledger:
        """Continue the ledger in a file; a last line torn by a crash is removed.

        The `open` of that line cannot have returned, so nothing was read under it.

        Raises:
          UserError: No such file, or a line is no ledger entry.
        """
        ledger = cls(target=target, noise_id=noise_id)
        ledger.path = Path(path)
        ledger._entries = read_file(ledger.path, mend=True)
        ledger._replayable = list(ledger._entries)
        return ledger

    @classmethod
    def resumed(
        cls,
        lines: Iterable[Mapping[str, Any]],
        *,
        target: tuple[float, float] | None = None,
        noise_id: str | None = None,
    ) -> Ledger:
        """Continue in memory the ledger that gave `to_lines`, as `load` continues one in a file."""
        ledger = cls(target=target, noise_id=noise_id)
        ledger._entries = [Entry.from_dict(line) for line in lines]
        ledger._replayable = list(ledger._entries)
        return ledger

    def open(self, event: Event) -> bool:
        """Enter an event. Call it before the records are read, and go on only if it returns.

        After a crash a run repeats the chunks that no checkpoint holds. Such a replay adds no
        entry: it has the same event and the same `noise_id` as an entry that was loaded and has not
        been replayed since.

        Guarantees:
          Anything else is charged in full: a second `open` of an event in the process that made its
          entry, the second replay of a loaded one, steps that overlap with earlier ones. So the
          epsilon of the entries covers every mechanism that a process runs under the events that it
          opened itself. The ledger cannot check the noise of a replay: that it starts from the same
          state, with the same masks and noise as the process that was interrupted, is ensured by
          checkpoints and keys (`rdpjax/fitting/stage_run.py`), not here.

        Args:
          event: The chunk of steps that comes next.

        Returns:
          True for a new entry, False for a replay.

        Raises:
          BudgetExceeded: The entries and this event compose to more than the target.
          UserError: The entry cannot be written.
        """
        entry = Entry(event, self.noise_id)
        if entry in self._replayable:
            self._replayable.remove(entry)
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
            append(self.path, entry)
        self._entries.append(entry)
        return True

    @contextlib.contextmanager
    def access(self, event: Event) -> Generator[Access]:
        """Enter an event as `open` does; records are readable inside the block, once.

        What is computed from the records inside must be on the host, or noisy, when it ends.
        """
        self.open(event)
        access = Access(event)
        try:
            yield access
        finally:
            access.close()

    def covers(self, event: Event) -> bool:
        """Test whether every step of this event was entered, in whatever chunks."""
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
        """All entered events, contiguous chunks of the same plan as one event."""
        return merge(entry.event for entry in self._entries)

    @property
    def entries(self) -> tuple[Event, ...]:
        """The events of the entries one by one, as opened."""
        return tuple(entry.event for entry in self._entries)

    def epsilon(self, delta: float) -> float:
        """Compute epsilon of everything entered so far by RDP; see `accountants.rdp_epsilon`."""
        return rdp_epsilon(self.events, delta)[0]

    def to_dict(self) -> dict[str, Any]:
        """Return the entries as plain JSON values, without `noise_id`: publishable."""
        return {"version": VERSION, "events": events_to_list(self.entries)}

    def to_lines(self) -> list[dict[str, Any]]:
        """Return the entries as they are in the file, `noise_id` included."""
        return [entry.to_dict() for entry in self._entries]

    @staticmethod
    def from_dict(
        values: Mapping[str, Any],
        *,
        target: tuple[float, float] | None = None,
        noise_id: str | None = None,
    ) -> Ledger:
        """Make a ledger in memory from `to_dict`: its entries count, and none can be replayed.

        Raises:
          UserError: Another version, or an event that cannot be accounted.
        """
        check_version("ledger", values, VERSION)
        ledger = Ledger(target=target, noise_id=noise_id)
        ledger._entries = [Entry(event, None) for event in events_from_list(values.get("events"))]
        return ledger


def read_ledger(path: str | os.PathLike[str]) -> tuple[Event, ...]:
    """Read a ledger file's merged events, and leave it as it is: its run may be in progress.

    Raises:
      UserError: No such file, or a line is no ledger entry.
    """
    return merge(entry.event for entry in read_file(Path(path)))
