"""Privacy statement: epsilon of the events of one or more runs, as a readable table."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
from collections.abc import Collection, Sequence
from typing import Any

from rdpjax.errors import UserError
from rdpjax.privacy.accountants import check_delta, naive_epsilon, pld_epsilon, rdp_epsilon
from rdpjax.privacy.events import RELATION, Event
from rdpjax.privacy.report import LOOSE, by_stage, may_be_loose
from rdpjax.privacy.sources import Source

_MOST_RECORDS = 2**53  # beyond it float64 skips integers


@dataclasses.dataclass(frozen=True)
class Access:
    """One event, its source, and its epsilon alone (by RDP)."""

    source: str
    event: Event
    epsilon: float


@dataclasses.dataclass(frozen=True)
class Statement:
    """Composed epsilon of all events of all sources, as if they read the same records.

    Attributes:
      delta: The delta of every epsilon in it.
      accesses: Each event.
      epsilon: All of them composed, by RDP: the claim.
      order: The Rényi order that gave it; None for 0 and infinity.
      epsilon_pld: The same by privacy loss distributions; None where these are not available.
      epsilon_naive_sum: The stages' epsilons added up: for comparison only.
      units: What one record is, by source.
      records: Number of records, if that is public: then delta is below 1 / records.
      earlier: Epsilon of each earlier run of a folder, or fit of an object, alone, by its name.
      epsilon_of_all: Everything composed by RDP, the earlier ones included.
    """

    delta: float
    accesses: tuple[Access, ...]
    epsilon: float
    order: float | None
    epsilon_pld: float | None
    epsilon_naive_sum: float
    units: tuple[str, ...]
    records: int | None = None
    earlier: tuple[tuple[str, float], ...] = ()
    epsilon_of_all: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; null for an epsilon that is infinite or not available."""

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
            "earlier": [{"source": name, "epsilon": finite(e)} for name, e in self.earlier],
            "epsilon_of_all": finite(self.epsilon_of_all),
            "accesses": [
                {"source": a.source, **a.event.to_dict(), "epsilon": finite(a.epsilon)}
                for a in self.accesses
            ],
        }

    def to_text(self) -> str:
        """Format a table of the events, then their composed epsilon."""
        several = len({access.source for access in self.accesses}) > 1
        head = ("stage", "mechanism", "q", "sigma", "C", "steps", "epsilon")
        table: list[tuple[str, ...]] = [("run", *head) if several else head]
        if not self.accesses:
            table = [("no mechanism run listed",)]
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
            *(f"earlier             {_show(e)}  ({name})" for name, e in self.earlier),
            *(
                [f"with the earlier    {_show(self.epsilon_of_all)}  (RDP, all mechanism runs)"]
                if self.earlier
                else []
            ),
            f"naive sum           {_show(self.epsilon_naive_sum)}  (of the stages; not the claim)",
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
    """Compose the events of all sources.

    Args:
      sources: Sources of the events.
      delta: In (0, 1).
      records: Number of records, if that is public.

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
      naive sum           4.729  (of the stages; not the claim)
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
    earlier = [past for source in sources for past in source.earlier]
    everything = [*events, *(event for past in earlier for event in past.events)]
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
        earlier=tuple((past.name, rdp_epsilon(past.events, delta)[0]) for past in earlier),
        epsilon_of_all=rdp_epsilon(everything, delta)[0],
    )


def check_records(records: int | None) -> None:
    """Refuse a public number of records below 1 or beyond 2**53.

    Raises:
      UserError: It is below 1 or beyond 2**53.
    """
    if records is not None and records > _MOST_RECORDS:
        raise UserError("records is too large a number; it must be at most 2**53")
    if records is not None and records < 1:
        raise UserError(f"records is {records!r:.40}; it must be 1 or more")


def versions() -> dict[str, str]:
    """Return versions of the packages that an epsilon depends on."""
    names = ("rdpjax", "dp-accounting", "numpy", "scipy")
    return {name: importlib.metadata.version(name) for name in names}


def _accountant() -> str:
    return f"dp-accounting {importlib.metadata.version('dp-accounting')}"


def _show(epsilon: float) -> str:
    return f"{epsilon:.3f}" if epsilon >= 0.1 or epsilon == 0 else f"{epsilon:.3g}"


def aligned(table: Sequence[Sequence[str]], *, left: Collection[int]) -> list[str]:
    """Align a table's lines: the columns named in `left` flush left, the others flush right.

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
