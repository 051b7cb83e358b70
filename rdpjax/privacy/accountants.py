"""Epsilon of composed events: by RDP, by privacy loss distributions, by basic composition."""

from __future__ import annotations

import collections
import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rdpjax.errors import UserError
from rdpjax.privacy.events import LATTICE_NUMBERS, LATTICE_STEPS, Event
from rdpjax.privacy.library import library, silenced

Curve = NDArray[np.float64]
Orders = tuple[float, ...]

LATTICE_GAP = LATTICE_NUMBERS / (48 * LATTICE_STEPS**2)
"""Total variation between "discrete_gaussian" noise and Gaussian noise rounded to its lattice.

With s the parameter of the noise in lattice units: rounding integrates the density over each
lattice cell, the discrete Gaussian takes it at the middle, so that for each coordinate they differ
by at most (E|Z^2 - 1| / s^2 + E|Z^3 - 3Z| / s^3) / 24 in L1, which is below 1 / (24 s^2) for s
above 100.
"""


class Law(NamedTuple):
    """Parameters on which the privacy loss of one step of an event depends.

    Attributes:
      rate: Sampling rate.
      sigma: Noise multiplier.
      lattice: Whether the noise is discrete and the records are sampled; then only integer orders
        have a value.
    """

    rate: float
    sigma: float
    lattice: bool = False


_PLD_MOST = 1e3


def check_delta(delta: object) -> float:
    """Convert `delta` to a float, refused outside (0, 1).

    Examples:
      >>> check_delta(2)
      Traceback (most recent call last):
      ...
      rdpjax.errors.UserError: delta is 2; it must lie strictly between 0 and 1, and below 1/n
    """
    if isinstance(delta, bool) or not isinstance(delta, int | float | np.number):
        raise UserError(f"delta is {delta!r}; give a number, 1e-5 say")
    if not 0 < delta < 1:
        huge = isinstance(delta, int) and abs(delta) > 2**53  # of which `g` would raise
        shown = "a huge number" if huge else f"{delta:g}"
        raise UserError(f"delta is {shown}; it must lie strictly between 0 and 1, and below 1/n")
    return float(delta)


def rdp_epsilon(events: Iterable[Event], delta: float) -> tuple[float, float | None]:
    """Compute epsilon of all events, composed by RDP, and the Rényi order that gave it.

    The curve of one step is computed once per (q, sigma) and multiplied by the steps: Rényi
    divergences of independent draws add.

    Guarantees:
      For every pair of tables that differ in one record, added or removed, the joint output of all
      events is (epsilon, delta)-indistinguishable, if each step adds independent Gaussian noise
      of standard deviation sigma C to a sum to which one record contributes at most C in L2 norm,
      and each record is drawn independently with probability q. The same holds for discrete
      Gaussian noise of parameter sigma C on sums in integer lattice units: without sampling at
      every order, with sampling at integer orders, the only ones then used. The events may be
      adaptive in their outputs; q, sigma, C and steps must be fixed beforehand. Orders are
      dp-accounting's defaults; its values at fractional orders are upper bounds. An order without a
      usable value is left out, which can only raise epsilon: `report.may_be_loose` reports where it
      might have.

    Args:
      events: Any number of events, in any order.
      delta: In (0, 1).

    Returns:
      `(epsilon, order)`; `(0.0, None)` without events, `(inf, None)` if any event has no noise.

    Raises:
      UserError: `delta` is outside (0, 1).

    Examples:
      >>> epsilon, order = rdp_epsilon([Event("vae", "gaussian", 1.0, 10.0, 1.0, 100)], 1e-5)
      >>> round(epsilon, 4), float(round(order, 1))
      (4.7285, 5.4)

    References:
      Mironov, Talwar, Zhang 2019 (arXiv 1908.10530); conversion: Balle et al. 2020 (1905.09982),
      Canonne, Kamath, Steinke 2020 (2004.00010), Proposition 12.
    """
    return convert(_curve(_steps_by_law(events), orders()), delta)


def pld_epsilon(events: Iterable[Event], delta: float) -> float | None:
    """Compute epsilon of all events by privacy loss distributions: tighter than RDP, slower.

    Guarantees:
      As `rdp_epsilon`, up to float64 rounding: losses are rounded up to multiples of 1e-4 and
      both directions (added, removed) are taken, so the result is an upper bound that is
      tight to about three digits. "discrete_gaussian" is accounted as Gaussian noise rounded to the
      lattice, from which it differs by at most `LATTICE_GAP` a step in total variation distance,
      and gap (1 + e^epsilon) is subtracted from delta.

    Args:
      events: Any number of events, in any order.
      delta: In (0, 1).

    Returns:
      Epsilon; 0 without events, infinity if any event has no noise; None (not available) with
      "poisson_discrete_gaussian", where the gap is larger than delta, or where epsilon is so large
      (above 1000 by RDP) that its grid would not fit in memory.

    Raises:
      UserError: `delta` is outside (0, 1).

    Examples:
      >>> round(pld_epsilon([Event("vae", "gaussian", 1.0, 10.0, 1.0, 100)], 1e-5), 3)
      4.377
    """
    delta, events = check_delta(delta), tuple(events)
    steps = _steps_by_law(events)
    if any(law.sigma == 0 for law in steps):
        return math.inf
    if any(law.lattice for law in steps):
        return None
    most, _ = rdp_epsilon(events, delta)
    if most > _PLD_MOST:
        return None
    lattices = sum(event.steps for event in events if event.mechanism == "discrete_gaussian")
    kept = delta - lattices * LATTICE_GAP * (1 + math.exp(min(most, 700.0)))
    if kept <= 0:
        return None
    return min(_pld_epsilon(tuple(steps.items()), kept), most)


@functools.lru_cache(maxsize=256)
def _pld_epsilon(steps: tuple[tuple[Law, int], ...], delta: float) -> float:
    """Compute the value of `pld_epsilon`: cached, since it takes seconds for every report."""
    if not steps:
        return 0.0
    lib = library()
    accountant = lib.pld.PLDAccountant(lib.NeighboringRelation.ADD_OR_REMOVE_ONE)
    laws = [lib.SelfComposedDpEvent(_dp_event(law), count) for law, count in steps]
    return _no_nan(accountant.compose(lib.ComposedDpEvent(laws)).get_epsilon(delta))


def naive_epsilon(events_by_stage: Mapping[str, Iterable[Event]], delta: float) -> float:
    """Add up the stages' own epsilons by basic composition: for comparison, never the claim.

    Guarantees:
      By basic composition the events are (epsilon, k delta)-indistinguishable for k stages: the
      sum spends `delta` once per stage, not once in all.

    Args:
      events_by_stage: The events of each stage.
      delta: In (0, 1); the same for every stage.

    Returns:
      The sum of `rdp_epsilon` over the stages.

    Raises:
      UserError: `delta` is outside (0, 1).

    Examples:
      >>> one = [Event("vae", "gaussian", 1.0, 10.0, 1.0, 100)]
      >>> round(naive_epsilon({"vae": one, "gan": one}, 1e-5), 3)
      9.457
    """
    check_delta(delta)
    return math.fsum(rdp_epsilon(events, delta)[0] for events in events_by_stage.values())


def compose(events: Iterable[Event], at: Orders | None = None) -> Curve:
    """Compose the Rényi curves of all events.

    Guarantees:
      The value at order a bounds the Rényi divergence of order a in both directions. Infinite
      where it is unknown; never NaN. The same bits for any order or splitting of the events.

    Args:
      events: Any number of events, in any order.
      at: The orders wanted, above 1; `orders()` unless given.

    Returns:
      float64, one value an order, read-only.

    Examples:
      >>> curve = compose([Event("vae", "gaussian", 1.0, 3.0, 1.0, 1)], at=(2.0, 9.0))
      >>> [round(float(value), 4) for value in curve]
      [0.1111, 0.5]
    """
    return _curve(_steps_by_law(events), orders() if at is None else at)


def convert(curve: Curve, delta: float, at: Orders | None = None) -> tuple[float, float | None]:
    """Convert a Rényi curve to the smallest epsilon that it proves at `delta`, and its order.

    Guarantees:
      Each finite order gives a valid bound by itself, so their minimum is valid; epsilon is
      infinite if no order is finite. The order is None for the 0 of a curve of zeros, and for
      infinity.

    Args:
      curve: The result of `compose`.
      delta: In (0, 1).
      at: Its orders; `orders()` unless given.

    Raises:
      UserError: `delta` is outside (0, 1).
      ArithmeticError: The curve holds NaN or a negative value: a fault, never a small epsilon.
    """
    delta = check_delta(delta)
    if np.isnan(curve).any() or (curve < 0).any():
        raise ArithmeticError("the Rényi curve holds NaN or a negative value")
    if not curve.any():
        return 0.0, None
    epsilon, order = library().rdp.compute_epsilon(orders() if at is None else at, curve, delta)
    epsilon = _no_nan(epsilon)
    return epsilon, None if math.isinf(epsilon) else float(order)


@functools.cache
def orders() -> Orders:
    """Return dp-accounting's default Rényi orders, from 1.1 to 1024."""
    return tuple(float(order) for order in library().rdp.RdpAccountant().orders)


def _steps_by_law(events: Iterable[Event]) -> dict[Law, int]:
    """Count steps per (q, sigma), sorted: sums then have the same bits in any order of events."""
    steps: collections.Counter[Law] = collections.Counter()
    for event in events:
        lattice = event.mechanism == "poisson_discrete_gaussian"
        steps[Law(event.sampling_rate, event.noise_multiplier, lattice)] += event.steps
    return dict(sorted(steps.items()))


def _curve(steps: Mapping[Law, int], at: Orders) -> Curve:
    total = np.zeros(len(at))
    for law, count in steps.items():
        total = total + count * _step_curve(law, at)
    return _frozen(total)


@functools.lru_cache(maxsize=4096)
def _step_curve(law: Law, at: Orders) -> Curve:
    """Compute the Rényi curve of one step; infinite where the library has no trustworthy value."""
    rate, sigma, lattice = law
    if sigma == 0:
        return _frozen(np.full(len(at), np.inf))
    accountant = library().rdp.RdpAccountant(at)
    # Overflow gives infinity, a valid bound; `may_be_loose` reports orders left out.
    with silenced("absl"), np.errstate(all="ignore"):
        curve = np.array(accountant.compose(_dp_event(law)).rdp, np.float64)
    if np.isnan(curve).any():
        raise ArithmeticError(f"dp-accounting returned NaN at q={rate!r}, sigma={sigma!r}")
    # A divergence is positive; the library takes a value that rounds to 0 or below as epsilon 0.
    curve[curve <= 0] = np.inf
    if lattice:  # at fractional orders its shifts leave the lattice
        curve[np.array(at) % 1 != 0] = np.inf
    return _frozen(curve)


def _dp_event(law: Law) -> Any:
    lib, (rate, sigma, _) = library(), law
    gaussian = lib.GaussianDpEvent(sigma)
    return gaussian if rate == 1 else lib.PoissonSampledDpEvent(rate, gaussian)


def _no_nan(epsilon: float) -> float:
    if math.isnan(epsilon):
        raise ArithmeticError("dp-accounting returned NaN for epsilon")
    return float(epsilon)


def _frozen(curve: Curve) -> Curve:
    curve.setflags(write=False)
    return curve
