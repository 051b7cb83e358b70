"""Stages, a schema and records that train in a moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

if TYPE_CHECKING:
    from rdpjax.config import Config
    from rdpjax.data.schema import Schema
    from rdpjax.synthesizer import Synthesizer


@dataclass(frozen=True)
class ToyStage:
    """Columns without dependence: logits are a weight of each code and a bias of its number.

    Two leaves of different size, each met twice in the loss, so that clipping by leaf and a leaf or
    a use left out of the norm show. Loss and update use their keys, so that a replay with other
    keys shows. Compiles in a moment.
    """

    sampling_rate: float = 0.1
    steps: int = 4
    clip_norm: float = 1.0

    def training(self, context: Any) -> Any:
        import jax
        import jax.numpy as jnp
        from jax.flatten_util import ravel_pytree

        from rdpjax.stages.stage import Training

        prior = jnp.asarray(context.prior)
        width = prior.shape[1]

        def score(params: Any, codes: Any) -> Any:
            hot = jax.nn.one_hot(codes, width)
            return hot.ravel() @ params["weights"].ravel() + hot.sum(axis=0) @ params["bias"]

        def loss(params: Any, codes: Any, key: Any) -> Any:
            """Tell a record from codes drawn from the prior (noise-contrastive estimation)."""
            fake = jax.random.categorical(key, prior)
            return jax.nn.softplus(score(params, fake) - score(params, codes))

        def update(state: Any, gradient: Any, key: Any) -> Any:
            flat, unravel = ravel_pytree(jax.tree.map(lambda s, g: s - 0.1 * g, state, gradient))
            drift = jax.random.normal(jax.random.wrap_key_data(key), flat.shape)
            return unravel(flat + 0.001 * drift), {"drift": jnp.abs(drift).max()}

        return Training(
            init=lambda key: {
                "weights": 0.01 * jax.random.normal(key, prior.shape),
                "bias": jnp.zeros(width),
            },
            objective=lambda state: (state, loss),
            update=update,
            release=lambda state: {"logits": state["weights"] + state["bias"][None]},
        )

    def emit(self, context: Any) -> Any:
        import jax
        import jax.numpy as jnp

        def emit(artefact: Any, key: Any, rows: int, draws: int) -> Any:
            logits = jnp.asarray(context.prior) + artefact["logits"]
            return jax.random.categorical(key, logits, shape=(draws, rows, len(logits)))

        return emit


@dataclass(frozen=True)
class ToyLabeler:
    """Logistic regression on the codes."""

    sampling_rate: float = 0.1
    steps: int = 4
    clip_norm: float = 1.0

    def training(self, context: Any) -> Any:
        import jax
        import jax.numpy as jnp

        from rdpjax.stages.stage import Training

        label = context.tokenizer.schema.position(context.tokenizer.schema.label)

        def loss(params: Any, codes: Any, key: Any) -> Any:
            logit = self._logit(context, params["weights"], codes) + params["bias"][0]
            return jax.nn.softplus(jnp.where(codes[label] == 1, -logit, logit))

        return Training(
            init=lambda key: {"weights": jnp.zeros(context.prior.shape), "bias": jnp.zeros(1)},
            objective=lambda state: (state, loss),
            update=lambda state, gradient, key: (
                jax.tree.map(lambda s, g: s - 0.5 * g, state, gradient),
                {},
            ),
            # The bias is spread over the columns that a logit is the sum of.
            release=lambda state: {
                "weights": state["weights"] + state["bias"][None] / (len(context.prior) - 1)
            },
        )

    def logits(self, context: Any, artefact: Any, codes: Any) -> Any:
        return self._logit(context, artefact["weights"], codes)

    def _logit(self, context: Any, weights: Any, codes: Any) -> Any:
        import jax.numpy as jnp

        label = context.tokenizer.schema.position(context.tokenizer.schema.label)
        scores = weights[jnp.arange(len(weights)), codes]
        return scores.sum(-1) - scores[..., label]


@pytest.fixture(scope="session")
def toy_settings() -> Config:
    """Two stages that train in a moment, in two chunks each; small blocks."""
    from rdpjax.config import Config

    return Config(
        rows=500,
        shares={"marginals": 0.2, "vae": 0.5, "labeler": 0.3},
        stages={"vae": ToyStage(), "labeler": ToyLabeler()},
        chunk_steps=2,
        block_rows=512,
        pool_rows=2048,
    )


def bring_in_toys(patch: pytest.MonkeyPatch) -> None:
    """Let the toy stages be read from and written to TOML; no plots.

    To write a stage is all that it takes to bring it in: nothing but its name is made known here.
    """
    import rdpjax.config_file
    from rdpjax.evaluation import plots

    classes = {"vae": ToyStage, "labeler": ToyLabeler}
    patch.setattr(rdpjax.config_file, "stage_classes", lambda: classes)
    for plot in ("plot_densities", "plot_correlations", "plot_losses"):
        patch.setattr(plots, plot, lambda *args: None)


@pytest.fixture
def toy_config(toy_settings: Config, monkeypatch: pytest.MonkeyPatch) -> Config:
    """`toy_settings`, with the toy stages brought in."""
    bring_in_toys(monkeypatch)
    return toy_settings


@pytest.fixture(scope="session")
def toy_schema() -> Schema:
    """A number in halves, a whole one above it, a category in words and a label."""
    from rdpjax.data.schema import Categorical, Numeric, Schema

    return Schema(
        "toy",
        (
            Numeric("low", "kg", 0, 20, resolution=0.5, within="halves"),
            Numeric("high", "cm", 0, 90),
            Categorical("ward", ("north", "south", "west")),
            Categorical("ill", (0, 1)),
        ),
        label="ill",
        less=(("low", "high"),),
    )


@pytest.fixture(scope="session")
def toy_frame() -> pd.DataFrame:
    """3,000 records of `toy_schema`; the label depends on both numbers."""
    rng = np.random.default_rng(0)
    low = np.rint(2 * rng.gamma(4, 2, 3000).clip(0, 20)) / 2
    high = np.rint(low + 5 + 40 * rng.random(3000)).clip(0, 90)
    return pd.DataFrame(
        {
            "low": low,
            "high": high,
            "ward": rng.choice(["north", "south", "west"], 3000, p=[0.6, 0.3, 0.1]),
            "ill": (rng.random(3000) < 1 / (1 + np.exp(-(low - 8) / 3))).astype(int),
        }
    )


@pytest.fixture(scope="session")
def fitted_once(toy_settings: Config, toy_schema: Schema, toy_frame: pd.DataFrame) -> Synthesizer:
    from rdpjax.synthesizer import Synthesizer

    with pytest.MonkeyPatch.context() as patch:
        bring_in_toys(patch)
        return Synthesizer(toy_schema, config=toy_settings).fit(toy_frame, seed=1)


@pytest.fixture
def synth(toy_config: Config, fitted_once: Synthesizer) -> Synthesizer:
    """Return the public object, fitted to `toy_frame` with seed 1: a test's own, to fit again."""
    from rdpjax.synthesizer import Synthesizer

    own = Synthesizer(fitted_once.schema, config=toy_config)
    vars(own).update(vars(fitted_once))  # whatever it holds is replaced by a fit, never changed
    return own
