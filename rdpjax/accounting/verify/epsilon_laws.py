"""Properties of every upper bound on epsilon, tight or loose, checked on an accountant."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from itertools import pairwise, permutations

from rdpjax.accounting.exact.divergence import classic_epsilon
from rdpjax.accounting.exact.hockey_stick import exact_epsilon
from rdpjax.accounting.exact.loss_sampling import (
    ORDERS,
    Step,
    best_order,
    delta_band,
    integer_curve,
)
from rdpjax.accounting.verify.candidate import Candidate
from rdpjax.accounting.verify.properties import Cases, Check
from rdpjax.privacy.events import round_up_rate

DELTA = 1e-5
DELTAS = (1e-3, DELTA, 1e-8, 1e-10)
MISS = 1e-6
DRAWS = 40_000

_CENT, _TENTH = round_up_rate(0.01), round_up_rate(0.1)
FULL: tuple[list[Step], ...] = (
    [(1.0, 1.0, 1)],
    [(1.0, 1.0, 2)],
    [(1.0, 1.0, 3)],
    [(1.0, 1.0, 4)],
    [(1.0, 4.0, 1)],
    [(1.0, 0.4, 1)],
    [(1.0, 20.0, 1)],
    [(1.0, 10.0, 100)],
    [(1.0, 50.0, 1000)],
    [(1.0, 100.0, 14063)],
    [(1.0, 4.0, 1), (1.0, 2.0, 1)],
    [(1.0, 4.0, 3), (1.0, 8.0, 5), (1.0, 9.0, 7), (1.0, 10.0, 9), (1.0, 12.0, 20)],
)
ONE_STEP: tuple[list[Step], ...] = (
    [(round_up_rate(1e-5), 0.4, 1)],
    [(round_up_rate(1e-4), 0.5, 1)],
    [(round_up_rate(0.003), 0.6, 1)],
    [(_CENT, 0.7, 1)],
    [(round_up_rate(0.03), 0.5, 1)],
    [(_TENTH, 0.3, 1)],
    [(_TENTH, 1.0, 1)],
    [(_TENTH, 20.0, 1)],
    [(round_up_rate(0.3), 0.8, 1)],
    [(0.5, 0.8, 1)],
    [(0.5, 2.0, 1)],
    [(0.5, 8.0, 1)],
    [(0.75, 1.0, 1)],
    [(0.75, 100.0, 1)],
)
TWO_STEPS: tuple[list[Step], ...] = (
    [(round_up_rate(0.003), 0.5, 2)],
    [(_CENT, 0.7, 2)],
    [(_TENTH, 1.0, 2)],
    [(0.5, 0.8, 2)],
    [(0.5, 2.0, 2)],
    [(0.5, 8.0, 2)],
    [(0.75, 2.0, 2)],
    [(0.5, 1.0, 1), (_TENTH, 0.8, 1)],
    [(round_up_rate(0.001), 0.4, 1), (1.0, 4.0, 1)],
    [(_CENT, 0.5, 1), (0.5, 4.0, 1)],
)
STAGES: tuple[Step, ...] = (
    (_TENTH, 1.0, 1), (0.25, 2.0, 3), (1.0, 4.0, 1),
    (_CENT, 0.8, 50), (0.5, 5.0, 2), (round_up_rate(0.03), 1.1, 10),
)  # fmt: skip
PARTS: tuple[tuple[float, float, tuple[int, ...]], ...] = (
    (0.25, 4.0, (50, 51)),
    (_CENT, 1.2, (4000, 2000, 1000, 500, 500)),
    (_TENTH, 1.0, (1,) * 16),
    (_CENT, 1.0, (1,) * 16 + (16,) * 3),
)
LONG: tuple[tuple[list[Step], float], ...] = (
    ([(_CENT, 1.0, 1000)], 1e-5),
    ([(round_up_rate(0.001), 0.5, 1000)], 1e-6),
    ([(_CENT, 1.0, 500), (round_up_rate(0.02), 1.2, 300), (_CENT, 1.5, 200)], 1e-5),
    ([(0.25, 4.0, 50)], 1e-5),
)


@functools.cache
def _exact(steps: tuple[Step, ...], delta: float) -> float:
    found = exact_epsilon(steps, delta)
    assert found is not None
    return found


def epsilon_checks(candidate: Candidate) -> list[Check]:
    """Return the checks of any accountant.

    The lower limit is the exact epsilon or, where there is no closed form, the lower confidence
    bound on delta by Monte Carlo. The upper limit is 1.1 times the classic conversion of exact
    Rényi divergences (Mironov 2017): a value above it is looser than any published analysis, and
    more likely a mistake.
    """

    def at_least_exact(plans: Sequence[list[Step]]) -> Cases:
        for steps in filter(_cheap, plans) if candidate.slow else plans:
            for delta in DELTAS[1::2] if candidate.slow else DELTAS:
                true = _exact(tuple(steps), delta)
                found = candidate.epsilon(steps, delta)
                yield f"{_said(steps)}, delta {delta:g}", (true - found) / max(true, 1.0)

    def sampled() -> Cases:
        for steps, delta in LONG:
            band = delta_band(
                steps, candidate.epsilon(steps, delta),
                order=best_order(steps, delta), draws=DRAWS, miss=MISS,
            )  # fmt: skip
            yield f"{_said(steps)}, delta {delta:g}", band.low / delta - 1

    def not_loose() -> Cases:
        plans = (*FULL, *ONE_STEP, *TWO_STEPS)
        short = [(steps, DELTA) for steps in plans if not candidate.slow or _cheap(steps)]
        for steps, delta in (*short, *LONG):
            most = classic_epsilon(integer_curve(steps).tolist(), ORDERS, delta)
            yield _said(steps), candidate.epsilon(steps, delta) / most - 1

    def splitting() -> Cases:
        for rate, sigma in ((0.25, 1.0), (1.0, 4.0)):
            for parts in ((1, 1), (1, 2), (2, 1), (1, 1, 1), (2, 8), (9, 1)):
                whole = candidate.epsilon([(rate, sigma, sum(parts))], DELTA)
                apart = candidate.epsilon([(rate, sigma, part) for part in parts], DELTA)
                what = f"q {rate:g}, sigma {sigma:g}, {' + '.join(map(str, parts))} steps"
                yield what, abs(apart - whole) / max(whole, 1e-12)

    def nearly_split() -> Cases:
        """Check noise multipliers that differ by a billionth: they cannot be merged as equal."""
        for rate, sigma, parts in PARTS[:2] if candidate.slow else PARTS:
            whole = candidate.epsilon([(rate, sigma, sum(parts))], DELTA)
            stages = [(rate, sigma * (1 + 1e-9 * i), part) for i, part in enumerate(parts)]
            apart = candidate.epsilon(stages, DELTA)
            what = f"q {rate:g}, sigma {sigma:g}, {sum(parts)} steps in {len(parts)} parts"
            yield what, abs(apart - whole) / max(whole, 1e-12)

    def pythagoras() -> Cases:
        """Check that 1 / sigma squared adds up at q = 1: the plan is one step of the sum."""
        plans: list[list[Step]] = [
            *([(1.0, math.sqrt(count), count)] for count in (4, 7, 30, 101, 1000, 14063)),
            [(1.0, 2.0, 1), (1.0, 0.75**-0.5, 1)],
            [(1.0, 4.0, 3), (1.0, 8.0, 5), (1.0, 16.0, 7)],
        ]
        for steps in plans:
            mu_squared = math.fsum(count / sigma**2 for _, sigma, count in steps)
            one = candidate.epsilon([(1.0, mu_squared**-0.5, 1)], DELTA)
            yield _said(steps), (one - candidate.epsilon(steps, DELTA)) / max(one, 1e-12)

    def strict() -> Cases:
        ladders: dict[str, list[tuple[list[Step], float]]] = {
            "stages": [(list(STAGES[:count]), DELTA) for count in range(1, len(STAGES) + 1)],
            "delta": [([(_TENTH, 1.0, 10)], 10.0**-digits) for digits in (*range(2, 11), 12)],
        }
        for name, ladder in ladders.items():
            found = [candidate.epsilon(*rung) for rung in ladder]
            for less, more in pairwise(found):
                yield f"along {name}: {less:.6g}, then {more:.6g}", (less - more) / max(more, 1e-12)

    def any_order() -> Cases:
        stages: list[Step] = [(0.25, 1.0, 2), (1.0, 5.0, 1), (_TENTH, 0.8, 5)]
        base = candidate.epsilon(stages, DELTA)
        for order in permutations(stages):
            yield _said(order), abs(candidate.epsilon(order, DELTA) - base) / max(base, 1e-12)

    def monotone() -> Cases:
        ladders: dict[str, list[tuple[list[Step], float]]] = {
            "q": [([(round_up_rate(q), 2.0, 10)], DELTA) for q in (0.01, 0.02, 0.05, 0.1, 0.5, 1)],
            "sigma": [([(_TENTH, sigma, 10)], DELTA) for sigma in (4.0, 2.0, 1.3, 1.0, 0.8)],
            "steps": [([(_TENTH, 1.0, count)], DELTA) for count in (1, 2, 3, 4, 10)],
        }
        for name, ladder in ladders.items():
            found = [candidate.epsilon(*rung) for rung in ladder]
            for less, more in pairwise(found):
                yield f"along {name}: {less:.6g}, then {more:.6g}", (less - more) / max(more, 1e-12)

    def nothing_drawn() -> Cases:
        found = candidate.unless_refused([(0.0, 1.0, 10)], DELTA)
        what = "q = 0: refused" if found is None else f"q = 0 costs {found:g}"
        yield what, 0.0 if found is None else abs(found)

    def no_noise() -> Cases:
        found = candidate.unless_refused([(_TENTH, 0.0, 10)], DELTA)
        what = "sigma = 0: refused" if found is None else f"sigma = 0 costs {found:g}"
        yield what, 0.0 if found is None or found == float("inf") else 1.0

    return [
        Check("epsilon at q = 1 is at least exact", 1e-3, lambda: at_least_exact(FULL)),
        Check("epsilon of one step is at least exact", 1e-3, lambda: at_least_exact(ONE_STEP)),
        Check("epsilon of two steps is at least exact", 1e-3, lambda: at_least_exact(TWO_STEPS)),
        Check(f"epsilon keeps delta, sampled at confidence 1 - {MISS:g}", 0.0, sampled),
        Check("epsilon is at most 1.1 times the classic bound", 0.1, not_loose),
        Check("epsilon does not change when steps are split", 2e-3, splitting),
        Check("epsilon does not change when nearly equal noise is split", 2e-3, nearly_split),
        Check("epsilon of steps at q = 1 is at least that of their sum", 2e-3, pythagoras),
        Check("epsilon does not depend on the order of stages", 2e-3, any_order),
        Check("epsilon is monotone in q, sigma, steps", 1e-4, monotone),
        Check("epsilon rises with every stage, and as delta falls", -1e-4, strict),
        # At the largest order a conversion of a curve of zeros can be above 0.
        Check("q = 0 costs next to nothing, or is refused", 0.2, nothing_drawn),
        Check("sigma = 0 costs everything, or is refused", 0.0, no_noise),
    ]


def _cheap(steps: Sequence[Step]) -> bool:
    """Test whether losses are bounded enough to be convolved within a second or so."""
    return all(sigma >= 0.7 for _, sigma, _ in steps)


def _said(steps: Sequence[Step]) -> str:
    return " + ".join(f"{count} x (q {rate:g}, sigma {sigma:g})" for rate, sigma, count in steps)
