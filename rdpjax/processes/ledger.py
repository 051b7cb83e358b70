"""One ledger over several processes: an access is opened in all of them or in none."""

from __future__ import annotations

from pathlib import Path

from rdpjax.errors import UserError
from rdpjax.privacy.events import Event
from rdpjax.privacy.ledger import Ledger
from rdpjax.processes.team import Team


class SharedLedger(Ledger):
    """Process 0 keeps the file; the others hold the same entries in memory.

    Guarantees:
      `open` returns in no process before the entry is on process 0's disk, so no process touches
      a record under an entry that could be lost.
    """

    team = Team()

    def open(self, event: Event) -> bool:
        """Enter an access in every process; see `Ledger.open`.

        Raises:
          UserError: the other processes are at another access.
        """
        if self.team.leads:
            new = super().open(event)
            self.team.share(event.to_dict())
            return new
        if Event.from_dict(self.team.share()) != event:
            raise UserError(
                f"process {self.team.index} is at another access than process 0; start all "
                "processes with the same settings"
            )
        return super().open(event)


def open_ledger(
    path: Path, team: Team, *, target: tuple[float, float] | None, noise_id: str
) -> SharedLedger:
    """The ledger of a run: in the file at `path` in process 0, in memory in the others."""
    if team.leads:
        opened = SharedLedger.load if path.exists() else SharedLedger.create
        ledger = opened(path, target=target, noise_id=noise_id)
        team.share(ledger.to_lines())
    else:
        ledger = SharedLedger.resumed(team.share(), target=target, noise_id=noise_id)
    assert isinstance(ledger, SharedLedger)
    ledger.team = team
    return ledger
