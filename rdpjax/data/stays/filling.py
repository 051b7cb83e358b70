"""Decoder of the patient table: rows to hourly stays, sampled from noisy profiles.

The second level of the codec, without a network. A row gives each variable's number of readings
and mean level; the hours of the readings follow the panel's noisy rates, and a reading is the
level plus an autoregressive residual. Everything is post-processing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from rdpjax.data.stays.hour_profiles import MONITORED, PANEL_OF, PANELS, Profiles
from rdpjax.data.stays.hour_values import ADMISSION_EDGES, Values, value_weights
from rdpjax.data.stays.patient_table import (
    ADMISSIONS,
    AGES,
    COUNTS,
    LENGTHS,
    LEVELS,
    OFFSETS,
    STATUSES,
    TAILS,
    stay_levels,
)
from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import LONGEST, VARIABLES

CELLS = 2**18
"""Batch size of the decoder, in patients times hours."""
KNOTS = 512
"""Number of quantiles that represent the distribution function of generated scores."""
_EDGES = np.array([-2.6, *LEVELS[1:], 2.6])


@dataclass(frozen=True)
class Filling:
    """Decoder of the patient table.

    Attributes:
      hours: number of hours of a record that are modelled.
      values: noisy histograms of readings.
      profiles: noisy times, spreads and autocorrelations.
      knots: quantiles of the generated scores of each variable, `[34, KNOTS]`; None before they
        are fitted.
    """

    hours: int
    values: Values
    profiles: Profiles
    knots: np.ndarray | None = None

    def fitted(self, codes: np.ndarray, rng: np.random.Generator) -> Filling:
        """Fit the quantiles of scores generated from `codes`; post-processing.

        Readings have the weights that they have in the histograms, since their ranks are mapped to
        quantiles of those.
        """
        found: list[list[np.ndarray]] = [[] for _ in VARIABLES]
        weights: list[list[np.ndarray]] = [[] for _ in VARIABLES]
        for part in self.parts(codes):
            stays, _ = self._stays(part, rng)
            scores = self._scores(part, stays, rng)
            weight = value_weights((~np.isnan(scores)).sum(axis=1), self.hours)
            for j in range(len(VARIABLES)):
                patient, row = np.nonzero(~np.isnan(scores[:, :, j]))
                found[j].append(scores[patient, row, j])
                weights[j].append(weight[patient, j])
        knots = [
            _quantiles(np.concatenate(scores), np.concatenate(weight))
            for scores, weight in zip(found, weights, strict=True)
        ]
        return replace(self, knots=np.array(knots))

    def parts(self, codes: np.ndarray) -> Iterator[np.ndarray]:
        """Split rows into batches, fewer rows for more hours: arrays of hours dominate memory."""
        size = max(1, CELLS // self.hours)
        for start in range(0, len(codes), size):
            yield codes[start : start + size]

    def patients(self, codes: np.ndarray, rng: np.random.Generator) -> Patients:
        """Decode rows of the table into patients.

        Args:
          codes: `[patients, 75]`, levels of `patient_schema(hours)`.
          rng: random generator; the number of draws depends on the codes only.

        Returns:
          Patients with ids `0`, `1`, ...; hours after the modelled ones hold NaN.
        """
        if self.knots is None:
            raise ValueError("fit the quantiles of the scores first")
        stays, onset = self._stays(codes, rng)
        scores = self._scores(codes, stays, rng)
        jitter = rng.random(scores.shape, np.float32)
        starts = np.concatenate([[0], np.cumsum(stays)])
        values = np.full((starts[-1], len(VARIABLES)), np.nan, np.float32)
        patient, row = np.nonzero(np.arange(self.hours) < stays[:, None])
        target = starts[patient] + row
        for j in range(len(VARIABLES)):
            values[target, j] = self._readings(j, scores[patient, row, j], jitter[patient, row, j])
        offset = _within(OFFSETS, LONGEST + 1, codes[:, 6], rng.random(len(codes)))
        return Patients(
            values,
            starts,
            np.minimum(offset, LONGEST + 1 - stays).astype(np.int32),
            onset.astype(np.int32),
            self._statics(codes, rng),
            tuple(map(str, range(len(codes)))),
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Convert to arrays, for `from_arrays`."""
        assert self.knots is not None
        values = {
            f"values/{v.name}": s for v, s in zip(VARIABLES, self.values.variables, strict=True)
        }
        return values | {
            "hours": np.array(self.hours),
            "knots": self.knots,
            "lengths": self.values.lengths,
            "ages": self.values.ages,
            "admissions": self.values.admissions,
            "odds": self.profiles.odds,
            "within": self.profiles.within,
            "lag": self.profiles.lag,
            "correlation": self.profiles.correlation,
        }

    @staticmethod
    def from_arrays(arrays: Mapping[str, np.ndarray]) -> Filling:
        """Restore from `to_arrays`; KeyError where an array is missing."""
        variables = tuple(arrays[f"values/{variable.name}"] for variable in VARIABLES)
        return Filling(
            int(arrays["hours"]),
            Values(variables, arrays["lengths"], arrays["ages"], arrays["admissions"]),
            Profiles(arrays["odds"], arrays["within"], arrays["lag"], arrays["correlation"]),
            arrays["knots"],
        )

    # -- length of stay and onset ---------------------------------------------------------------

    def _stays(self, codes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw length of stay and row of onset (-1 for never), consistent with column `stay`."""
        levels = stay_levels(self.hours)
        status = np.array([STATUSES.index(s) for s, _ in levels])[codes[:, 0]]
        place = np.array([i for _, i in levels])[codes[:, 0]]
        first = np.array(LENGTHS)[place]
        end = np.array([*LENGTHS[1:], LONGEST + 1])[place]
        first = np.where(status == 1, np.maximum(first, self.hours + 1), first)
        edges = np.concatenate([[0.0], np.cumsum(self.values.lengths + 1e-9)])
        low, high = edges[first - 1], edges[end - 1]
        drawn = np.searchsorted(edges, low + rng.random(len(codes)) * (high - low), "right")
        stays = np.clip(drawn, first, end - 1)
        # A positive patient with tail "no sepsis" contradicts itself: draw one of the other tails.
        code = np.where(codes[:, 1] > 0, codes[:, 1] - 1, rng.integers(0, len(TAILS), len(codes)))
        tail = np.minimum(_within(TAILS, LONGEST + 1, code, rng.random(len(codes))), stays)
        onset = stays - tail
        onset = np.where(status == 2, np.minimum(onset, self.hours - 1), onset)
        onset = np.where(status == 1, np.maximum(onset, self.hours), onset)
        return stays, np.where(status == 0, -1, onset)

    def _statics(self, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw age, gender, units and hours before admission, float32 `[patients, 5]`."""
        n = len(codes)
        out = np.full((n, 5), np.nan, np.float32)
        edges = np.concatenate([[0.0], np.cumsum(self.values.ages + 1e-9)])
        bins = np.array([*AGES, len(self.values.ages)])
        place = np.maximum(codes[:, 2].astype(int) - 1, 0)
        low, high = edges[bins[place]], edges[bins[place + 1]]
        age = np.searchsorted(edges, low + rng.random(n) * (high - low), "right") - 1
        age = np.clip(age, bins[place], bins[place + 1] - 1)
        out[:, 0] = np.where(codes[:, 2] > 0, np.where(age >= 90, 100, age), np.nan)
        out[:, 1] = np.where(codes[:, 3] > 0, codes[:, 3] - 1.0, np.nan)
        out[:, 2] = np.where(codes[:, 4] > 0, codes[:, 4] == 1, np.nan)
        out[:, 3] = np.where(codes[:, 4] > 0, codes[:, 4] == 2, np.nan)
        out[:, 4] = np.where(codes[:, 5] > 0, 0.0 - self._before(codes[:, 5], rng), np.nan)
        return out

    def _before(self, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw hours in hospital before intensive care from the noisy histogram within a bin."""
        edges = np.concatenate([[0.0], np.cumsum(self.values.admissions + 1e-9)])
        ends = np.searchsorted(ADMISSION_EDGES, [*ADMISSIONS, ADMISSION_EDGES[-1]], "left")
        place = np.maximum(codes.astype(int) - 1, 0)
        low, high = edges[ends[place]], edges[ends[place + 1]]
        cell = np.searchsorted(edges, low + rng.random(len(codes)) * (high - low), "right") - 1
        cell = np.clip(cell, ends[place], ends[place + 1] - 1)
        # In hundredths of an hour, from the bin's first to its last.
        a = np.ceil(ADMISSION_EDGES[cell] * 100 - 1e-6)
        b = np.ceil(ADMISSION_EDGES[cell + 1] * 100 - 1e-6)
        hours: np.ndarray = (a + np.floor(rng.random(len(codes)) * (b - a))) / 100
        return hours

    # -- readings -------------------------------------------------------------------------------

    def _scores(self, codes: np.ndarray, stays: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw normal scores of readings, float32 `[patients, hours, 34]`; NaN: unmeasured."""
        lengths = np.minimum(stays, self.hours)
        counts = self._counts(codes, lengths, rng)
        taken = self._taken(counts, lengths, rng)
        level = self._levels(codes, rng)
        residuals = self._residuals(len(codes), rng)
        number = np.maximum(counts, 1)[:, None]
        kept = np.where(taken, residuals, 0)
        kept -= kept.sum(axis=1, keepdims=True, dtype=np.float32) / number
        # Centred per stay, so that the mean score is `level`; autocorrelated residuals lose
        # variance.
        scores = level[:, None] + kept
        return np.where(taken, scores, np.nan).astype(np.float32)

    def _counts(
        self, codes: np.ndarray, lengths: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw numbers of measured hours, int `[patients, 34]`, at most the length of stay."""
        out = np.zeros((len(codes), len(VARIABLES)), np.int64)
        bins = [first for first in COUNTS if first <= self.hours]
        for j, variable in enumerate(VARIABLES):
            code = codes[:, 7 + 2 * j].astype(int)
            dense = variable.panel == "monitor"
            place = np.maximum(code - 1, 0) + (0 if dense else 1)
            place = np.minimum(place, len(bins) - 1)
            # Bins are cut at the length of stay.
            last = np.minimum(np.array([*bins[1:], self.hours + 1])[place] - 1, lengths)
            first = np.minimum(np.array(bins)[place], last)
            number = first + np.floor(rng.random(len(codes)) * (last - first + 1)).astype(int)
            number = lengths - number if dense else number
            out[:, j] = np.where(code > 0, np.clip(number, 1, lengths), 0)
        return out

    def _taken(
        self, counts: np.ndarray, lengths: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw which hours are measured, bool `[patients, hours, 34]`: the first in a random order.

        Variables of a panel share the order, drawn by Gumbel's trick under the panel's odds:
        sampling without replacement at a given count, so rates near 0 or 1 stay there.
        """
        n = len(counts)
        there = np.arange(self.hours) < lengths[:, None]
        waits = rng.standard_exponential((n, self.hours, len(PANELS)), np.float32)
        gumbel = -np.log(np.maximum(waits, 1e-30))
        order = gumbel + np.log(self.profiles.odds[:, : self.hours].T).astype(np.float32)
        order = np.where(there[..., None], order, -np.inf)
        rank = np.argsort(np.argsort(-order, axis=1), axis=1)
        taken: np.ndarray = rank[:, :, PANEL_OF] < counts[:, None]
        return taken

    def _levels(self, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw the mean normal score of each variable, `[patients, 34]`, uniform within its bin."""
        code = codes[:, 8::2].astype(int)
        # The columns disagree: measured by the count, never by the level. Take any level.
        spare = rng.integers(0, len(LEVELS), code.shape)
        place = np.where(code > 0, code - 1, spare)
        low, high = _EDGES[place], _EDGES[place + 1]
        levels: np.ndarray = low + rng.random(code.shape) * (high - low)
        return levels

    def _residuals(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw autoregressive residuals, float32 `[patients, hours, 34]`."""
        noise = rng.standard_normal((n, self.hours, len(VARIABLES)), np.float32)
        monitored = np.array(MONITORED)
        noise[:, :, monitored] = noise[:, :, monitored] @ self._root.T.astype(np.float32)
        lag = self.profiles.lag.astype(np.float32)
        fresh = np.sqrt(1 - lag**2)
        for t in range(1, self.hours):
            noise[:, t] = lag * noise[:, t - 1] + fresh * noise[:, t]
        residuals: np.ndarray = noise * np.sqrt(self.profiles.within).astype(np.float32)
        return residuals

    @cached_property
    def _root(self) -> np.ndarray:
        return np.linalg.cholesky(self.profiles.correlation)

    def _readings(self, j: int, scores: np.ndarray, jitter: np.ndarray) -> np.ndarray:
        """Map scores to values: ranks among generated scores, then noisy quantiles."""
        assert self.knots is not None
        variable, share = VARIABLES[j], self.values.variables[j] + 1e-12
        seen = ~np.isnan(scores)
        rank = np.interp(scores[seen], self.knots[j], np.linspace(1e-9, 1 - 1e-9, KNOTS))
        edges = np.concatenate([[0.0], np.cumsum(share) / share.sum()])
        cell = np.clip(np.searchsorted(edges, rank, "right") - 1, 0, len(share) - 1)
        start = np.rint(variable.edges / variable.step + 0.5).astype(int)
        steps = start[cell] + np.floor(jitter[seen] * (start[cell + 1] - start[cell]))
        out = np.full(scores.shape, np.nan, np.float32)
        out[seen] = np.clip(steps * variable.step, variable.low, variable.high)
        return out


def _within(
    firsts: tuple[int, ...], end: int, place: np.ndarray, uniforms: np.ndarray
) -> np.ndarray:
    """Draw integers uniformly within the bins `place`."""
    bins = np.array([*firsts, end])
    drawn: np.ndarray = bins[place] + np.floor(uniforms * (bins[place + 1] - bins[place]))
    return drawn.astype(int)


def _quantiles(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute `KNOTS` weighted quantiles of the scores; normal ones where scores are few."""
    if len(scores) < KNOTS:
        return np.linspace(-2.6, 2.6, KNOTS)
    order = np.argsort(scores)
    ranks = np.cumsum(weights[order])
    quantiles = np.interp(np.linspace(0, 1, KNOTS), ranks / ranks[-1], scores[order].astype(float))
    rising: np.ndarray = quantiles + np.arange(KNOTS) * 1e-9  # strictly increasing, for np.interp
    return rising
