"""Ledger shared by several processes: an event is entered in all of them or in none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rdpjax.compute.multihost import Hosts
from rdpjax.errors import UserError
from rdpjax.privacy.events import Event
from rdpjax.privacy.ledger import Ledger


class SharedLedger(Ledger):
    """Ledger whose file process 0 keeps; the others hold the same entries in memory.

    Guarantees:
      `open` returns in no process before the entry is on process 0's disk. If it cannot be written,
      or would exceed the target, `open` raises in every process, and none reads a record.
    """

    hosts = Hosts()

    def open(self, event: Event) -> bool:
        """Enter an event in every process; see `Ledger.open`.

        Raises:
          UserError: as `Ledger.open` in process 0, or this process has a different event.
        """
        enter = super().open
        if self.hosts.count == 1:
            return enter(event)
        new, entered = self.hosts.on_primary(lambda: [enter(event), event.to_dict()])
        if Event.from_dict(entered) != event:
            raise UserError(
                f"process {self.hosts.index} is at another mechanism run than process 0; start all "
                "processes with the same settings"
            )
        return bool(new) if self.hosts.is_primary else enter(event)


def open_ledger(
    path: Path, hosts: Hosts, *, target: tuple[float, float] | None, noise_id: str
) -> SharedLedger:
    """Open a run's ledger: in the file at `path` in process 0, in memory in the others."""
    opened: list[Ledger] = []

    def lines() -> list[dict[str, Any]]:
        make = SharedLedger.load if path.exists() else SharedLedger.create
        opened.append(make(path, target=target, noise_id=noise_id))
        return opened[0].to_lines()

    told = hosts.on_primary(lines)
    ledger = opened[0] if opened else SharedLedger.resumed(told, target=target, noise_id=noise_id)
    assert isinstance(ledger, SharedLedger)
    ledger.hosts = hosts
    return ledger
