"""Discrete Gaussian mechanism on a vector summed over the records."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rdpjax.data.grid import GRID
from rdpjax.dpsgd.discrete import Bits, discrete_gaussian
from rdpjax.errors import UserError
from rdpjax.privacy.events import LATTICE_NUMBERS, LATTICE_STEPS, Event


class Answer(NamedTuple):
    """Noisy answer of a measurement.

    Attributes:
      vector: float64 `[numbers]`.
      deviation: standard deviation of the noise on each number; 0 without privacy.
    """

    vector: np.ndarray
    deviation: float


Answers = Mapping[str, Answer]
"""Answers of measurements, by name."""


@dataclass(frozen=True)
class Measurement:
    """One sum over the records: its sensitivity, its event and its noisy answer in one object.

    Attributes:
      name: name of the event in the ledger, and of the answer.
      sensitivity: L2 sensitivity, the largest norm of any record's contribution.
      numbers: length of the vector.
      vector: `vector(records, answers)`, the exact sum; it may use the earlier noisy answers.

    Raises:
      UserError: more numbers than the accountant allows for; raised before a record is read.
    """

    name: str
    sensitivity: float
    numbers: int
    vector: Callable[[Any, Answers], np.ndarray]

    def __post_init__(self) -> None:
        check_size(self.name, self.numbers)

    def event(self, noise_multiplier: float) -> Event:
        """Return the ledger event of one answer."""
        return measurement_event(self.name, noise_multiplier, self.sensitivity)

    def answer(self, records: Any, answers: Answers, event: Event, key: bytes) -> Answer:
        """Compute the exact sum and return it with noise; see `noisy`.

        Raises:
          ValueError: the vector has another length than was declared; a fault in the code.
        """
        exact = self.vector(records, answers)
        if exact.shape != (self.numbers,):
            raise ValueError(
                f"{self.name}: {exact.shape} numbers where {self.numbers} are declared"
            )
        return Answer(*noisy(exact, event, key))


def measurement_event(name: str, noise_multiplier: float, sensitivity: float) -> Event:
    """Return the ledger event: every record is read once, at the vector's sensitivity.

    Args:
      name: name of the measurement.
      noise_multiplier: noise over sensitivity; 0 for a non-private run.
      sensitivity: the most that one record can add to the vector, in L2 norm.
    """
    bound = sensitivity if noise_multiplier > 0 else float("inf")
    return Event(name, "discrete_gaussian", 1.0, noise_multiplier, bound, 1)


def check_size(name: str, numbers: int) -> None:
    """Refuse a vector with more numbers than the accountant allows for."""
    if numbers > LATTICE_NUMBERS:
        raise UserError(
            f"{name}: {numbers} numbers to measure, at most {LATTICE_NUMBERS} can be accounted; "
            "make the schema's bins wider (cell)"
        )


def noisy(sums: np.ndarray, event: Event, key: bytes) -> tuple[np.ndarray, float]:
    """Add discrete Gaussian noise to sums; return them with the noise's standard deviation.

    Args:
      sums: sum of a bounded vector over the private records, in whole multiples of `GRID`.
      event: from `measurement_event`, already in the ledger.
      key: 32 bytes for this noise, used nowhere else.

    Guarantees:
      One discrete Gaussian mechanism: noise and sums are integer units of one lattice, added
      without rounding, so no digit of the result reveals more than the mechanism's guarantee
      allows. The noise's parameter is `noise_multiplier` times the event's bound, rounded up to a
      whole number of units, of which there are `LATTICE_STEPS` or more; the bound must be the
      largest L2 norm of what any record can add. Without records it is noise on zeros. Rounding to
      float64 comes last.

    Raises:
      UserError: more numbers than the accountant allows for.
      ValueError: sums off the grid, not finite, or 2**62 steps and more; a fault in the code that
        made them.

    References:
      Canonne, Kamath, Steinke 2020, arXiv 2004.00010.
    """
    if not event.noise_multiplier:
        return np.asarray(sums, np.float64), 0.0
    deviation = event.noise_multiplier * event.clip_norm
    step = min(GRID, 2.0 ** math.floor(math.log2(deviation / LATTICE_STEPS)))
    steps = np.asarray(sums, np.float64) / step
    check_size(event.stage, steps.size)
    if not (np.abs(steps) < 2**62).all() or (steps != np.rint(steps)).any():
        raise ValueError(f"{event.stage}: sums off the grid, or too large for it")
    scale = math.ceil(deviation / step)
    drawn = discrete_gaussian(Bits(key), steps.size, scale).reshape(steps.shape)
    return (steps.astype(np.int64) + drawn) * step, scale * step
