"""`privacy.json`: the privacy claim of a run, with everything needed to verify it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rdpjax.errors import UserError
from rdpjax.privacy.accountants import (
    check_delta,
    compose,
    naive_epsilon,
    orders,
    pld_epsilon,
    rdp_epsilon,
)
from rdpjax.privacy.events import (
    RELATION,
    Event,
    check_version,
    events_from_list,
    events_to_list,
    merge,
)

VERSION = 1

CONVERSION = (
    "minimum over the orders of Canonne, Kamath, Steinke 2020 (arXiv 2004.00010), Proposition 12; "
    "0 where delta^2 >= 1 - exp(-rdp)"
)
COVERS = "one run with settings fixed in advance; the defaults were tuned on public data"
_KNOWN_NOISE = (
    "the noise comes from a user's seed: epsilon holds only against those who cannot know or "
    "guess it"
)
_NO_PLD = (
    "PLD is not available: not for discrete noise on sampled records, nor for so large an epsilon "
    "(its loss distribution, or its part of delta for discrete noise, would be too large)"
)
LOOSE = "epsilon holds, but may be loose: no order beyond the one that gave it is usable"
_NO_NOISE = "a stage ran without noise: nothing is claimed, and nothing may be published"


def by_stage(events: Iterable[Event]) -> dict[str, list[Event]]:
    """Group events by stage, in the order in which the stages first appear."""
    stages: dict[str, list[Event]] = {}
    for event in events:
        stages.setdefault(event.stage, []).append(event)
    return stages


def may_be_loose(events: Iterable[Event], order: float | None) -> bool:
    """Test whether a missing Rényi order might have given a smaller epsilon than `order`.

    The bound has one minimum over the orders. So `order` gives it unless it stands at an end of the
    grid, or beside an order for which dp-accounting has no usable value.

    Args:
      events: The events that epsilon was computed of.
      order: The order that `rdp_epsilon` returned.

    Examples:
      >>> events = [Event("vae", "gaussian", 1.0, 10.0, 1.0, 100)]
      >>> may_be_loose(events, rdp_epsilon(events, 1e-5)[1])
      False
      >>> events = [Event("vae", "gaussian", 1.0, 0.01, 1.0, 100)]
      >>> may_be_loose(events, rdp_epsilon(events, 1e-5)[1])
      True
    """
    if order is None:
        return False
    events = list(events)
    # The subsampled discrete Gaussian has a value at integer orders alone.
    whole = any(event.mechanism == "poisson_discrete_gaussian" for event in events)
    at = [order for order in orders() if order % 1 == 0 or not whole]
    usable = np.isfinite(compose(events, tuple(at)))
    place = at.index(order)
    return not all(0 <= i < len(at) and usable[i] for i in range(place - 1, place + 2))


def privacy_report(
    events: Iterable[Event],
    delta: float,
    *,
    unit: str,
    secret_noise: bool,
    declarations: Mapping[str, Any],
    versions: Mapping[str, str],
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Build the content of `privacy.json`, version 1: plain JSON values, fit to be published.

    Guarantees:
      `replay` of the result gives its epsilon, to the last bit with the same dp-accounting. The
      result depends on the arguments alone: pass no exact count, hash or seed.

    Args:
      events: Every event of the run: `Ledger.events`.
      delta: In (0, 1).
      unit: What one record is, as the schema declares it.
      secret_noise: Whether the noise came from the operating system; False for a seed of the
        user's.
      declarations: What was declared public (bounds, levels, file format, …) and by whom.
      versions: Versions by package.
      notes: Further remarks for a reader of the claim, a sentence each.

    Returns:
      The report. `epsilon`, `epsilon_pld` and `epsilon_naive_sum` are null, and `private` is
      false, if a stage ran without noise; `epsilon_pld` also where it is not available.

    Raises:
      UserError: `delta` is outside (0, 1), or something is no JSON value.

    Examples:
      >>> events = [Event("hist", "gaussian", 1.0, 10.0, 1.0, 100)]
      >>> report = privacy_report(events, 1e-5, unit="one row", secret_noise=True,
      ...                         declarations={}, versions={})
      >>> round(report["epsilon"], 4), round(report["epsilon_pld"], 2), report["covers"][:7]
      (4.7285, 4.38, 'one run')
      >>> replay(report) == report["epsilon"]
      True
    """
    delta, events = check_delta(delta), merge(events)
    epsilon, order = rdp_epsilon(events, delta)
    private = math.isfinite(epsilon)
    pld = pld_epsilon(events, delta) if private else None
    remarks = {
        _KNOWN_NOISE: not secret_noise,
        _NO_NOISE: not private,
        _NO_PLD: private and pld is None,
        LOOSE: may_be_loose(events, order),
    }
    report = {
        "version": VERSION,
        "private": private,
        "epsilon": epsilon if private else None,
        "delta": delta,
        "unit": unit,
        "relation": RELATION,
        "covers": COVERS,
        "secret_noise": bool(secret_noise),
        "accountant": "RDP, dp-accounting's default orders",
        "order": order,
        "conversion": CONVERSION,
        "epsilon_pld": pld,
        "epsilon_naive_sum": naive_epsilon(by_stage(events), delta) if private else None,
        "events": events_to_list(events),
        "declarations": dict(declarations),
        "versions": dict(versions),
        "notes": [*notes, *(remark for remark, so in remarks.items() if so)],
    }
    try:
        plain: dict[str, Any] = json.loads(json.dumps(report, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(f"privacy report: {error}; give plain JSON values") from None
    return plain


def with_earlier_fits(
    report: dict[str, Any], fits: Sequence[Sequence[Event]], delta: float
) -> dict[str, Any]:
    """Add to a report the fits before this one, and the epsilon of all of them composed.

    The fits are composed as if all had read the same records: an upper bound where they had not.

    Examples:
      >>> event = Event("hist", "gaussian", 1.0, 10.0, 1.0, 100)
      >>> found = with_earlier_fits({"events": events_to_list([event])}, [[event]], 1e-5)
      >>> round(found["epsilon_of_all_fits"], 2), len(found["earlier_fits"])
      (7.08, 1)
    """
    if not fits:
        return report
    every = [*events_from_list(report["events"]), *(event for fit in fits for event in fit)]
    epsilon, _ = rdp_epsilon(every, delta)
    return {
        **report,
        "earlier_fits": [events_to_list(merge(fit)) for fit in fits],
        "epsilon_of_all_fits": epsilon if math.isfinite(epsilon) else None,
    }


def earlier_fits(report: Mapping[str, Any]) -> tuple[tuple[Event, ...], ...]:
    """Return the events of each fit before the one that a report is about.

    Raises:
      UserError: no list of fits, or an event that cannot be accounted.
    """
    fits = report.get("earlier_fits", [])
    if not isinstance(fits, list):
        raise UserError("privacy report: earlier_fits is no list")
    return tuple(events_from_list(fit) for fit in fits)


def replay(report: Mapping[str, Any]) -> float:
    """Recompute epsilon from a report's list of events; the report's own figures are ignored.

    Raises:
      UserError: Another version, an event that cannot be accounted, or no valid delta.
    """
    check_version("privacy report", report, VERSION)
    if report.get("relation") != RELATION:
        raise UserError(f"privacy report: relation is {report.get('relation')!r}, not {RELATION!r}")
    events = events_from_list(report.get("events"))
    return rdp_epsilon(events, check_delta(report.get("delta", "missing")))[0]


def read_report(path: Path) -> dict[str, Any]:
    """Read a `privacy.json`, and check that its events have the epsilon that it claims.

    Guarantees:
      Epsilon, delta, unit and events of the result are consistent: `replay` gives the claimed
      epsilon up to 1e-6 of it, as another version of dp-accounting may differ in its last digits.

    Args:
      path: The file.

    Returns:
      The report.

    Raises:
      UserError: No such file, no report, or one that was changed after it was written.
    """
    try:
        report: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: no JSON ({error}); name a privacy.json") from None
    if not isinstance(report, dict):
        raise UserError(f"{path}: no privacy report; name a privacy.json")
    try:
        found = replay(report)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    claim = report.get("epsilon")
    claimed = math.inf if claim is None else claim
    try:
        same = isinstance(claimed, int | float) and math.isclose(claimed, found, rel_tol=1e-6)
    except OverflowError:
        same = False
    if not same:
        told = f"claims epsilon {claim!r:.40}, but its events cost {found:.6g}"
        raise UserError(f"{path}: {told}; do not trust it")
    unit = report.get("unit", "one record")
    if not isinstance(unit, str) or not unit.isprintable() or not unit.strip():
        raise UserError(f"{path}: unit is {unit!r:.40}, not a line of text; do not trust it")
    try:
        earlier_fits(report)
    except UserError as error:
        raise UserError(f"{path}: {error}; do not trust it") from None
    return report
