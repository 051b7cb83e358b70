"""A Conv1d network over hours, variables as channels, trained by DP-SGD.

Of a patient whose row of the table is known it says at which hours each variable is measured, and
where its readings lie about their mean: what `rdpjax.data.stays.filling` fills in without a
network. It is conditional on the row, and has a latent of its own (Kingma, Welling 2014, arXiv
1312.6114) or none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from rdpjax.data.stays.filling import Filling
from rdpjax.data.stays.hour_profiles import HOURLY, PANEL_OF
from rdpjax.data.stays.hour_values import Window
from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import VARIABLES
from rdpjax.dpsgd.clipping import Loss, Params
from rdpjax.models.layers import Conv1d, Dense, PositionDense, code_features
from rdpjax.models.vae import INPUT_SCALE
from rdpjax.stages.optimiser import AveragedAdam, Trained
from rdpjax.stages.stage import Artefact, Context, Training

FILLING = "filling"
"""Name under which the context's artefacts hold the filling: what was measured before."""
LARGEST = 1.5
"""Residuals are clipped to so many normal scores, as where their variance is measured."""
PER_COLUMN = 2
"""Features of a column that the decoder sees; of the given one it sees all."""

Guide = tuple[np.ndarray, np.ndarray]
"""Log rates and mean residuals, float32 `[patients, hours, 34]` each."""


def pack(codes: np.ndarray, patients: Patients, filling: Filling) -> np.ndarray:
    """What the network reads of each patient, in one row.

    Args:
      codes: `[patients, columns]`, rows of the table.
      patients: the same, as read.
      filling: gives readings their normal scores.

    Returns:
      float32 `[patients, columns + 1 + hours * 34]`: codes, length of the modelled stay in hours,
      normal score of every reading, NaN where there is none.
    """
    hours, n = filling.hours, len(patients)
    window = Window.of(patients, hours)
    scores = np.full((n, hours, len(VARIABLES)), np.nan, np.float32)
    scores[window.patient, window.row] = window.scores(filling.values)
    lengths = np.minimum(patients.stays, hours)[:, None]
    return np.concatenate([codes, lengths, scores.reshape(n, -1)], axis=1).astype(np.float32)


class HourEncoder(nn.Module):
    """Which readings there are, and their residuals, to mean and log-variance of the latent."""

    channels: int
    latent: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "*batch hours twice"]
    ) -> tuple[Float[Array, "*batch latent"], Float[Array, "*batch latent"]]:
        x = nn.tanh(Conv1d(self.channels)(x * INPUT_SCALE))
        x = x.reshape(*x.shape[:-2], -1)
        mean = Dense(self.latent)(x)
        log_variance = Dense(self.latent, kernel_init=nn.initializers.zeros)(x)
        return mean, jnp.clip(log_variance, -6.0, 2.0)


class HourDecoder(nn.Module):
    """Row of the table, and latent, to two numbers for every hour and variable.

    Every hour has weights of its own before the convolution; that is how it is told the time.
    Starts at zeros: at what is known without a network.
    """

    channels: int
    hours: int

    @nn.compact
    def __call__(
        self, row: Float[Array, "*batch known"], z: Float[Array, "*batch latent"] | None
    ) -> Float[Array, "*batch hours twice"]:
        x = nn.tanh(Dense(self.channels)(row * INPUT_SCALE))
        if z is not None:
            x = jnp.concatenate([x, z], axis=-1)
        x = jnp.broadcast_to(x[..., None, :], (*x.shape[:-1], self.hours, x.shape[-1]))
        x = PositionDense(self.channels)(x)
        x = x + nn.tanh(Conv1d(self.channels)(x))
        return Dense(2 * len(VARIABLES), kernel_init=nn.initializers.zeros)(x)


@dataclass(frozen=True)
class HourStage:
    """Settings of the network over hours; its records are rows of `pack`.

    Attributes:
      sampling_rate: share of the records expected in a batch, in (0, 1].
      steps: number of noisy steps.
      clip_norm: L2 bound on one record's gradient.
      learning_rate: Adam's first rate; falls linearly to 0.
      kind: a conditional autoencoder, or a decoder without a latent.
      latent: number of latent dimensions.
      channels: number of channels of the convolutions.
      decay: of the moving average of the parameters that is released, in [0, 1), a step.
    """

    sampling_rate: float = 0.12
    steps: int = 200
    clip_norm: float = 6.0
    learning_rate: float = 0.02
    kind: Literal["autoencoder", "decoder"] = "autoencoder"
    latent: int = 4
    channels: int = 8
    decay: float = 0.98

    def training(self, context: Context) -> Training:
        loss = self._loss(context)
        filling: Filling = context.artefacts[FILLING]
        optimiser = AveragedAdam(self.learning_rate, self.steps, self.decay)

        def init(key: jax.Array) -> Trained:
            first, second = jax.random.split(key)
            row = jnp.zeros(_row_features(context, np.zeros(len(context.features), int)).shape)
            z = jnp.zeros(self.latent) if self.kind == "autoencoder" else None
            params = {"decoder": self._decoder(filling).init(first, row, z)["params"]}
            if z is not None:
                seen = jnp.zeros((filling.hours, 2 * len(VARIABLES)))
                params["encoder"] = self._encoder.init(second, seen)["params"]
            return optimiser.start(params)

        return Training(
            init=init,
            objective=lambda state: (state.params, loss),
            update=lambda state, gradient, key: (optimiser.advance(state, gradient), {}),
            release=lambda state: state.mean["decoder"],
        )

    def guide(self, context: Context, artefact: Artefact, codes: np.ndarray, seed: int) -> Guide:
        """Of rows of the table: log rates of hours and mean residuals, about 0 in each patient."""
        filling: Filling = context.artefacts[FILLING]
        z = None
        if self.kind == "autoencoder":
            z = jax.random.normal(jax.random.key(seed), (len(codes), self.latent))
        row = _row_features(context, jnp.asarray(codes))
        out = self._decoder(filling).apply({"params": artefact}, row, z)
        assert isinstance(out, jax.Array)
        delta, mean = np.split(np.asarray(out, np.float32), 2, axis=-1)
        mean = mean * np.sqrt(filling.profiles.within).astype(np.float32)
        mean -= mean.mean(axis=1, keepdims=True)
        return delta + _log_rates(filling), mean

    def _loss(self, context: Context) -> Loss:
        """Masked cross-entropy of what is measured, masked squares of residuals, KL divergence.

        That a variable is measured in as many hours as the row says is given: the odds of an hour
        start at those of the count times the noisy rate, and where all hours or none are measured
        there is nothing to learn. A panel counts once, however many variables it has; and what is
        read every hour counts for as many readings as its persistence leaves.
        """
        filling: Filling = context.artefacts[FILLING]
        columns, hours = len(context.features), filling.hours
        rates, lag = jnp.asarray(_log_rates(filling)), filling.profiles.lag
        spread = jnp.asarray(np.sqrt(filling.profiles.within)[None], jnp.float32)
        panel = jnp.asarray(1 / np.bincount(PANEL_OF)[None, PANEL_OF], jnp.float32)
        hourly = np.isin(np.arange(len(VARIABLES)), HOURLY)
        persists = jnp.asarray(np.where(hourly, (1 - lag) / (1 + lag), 1)[None], jnp.float32)

        def loss(params: Params, record: jax.Array, key: jax.Array) -> jax.Array:
            codes, length = record[:columns].astype(jnp.int32), record[columns]
            scores = record[columns + 1 :].reshape(hours, len(VARIABLES))
            taken = ~jnp.isnan(scores)
            count = taken.sum(axis=0, keepdims=True, dtype=jnp.float32)
            scores = jnp.where(taken, scores, 0)
            level = scores.sum(axis=0, keepdims=True) / jnp.maximum(count, 1)
            residual = jnp.clip(jnp.where(taken, scores - level, 0), -LARGEST, LARGEST) / spread
            z, divergence = None, jnp.float32(0)
            if self.kind == "autoencoder":
                seen = jnp.concatenate([taken.astype(jnp.float32), residual], axis=-1)
                posterior: Any = self._encoder.apply({"params": params["encoder"]}, seen)
                centre, log_variance = posterior
                z = centre + jnp.exp(log_variance / 2) * jax.random.normal(key, centre.shape)
                terms = jnp.exp(log_variance) + centre**2 - 1 - log_variance
                divergence = 0.5 * terms.sum()
            row = _row_features(context, codes)
            out = self._decoder(filling).apply({"params": params["decoder"]}, row, z)
            assert isinstance(out, jax.Array)
            delta, mean = out[:, : len(VARIABLES)], out[:, len(VARIABLES) :]

            there = (jnp.arange(hours, dtype=jnp.float32) < length)[:, None]
            share = jnp.clip(count / jnp.maximum(length, 1), 0.01, 0.99)
            known = jnp.where(there, jnp.exp(rates), 0).sum(axis=0, keepdims=True)
            known = known / jnp.maximum(length, 1) + 1e-9
            logit = delta + rates + jnp.log(share / (1 - share)) - jnp.log(known)
            open_hours = there & (count > 0) & (count < length)
            entropy = jax.nn.softplus(logit) - jnp.where(taken, logit, 0)
            entropy = (panel * jnp.where(open_hours, entropy, 0)).sum()
            square = 0.5 * (residual - mean) ** 2
            square = (persists * jnp.where(taken & (count > 1), square, 0)).sum()
            return entropy + square + divergence

        return loss

    @property
    def _encoder(self) -> HourEncoder:
        return HourEncoder(self.channels, self.latent)

    def _decoder(self, filling: Filling) -> HourDecoder:
        return HourDecoder(self.channels, filling.hours)


def _log_rates(filling: Filling) -> np.ndarray:
    """Noisy log rates of each variable's panel by hour, float32 `[hours, 34]`."""
    rates: np.ndarray = np.log(filling.profiles.odds[PANEL_OF, : filling.hours].T)
    return rates.astype(np.float32)


def _row_features(context: Context, codes: Any) -> Float[Array, "*batch known"]:
    """What the decoder sees of a row: a few features of each column, all of the given one."""
    features = jnp.asarray(context.features)
    seen = code_features(jnp.asarray(codes), features[..., :PER_COLUMN])
    seen = seen.reshape(*seen.shape[:-2], -1)
    given = context.tokenizer.given
    if given is None:
        return seen
    return jnp.concatenate([seen, features[given, codes[..., given]]], axis=-1)
