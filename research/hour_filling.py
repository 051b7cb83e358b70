"""Ways of filling in hours that the product does not have: changes of one thing each."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from rdpjax.data.stays.filling import Filling
from rdpjax.data.stays.hour_profiles import (
    DEFAULT_LAG,
    DEFAULT_WITHIN,
    MONITORED,
    PANEL_OF,
    Profiles,
)
from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import VARIABLES
from rdpjax.stages.stage import Artefact, Context
from research.hour_network import Guide, HourStage


def filled(filling: Filling, codes: np.ndarray, seed: int) -> Patients:
    """Patients of rows of the table, the quantiles of their scores fitted on these rows.

    Args:
      filling: how; fitted or not.
      codes: `[patients, columns]`.
      seed: of the pseudo-random numbers.
    """
    rng = np.random.default_rng([seed, len(codes)])
    filling = filling.fitted(codes, rng)
    return joined([filling.patients(part, rng) for part in filling.parts(codes)])


def joined(parts: list[Patients]) -> Patients:
    """Patients of several blocks, numbered anew."""
    stays = np.concatenate([part.stays for part in parts])
    return Patients(
        np.concatenate([part.values for part in parts]),
        np.concatenate([[0], np.cumsum(stays)]),
        np.concatenate([part.first for part in parts]),
        np.concatenate([part.onset for part in parts]),
        np.concatenate([part.statics for part in parts]),
        tuple(map(str, range(len(stays)))),
    )


@dataclass(frozen=True)
class WithoutPanels(Filling):
    """Every variable has an order of hours of its own; rates are those of its panel."""

    def _taken(
        self, counts: np.ndarray, lengths: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        shape = (len(counts), self.hours, len(VARIABLES))
        rates = np.log(self.profiles.odds[PANEL_OF, : self.hours].T).astype(np.float32)
        order = rates - np.log(np.maximum(rng.standard_exponential(shape, np.float32), 1e-30))
        return first_hours(order, counts, lengths)


@dataclass(frozen=True)
class Guided(Filling):
    """Hours and means of residuals as a network gave them for just these patients.

    Attributes:
      log_rates: of hours, float32 `[patients, hours, 34]`.
      means: of residuals, float32 `[patients, hours, 34]`.
    """

    log_rates: np.ndarray = field(default_factory=lambda: np.zeros(0))
    means: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def _taken(
        self, counts: np.ndarray, lengths: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        shape = (len(counts), self.hours, PANEL_OF.max() + 1)
        gumbel = -np.log(np.maximum(rng.standard_exponential(shape, np.float32), 1e-30))[
            ..., PANEL_OF
        ]
        return first_hours(gumbel + self.log_rates, counts, lengths)

    def _residuals(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """The means, and what variance and persistence they leave to the residuals."""
        profiles = self.profiles
        explained = np.square(self.means).mean(axis=(0, 1))
        within = np.maximum(profiles.within - explained, 0.1 * profiles.within)
        lagged = (self.means[:, 1:] * self.means[:, :-1]).mean(axis=(0, 1))
        lag = np.clip((profiles.lag * profiles.within - lagged) / within, 0, 0.98)
        rest = replace(profiles, within=within, lag=lag)
        return self.means + Filling(self.hours, self.values, rest)._residuals(n, rng)


@dataclass(frozen=True)
class Steered(Filling):
    """A filling whose hours and mean residuals a trained network gives.

    Attributes:
      network: the network's settings, context and released parameters.
    """

    network: tuple[HourStage, Context, Artefact] | None = None

    def _scores(self, codes: np.ndarray, stays: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        guide = self._guide(codes, rng)
        return Guided(self.hours, self.values, self.profiles, None, *guide)._scores(
            codes, stays, rng
        )

    def _guide(self, codes: np.ndarray, rng: np.random.Generator) -> Guide:
        assert self.network is not None
        stage, context, artefact = self.network
        return stage.guide(context, artefact, codes, int(rng.integers(2**31)))


def steered(filling: Filling, network: tuple[HourStage, Context, Artefact]) -> Steered:
    """The filling with a network beside its noisy profiles."""
    return Steered(filling.hours, filling.values, filling.profiles, None, network)


def first_hours(order: np.ndarray, counts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The hours that stand first: bool `[patients, hours, 34]`, `counts` of them a variable.

    Args:
      order: `[patients, hours, 34]`; the greatest stand first.
      counts: hours to take, `[patients, 34]`.
      lengths: hours there are, `[patients]`.

    Examples:
      >>> order = np.arange(4.0)[None, :, None]
      >>> first_hours(order, np.array([[2]]), np.array([3]))[0, :, 0].tolist()
      [False, True, True, False]
    """
    there = np.arange(order.shape[1]) < lengths[:, None]
    order = np.where(there[..., None], order, -np.inf)
    rank = np.argsort(np.argsort(-order, axis=1), axis=1)
    taken: np.ndarray = rank < counts[:, None]
    return taken


def plain_profiles(profiles: Profiles) -> Profiles:
    """Public defaults in place of what was measured: every hour alike, no correlation."""
    return Profiles(
        odds=np.ones_like(profiles.odds),
        within=np.full(len(VARIABLES), DEFAULT_WITHIN),
        lag=np.full(len(VARIABLES), DEFAULT_LAG),
        correlation=np.eye(len(MONITORED)),
    )
