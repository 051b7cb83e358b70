"""No key is used twice: every stage's chunk is traced by jax's own checker of keys."""

from __future__ import annotations

from typing import Any

import jax
import jax.errors
import jax.numpy as jnp
import numpy as np
import pytest

from rdpjax.config_file import load_config
from rdpjax.data.tokenizer import Marginals
from rdpjax.datasets.registry import find_dataset
from rdpjax.dpsgd.execution import Execution
from rdpjax.dpsgd.keys import Roots
from rdpjax.dpsgd.loop import chunk_keys, make_chunk
from rdpjax.dpsgd.plan import Plan
from rdpjax.fitting.generator import make_context

STAGES = [
    ("cardio", "labeler"),
    *(
        pytest.param(name, stage, marks=pytest.mark.slow)
        for name, stage in [("cardio", "vae"), ("cardio", "gan"), ("sepsis", "autoregressive")]
    ),
]


def _codec(name: str) -> Any:
    dataset = find_dataset(name)
    return dataset.codec(dataset.settings())


def checked(name: str, stage: str, *, discrete: bool = False, loss: Any = None) -> None:
    """Trace two steps of a stage's training under the checker."""
    config = load_config(f"{name}.toml")
    schema = _codec(name).schema
    artefacts: dict[str, Any] = {}
    context = make_context(config, schema, Marginals.uniform(schema, 5000.0), artefacts)
    with jax.debug_key_reuse(True):
        for before, settings in config.stages.items():
            training = settings.training(context)
            state = jax.jit(training.init)(jax.random.key(0))
            if before == stage:
                break
            artefacts[before] = training.release(state)
        plan = Plan.at_rate(0.2, noise_multiplier=1, clip_norm=1, steps=2, discrete=discrete)
        codes = jnp.zeros((8, len(schema.columns)), jnp.uint8)
        params, true = training.objective(state)
        objective = training.objective if loss is None else lambda s: (params, loss(true))
        execution = Execution(clipping="lattice" if discrete else "vmap", microbatch=4)
        chunk = make_chunk(plan, execution, objective, training.update)
        chunk.prepare(
            state, codes, chunk_keys(plan, Roots.make(1), stage, 0, 2, params), np.float32(1)
        )


@pytest.mark.parametrize(("name", "stage"), STAGES)
def test_no_stage_uses_a_key_twice(name: str, stage: str) -> None:
    checked(name, stage)


@pytest.mark.slow
def test_nor_does_it_hardened() -> None:
    checked("cardio", "labeler", discrete=True)


def test_sabotage_a_key_used_twice_is_seen() -> None:
    def twice(loss: Any) -> Any:
        def reused(params: Any, example: Any, key: jax.Array) -> jax.Array:
            noise = jax.random.normal(key) - jax.random.normal(key)
            return loss(params, example, jax.random.fold_in(key, 1)) + noise

        return reused

    with pytest.raises(jax.errors.KeyReuseError):
        checked("cardio", "labeler", loss=twice)
