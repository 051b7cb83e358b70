"""Properties of accountants: claim, allowed deviation and largest deviation found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rdpjax.accounting.verify.candidate import Fault
from rdpjax.errors import UserError

Cases = Iterable[tuple[str, float]]


@dataclass(frozen=True)
class Check:
    """Property that is still to be checked.

    Attributes:
      name: The claim, in a few words.
      allowed: Largest deviation with which it still holds.
      cases: Yields each case tried with its deviation; NaN never passes.
    """

    name: str
    allowed: float
    cases: Callable[[], Cases]


@dataclass(frozen=True)
class Property:
    """Property that was checked.

    Attributes:
      name: The claim.
      accountant: Name of the accountant.
      passed: Whether every case is within the allowed deviation, and there was one.
      deviation: Largest deviation of all cases; at or below 0, the nearest to a violation. None
        where the accountant gave no answer.
      allowed: Largest deviation with which the property holds.
      cases: Number of cases tried.
      worst: The case with the largest deviation, or what stopped the trial.
    """

    name: str
    accountant: str
    passed: bool
    deviation: float | None
    allowed: float
    cases: int
    worst: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; null for a deviation that is not finite."""
        finite = self.deviation is not None and math.isfinite(self.deviation)
        return {**vars(self), "deviation": self.deviation if finite else None}


def judge(check: Check, accountant: str) -> Property:
    """Check all cases of a property.

    Examples:
      >>> found = judge(Check("halves", 0.5, lambda: [("1/2", 0.5), ("1/3", 1 / 3)]), "mine")
      >>> found.passed, found.deviation, found.worst
      (True, 0.5, '1/2')
      >>> judge(Check("numbers", 1.0, lambda: [("0/0", float("nan"))]), "mine").passed
      False
    """
    tried: list[tuple[str, float]] = []
    try:
        # Ratios to a wrong 0 are NaN or infinite, and fail without a warning.
        with np.errstate(all="ignore"):
            for what, deviation in check.cases():
                tried.append((what, float(deviation)))
    except (Fault, UserError) as fault:
        return Property(check.name, accountant, False, None, check.allowed, len(tried), str(fault))
    if not tried:
        return Property(check.name, accountant, False, None, check.allowed, 0, "nothing was tried")
    what, deviation = max(tried, key=lambda case: math.inf if math.isnan(case[1]) else case[1])
    passed = deviation <= check.allowed
    return Property(check.name, accountant, passed, deviation, check.allowed, len(tried), what)
