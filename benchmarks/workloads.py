"""What is trained in the benchmarks: networks, losses and public synthetic records.

A workload is a loss of ONE example, `loss(params, example, noise)`, where `noise` is the standard
normal vector of the reparameterisation (empty where a loss draws nothing). Given as data, it can be
the same for every contender, in whatever framework.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from rdpjax.models.gan import Discriminator
from rdpjax.models.labeler import Labeler
from rdpjax.models.layers import Conv1d, code_features, tanh
from rdpjax.models.vae import Vae, log_prior

Records = dict[str, np.ndarray]

LATENT = 32
LABEL = 11  # position of the label among cardio's columns
WIDTHS = (32, 2, 32, 32, 32, 32, 3, 3, 2, 2, 2, 2)
"""Codes of every column of a record of cardio's shape."""
ORDER = 8
HOURS, SIGNALS = 24, 40
PIXELS, DIGITS = 784, 10


@dataclass(frozen=True)
class Workload:
    """One network, one loss, one kind of record.

    Attributes:
      name: as on the command line.
      init: parameters from a key.
      loss: of one example, with the noise given.
      records: that many synthetic records from a seed, as numpy arrays.
      noise: length of the noise vector of one example.
      keyed: the project's own loss with a key, where it has one; else made of `loss`.
    """

    name: str
    init: Callable[[jax.Array], Any]
    loss: Callable[[Any, Any, jax.Array], jax.Array]
    records: Callable[[int, int], Records]
    noise: int = 0
    keyed: Callable[[Any, Any, jax.Array], jax.Array] | None = field(default=None)

    def with_key(self, params: Any, example: Any, key: jax.Array) -> jax.Array:
        """The loss as rdpjax wants it; its noise is `normal(key, (noise,))`."""
        if self.keyed is not None:
            return self.keyed(params, example, key)
        return self.loss(params, example, jax.random.normal(key, (self.noise,)))

    @property
    def parameters(self) -> int:
        shapes = jax.eval_shape(self.init, jax.random.key(0))
        return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))


@cache
def features() -> np.ndarray:
    """Cosines of the codes' mid-ranks, as `Tokenizer.code_features`, under uniform shares."""
    shares = code_shares()
    ranks = np.cumsum(shares, axis=1) - shares / 2
    k = np.arange(1, ORDER + 1)
    return (np.sqrt(2) * np.cos(np.pi * k * ranks[..., None]) / k * (shares > 0)[..., None]).astype(
        np.float32
    )


def code_shares() -> np.ndarray:
    exists = np.arange(max(WIDTHS)) < np.asarray(WIDTHS)[:, None]
    return exists / exists.sum(axis=1, keepdims=True)


def prior() -> np.ndarray:
    return log_prior(code_shares(), WIDTHS)


def _codes(rows: int, seed: int) -> Records:
    draws = np.random.default_rng(seed).random((rows, len(WIDTHS)), np.float32)
    return {"codes": (draws * np.asarray(WIDTHS, np.float32)).astype(np.uint8)}


def _stays(rows: int, seed: int) -> Records:
    rng = np.random.default_rng(seed)
    return {
        "hours": rng.standard_normal((rows, HOURS, SIGNALS), np.float32),
        "label": rng.integers(0, 2, rows).astype(np.int32),
    }


def _digits(rows: int, seed: int) -> Records:
    rng = np.random.default_rng(seed)
    return {
        "pixels": rng.random((rows, PIXELS), np.float32),
        "digit": rng.integers(0, DIGITS, rows).astype(np.int32),
    }


# -- cardio: the project's own networks ----------------------------------------------------------

VAE = Vae(len(WIDTHS), max(WIDTHS), ORDER, LATENT, channels=32)
CRITIC = Discriminator()
LABELER = Labeler(LABEL)


def _applied(model: nn.Module, params: Any, x: Any) -> Any:
    return model.apply({"params": params}, x)


def _cardio_vae(params: Any, example: Any, noise: jax.Array) -> jax.Array:
    codes = example["codes"]
    mean, log_variance = VAE.encode(params, codes, features())
    z = mean + jnp.exp(log_variance / 2) * noise
    logits = jax.nn.log_softmax(VAE.decode(params["decoder"], z, prior(), features()))
    likelihood = (jax.nn.one_hot(codes, VAE.width) * logits).sum()
    return 0.5 * (jnp.exp(log_variance) + mean**2 - 1 - log_variance).sum() - likelihood


def _cardio_vae_keyed(params: Any, example: Any, key: jax.Array) -> jax.Array:
    return VAE.loss(params, example["codes"], key, prior(), features())


def _cardio_discriminator(params: Any, example: Any, noise: jax.Array) -> jax.Array:
    seen = code_features(example["codes"], features())
    return jax.nn.softplus(-_applied(CRITIC, params, seen))


def _cardio_labeler(params: Any, example: Any, noise: jax.Array) -> jax.Array:
    codes = example["codes"]
    logit = _applied(LABELER, params, code_features(codes, features()))
    return jax.nn.softplus(jnp.where(codes[LABEL] == 1, -logit, logit))


def _cardio_init(model: nn.Module) -> Callable[[jax.Array], Any]:
    return lambda key: model.init(key, jnp.zeros((len(WIDTHS), ORDER)))["params"]


# -- sepsis: convolutions over hours, and Gaussian heads -----------------------------------------


class StayEncoder(nn.Module):
    """A stay to the mean and log-variance of its latent."""

    channels: int = 32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = tanh(Conv1d(self.channels)(x))
        x = x + tanh(Conv1d(self.channels)(x))
        x = x.reshape(*x.shape[:-2], -1)
        return nn.Dense(LATENT)(x), jnp.clip(nn.Dense(LATENT)(x), -6.0, 2.0)


class StayDecoder(nn.Module):
    """A latent to the means of all hours and signals."""

    channels: int = 32

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        x = nn.Dense(HOURS * self.channels)(z)
        x = x.reshape(*x.shape[:-1], HOURS, self.channels)
        x = x + tanh(Conv1d(self.channels)(x))
        return Conv1d(SIGNALS)(x)


class StayScore(nn.Module):
    """One logit of a stay: discriminator and labeler differ in their width and loss."""

    channels: int
    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = tanh(Conv1d(self.channels)(x))
        x = x + tanh(Conv1d(self.channels)(x))
        x = x.reshape(*x.shape[:-2], -1)
        return nn.Dense(1)(tanh(nn.Dense(self.hidden)(x)))[..., 0]


STAY_CRITIC = StayScore(channels=32, hidden=32)
STAY_LABELER = StayScore(channels=16, hidden=16)


def _sepsis_init(key: jax.Array) -> Any:
    first, second = jax.random.split(key)
    return {
        "encoder": StayEncoder().init(first, jnp.zeros((HOURS, SIGNALS)))["params"],
        "decoder": StayDecoder().init(second, jnp.zeros((LATENT,)))["params"],
    }


def _sepsis_vae(params: Any, example: Any, noise: jax.Array) -> jax.Array:
    hours = example["hours"]
    mean, log_variance = _applied(StayEncoder(), params["encoder"], hours)
    z = mean + jnp.exp(log_variance / 2) * noise
    seen = _applied(StayDecoder(), params["decoder"], z)
    divergence = 0.5 * (jnp.exp(log_variance) + mean**2 - 1 - log_variance).sum()
    return divergence + 0.5 * jnp.square(hours - seen).sum()


def _sepsis_discriminator(params: Any, example: Any, noise: jax.Array) -> jax.Array:
    return jax.nn.softplus(-_applied(STAY_CRITIC, params, example["hours"]))


def _sepsis_labeler(params: Any, example: Any, noise: jax.Array) -> jax.Array:
    logit = _applied(STAY_LABELER, params, example["hours"])
    return jax.nn.softplus(jnp.where(example["label"] == 1, -logit, logit))


def _score_init(model: StayScore) -> Callable[[jax.Array], Any]:
    return lambda key: model.init(key, jnp.zeros((HOURS, SIGNALS)))["params"]


# -- a multilayer perceptron of MNIST's size -----------------------------------------------------


class Perceptron(nn.Module):
    """784-128-10."""

    hidden: int = 128

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(DIGITS)(nn.relu(nn.Dense(self.hidden)(x)))


def _mlp(params: Any, example: Any, noise: jax.Array) -> jax.Array:
    logits = jax.nn.log_softmax(_applied(Perceptron(), params, example["pixels"]))
    return -(jax.nn.one_hot(example["digit"], DIGITS) * logits).sum()


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("cardio-vae", VAE.init, _cardio_vae, _codes, LATENT, _cardio_vae_keyed),
        Workload("cardio-discriminator", _cardio_init(CRITIC), _cardio_discriminator, _codes),
        Workload("cardio-labeler", _cardio_init(LABELER), _cardio_labeler, _codes),
        Workload("sepsis-vae", _sepsis_init, _sepsis_vae, _stays, LATENT),
        Workload("sepsis-discriminator", _score_init(STAY_CRITIC), _sepsis_discriminator, _stays),
        Workload("sepsis-labeler", _score_init(STAY_LABELER), _sepsis_labeler, _stays),
        Workload(
            "mlp", lambda key: Perceptron().init(key, jnp.zeros(PIXELS))["params"], _mlp, _digits
        ),
    )
}


@cache
def fresh_params(workload: Workload) -> Any:
    """What training starts from, as numpy arrays."""
    return jax.tree.map(np.asarray, jax.jit(workload.init)(jax.random.key(0)))


def example_params(workload: Workload) -> Any:
    """Parameters in general position: at a fresh start some layers are zero, and hide the rest."""
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: leaf + 0.05 * rng.standard_normal(leaf.shape, np.float32),
        fresh_params(workload),
    )
