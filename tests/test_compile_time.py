"""No chunk of a shipped plan takes the compiler much longer than a plain program does.

A compiler can need minutes for what runs in milliseconds, on one version of jax and not on another.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

import pytest

MULTIPLE = 150
"""Of the reference's second or so: chunks take up to 40 times that, a stuck compiler 600."""
LONGEST = 400
"""Seconds after which the compiler is stopped: on a busy machine all of them take some 60."""


@pytest.mark.slow
@pytest.mark.parametrize("config", ["cardio.toml", "sepsis.toml"])
def test_no_chunk_compiles_for_long(config: str) -> None:
    script = f"from tests.test_compile_time import compile_all; compile_all({config!r})"
    try:
        ended = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=LONGEST
        )
    except subprocess.TimeoutExpired as error:
        pytest.fail(f"the compiler was still at work after {LONGEST} s: {error.stdout!r}")
    assert ended.returncode == 0, ended.stderr
    reference, *chunks = ended.stdout.splitlines()
    assert chunks
    for line in chunks:
        assert float(line.split()[1]) < MULTIPLE * float(reference.split()[1]), ended.stdout


def compile_all(name: str) -> None:
    """Print the seconds to compile a reference program, and each chunk of a shipped plan."""
    import jax
    import jax.numpy as jnp

    from rdpjax.config_file import load_config
    from rdpjax.data.tokenizer import Marginals
    from rdpjax.datasets.registry import dataset_of
    from rdpjax.dpsgd.compiled import Compiled
    from rdpjax.dpsgd.execution import Execution
    from rdpjax.dpsgd.keys import Roots, step_keys
    from rdpjax.dpsgd.loop import make_chunk
    from rdpjax.fitting.generator import make_context
    from rdpjax.fitting.plans import make_plans

    jax.config.update("jax_enable_compilation_cache", False)

    def told(what: str, function: Compiled, *args: object) -> None:
        begun = time.monotonic()
        function.prepare(*args)
        print(what, time.monotonic() - begun, flush=True)

    def plain(weights: jax.Array, keys: jax.Array) -> jax.Array:
        def loss(weights: jax.Array, key: jax.Array) -> jax.Array:
            x = jax.random.normal(key, (64, 64))
            return jnp.mean(jnp.tanh(x @ weights) @ weights.T - x) ** 2

        def step(weights: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
            return weights - jax.grad(loss)(weights, key), None

        return jax.lax.scan(step, weights, keys)[0]

    keys = jax.random.split(jax.random.key(0), 50)
    told("reference", Compiled(plain), jnp.zeros((64, 64)), keys)
    config = load_config(name)
    schema = dataset_of(config.dataset, config.data).codec(config.data).schema
    context = make_context(config, schema, Marginals.uniform(schema, 40_000.0), {})
    artefacts: dict[str, object] = {}
    codes = jax.ShapeDtypeStruct((40_000, len(schema.columns)), jnp.uint8)
    for stage, plan in make_plans(config).stages.items():
        training = config.stages[stage].training(replace(context, artefacts=artefacts))
        state = jax.eval_shape(training.init, jax.random.key(0))
        chunk = make_chunk(plan, Execution(microbatch=48), training.objective, training.update)
        told(stage, chunk, state, codes, step_keys(Roots.make(1), stage, 0, 50), jnp.float32(1))
        released = jax.eval_shape(lambda state, t=training: t.release(state), state)
        artefacts[stage] = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), released)
