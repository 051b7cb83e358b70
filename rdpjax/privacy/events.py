"""Mechanism events: entries of the ledger and input of the accountants.

An event holds the noise, the sensitivity of the sum that it is added to, the sampling and the
number of steps. A mechanism that cannot be accounted is refused here, so that no ledger can hold
it.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast, get_args

from rdpjax.errors import UserError

Mechanism = Literal[
    "gaussian", "poisson_gaussian", "discrete_gaussian", "poisson_discrete_gaussian"
]
MECHANISMS: tuple[str, ...] = get_args(Mechanism)
SAMPLED = ("poisson_gaussian", "poisson_discrete_gaussian")
"""Mechanisms with Poisson sampling; the others read every record."""

LATTICE_STEPS = 2**30
"""Smallest parameter of "discrete_gaussian" noise, in units of its lattice."""

LATTICE_NUMBERS = 2**18
"""Largest dimension of a vector under "discrete_gaussian"."""
RELATION = "add-or-remove-one"

# The sampler's threshold is an integer over 2**32, so every rate it can draw is a multiple.
_GRID = 2**32

_MOST_STEPS = 2**53  # beyond it float64 skips integers

# Parts of names of mechanisms that the Poisson analysis does not cover, with the reason.
_REFUSED = {
    "shuffle": "shuffled batches are not Poisson samples, and amplification does not hold for them",
    "weight": "weighted sampling gives each record its own rate, and one rate is accounted",
    "replacement": "fixed-size batches need another analysis under another relation",
    "truncat": "truncated batches cost more than Poisson ones",
}


def round_up_rate(rate: float) -> float:
    """Round `rate` up to a multiple of 2**-32, a rate that the sampler can draw.

    Args:
      rate: A probability in (0, 1].

    Returns:
      The rate to plan, to draw with and to account. Exact in float64.

    Raises:
      UserError: `rate` is outside (0, 1].

    Examples:
      >>> round_up_rate(0.25)
      0.25
      >>> 0.04 < round_up_rate(0.04) < 0.04 + 2**-32
      True
    """
    rate = _number("sampling_rate", rate)
    if not 0 < rate <= 1:
        raise UserError(f"sampling_rate is {rate:g}; it must lie in (0, 1]")
    return math.ceil(rate * _GRID) / _GRID


@dataclasses.dataclass(frozen=True)
class Event:
    """`steps` noisy sums over the records, each with sensitivity C and noise sigma times C.

    Attributes:
      stage: Stage that runs the mechanism: "marginals", "vae", ….
      mechanism: "gaussian" reads every record each step; "poisson_gaussian" draws each record
        independently with probability `sampling_rate`. The "discrete" ones add discrete Gaussian
        noise (Canonne, Kamath, Steinke 2020) to vectors of integer lattice units; that of
        "discrete_gaussian" has a parameter of `LATTICE_STEPS` or more, on `LATTICE_NUMBERS` numbers
        or fewer.
      sampling_rate: A multiple of 2**-32 in (0, 1]; 1 where every record is read.
      noise_multiplier: Standard deviation of the noise divided by `clip_norm`, 1e-6 to 1e6; 0 is
        the non-private mode, whose epsilon is infinite.
      clip_norm: The L2 sensitivity of the sum to one record added or removed; infinite only where
        there is no noise.
      steps: Number of noisy sums, at least 1.
      start: Index of the first of these steps in its stage.
      relation: Neighbouring relation; add-or-remove-one is the one that is accounted.

    Raises:
      UserError: A field is of the wrong kind, out of range, or not accountable.

    Examples:
      >>> Event("vae", "poisson_gaussian", 0.25, 1.1, 1.0, steps=100).steps
      100
      >>> Event("vae", "shuffled_gaussian", 0.25, 1.1, 1.0, steps=100)
      Traceback (most recent call last):
      ...
      rdpjax.errors.UserError: event 'vae': mechanism 'shuffled_gaussian' is not accounted: \
shuffled batches are not Poisson samples, and amplification does not hold for them; \
use one of gaussian, ...
    """

    stage: str
    mechanism: Mechanism
    sampling_rate: float
    noise_multiplier: float
    clip_norm: float
    steps: int
    start: int = 0
    relation: str = RELATION

    def __post_init__(self) -> None:
        name = cast(Any, self.stage)
        if not isinstance(name, str) or not name.isprintable() or not name.strip():
            raise UserError(f"event: stage is {name!r}; give a name of one line")
        try:
            clean = {
                "sampling_rate": _number("sampling_rate", self.sampling_rate),
                "noise_multiplier": _number("noise_multiplier", self.noise_multiplier),
                "clip_norm": _number("clip_norm", self.clip_norm, infinite=True),
                "steps": _count("steps", self.steps, least=1),
                "start": _count("start", self.start, least=0),
            }
            for field, value in clean.items():
                object.__setattr__(self, field, value)  # numpy scalars become Python's
            self._check()
        except UserError as error:
            raise UserError(f"event {name!r}: {error}") from None

    def _check(self) -> None:
        if self.mechanism not in MECHANISMS:
            word = str(self.mechanism)
            why = next((why for part, why in _REFUSED.items() if part in word.lower()), None)
            raise UserError(
                f"mechanism {word!r} is not accounted{': ' + why if why else ''}; "
                f"use one of {', '.join(MECHANISMS)}"
            )
        if self.relation != RELATION:
            raise UserError(
                f"relation {self.relation!r} is not accounted (replacing a record doubles the "
                f"sensitivity); use {RELATION!r}"
            )
        rate = self.sampling_rate
        if not 0 < rate <= 1:
            raise UserError(f"sampling_rate is {rate:g}; it must lie in (0, 1]")
        if not (rate * _GRID).is_integer():
            raise UserError(
                f"sampling_rate {rate!r} is not a multiple of 2**-32, so no sampler here draws "
                "it; round it up with round_up_rate"
            )
        if self.mechanism not in SAMPLED and rate != 1:
            raise UserError(
                f"sampling_rate is {rate:g} but {self.mechanism!r} reads every record; use 1, or "
                f"'poisson_{self.mechanism}'"
            )
        if self.noise_multiplier and not 1e-6 <= self.noise_multiplier <= 1e6:
            raise UserError(
                f"noise_multiplier is {self.noise_multiplier:g}; it must be 0, or from 1e-6 to 1e6"
            )
        if self.clip_norm <= 0:
            raise UserError(f"clip_norm is {self.clip_norm:g}; it must be positive")
        if math.isinf(self.clip_norm) and self.noise_multiplier > 0:
            raise UserError("clip_norm is infinite; noise hides a bounded contribution only")

    @property
    def end(self) -> int:
        """Index of the first step after this event."""
        return self.start + self.steps

    def continues(self, before: Event) -> bool:
        """Test whether this is the next chunk of the same plan, right after `before`."""
        return self == dataclasses.replace(before, start=before.end, steps=self.steps)

    def to_dict(self) -> dict[str, Any]:
        """Return the event as plain JSON values; floats survive exactly, an infinite C is null."""
        values = dataclasses.asdict(self)
        return values | {"clip_norm": None} if math.isinf(self.clip_norm) else values

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Event:
        """Make an event from the result of `to_dict`; every key is required, and no other allowed.

        Raises:
          UserError: A key is missing or unknown, or a value is refused by `Event`.
        """
        fields = {field.name for field in dataclasses.fields(Event)}
        if missing := sorted(fields - set(values)):
            raise UserError(f"event: {', '.join(missing)} missing; the event list is incomplete")
        if unknown := sorted(set(values) - fields):
            raise UserError(f"event: unknown key {unknown[0]!r}; it cannot be accounted")
        clip = values["clip_norm"]
        return Event(**{**values, "clip_norm": math.inf if clip is None else clip})


def merge(events: Iterable[Event]) -> tuple[Event, ...]:
    """Join contiguous chunks of the same plan; everything else stays as it is.

    Total steps per plan are unchanged, so every accountant gives the same result before and after.

    Examples:
      >>> a = Event("vae", "gaussian", 1.0, 2.0, 1.0, steps=3)
      >>> b = dataclasses.replace(a, start=3, steps=4)
      >>> [event.steps for event in merge([a, b])]
      [7]
      >>> [event.steps for event in merge([a, a])]
      [3, 3]
    """
    merged: list[Event] = []
    for event in events:
        for index, before in enumerate(merged):
            if event.continues(before):
                merged[index] = dataclasses.replace(before, steps=before.steps + event.steps)
                break
        else:
            merged.append(event)
    return tuple(merged)


def events_to_list(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Convert events to plain JSON values."""
    return [event.to_dict() for event in events]


def events_from_list(values: object) -> tuple[Event, ...]:
    """Make events from plain JSON values, the inverse of `events_to_list`.

    Raises:
      UserError: Not a list of objects, or one is refused by `Event.from_dict`.
    """
    if not isinstance(values, list):
        raise UserError("events: missing, or no list; the event list is incomplete")
    items: list[Any] = values
    if not all(isinstance(item, dict) for item in items):
        raise UserError("events: each must be an object; the event list is incomplete")
    return tuple(Event.from_dict(item) for item in items)


def check_version(what: str, values: Mapping[str, Any], newest: int) -> None:
    """Refuse a file without a version, or with one that this code does not know.

    Examples:
      >>> check_version("ledger", {"version": 7}, newest=1)
      Traceback (most recent call last):
      ...
      rdpjax.errors.UserError: ledger: version 7 is newer than this rdpjax knows (1); update rdpjax
    """
    version = values.get("version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise UserError(f"{what}: version is {version!r}; it is no file of rdpjax")
    if version > newest:
        raise UserError(
            f"{what}: version {version} is newer than this rdpjax knows ({newest}); update rdpjax"
        )


def _number(field: str, value: object, *, infinite: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise UserError(f"{field} is {value!r}; give a number")
    try:
        number = float(value)
    except OverflowError:
        raise UserError(f"{field} is too large a number") from None
    if not math.isfinite(number) and not (infinite and number > 0):
        raise UserError(f"{field} is {number!r}; give a finite number")
    return number


def _count(field: str, value: object, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise UserError(f"{field} is {value!r}; give a whole number")
    if value < least:
        raise UserError(f"{field} is {value}; it must be at least {least}")
    if int(value) > _MOST_STEPS:
        raise UserError(f"{field} is too large a number; it must be at most 2**53")
    return int(value)
