"""Properties of rdpjax's accountants: mechanisms, calibration, refusals, RDP against PLD."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np

from rdpjax.accounting.exact.divergence import renyi_on_lattice
from rdpjax.accounting.verify.curve_laws import GRID, INTEGERS, quadrature
from rdpjax.accounting.verify.epsilon_laws import DELTA, LONG
from rdpjax.accounting.verify.properties import Cases, Check
from rdpjax.errors import UserError
from rdpjax.privacy.accountants import compose, orders, pld_epsilon, rdp_epsilon
from rdpjax.privacy.budget import Budget, Demand, calibrate, calibrate_alone
from rdpjax.privacy.events import MECHANISMS, SAMPLED, Event, round_up_rate


def _event(mechanism: Any, steps: int, *, sigma: float = 1.3, rate: float = 0.125) -> Event:
    at = rate if mechanism in SAMPLED else 1.0
    return Event("stage", mechanism, at, sigma, 1.0, steps)


def own_checks() -> list[Check]:
    """Return the checks of this project's accountants beyond those of any accountant."""
    folds = [
        Check(f"{mechanism}: n-fold is n times one-fold", 1e-12, partial(_folds, mechanism))
        for mechanism in MECHANISMS
    ]
    return [
        Check("removing a record costs more than adding one", 1e-15, _directions),
        *folds,
        Check("discrete_gaussian costs what gaussian does, at every order", 0.0, _discrete),
        Check("poisson_discrete_gaussian has integer orders only", 0.0, _whole_orders),
        Check("poisson_discrete_gaussian is the sum over the lattice", 1e-10, _lattice),
        # `pld_epsilon` is capped at RDP, so equality is a failure: on these plans RDP is loose.
        Check("RDP is never below PLD", -0.01, _above_pld),
        Check("calibration meets its target from below", 1e-3, _round_trip),
        Check("what cannot be accounted is refused", 0.0, _refusals),
    ]


def _directions() -> Cases:
    for rate, sigma in GRID:
        for order, both in quadrature(rate, sigma).items():
            yield f"q {rate:g}, sigma {sigma:g}, order {order:g}", both.add / both.remove - 1


def _folds(mechanism: str) -> Cases:
    """Check that the curve is linear in the steps, and epsilon bit-identical in any splitting."""
    once = compose([_event(mechanism, 1)])
    known = np.isfinite(once)
    yield "orders known for one step", 0.0 if known.any() else math.nan
    for count in (2, 3, 1000):
        folded = compose([_event(mechanism, count)])
        yield f"{count} steps", float(np.max(abs(folded[known] / once[known] / count - 1)))
    entries = [dataclasses.replace(_event(mechanism, 1), start=i) for i in range(5)]
    same = rdp_epsilon(entries, DELTA) == rdp_epsilon([_event(mechanism, 5)], DELTA)
    yield "5 entries, epsilon", 0.0 if same else math.inf
    mixed = [_event(mechanism, 5), _event("gaussian", 2, sigma=9.0), _event("poisson_gaussian", 3)]
    found = {rdp_epsilon(order, DELTA) for order in permutations(mixed)}
    yield "order of stages, epsilon", 0.0 if len(found) == 1 else math.inf


def _discrete() -> Cases:
    for sigma in (0.5, 1.0, 10.0):
        plain, discrete = (
            compose([_event(mechanism, 3, sigma=sigma)])
            for mechanism in ("gaussian", "discrete_gaussian")
        )
        yield f"sigma {sigma:g}", float(np.max(abs(discrete - plain)))


def _whole_orders() -> Cases:
    at = np.array(orders())
    whole = at % 1 == 0
    for sigma in (0.7, 1.0, 4.0):
        plain, discrete = (
            compose([_event(mechanism, 3, sigma=sigma)])
            for mechanism in ("poisson_gaussian", "poisson_discrete_gaussian")
        )
        yield f"sigma {sigma:g}, integers", float(np.max(abs(discrete[whole] - plain[whole])))
        yield f"sigma {sigma:g}, fractions", 0.0 if np.isinf(discrete[~whole]).all() else math.inf


def _lattice() -> Cases:
    """Check against the lattice sum: equal for removal; for addition it may be less, not more."""
    for sigma, shift, rate in ((3.0, 2, round_up_rate(0.1)), (1.0, 1, 0.5), (5.0, 3, 2**-7)):
        event = _event("poisson_discrete_gaussian", 1, sigma=sigma / shift, rate=rate)
        for order, found in zip(INTEGERS, compose([event], at=INTEGERS), strict=True):
            both = renyi_on_lattice(rate, sigma, shift, int(order))
            what = f"q {rate:g}, sigma {sigma:g} steps, shift {shift}, order {order:g}"
            yield f"{what}, removed", abs(found / both.remove - 1)
            yield f"{what}, added", both.add / found - 1


def _above_pld() -> Cases:
    for plan, delta in LONG:
        events = [Event("stage", "poisson_gaussian", q, s, 1.0, count) for q, s, count in plan]
        pld = pld_epsilon(events, delta)
        assert pld is not None
        yield f"delta {delta:g}", pld - rdp_epsilon(events, delta)[0]


def _round_trip() -> Cases:
    rates = {"vae": round_up_rate(0.04), "gan": round_up_rate(0.02)}
    demands = [
        Demand("marginals", "gaussian", 1.0, 1),
        Demand("vae", "poisson_gaussian", rates["vae"], 1500),
        Demand("gan", "poisson_discrete_gaussian", rates["gan"], 900),
    ]
    shares = {"marginals": 0.1, "vae": 0.6, "gan": 0.3}
    for epsilon, delta in ((0.5, 1e-5), (5.0, 1e-5), (2.0, 1e-7)):
        noise = calibrate(Budget(epsilon, delta), demands, shares)
        back, _ = rdp_epsilon([demand.event(noise[demand.name]) for demand in demands], delta)
        yield f"three stages, epsilon {epsilon:g}", _missed(epsilon, back)
    for demand in demands:
        noise_alone = calibrate_alone(3.0, DELTA, demand)
        back, _ = rdp_epsilon([demand.event(noise_alone)], DELTA)
        yield f"{demand.name} alone, epsilon 3", _missed(3.0, back)


def _missed(target: float, epsilon: float) -> float:
    return target - epsilon if epsilon <= target else math.inf


def _refusals() -> Cases:
    sound: dict[str, Any] = {
        "stage": "stage", "mechanism": "poisson_gaussian", "sampling_rate": 0.25,
        "noise_multiplier": 1.0, "clip_norm": 1.0, "steps": 1,
    }  # fmt: skip
    for change in (
        {"mechanism": "shuffled_gaussian"}, {"mechanism": "weighted_gaussian"},
        {"mechanism": "laplace"}, {"relation": "replace-one"}, {"sampling_rate": 0.0},
        {"sampling_rate": 1.5}, {"sampling_rate": math.nan}, {"noise_multiplier": -1.0},
        {"noise_multiplier": math.nan}, {"steps": 0}, {"clip_norm": math.inf},
    ):  # fmt: skip
        try:
            Event(**{**sound, **change})
        except UserError:
            yield f"{change}: refused", 0.0
        else:
            yield f"{change}: taken", 1.0
