"""Generator of latents for a frozen decoder, and a Conv1d discriminator of tokenised records.

Goodfellow et al. 2014, Generative Adversarial Networks, arXiv 1406.2661. The generator starts at
the autoencoder's prior, conditioned on the class: training adds a correction to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from rdpjax.models.layers import Conv1d, Dense, PositionDense, tanh
from rdpjax.models.vae import INPUT_SCALE

Params = dict[str, Any]
Latent = Float[Array, "*batch latent"]
OneHots = Float[Array, "*batch width"]


@dataclass(frozen=True)
class Generator:
    """Map from noise and class to a latent: an affine map per class plus a trained residual.

    Attributes:
      noise: number of noise dimensions, at least `latent`.
      latent: number of the decoder's latent dimensions.
      hidden: width of the residual network.
      known: number of class features that the residual network takes.
    """

    noise: int = 64
    latent: int = 32
    hidden: int = 64
    known: int = 2

    def init(
        self,
        key: jax.Array,
        means: Float[Array, "maps latent"],
        roots: Float[Array, "maps latent latent"],
    ) -> Params:
        """Initialise parameters at N(means[y], roots[y] roots[y]^T) for map y."""
        sample = jnp.zeros((self.noise + self.known,))
        return {
            "mean": means,
            "root": roots,
            "residual": self._residual.init(key, sample)["params"],
        }

    def __call__(
        self,
        params: Params,
        noise: Float[Array, "batch noise"],
        which: Float[Array, "batch maps"],
        known: Float[Array, "batch known"],
    ) -> Latent:
        """Compute latents from noise, the affine map of each (one-hot), and the class features."""
        # Apply all maps, then select: the gradient of a gather of matrices is a scatter.
        affine: jax.Array = jnp.einsum("yij,bj->byi", params["root"], noise[:, : self.latent])
        affine = ((affine + params["mean"][None]) * which[..., None]).sum(axis=1)
        seen = jnp.concatenate([noise, known], axis=-1)
        bent: jax.Array = self._residual.apply({"params": params["residual"]}, seen)  # type: ignore
        return affine + bent

    @property
    def _residual(self) -> nn.Module:
        zero = nn.initializers.zeros
        return nn.Sequential([Dense(self.hidden), tanh, Dense(self.latent, kernel_init=zero)])


class Discriminator(nn.Module):
    """Discriminator: one logit for the features of a (record, label) pair; starts near zero."""

    channels: int = 8
    hidden: int = 16

    @nn.compact
    def __call__(self, x: Float[Array, "*batch columns order"]) -> Float[Array, "*batch"]:
        x = x * INPUT_SCALE
        linear = Dense(1, kernel_init=nn.initializers.zeros)(x.reshape(*x.shape[:-2], -1))
        x = PositionDense(self.channels)(x)
        x = x + nn.leaky_relu(Conv1d(self.channels)(x), 0.2)
        x = x.reshape(*x.shape[:-2], -1)
        x = nn.leaky_relu(Dense(self.hidden)(x), 0.2)
        score = Dense(1, kernel_init=nn.initializers.normal(0.1))(x)
        return (linear + score)[..., 0]


def straight_through(key: jax.Array, logits: OneHots, temperature: float) -> OneHots:
    """Draw one-hots from softmaxes, with the gradient of a relaxed draw (straight-through Gumbel).

    Generated records are thus hard one-hots like real ones, so the discriminator cannot separate
    them by hard against soft. Jang, Gu, Poole 2017, arXiv 1611.01144.
    """
    perturbed = logits + jax.random.gumbel(key, logits.shape)
    soft = jax.nn.softmax(perturbed / temperature)
    hard = jax.nn.one_hot(perturbed.argmax(-1), logits.shape[-1])
    return hard + (soft - jax.lax.stop_gradient(soft))
