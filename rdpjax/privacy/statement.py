"""What the accesses of one or more runs cost, as a table that a person can read."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from rdpjax.errors import UserError
from rdpjax.privacy.accountants import (
    check_delta,
    naive_epsilon,
    pld_epsilon,
    rdp_epsilon,
)
from rdpjax.privacy.events import RELATION, Event, events_from_list
from rdpjax.privacy.ledger import read_ledger
from rdpjax.privacy.report import LOOSE, by_stage, may_be_loose, read_report

_MOST_RECORDS = 2**53  # beyond it a float counts none
UNSTATED = "one record (the file does not say more)"


@dataclasses.dataclass(frozen=True)
class Source:
    """The accesses that a file or a plan lists.

    Attributes:
      name: Where they come from.
      events: All of them.
      delta: The delta of its claim; None if it makes none.
      unit: What one record is.
    """

    name: str
    events: tuple[Event, ...]
    delta: float | None = None
    unit: str = UNSTATED


def read_source(path: Path) -> Source:
    """The accesses of a run folder, a release folder, a `privacy.json` or a ledger file.

    Of a run folder that has both, the report must list what the ledger lists. A run that has a
    ledger and no report is still in progress: its accesses are shown only where its ledger is
    named outright, since what they cost is no claim.

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
    report = next(
        (p for p in (path / "release/privacy.json", path / "privacy.json") if p.is_file()), None
    )
    ledger = next(
        (p for p in (path / "internal/ledger.jsonl", path / "ledger.jsonl") if p.is_file()), None
    )
    if report is None and ledger is None:
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
        return dataclasses.replace(only, name=str(path))
    claim, entered = _read_report(report), read_ledger(ledger)
    if sorted(map(repr, claim.events)) != sorted(map(repr, entered)):
        raise UserError(
            f"{path}: {report.name} and {ledger.name} list different accesses; the release does "
            "not belong to this ledger, or the run is not finished"
        )
    return dataclasses.replace(claim, name=str(path))


def _read_report(path: Path) -> Source:
    report = read_report(path)
    events = events_from_list(report["events"])
    return Source(str(path), events, float(report["delta"]), report.get("unit", UNSTATED))


@dataclasses.dataclass(frozen=True)
class Access:
    """One event, where it comes from, and what it would cost alone (by RDP)."""

    source: str
    event: Event
    epsilon: float


@dataclasses.dataclass(frozen=True)
class Statement:
    """The cost of all accesses of all sources together, as if they read the same records.

    Attributes:
      delta: The delta of every epsilon in it.
      accesses: Each access.
      epsilon: All of them composed, by RDP: the claim.
      order: The Rényi order that gave it; None for 0 and infinity.
      epsilon_pld: The same by privacy loss distributions; None where these are not available.
      epsilon_naive_sum: The stages' epsilons added up: for comparison only.
      units: What one record is, by source.
      records: How many there are, if that is public: then delta is below 1 / records.
    """

    delta: float
    accesses: tuple[Access, ...]
    epsilon: float
    order: float | None
    epsilon_pld: float | None
    epsilon_naive_sum: float
    units: tuple[str, ...]
    records: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; null stands for an epsilon that is infinite or not available."""

        def finite(epsilon: float | None) -> float | None:
            return epsilon if epsilon is not None and math.isfinite(epsilon) else None

        return {
            "epsilon": finite(self.epsilon),
            "order": self.order,
            "epsilon_pld": finite(self.epsilon_pld),
            "epsilon_naive_sum": finite(self.epsilon_naive_sum),
            "delta": self.delta,
            "records": self.records,
            "units": list(self.units),
            "relation": RELATION,
            "accountant": _accountant(),
            "versions": versions(),
            "accesses": [
                {"source": a.source, **a.event.to_dict(), "epsilon": finite(a.epsilon)}
                for a in self.accesses
            ],
        }

    def to_text(self) -> str:
        """A table of the accesses, then what they cost together."""
        several = len({access.source for access in self.accesses}) > 1
        head = ("stage", "mechanism", "q", "sigma", "C", "steps", "epsilon")
        table: list[tuple[str, ...]] = [("run", *head) if several else head]
        if not self.accesses:
            table = [("no access listed",)]
        for access in self.accesses:
            e = access.event
            row = (e.stage, e.mechanism, f"{e.sampling_rate:.6g}", f"{e.noise_multiplier:.6g}",
                   f"{e.clip_norm:.6g}", str(e.steps), _show(access.epsilon))  # fmt: skip
            table.append((access.source, *row) if several else row)
        order = "" if self.order is None else f", order {self.order:g}"
        pld = "not available" if self.epsilon_pld is None else _show(self.epsilon_pld)
        lines = [
            *aligned(table, left=range(3 if several else 2)),
            "",
            f"composed epsilon    {_show(self.epsilon)}  (RDP{order})",
            f"                    {pld}  (PLD)",
            f"naive sum           {_show(self.epsilon_naive_sum)}  (stage by stage; no claim)",
            f"delta               {self.delta:g}",
            *(f"unit                {unit}" for unit in self.units),
            f"relation            {RELATION}",
            f"accountant          {_accountant()}",
            f"versions            {', '.join(f'{k} {v}' for k, v in versions().items())}",
        ]
        if self.records is not None:
            lines.append(f"records             {self.records} (public)")
        if may_be_loose((access.event for access in self.accesses), self.order):
            lines.append(f"{LOOSE[0].upper()}{LOOSE[1:]}.")
        if math.isinf(self.epsilon):
            lines.append("A stage has no noise: nothing is private.")
        return "\n".join(lines)


def state(sources: Sequence[Source], delta: float, records: int | None = None) -> Statement:
    """Compose the accesses of all sources.

    Args:
      sources: Where the accesses come from.
      delta: In (0, 1).
      records: How many records there are, if that is public.

    Raises:
      UserError: `delta` is outside (0, 1), or not below 1 / records.

    Examples:
      >>> events = (Event("hist", "gaussian", 1.0, 10.0, 1.0, 100),)
      >>> print(state([Source("plan", events, unit="one row")], 1e-5).to_text())
      stage  mechanism  q  sigma  C  steps  epsilon
      hist   gaussian   1     10  1    100    4.729
      <BLANKLINE>
      composed epsilon    4.729  (RDP, order 5.4)
                          4.377  (PLD)
      naive sum           4.729  (stage by stage; no claim)
      delta               1e-05
      unit                one row
      relation            add-or-remove-one
      accountant          dp-accounting ...
      versions            rdpjax ...
    """
    delta = check_delta(delta)
    check_records(records)
    if records is not None and delta * records >= 1:
        raise UserError(f"delta is {delta:g}; it must be below 1 / records = {1 / records:.3g}")
    events = [event for source in sources for event in source.events]
    epsilon, order = rdp_epsilon(events, delta)
    own = [(s.name, e, rdp_epsilon([e], delta)[0]) for s in sources for e in s.events]
    stages = {f"{s.name}: {name}": es for s in sources for name, es in by_stage(s.events).items()}
    return Statement(
        delta=delta,
        accesses=tuple(Access(*access) for access in own),
        epsilon=epsilon,
        order=order,
        epsilon_pld=pld_epsilon(events, delta),
        epsilon_naive_sum=naive_epsilon(stages, delta),
        units=tuple(dict.fromkeys(source.unit for source in sources)),
        records=records,
    )


def check_records(records: int | None) -> None:
    """Refuse a public number of records that no table has.

    Raises:
      UserError: It is below 1 or beyond 2**53.
    """
    if records is not None and records > _MOST_RECORDS:
        raise UserError("records is too large a number; it must be at most 2**53")
    if records is not None and records < 1:
        raise UserError(f"records is {records!r:.40}; it must be 1 or more")


def versions() -> dict[str, str]:
    """Versions of the packages that an epsilon depends on."""
    names = ("rdpjax", "dp-accounting", "numpy", "scipy")
    return {name: importlib.metadata.version(name) for name in names}


def _accountant() -> str:
    return f"dp-accounting {importlib.metadata.version('dp-accounting')}"


def _show(epsilon: float) -> str:
    return f"{epsilon:.3f}" if epsilon >= 0.1 or epsilon == 0 else f"{epsilon:.3g}"


def aligned(table: Sequence[Sequence[str]], *, left: Collection[int]) -> list[str]:
    """Lines of a table: the columns named in `left` flush left, the others flush right.

    Examples:
      >>> aligned([("a", "1"), ("bb", "10")], left=[0])
      ['a    1', 'bb  10']
    """
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
