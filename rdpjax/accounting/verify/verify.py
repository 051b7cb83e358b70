"""Verification of accountants against independent mathematics, property by property."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rdpjax.accounting.statement import aligned
from rdpjax.accounting.verify.candidate import Candidate, our_pld, our_rdp
from rdpjax.accounting.verify.curve_laws import curve_checks
from rdpjax.accounting.verify.epsilon_laws import epsilon_checks
from rdpjax.accounting.verify.own_laws import own_checks
from rdpjax.accounting.verify.properties import Check, Property, judge
from rdpjax.privacy import accountants
from rdpjax.privacy.library import silenced


def verify(
    given: Candidate | None = None, say: Callable[[str], None] = lambda line: None
) -> tuple[Property, ...]:
    """Check every property of one accountant, or of all of rdpjax's.

    Guarantees:
      A property passes only if every case of it was tried and lies within the allowed deviation; an
      accountant that raises, or returns NaN, a negative number or infinity where noise was added,
      fails. Passing is evidence on the plans tried, no proof for all plans.

    Args:
      given: An accountant; by default rdpjax's, RDP and PLD. Its Rényi curve is verified too, if it
        has one.
      say: Callback, called with a line for each property checked.

    Returns:
      The properties, in the order checked.
    """
    tasks: list[tuple[str, Check]] = []
    for candidate in (our_rdp(), our_pld()) if given is None else (given,):
        checks = [] if candidate.rdp_function is None else curve_checks(candidate)
        tasks += [(candidate.name, check) for check in (*checks, *epsilon_checks(candidate))]
    if given is None:
        tasks += [("both", check) for check in own_checks()]
    found = []
    for number, (name, check) in enumerate(tasks, start=1):
        begun = time.monotonic()
        # Orders that rdpjax's accountant leaves out are expected on a grid that looks for them.
        with silenced(accountants.__name__):
            found.append(judge(check, name))
        took = time.monotonic() - begun
        mark = "pass" if found[-1].passed else "FAIL"
        say(f"  {number:>2}/{len(tasks)}  {mark}  {took:5.1f} s  {name}: {check.name}")
    return tuple(found)


def as_text(properties: Sequence[Property]) -> str:
    """Format a table of the properties, then how many hold.

    Examples:
      >>> one = Property("epsilon is monotone", "mine", False, 0.25, 0.0, 12, "along q: 2, then 1")
      >>> print(as_text([one]))
            accountant  property             deviation  allowed  cases
      FAIL  mine        epsilon is monotone       0.25        0     12  along q: 2, then 1
      <BLANKLINE>
      0 of 1 properties hold
    """
    rows = [("", "accountant", "property", "deviation", "allowed", "cases", "")]
    rows += [
        (
            "pass" if p.passed else "FAIL", p.accountant, p.name,
            "none" if p.deviation is None else f"{p.deviation:.2g}", f"{p.allowed:.2g}",
            str(p.cases), "" if p.passed else p.worst,
        )
        for p in properties
    ]  # fmt: skip
    lines = aligned(rows, left=(0, 1, 2, 6))
    held = sum(p.passed for p in properties)
    return "\n".join([*lines, "", f"{held} of {len(properties)} properties hold"])
