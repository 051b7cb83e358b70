"""What an audit found, for each attack: claimed, measured, and the most it could have certified."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdpjax.errors import UserError
from rdpjax.io.atomic import write_json

PRIVATE = "not private: do not publish (the audit reads the records)"


@dataclass(frozen=True)
class Finding:
    """One attack's lower bound beside the claim.

    Attributes:
      attack: what was attacked, and how.
      claimed: epsilon of the claim, at delta.
      measured: lower bound that the attack certifies.
      ceiling: what a perfect attack of this size would have certified.
      delta: of all three.
      confidence: that the bound holds.

    Examples:
      >>> Finding("one step", 1.0, 1.2, 4.5, 1e-5, 0.99).exceeds
      True
    """

    attack: str
    claimed: float
    measured: float
    ceiling: float
    delta: float
    confidence: float

    @property
    def exceeds(self) -> bool:
        """Whether the claim is refuted; so it is by a bound that is no number."""
        return not self.measured <= self.claimed


def as_table(findings: Sequence[Finding]) -> str:
    """The findings as aligned text.

    Examples:
      >>> print(as_table([Finding("one step", 4.377, 2.1, 7.97, 1e-5, 0.999)]))
      attack    delta  confidence  claimed  measured  ceiling  verdict
      one step  1e-05       0.999    4.377     2.100    7.970  stands
    """
    head = ("attack", "delta", "confidence", "claimed", "measured", "ceiling", "verdict")
    rows = [head]
    for found in findings:
        rows.append(
            (
                found.attack,
                f"{found.delta:g}",
                f"{found.confidence:.4g}",
                f"{found.claimed:.3f}",
                f"{found.measured:.3f}",
                f"{found.ceiling:.3f}",
                "EXCEEDED" if found.exceeds else "stands",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in (0, len(head) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def check_folders(*paths: Path | None) -> None:
    """UserError for a file that has no folder to be written to: said before an audit, not after."""
    for path in paths:
        if path is not None and not path.absolute().parent.is_dir():
            raise UserError(f"{path}: no such folder; make it, or name another file")


def write_findings(path: Path, findings: Sequence[Finding], facts: Mapping[str, Any]) -> None:
    """The findings and the audit's settings as JSON; null stands for an infinite number.

    Raises:
      UserError: the file cannot be written.
    """

    def plain(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    listed = [
        {key: plain(value) for key, value in dataclasses.asdict(found).items()}
        | {"exceeds": found.exceeds}
        for found in findings
    ]
    values = {"note": PRIVATE, **{k: plain(v) for k, v in facts.items()}, "findings": listed}
    write_json(path, values)
