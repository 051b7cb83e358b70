"""Sources of events: run folders with their archive, reports, ledgers."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from rdpjax.errors import UserError
from rdpjax.privacy.accountants import rdp_epsilon
from rdpjax.privacy.events import Event, events_from_list
from rdpjax.privacy.ledger import read_ledger
from rdpjax.privacy.report import earlier_fits, read_report
from rdpjax.privacy.unprotected import RELEASE, UNPROTECTED

UNSTATED = "one record (the file does not say more)"


@dataclasses.dataclass(frozen=True)
class Source:
    """Events that a file or a plan lists.

    Attributes:
      name: Where the events come from.
      events: All of them.
      delta: The delta of its claim; None if it makes none.
      unit: What one record is.
      earlier: Sources of earlier events, in the same folder or of the same object: archived ledgers
        of a run folder, earlier fits of a `Synthesizer`.
    """

    name: str
    events: tuple[Event, ...]
    delta: float | None = None
    unit: str = UNSTATED
    earlier: tuple[Source, ...] = ()


def read_source(path: Path) -> Source:
    """Read the events of a run folder, a release folder, a `privacy.json` or a ledger file.

    If a run folder has both, the report must list what the ledger lists. A run that has a ledger
    and no report is still in progress: its events are shown only where its ledger is named
    outright, since their epsilon is no claim yet. Archived ledgers of the folder come along as
    `earlier`.

    Raises:
      UserError: No such file, a file of another kind, two that contradict each other, or a run in
        progress.
    """
    if not path.is_dir():
        if path.suffix == ".json":
            return _read_report(path)
        if path.suffix == ".jsonl":
            return Source(str(path), read_ledger(path))
        raise UserError(
            f"{path}: {'unknown kind of file' if path.exists() else 'no such file or folder'}; "
            "name a run folder, a privacy.json, a ledger.jsonl or a configuration (.toml)"
        )
    outputs = (path / RELEASE, path / UNPROTECTED, path)
    report = next((p for p in (o / "privacy.json" for o in outputs) if p.is_file()), None)
    ledger = next(
        (p for p in (path / "internal/ledger.jsonl", path / "ledger.jsonl") if p.is_file()), None
    )
    earlier = archived(path)
    if report is None and ledger is None:
        if earlier:  # every run here was refused after it had read something
            return Source(str(path), (), earlier=earlier)
        raise UserError(
            f"{path}: neither release/privacy.json nor internal/ledger.jsonl is in it; name a run"
        )
    if report is None and (running := path / "internal/ledger.jsonl").is_file():
        raise UserError(
            f"{path}: the run is still in progress, release/privacy.json is not there; resume it, "
            f"or name {running} to see what it has spent so far"
        )
    if report is None or ledger is None:
        only = read_source(report or ledger or path)
        return dataclasses.replace(only, name=str(path), earlier=(*earlier, *only.earlier))
    claim, entered = _read_report(report), read_ledger(ledger)
    if sorted(map(repr, claim.events)) != sorted(map(repr, entered)):
        raise UserError(
            f"{path}: {report.name} and {ledger.name} list different mechanism runs; the release "
            "does not belong to this ledger, or the run is not finished"
        )
    return dataclasses.replace(claim, name=str(path), earlier=(*earlier, *claim.earlier))


def archived(run: Path) -> tuple[Source, ...]:
    """Read the events of a folder's earlier runs: overwritten ones, and refused ones with events.

    Raises:
      UserError: An archived file is no ledger, or no report.
    """
    archive = run / "internal" / "archive"
    ledgers = [Source(str(p), read_ledger(p)) for p in sorted(archive.glob("*-ledger.jsonl"))]
    # A release that `Synthesizer.save` wrote has no ledger beside it.
    alone = [
        _read_report(path)
        for path in sorted(archive.glob("*-privacy.json"))
        if not path.with_name(path.name.replace("privacy.json", "ledger.jsonl")).exists()
    ]
    return (*ledgers, *(source for report in alone for source in (report, *report.earlier)))


def refused(error: UserError, kept: Path | None, delta: float) -> UserError:
    """Add to a run's refusal the epsilon of its events and where their ledger is kept."""
    if kept is None:
        return error
    epsilon, _ = rdp_epsilon(read_ledger(kept), delta)
    cost = f"cost epsilon {epsilon:.4g} at delta {delta:g}"
    cost = cost if math.isfinite(epsilon) else "read the records without noise"
    return UserError(f"{error}; this run {cost}, and its ledger is kept in {kept}")


def _read_report(path: Path) -> Source:
    report = read_report(path)
    earlier = tuple(
        Source(f"{path}: fit {i}", fit) for i, fit in enumerate(earlier_fits(report), start=1)
    )
    events, delta = events_from_list(report["events"]), float(report["delta"])
    return Source(str(path), events, delta, report.get("unit", UNSTATED), earlier)
