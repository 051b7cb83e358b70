"""Training on a table whose columns depend on each other brings that dependence back."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdpjax.data.schema import Categorical, Schema
from rdpjax.data.tokenizer import Tokenizer, histogram, marginals_from
from rdpjax.dpsgd.execution import Execution
from rdpjax.dpsgd.keys import Roots, step_keys
from rdpjax.dpsgd.loop import make_chunk
from rdpjax.dpsgd.plan import Plan
from rdpjax.models.vae import log_prior
from rdpjax.stages.autoregressive import AutoregressiveStage
from rdpjax.stages.stage import Context, TrainingStage
from rdpjax.stages.vae import VaeStage

LENGTH = 5
STAY = tuple(f"{status} {i}" for status in ("well", "ill") for i in range(LENGTH))
SCHEMA = Schema(
    "patients",
    (
        Categorical(
            "stay", STAY, runs=(LENGTH, LENGTH), scale=tuple(float(i % LENGTH) for i in range(10))
        ),
        Categorical("count", ("never", *"012345"), runs=(1, 6)),
        Categorical("level", ("never", *"012345"), runs=(1, 6)),
        Categorical("unit", ("a", "b")),
    ),
    label="stay",
    given="stay",
    positive=STAY[LENGTH:],
)
ROWS = 4000


def table() -> np.ndarray:
    """Longer stays have more counts, the ill higher levels; a level is never without a count."""
    rng = np.random.default_rng(0)
    ill, length = rng.random(ROWS) < 0.3, rng.integers(0, LENGTH, ROWS)
    count = np.clip(length + rng.integers(-1, 3, ROWS), 0, 6)
    level = np.where(count == 0, 0, np.clip(3 * ill + rng.integers(1, 5, ROWS), 1, 6))
    return np.stack([LENGTH * ill + length, count, level, rng.random(ROWS) < 0.5], 1).astype(
        np.uint8
    )


def drawn(stage: Any, given: str | None) -> np.ndarray:
    """20,000 records of a stage trained with a little noise."""
    schema, codes = dataclasses.replace(SCHEMA, given=given), table()
    tokenizer = Tokenizer.make(schema, marginals_from(schema, histogram(schema, codes) + 1.0, 1.0))
    prior = log_prior(tokenizer.code_shares(), tokenizer.widths)
    share = float(tokenizer.marginals.shares[0][schema.is_positive].sum())
    context = Context(tokenizer, {}, {}, prior, tokenizer.code_features(8), share)
    training = stage.training(context)
    plan = Plan.at_rate(
        stage.sampling_rate, noise_multiplier=0.5, clip_norm=stage.clip_norm, steps=stage.steps
    )
    chunk = make_chunk(plan, Execution(microbatch=128), training.objective, training.update)
    state = jax.jit(training.init)(jax.random.key(0))
    keys = step_keys(Roots.make(1), "autoregressive", 0, stage.steps)
    state, _ = chunk(state, jnp.asarray(codes), keys, jnp.float32(stage.sampling_rate * ROWS))
    emit = jax.jit(stage.emit(context), static_argnums=(2, 3))
    return np.asarray(emit(training.release(state), jax.random.key(7), 20_000, 1))[0]


def seen(codes: np.ndarray) -> list[float]:
    """Mean level of the ill and of the well, counts of short and long stays, never by half."""
    ill, length = codes[:, 0] >= LENGTH, codes[:, 0] % LENGTH
    some = codes[:, 2] > 0
    return [
        codes[ill & some, 2].mean(),
        codes[~ill & some, 2].mean(),
        codes[length < 2, 1].mean(),
        codes[length > 2, 1].mean(),
    ]


def test_is_a_stage():
    assert isinstance(AutoregressiveStage(), TrainingStage)


@pytest.mark.parametrize("given", ["stay", None])
def test_dependence_comes_back(given: str | None):
    codes = drawn(AutoregressiveStage(steps=60, hidden=16), given)
    np.testing.assert_allclose(seen(codes), seen(table()), atol=0.45)
    real = np.bincount(table()[:, 0], minlength=10) / ROWS
    np.testing.assert_allclose(np.bincount(codes[:, 0], minlength=10) / 20_000, real, atol=0.02)
    assert ((codes[:, 1] == 0) & (codes[:, 2] > 0)).mean() < 0.08, "by chance it were 0.13"


def test_an_autoencoder_given_the_stay_learns_from_it():
    codes = drawn(VaeStage(sampling_rate=0.1, steps=80, latent=4, channels=4), "stay")
    real = np.bincount(table()[:, 0], minlength=10) / ROWS
    np.testing.assert_allclose(np.bincount(codes[:, 0], minlength=10) / 20_000, real, atol=0.02)
    ill, well, short, long = seen(codes)
    assert ill > well + 1 and long > short + 1


def test_draws_of_a_row_are_records_of_their_own():
    tokenizer = Tokenizer.make(SCHEMA, marginals_from(SCHEMA, histogram(SCHEMA, table()), 0.0))
    prior = log_prior(tokenizer.code_shares(), tokenizer.widths)
    stage = AutoregressiveStage(hidden=4)
    context = Context(tokenizer, {}, {}, prior, tokenizer.code_features(8), 0.3)
    training = stage.training(context)
    artefact = training.release(training.init(jax.random.key(0)))
    codes = np.asarray(stage.emit(context)(artefact, jax.random.key(1), 300, 4))
    assert codes.shape == (4, 300, 4)
    assert all((codes[i, :, 0] != codes[j, :, 0]).mean() > 0.5 for i in range(4) for j in range(i))
