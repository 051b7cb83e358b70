"""A generator outside the package: columns without dependence, trained by DP-SGD."""

import dataclasses

import jax
import jax.numpy as jnp

from rdpjax.generators.recipe import Recipe
from rdpjax.stages.stage import Training


@dataclasses.dataclass(frozen=True)
class LevelStage:
    sampling_rate: float = 0.1
    steps: int = 6
    clip_norm: float = 1.0

    def training(self, context):
        prior = jnp.asarray(context.prior)

        def loss(params, codes, key):
            return -jax.nn.log_softmax(prior + params)[jnp.arange(len(prior)), codes].sum()

        return Training(
            init=lambda key: jnp.zeros(prior.shape),
            objective=lambda state: (state, loss),
            update=lambda state, gradient, key: (state - 0.5 * gradient, {}),
            release=lambda state: {"logits": state},
        )

    def emit(self, context):
        def emit(artefact, key, rows, draws):
            logits = jnp.asarray(context.prior) + artefact["logits"]
            return jax.random.categorical(key, logits, shape=(draws, rows, len(logits)))

        return emit


LEVELS = Recipe({"levels": LevelStage()}, shares={"marginals": 0.5, "levels": 0.5})
