"""Findings of an audit, by attack: epsilon claimed, measured, and certifiable at most."""

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
    """One attack's lower bound on epsilon beside the claim.

    Attributes:
      attack: the attack, and its target.
      claimed: epsilon of the claim, at delta.
      measured: lower bound that the attack certifies.
      ceiling: lower bound that a perfect attack of this size would certify.
      delta: of all three.
      confidence: of the lower bound.

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
        """Whether the claim is refuted; a NaN bound refutes it too."""
        return not self.measured <= self.claimed


def as_table(findings: Sequence[Finding]) -> str:
    """Format the findings as aligned text.

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
    """Raise a UserError for a file whose folder is missing, before an audit and not after it."""
    for path in paths:
        if path is not None and not path.absolute().parent.is_dir():
            raise UserError(f"{path}: no such folder; make it, or name another file")


def write_findings(path: Path, findings: Sequence[Finding], facts: Mapping[str, Any]) -> None:
    """Write the findings and the audit's settings as JSON; null stands for an infinite number.

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
