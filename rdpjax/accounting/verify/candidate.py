"""Accountant under test: one of rdpjax's, or a user's as `module:function`."""

from __future__ import annotations

import contextlib
import importlib
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdpjax.accounting.exact.loss_sampling import Step
from rdpjax.errors import UserError, nearest
from rdpjax.privacy.accountants import compose, pld_epsilon, rdp_epsilon
from rdpjax.privacy.events import Event


class Fault(Exception):
    """Invalid answer of an accountant under test, or an exception that it raised."""


@dataclass(frozen=True)
class Candidate:
    """Accountant of subsampled Gaussian steps, as functions.

    Attributes:
      name: Its name in reports.
      epsilon_function: `f(events, delta) -> epsilon`; events are (q, sigma, steps) each.
      rdp_function: `f(events, orders)` -> Rényi divergences, one an order; None if it has none.
      slow: Whether an answer may take seconds; then fewer plans are tried.
    """

    name: str
    epsilon_function: Callable[[list[Step], float], Any]
    rdp_function: Callable[[list[Step], list[float]], Any] | None = None
    slow: bool = False

    def epsilon(self, steps: Sequence[Step], delta: float) -> float:
        """Compute the accountant's epsilon of a plan.

        Raises:
          Fault: It raised, or returned NaN, a negative number or no number; or infinity though
            every event has noise.
        """
        asked = f"{list(steps)}, delta {delta:g}"
        value: float = _called(lambda: float(self.epsilon_function(list(steps), delta)), asked)
        if math.isnan(value) or value < 0:
            raise Fault(f"returned {value:g} for {asked}")
        if math.isinf(value) and all(sigma > 0 for _, sigma, _ in steps):
            raise Fault(f"returned {value:g} for {asked}")
        return value

    def rdp(self, steps: Sequence[Step], orders: Sequence[float]) -> NDArray[np.float64]:
        """Compute the accountant's Rényi curve of a plan.

        Returns:
          float64, [orders]; infinite where it has no value.

        Raises:
          Fault: It raised, or returned NaN, a negative number, or another number of values.
        """
        function, asked = self.rdp_function, f"rdp of {list(steps)}"
        assert function is not None
        values: NDArray[np.float64] = _called(
            lambda: np.asarray(function(list(steps), list(orders)), np.float64), asked
        )
        if values.shape != (len(orders),):
            raise Fault(f"returned shape {values.shape} for {asked} at {len(orders)} orders")
        if np.isnan(values).any() or (values < 0).any():
            raise Fault(f"returned {np.min(values):g} for {asked}")
        return values

    def unless_refused(self, steps: Sequence[Step], delta: float) -> float | None:
        """Compute epsilon of a plan that may be refused; None if the accountant raises or exits."""
        try:
            return float(_called(lambda: float(self.epsilon_function(list(steps), delta)), ""))
        except Fault:
            return None


def _called(function: Callable[[], Any], asked: str) -> Any:
    """Call a user's code and return its value; turn any exception or exit into a `Fault`.

    What it prints goes to stderr: stdout belongs to the result. An exit passed on would end the
    verification with a status of that code's choice.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return function()
    except (Exception, SystemExit) as error:
        raise Fault(f"raised {_one_line(error)} for {asked}") from None


def _one_line(error: BaseException) -> str:
    told = " ".join(str(error).split())
    return f"{type(error).__name__}{f' ({told})' if told else ''}"


def our_rdp() -> Candidate:
    """Return the RDP accountant, which computes every claim of this project.

    Examples:
      >>> round(our_rdp().epsilon([(1.0, 10.0, 100)], 1e-5), 4)
      4.7285
    """
    return Candidate(
        "RDP",
        lambda steps, delta: rdp_epsilon(_events(steps), delta)[0],
        lambda steps, orders: compose(_events(steps), at=tuple(orders)),
    )


def our_pld() -> Candidate:
    """Return the PLD accountant, whose epsilon is printed beside the claim."""
    return Candidate("PLD", lambda steps, delta: pld_epsilon(_events(steps), delta), slow=True)


def _events(steps: Sequence[Step]) -> list[Event]:
    return [
        Event(f"stage {i}", "poisson_gaussian", rate, sigma, 1.0, count)
        for i, (rate, sigma, count) in enumerate(steps)
    ]


def load(name: str) -> Candidate:
    """Load the accountant that `module:function` names; the working directory is searched too.

    Raises:
      UserError: No such module or function, or the module cannot be imported.

    Examples:
      >>> load("math:tau")
      Traceback (most recent call last):
      ...
      rdpjax.errors.UserError: --accountant math:tau: tau is no function
    """
    module_name, _, function_name = name.partition(":")
    where = f"--accountant {name}"
    if not module_name or not function_name:
        raise UserError(f"{where}: give it as module:function")
    # Last, so that no file in the working directory hides an installed package.
    before = list(sys.path)
    sys.path.append("")
    try:
        with contextlib.redirect_stdout(sys.stderr):
            module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise UserError(
            f"{where}: {module_name} cannot be imported: {_one_line(error)}; "
            "run from the folder that holds it, or install it"
        ) from None
    finally:
        sys.path[:] = before
    function = getattr(module, function_name, None)
    if function is None:
        near = nearest(function_name, list(vars(module)))
        raise UserError(f"{where}: {module_name} has no {function_name!r}{near}")
    rdp = getattr(function, "rdp", None)
    if not callable(function) or not (rdp is None or callable(rdp)):
        raise UserError(f"{where}: {function_name if rdp is None else 'its rdp'} is no function")
    return Candidate(name, function, rdp)
