"""A Conv1d variational autoencoder of coded records.

Kingma, Welling 2014, Auto-Tokenizer Variational Bayes, arXiv 1312.6114. A record is one code per
column. The decoder's heads are one softmax per column: nothing is regressed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from rdpjax.models.layers import Conv1d, Dense, PositionDense, code_features, one_hot, tanh

Params = dict[str, Any]
Latent = Float[Array, "*batch latent"]
Logits = Float[Array, "*batch columns width"]

INPUT_SCALE = 0.5
"""Features are scaled down so that gradients are short beside the clip norm."""

Features = Float[Array, "columns width order"]


class Encoder(nn.Module):
    """Features of a record to the mean and log-variance of the latent."""

    channels: int
    latent: int

    @nn.compact
    def __call__(self, x: Float[Array, "*batch columns order"]) -> tuple[Latent, Latent]:
        x = PositionDense(self.channels)(x * INPUT_SCALE)
        x = x + tanh(Conv1d(self.channels)(x))
        x = x.reshape(*x.shape[:-2], -1)
        mean = Dense(self.latent)(x)
        log_variance = Dense(self.latent, kernel_init=nn.initializers.zeros)(x)
        mean, log_variance = mean.astype(jnp.float32), log_variance.astype(jnp.float32)
        return mean, jnp.clip(log_variance, -6.0, 2.0)


class Decoder(nn.Module):
    """Latent to every column's weights of its features.

    Between latent and heads every column has `channels` numbers and no more. That bottleneck, not
    a wide hidden layer, is what noise leaves room for. What is given, if anything, goes into the
    bottleneck beside the latent, and straight to every column's head.
    """

    channels: int
    columns: int
    order: int

    @nn.compact
    def __call__(
        self, z: Latent, known: Float[Array, "*batch order"] | None = None
    ) -> Float[Array, "*batch columns order"]:
        z = z * jnp.broadcast_to(fading(z.shape[-1]), z.shape)
        if known is not None:
            z = jnp.concatenate([z, known], axis=-1)
        x = Dense(self.columns * self.channels)(z)
        x = x.reshape(*x.shape[:-1], self.columns, self.channels)
        x = x + tanh(Conv1d(self.channels)(x))
        if known is not None:
            every = (*x.shape[:-1], known.shape[-1])
            known = jnp.broadcast_to(known[..., None, :], every)
            x = jnp.concatenate([x, known.astype(x.dtype)], axis=-1)
        return PositionDense(self.order, scale=0.5)(x)


def fading(latent: int) -> Float[Array, " latent"]:
    """Fixed scales of the latent dimensions, exp(-k / 5): later ones matter less.

    Every dimension that is used costs gradient norm, hence noise; so training settles on the
    first ones, and `latent` need not be tuned to the budget.
    """
    return jnp.exp(-jnp.arange(latent) / 5)


@dataclass(frozen=True)
class Vae:
    """The autoencoder as pure functions.

    Attributes:
      columns: positions of a record.
      width: codes of the widest column.
      order: features of a code.
      latent: latent dimensions.
      channels: channels of the convolutions.
      given: position of the column that the decoder is told, and does not model; None for none.
    """

    columns: int
    width: int
    order: int
    latent: int = 32
    channels: int = 8
    given: int | None = None

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters, `{"encoder": ..., "decoder": ...}`."""
        first, second = jax.random.split(key)
        record = jnp.zeros((self.columns, self.order))
        return {
            "encoder": self._encoder.init(first, record)["params"],
            "decoder": self._decoder.init(
                second,
                jnp.zeros((self.latent,)),
                None if self.given is None else jnp.zeros((self.order,)),
            )["params"],
        }

    def encode(
        self, params: Params, codes: Int[Array, "*batch columns"], features: Features
    ) -> tuple[Latent, Latent]:
        """Mean and log-variance of q(z | codes)."""
        seen = code_features(codes, features)
        posterior: Any = self._encoder.apply({"params": params["encoder"]}, seen)
        mean, log_variance = posterior
        return mean, log_variance

    def decode(
        self,
        decoder: Params,
        z: Latent,
        prior: Float[Array, "columns width"],
        features: Features,
        known: Int[Array, "*batch"] | None = None,
    ) -> Logits:
        """Logits of p(codes | z), or of p(other codes | z, the given column's code).

        Args:
          decoder: its parameters.
          z: latents.
          prior: `log_prior` of the noisy shares; the given column's logits are its prior.
          features: of the codes.
          known: codes of the given column, if there is one.
        """
        if self.given is None:
            weights = self._decoder.apply({"params": decoder}, z)
        else:
            seen = features[self.given][known] * INPUT_SCALE
            weights = self._decoder.apply({"params": decoder}, z, seen)
            features = features.at[self.given].set(0)
        logits = jnp.einsum("...lf,lwf->...lw", weights, features)
        return logits + jnp.broadcast_to(prior, logits.shape)

    def loss(
        self,
        params: Params,
        codes: Int[Array, " columns"],
        key: jax.Array,
        prior: Float[Array, "columns width"],
        features: Features,
        beta: Float[Array, ""] | float = 1.0,
    ) -> Float[Array, ""]:
        """Negative evidence lower bound of one record, in nats, the KL term weighted by `beta`.

        The likelihood is that of the columns that are not given.
        """
        mean, log_variance = self.encode(params, codes, features)
        z = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)
        known = None if self.given is None else codes[self.given]
        logits = jax.nn.log_softmax(self.decode(params["decoder"], z, prior, features, known))
        chances = (one_hot(codes, self.width) * logits).sum(axis=-1)
        if self.given is not None:
            chances = chances.at[self.given].set(0)
        likelihood = chances.sum()
        divergence = 0.5 * (jnp.exp(log_variance) + mean**2 - 1 - log_variance).sum()
        return beta * divergence - likelihood

    @property
    def _encoder(self) -> Encoder:
        return Encoder(self.channels, self.latent)

    @property
    def _decoder(self) -> Decoder:
        return Decoder(self.channels, self.columns, self.order)


def log_prior(shares: np.ndarray, widths: tuple[int, ...]) -> np.ndarray:
    """Starting biases of softmax heads: log shares, floored, and -1e9 where there is no code.

    Args:
      shares: (columns, width) noisy shares.
      widths: how many codes each column has.
    """
    floor = 1e-4
    exists = np.arange(shares.shape[1]) < np.asarray(widths)[:, None]
    return np.where(exists, np.log(np.maximum(shares, floor)), -1e9).astype(np.float32)
