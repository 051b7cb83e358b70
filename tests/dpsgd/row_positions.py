"""Run by test_lattice with a run's own compiler settings: prints how many integers depend on a row.

What a record adds to a sum must not depend on who else is drawn: with one record more before it, a
record stands elsewhere in its microbatch, or in another one.
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from rdpjax.config import load_config
from rdpjax.data.cardio import CARDIO
from rdpjax.data.encoding import Marginals
from rdpjax.device import prepare_processor
from rdpjax.dpsgd.compiled import Compiled
from rdpjax.dpsgd.execution import Execution
from rdpjax.dpsgd.keys import Roots, step_keys
from rdpjax.dpsgd.loop import add_drawn
from rdpjax.dpsgd.plan import Plan
from rdpjax.dpsgd.sampling import Draw
from rdpjax.generator import make_context


def main(stage: str, size: int) -> None:
    prepare_processor()
    config = load_config("cardio.toml")
    context = make_context(config, CARDIO, Marginals.uniform(CARDIO, 5000.0), {})
    training = config.stages[stage].training(context)
    params, loss = training.objective(jax.jit(training.init)(jax.random.key(0)))
    # Away from the start, where many gradients are zero.
    flat, unravel = ravel_pytree(params)
    params = unravel(flat + 0.1 * jax.random.normal(jax.random.key(1), flat.shape))
    total, rng, widths = 2 * size, np.random.default_rng(0), context.encoding.widths
    table = np.stack([rng.integers(0, widths) for _ in range(total)]).astype(np.uint8)
    plan = Plan.at_rate(0.5, noise_multiplier=1.0, clip_norm=4.0, steps=1)
    execution = Execution(clipping="lattice", microbatch=size)
    keys = jax.tree.map(lambda column: column[0], step_keys(Roots.make(0), stage, 0, 1))

    def fetch(rows: jax.Array, first: jax.Array) -> jax.Array:
        return jnp.asarray(table).at[rows].get(mode="fill", fill_value=0)

    def summed(indices: jax.Array, count: jax.Array) -> jax.Array:
        drawn = Draw(indices, count, jnp.uint32(total))
        zero = execution.zero_sum(params)
        part = add_drawn(zero, plan, execution, loss, params, drawn, fetch, total, keys)
        return ravel_pytree(part.gradient)[0]

    compiled = Compiled(summed)

    def sum_of(first: int, end: int) -> np.ndarray:
        indices = np.where(np.arange(total) < end - first, np.arange(total) + first, total)
        return np.asarray(compiled(indices.astype(np.int32), np.int32(end - first)))

    added = [sum_of(0, end) - sum_of(1, end) for end in range(1, total + 1)]  # by record 0
    assert added[0].any()
    print(sum(int((other != added[0]).sum()) for other in added))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
