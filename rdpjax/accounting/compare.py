"""Comparison of accountants on one plan, each epsilon marked as a bound or an estimate."""

from __future__ import annotations

import importlib
import importlib.metadata
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rdpjax.accounting.exact.divergence import classic_epsilon
from rdpjax.accounting.exact.hockey_stick import gaussian_delta, least_epsilon
from rdpjax.accounting.statement import aligned
from rdpjax.errors import UserError
from rdpjax.privacy.accountants import check_delta, compose, orders, pld_epsilon, rdp_epsilon
from rdpjax.privacy.events import SAMPLED, Event
from rdpjax.privacy.search import SIGMA_LEAST

Worth = Literal["bound", "estimate", "not a bound", "skipped"]
_PRV_ERROR = 0.01


@dataclass(frozen=True)
class Opinion:
    """Epsilon of a plan by one accountant.

    Attributes:
      accountant: Name of the accountant.
      epsilon: Its epsilon; None if it was skipped.
      worth: Whether epsilon is an upper bound, an estimate of the exact value, or neither.
      note: How epsilon was computed, or why it was skipped.
    """

    accountant: str
    epsilon: float | None
    worth: Worth
    note: str


def need_noise(events: Sequence[Event]) -> None:
    """Refuse plans for which no accountant has a useful epsilon.

    Raises:
      UserError: There is no event, or one with no noise, or so little that it gives no useful
        guarantee and privacy loss distributions would not fit in memory.
    """
    if not events:
        raise UserError("the plan has no mechanism run; there is nothing to account")
    for event in events:
        if event.noise_multiplier == 0:
            raise UserError(
                f"stage {event.stage!r} adds no noise, so epsilon is infinite whatever the rest "
                "does; give a plan with noise (private = true)"
            )
        if event.noise_multiplier < SIGMA_LEAST:
            raise UserError(
                f"stage {event.stage!r}: noise multiplier {event.noise_multiplier:g} is too small; "
                f"give {SIGMA_LEAST:g} or more"
            )


def compare(events: Sequence[Event], delta: float) -> tuple[Opinion, ...]:
    """Compute epsilon of a plan by every accountant at hand.

    Args:
      events: The plan; every event with noise.
      delta: In (0, 1).

    Returns:
      One opinion for each accountant; optional ones that are not installed are skipped by name.

    Raises:
      UserError: `delta` is outside (0, 1), or the plan has no noise.

    Examples:
      >>> for o in compare([Event("hist", "gaussian", 1.0, 10.0, 1.0, 100)], 1e-5):
      ...     if o.accountant.startswith(("PLD", "classic", "Gaussian")):
      ...         print(f"{o.accountant}: {o.epsilon:.3f}, {o.worth}")
      PLD (dp-accounting): 4.377, bound
      classic conversion of RDP: 5.299, bound
      Gaussian limit: 4.377, not a bound
    """
    delta = check_delta(delta)
    need_noise(events)
    epsilon, order = rdp_epsilon(events, delta)
    at = "" if order is None else f"order {order:g}; "
    return (
        Opinion("RDP (dp-accounting)", epsilon, "bound", f"{at}what rdpjax claims"),
        _opacus(events, delta),
        _pld(events, delta),
        _prv(events, delta),
        Opinion(
            "classic conversion of RDP",
            classic_epsilon(compose(events).tolist(), orders(), delta),
            "bound",
            "Mironov 2017, Proposition 3",
        ),
        Opinion(
            "Gaussian limit", gaussian_limit(events, delta), "not a bound",
            "central limit theorem, Bu et al. 2020; may lie far below the truth",
        ),
    )  # fmt: skip


def opinions_as_text(opinions: Sequence[Opinion]) -> str:
    """Format the opinions as a table.

    Examples:
      >>> print(opinions_as_text([Opinion("PRV", None, "skipped", "not installed")]))
      accountant  epsilon  worth
      PRV                  skipped  not installed
    """
    rows = [("accountant", "epsilon", "worth", "")]
    for o in opinions:
        form = ".4f" if (o.epsilon or 0.0) < 1e6 else ".3g"
        epsilon = "" if o.epsilon is None else format(o.epsilon, form)
        rows.append((o.accountant, epsilon, o.worth, o.note))
    return "\n".join(aligned(rows, left=(0, 2, 3)))


def gaussian_limit(events: Sequence[Event], delta: float) -> float:
    """Compute epsilon of the plan's Gaussian limit (many steps, small rates): no bound.

    Each step at rate q adds q^2 (exp(1 / sigma^2) - 1) to mu squared; a step that reads every
    record, 1 / sigma^2, exactly.

    Examples:
      >>> plan = [Event("vae", "poisson_gaussian", 2**-7, 1.0, 1.0, 1000)]
      >>> round(gaussian_limit(plan, 1e-5), 3)  # the truth is about 1.4
      1.231

    References:
      Bu, Dong, Long, Su 2020, "Deep learning with Gaussian differential privacy" (arXiv
      1911.11607), section 3.
    """
    mu_squared = math.fsum(
        e.steps
        * (
            e.sampling_rate**2 * math.expm1(min(e.noise_multiplier**-2, 700.0))
            if e.mechanism in SAMPLED
            else e.noise_multiplier**-2
        )
        for e in events
    )
    return least_epsilon(lambda epsilon: gaussian_delta(math.sqrt(mu_squared), epsilon), delta)


def _pld(events: Sequence[Event], delta: float) -> Opinion:
    name, found = "PLD (dp-accounting)", pld_epsilon(events, delta)
    if found is None:
        return Opinion(name, None, "skipped", _why_no_pld(events))
    return Opinion(name, found, "bound", "losses rounded up to multiples of 1e-4")


def _why_no_pld(events: Sequence[Event]) -> str:
    """Return why `pld_epsilon` has no value for a plan."""
    mechanisms = {event.mechanism for event in events}
    if "poisson_discrete_gaussian" in mechanisms:
        return "not available for discrete noise on sampled records"
    if "discrete_gaussian" in mechanisms:
        return "the part of delta for discrete noise exceeds delta at so large an epsilon"
    return "epsilon is so large that the loss distribution would not fit in memory"


def _opacus(events: Sequence[Event], delta: float) -> Opinion:
    name, library = "RDP (Opacus)", _optional("opacus.accountants")
    if library is None:
        return Opinion(name, None, "skipped", "opacus is not installed")
    analysis = importlib.import_module("opacus.accountants.analysis.rdp")
    alphas = library.RDPAccountant.DEFAULT_ALPHAS
    if any(event.mechanism == "poisson_discrete_gaussian" for event in events):
        alphas = [alpha for alpha in alphas if alpha % 1 == 0]
    curve = sum(
        analysis.compute_rdp(
            q=e.sampling_rate, noise_multiplier=e.noise_multiplier, steps=e.steps, orders=alphas
        )
        for e in events
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "add orders": they are its own defaults
        epsilon, order = analysis.get_privacy_spent(orders=alphas, rdp=curve, delta=delta)
    # Opacus does not clamp a conversion below 0.
    note = f"order {order:g} of its default orders, at most 63; opacus {_version('opacus')}"
    return Opinion(name, max(0.0, float(epsilon)), "bound", note)


def _prv(events: Sequence[Event], delta: float) -> Opinion:
    name, library = "PRV", _optional("prv_accountant")
    if library is None:
        return Opinion(name, None, "skipped", "prv_accountant is not installed")
    if any(event.mechanism.endswith("discrete_gaussian") for event in events):
        return Opinion(name, None, "skipped", "not available for discrete noise")
    parts = [
        library.GaussianMechanism(noise_multiplier=e.noise_multiplier)
        if e.sampling_rate == 1
        else library.PoissonSubsampledGaussianMechanism(
            noise_multiplier=e.noise_multiplier, sampling_probability=e.sampling_rate
        )
        for e in events
    ]
    steps = [event.steps for event in events]
    accountant = library.PRVAccountant(
        prvs=parts, max_self_compositions=steps, eps_error=_PRV_ERROR, delta_error=delta / 1000
    )
    low, epsilon, high = accountant.compute_epsilon(delta=delta, num_self_compositions=steps)
    note = f"within [{low:.4f}, {high:.4f}]; prv-accountant {_version('prv-accountant')}"
    return Opinion(name, float(epsilon), "estimate", note)


def _optional(module: str) -> Any:
    """Import a module that need not be installed, or return None."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        return None


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
