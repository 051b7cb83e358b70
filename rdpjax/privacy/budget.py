"""Privacy budget of all stages together, and the noise multipliers that spend it, not more."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rdpjax.errors import UserError
from rdpjax.privacy.accountants import (
    Curve,
    Orders,
    check_delta,
    compose,
    convert,
    orders,
)
from rdpjax.privacy.events import Event, Mechanism
from rdpjax.privacy.search import SIGMA_LEAST, SIGMA_MOST, smallest

_TOLERANCE = 1e-3  # of the composed epsilon, below the target


@dataclasses.dataclass(frozen=True)
class Budget:
    """Target (epsilon, delta) of a run, under add-or-remove-one, everything included.

    Raises:
      UserError: epsilon is not a positive finite number, or delta is outside (0, 1).

    Examples:
      >>> Budget()
      Budget(epsilon=5.0, delta=1e-05)
      >>> Budget(epsilon=-1)
      Traceback (most recent call last):
      ...
      rdpjax.errors.UserError: epsilon is -1; it must be a positive, finite number
    """

    epsilon: float = 5.0
    delta: float = 1e-5

    def __post_init__(self) -> None:
        epsilon = self.epsilon
        if isinstance(epsilon, bool) or not isinstance(epsilon, int | float | np.number):
            raise UserError(f"epsilon is {epsilon!r}; it must be a positive, finite number")
        if not (math.isfinite(epsilon) and epsilon > 0):
            raise UserError(f"epsilon is {epsilon:g}; it must be a positive, finite number")
        object.__setattr__(self, "epsilon", float(epsilon))
        object.__setattr__(self, "delta", check_delta(self.delta))


def total_epsilon(epsilon: float | None, epsilons: Mapping[str, float]) -> float | None:
    """Return the total to which shares are calibrated; None for a plan by stages' epsilons.

    Raises:
      UserError: Both are given. The stages' epsilons determine what they cost together, so another
        total would not be met.

    Examples:
      >>> total_epsilon(None, {}), total_epsilon(None, {"vae": 2.0})
      (5.0, None)
      >>> total_epsilon(1.0, {"vae": 2.0})
      Traceback (most recent call last):
      ...
      rdpjax.errors.UserError: epsilons: the total follows from those of the stages; ...
    """
    if epsilons and epsilon is not None:
        raise UserError(
            "epsilons: the total follows from those of the stages; leave out the total "
            f"(epsilon = {epsilon!r}, or a Budget), or give shares instead"
        )
    return Budget.epsilon if epsilon is None and not epsilons else epsilon


class Demand(NamedTuple):
    """Event of a stage before calibration: everything about its mechanism except the noise."""

    name: str
    mechanism: Mechanism
    sampling_rate: float
    steps: int

    def event(self, noise_multiplier: float) -> Event:
        """Return the stage's event at this noise multiplier, with C = 1: accountants ignore C."""
        return Event(
            self.name, self.mechanism, self.sampling_rate, noise_multiplier, 1.0, self.steps
        )


def calibrate(
    budget: Budget, demands: Sequence[Demand], shares: Mapping[str, float]
) -> dict[str, float]:
    """Find noise multipliers with which all stages together cost the budget, by composed RDP.

    A share is a part of the total mu squared: let mu be the Gaussian mechanism that costs the
    budget. Stage i first gets the noise with which, alone, it costs what a Gaussian of
    mu sqrt(share_i) costs; then one factor on all noise multipliers brings the composed epsilon
    to the target.

    Guarantees:
      `rdp_epsilon` of the returned values lies in (epsilon - 0.001, epsilon]. They have six
      significant digits, so that what is printed is what was accounted.

    Args:
      budget: Target epsilon and delta.
      demands: One for each stage, names distinct.
      shares: By stage name; positive, sum 1 (to 1e-6).

    Returns:
      The noise multiplier of each stage, by name, in the order of `demands`.

    Raises:
      UserError: Shares that don't fit, or an epsilon that these steps cannot reach.

    Examples:
      >>> plan = [Demand("vae", "poisson_gaussian", 0.25, 100), Demand("hist", "gaussian", 1.0, 1)]
      >>> noise = calibrate(Budget(2.0), plan, {"vae": 0.5, "hist": 0.5})
      >>> sorted(noise), noise["hist"] < noise["vae"]
      (['hist', 'vae'], True)
    """
    demands = [Demand(*demand) for demand in demands]
    _check_shares(demands, shares)
    mu = _gaussian_mu(budget)
    alone: list[float] = []
    for demand in demands:
        mu_own = mu * math.sqrt(shares[demand.name])
        own, _ = convert(_gaussian(mu_own), budget.delta)
        if own == 0:
            raise UserError(
                f"shares: {demand.name} is {shares[demand.name]:g}, too little to cost anything "
                f"at epsilon {budget.epsilon:g}; raise one of the two"
            )
        alone.append(_noise_for(own, budget.delta, demand, mu_own))

    def events(factor: float) -> list[Event]:
        return [d.event(_round_up(factor * s)) for d, s in zip(demands, alone, strict=True)]

    wanted = f"epsilon {budget.epsilon:g} for {', '.join(d.name for d in demands)}"
    factor = _smallest_factor(
        events,
        budget,
        start=1.0,
        least=SIGMA_LEAST / min(alone),
        most=SIGMA_MOST / max(alone),
        tolerance=min(_TOLERANCE, 1e-4 * budget.epsilon),
        wanted=wanted,
    )
    epsilon, _ = convert(compose(events(factor)), budget.delta)
    if not budget.epsilon - _TOLERANCE < epsilon <= budget.epsilon:
        raise UserError(f"{wanted} cannot be met within {_TOLERANCE:g}; choose another epsilon")
    return {event.stage: event.noise_multiplier for event in events(factor)}


def calibrate_alone(epsilon: float, delta: float, demand: Demand) -> float:
    """Find the noise multiplier with which one stage alone costs epsilon at delta, by RDP.

    Stages calibrated in this way cost more together than any of them, and their epsilons do not
    simply add: compose their events. `calibrate` does that beforehand.

    Guarantees:
      `rdp_epsilon` of the stage at the returned value is at most `epsilon`; at a value smaller by
      2 in the sixth significant digit it is above.

    Raises:
      UserError: The budget is invalid, or these steps cannot reach it.

    Examples:
      >>> calibrate_alone(1.0, 1e-5, Demand("hist", "gaussian", 1.0, 1))
      4.04539
    """
    budget, demand = Budget(epsilon, delta), Demand(*demand)
    return _noise_for(budget.epsilon, budget.delta, demand, _gaussian_mu(budget))


def _noise_for(epsilon: float, delta: float, demand: Demand, mu: float) -> float:
    """Find the least noise at which the demand alone costs epsilon; `mu` is for the first guess."""
    sigma = _smallest_factor(
        lambda sigma: [demand.event(_round_up(sigma))],
        Budget(epsilon, delta),
        start=max(demand.sampling_rate * math.sqrt(demand.steps) / mu, 0.5),
        least=SIGMA_LEAST,
        most=SIGMA_MOST,
        tolerance=0.0,
        wanted=f"stage {demand.name!r}: epsilon {epsilon:.4g} in {demand.steps} steps at sampling "
        f"rate {demand.sampling_rate:.4g}",
    )
    return _round_up(sigma)


def _gaussian(mu: float) -> Curve:
    """Return the Rényi curve of one Gaussian mechanism with sensitivity mu times its noise."""
    return np.array(orders()) * mu**2 / 2


def _gaussian_mu(budget: Budget) -> float:
    """Find mu, sensitivity over noise, of the Gaussian mechanism that costs the budget by RDP."""
    sigma = smallest(
        lambda sigma: convert(_gaussian(1 / sigma), budget.delta)[0],
        budget.epsilon,
        start=1.0,
        least=SIGMA_LEAST,
        most=SIGMA_MOST,
        tolerance=0.0,
        wanted=f"epsilon {budget.epsilon:g} at delta {budget.delta:g}",
    )
    return 1 / sigma


def _check_shares(demands: Sequence[Demand], shares: Mapping[str, float]) -> None:
    names = [demand.name for demand in demands]
    if not names:
        raise UserError("shares: no stage reads the records, so there is nothing to calibrate")
    if len(set(names)) < len(names):
        raise UserError(f"shares: two stages have the same name in {', '.join(names)}")
    if set(shares) != set(names):
        raise UserError(
            f"shares are given for {', '.join(shares) or 'nothing'}, but the stages are "
            f"{', '.join(names)}; give one share to each"
        )
    for name in names:
        share = shares[name]
        number = isinstance(share, int | float | np.number) and not isinstance(share, bool)
        if not (number and math.isfinite(share) and share > 0):
            raise UserError(f"shares: {name} is {share!r}; it must be a positive number")
    total = math.fsum(shares.values())
    if abs(total - 1) > 1e-6:
        listed = ", ".join(f"{name} {shares[name]:g}" for name in names)
        raise UserError(f"shares sum to {total:g} ({listed}); they must sum to 1")


def _round_up(sigma: float) -> float:
    """Return the smallest number of six significant digits that is at least `sigma`."""
    unit = 5 - math.floor(math.log10(sigma))
    rounded = round(sigma, unit)
    return rounded if rounded >= sigma else round(sigma + 10.0**-unit, unit)


def _smallest_factor(
    events: Callable[[float], Sequence[Event]],
    budget: Budget,
    *,
    start: float,
    least: float,
    most: float,
    tolerance: float,
    wanted: str,
) -> float:
    """Find the smallest x for which `events(x)` cost at most the budget; see `smallest`.

    Searches on every eighth order, then on all orders around the best one, and accepts the result
    if the best of *all* orders lies inside these: epsilon is then the full minimum. The highest
    order is always among the first: it decides what the least epsilon is.
    """
    every = orders()
    at, x = (*every[:-1:8], every[-1]), start
    for attempt in range(5):
        last = attempt == 4
        at = every if last else at

        def cost(x: float, at: Orders = at) -> float:
            return convert(compose(events(x), at), budget.delta, at)[0]

        x = smallest(
            cost, budget.epsilon, start=x, least=least, most=most, tolerance=tolerance,
            wanted=wanted,
        )  # fmt: skip
        looked = at if attempt == 0 else every
        best = convert(compose(events(x), looked), budget.delta, looked)[1]
        k = every.index(best) if best else 0
        if attempt and set(every[max(k - 1, 0) : k + 2]) <= set(at):
            break
        at = every[max(k - 8, 0) : k + 9]
    return x
