"""Accountants that are wrong on purpose, and sound ones to make them of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rdpjax.accounting.exact.divergence import classic_epsilon
from rdpjax.accounting.exact.loss_sampling import ORDERS, Step, integer_curve
from rdpjax.accounting.verify.candidate import Candidate
from rdpjax.accounting.verify.epsilon_laws import epsilon_checks
from rdpjax.accounting.verify.properties import Check, judge
from rdpjax.privacy.events import round_up_rate

ERRORS: dict[str, Callable[[float, float, int], Step]] = {
    "one step too few": lambda q, sigma, steps: (q, sigma, steps - 1),
    "one step too many": lambda q, sigma, steps: (q, sigma, steps + 1),
    "C for 2C": lambda q, sigma, steps: (q, 2 * sigma, steps),
    "2C for C": lambda q, sigma, steps: (q, sigma / 2, steps),
    "half of q": lambda q, sigma, steps: (round_up_rate(q / 2), sigma, steps),
    "twice q": lambda q, sigma, steps: (min(1.0, 2 * q), sigma, steps),
}
WHEN: dict[str, Callable[[int], bool]] = {
    "always": lambda steps: True, "at one step": lambda steps: steps == 1,
    "at two steps": lambda steps: steps == 2,
}  # fmt: skip


def failures(checks: Sequence[Check]) -> list[str]:
    return [check.name for check in checks if not judge(check, "it").passed]


def of_integers(name: str, convert: Callable[[Any, float], float]) -> Candidate:
    """A correct accountant of one formula and one conversion."""

    def epsilon(steps: Sequence[Step], delta: float) -> float:
        bare = any(sigma == 0 for _, sigma, _ in steps)
        return math.inf if bare else convert(integer_curve(steps), delta)

    return Candidate(name, epsilon)


def classic() -> Candidate:
    return of_integers("loose", lambda curve, delta: classic_epsilon(curve, ORDERS, delta))


def improved() -> Candidate:
    a = np.array(ORDERS)
    return of_integers(
        "usual",
        lambda curve, delta: max(
            0.0, float(np.min(curve + np.log1p(-1 / a) - np.log(delta * a) / (a - 1)))
        ),
    )


def merged(steps: Sequence[Step]) -> list[Step]:
    count: dict[tuple[float, float], int] = {}
    for rate, sigma, number in steps:
        count[rate, sigma] = count.get((rate, sigma), 0) + number
    return [(rate, sigma, number) for (rate, sigma), number in count.items()]


def planted(base: Candidate, error: str, when: str, *, merge: bool) -> Candidate:
    """`base` with an error in what it is told; entries are joined before or never."""

    def wrong(steps: Sequence[Step]) -> list[Step]:
        told = merged(steps) if merge else steps
        changed = [ERRORS[error](*step) if WHEN[when](step[2]) else step for step in told]
        return [step for step in changed if step[2] > 0]

    rdp = base.rdp_function
    return Candidate(
        f"{base.name}, {error}, {when}",
        lambda steps, delta: base.epsilon_function(wrong(steps), delta),
        None if rdp is None else lambda steps, at: rdp(wrong(steps), at),
    )


def averaged(steps: Sequence[Step]) -> list[Step]:
    total = sum(count for _, _, count in steps)
    rate = math.sqrt(sum(count * q * q for q, _, count in steps) / total)
    noise = sum(count / max(sigma, 1e-9) ** 2 for _, sigma, count in steps)
    return list(steps) if len(steps) < 2 else [(rate, math.sqrt(total / noise), total)]


def each(change: Callable[[float, float, int], Step]) -> Callable[[Sequence[Step]], list[Step]]:
    return lambda steps: [change(*step) for step in steps]


def fewer(when: Callable[[int], bool], then: Callable[[int], int]) -> Any:
    return each(lambda q, sigma, steps: (q, sigma, then(steps) if when(steps) else steps))


def quieter(when: Callable[[float], bool], factor: float = 2.0) -> Any:
    return each(lambda q, sigma, steps: (q, sigma * factor if when(sigma) else sigma, steps))


MISREAD: dict[str, Callable[[Sequence[Step]], list[Step]]] = {
    "one step too few from 4 on": fewer(lambda steps: steps >= 4, lambda steps: steps - 1),
    "one step too few from 101 on": fewer(lambda steps: steps >= 101, lambda steps: steps - 1),
    "a tenth of the steps too few": fewer(lambda steps: steps >= 20, lambda s: s * 9 // 10),
    "a fifth too few above 1000": fewer(lambda steps: steps > 1000, lambda s: s * 4 // 5),
    "steps capped at 1000": fewer(lambda steps: steps > 1000, lambda steps: 1000),
    "stages averaged": averaged,
    "q = 1 dropped among three": lambda steps: [s for s in steps if len(steps) < 3 or s[0] < 1],
    "fourth stage dropped": lambda steps: sorted(steps, key=lambda step: -step[2])[:3],
    "small q costs nothing": lambda steps: [step for step in steps if step[0] >= 5e-4],
    "sigma doubled above 4": quieter(lambda sigma: sigma > 4),
    "sigma doubled above 10": quieter(lambda sigma: sigma > 10),
    "sigma doubled below 0.5": quieter(lambda sigma: sigma < 0.5),
    "sigma 5 % too high": quieter(lambda sigma: True, 1.05),
}
MISTAKEN: dict[str, Callable[[Any, list[Step], float], float]] = {
    "delta ignored": lambda f, steps, delta: f(steps, 1e-5),
    "delta at least 1e-6": lambda f, steps, delta: f(steps, max(delta, 1e-6)),
    "epsilon 5 % too low": lambda f, steps, delta: 0.95 * f(steps, delta),
    "root of the squares": lambda f, steps, delta: math.hypot(*(f([s], delta) for s in steps)),
}


def wrong(base: Candidate, error: str) -> Candidate:
    f = base.epsilon_function
    if error in MISREAD:
        return Candidate(error, lambda steps, delta: f(MISREAD[error](merged(steps)), delta))
    return Candidate(error, lambda steps, delta: MISTAKEN[error](f, merged(steps), delta))


def found_out(candidate: Candidate) -> bool:
    """Whether any property fails; simulations, which take longest, come last."""
    checks = sorted(epsilon_checks(candidate), key=lambda check: "sampled" in check.name)
    return any(not judge(check, "it").passed for check in checks)
