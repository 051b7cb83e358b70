"""DP-SGD plan: sampler, noise and ledger event derive from it, so that they cannot disagree."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rdpjax.errors import UserError
from rdpjax.privacy.events import Event, round_up_rate

SCALE = 2**32
"""Sampling rates are whole multiples of 1 / SCALE."""


@dataclass(frozen=True)
class Plan:
    """Public parameters of one DP-SGD training, fixed before any record is read.

    Attributes:
      threshold: q * 2**32; each record is sampled with probability q = threshold / 2**32.
      noise_multiplier: standard deviation of the noise on the clipped sum, over `clip_norm`.
      clip_norm: C, the L2 sensitivity of the clipped sum under add-or-remove-one.
      steps: number of noisy steps.
      discrete: whether gradients are summed in integer units and the noise is discrete Gaussian.

    Guarantees:
      The `event` accounts for exactly the sampler (`threshold`), the noise and the sensitivity
      that `rdpjax.dpsgd.loop` uses. q is rounded up, so the claim never understates it. The only
      plan without a guarantee is `private == False` (noise 0, clip inf), whose event has infinite
      epsilon.

    Examples:
      >>> plan = Plan.at_rate(0.04, noise_multiplier=1.0, clip_norm=2.0, steps=10)
      >>> plan.sampling_rate >= 0.04, plan.sampling_rate - 0.04 < 2**-32
      (True, True)
    """

    threshold: int
    noise_multiplier: float
    clip_norm: float
    steps: int
    discrete: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.threshold <= SCALE:
            raise UserError(f"sampling rate must be in (0, 1], got {self.threshold / SCALE}")
        if self.steps < 1:
            raise UserError(f"steps must be 1 or more, got {self.steps}")
        if self.noise_multiplier == 0 and math.isinf(self.clip_norm) and not self.discrete:
            return
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0):
            raise UserError(f"noise multiplier must be positive, got {self.noise_multiplier}")
        if not 1e-6 <= self.clip_norm <= 1e6:
            raise UserError(f"clip norm must lie in [1e-6, 1e6], got {self.clip_norm}")

    @staticmethod
    def at_rate(
        sampling_rate: float,
        *,
        noise_multiplier: float,
        clip_norm: float,
        steps: int,
        discrete: bool = False,
    ) -> Plan:
        """Make a plan whose rate is `sampling_rate` rounded up to a multiple of 2**-32."""
        threshold = int(round_up_rate(sampling_rate) * SCALE)
        return Plan(threshold, noise_multiplier, clip_norm, steps, discrete)

    @property
    def sampling_rate(self) -> float:
        """q, exact in a double: a multiple of 2**-32."""
        return self.threshold / SCALE

    @property
    def private(self) -> bool:
        return self.noise_multiplier > 0

    def event(self, stage: str, start: int, steps: int) -> Event:
        """Return the ledger event for steps `start` to `start + steps` of `stage`."""
        return Event(
            stage=stage,
            mechanism="poisson_discrete_gaussian" if self.discrete else "poisson_gaussian",
            sampling_rate=self.sampling_rate,
            noise_multiplier=self.noise_multiplier,
            clip_norm=self.clip_norm,
            steps=steps,
            start=start,
        )
