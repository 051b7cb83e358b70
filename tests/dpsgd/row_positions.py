"""Run by test_lattice with a run's own compiler settings: prints how many integers depend on a row.

What a record adds to a sum must not depend on who else is drawn: with one record more before it, a
record stands elsewhere in its microbatch, or in another one. Nor may it depend on how many records
there are, drawn or not: their number is a shape of the program, which is compiled anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from rdpjax.compute.devices import prepare_processor
from rdpjax.config_file import load_config
from rdpjax.data.cardio import CARDIO
from rdpjax.data.tokenizer import Marginals
from rdpjax.dpsgd.compiled import Compiled
from rdpjax.dpsgd.execution import Execution
from rdpjax.dpsgd.keys import Roots, step_keys
from rdpjax.dpsgd.loop import add_drawn
from rdpjax.dpsgd.plan import Plan
from rdpjax.dpsgd.sampling import Draw
from rdpjax.fitting.generator import make_context


def main(stage: str, size: int, totals: Sequence[int]) -> None:
    prepare_processor()
    config = load_config("cardio.toml")
    context = make_context(config, CARDIO, Marginals.uniform(CARDIO, 5000.0), {})
    training = config.stages[stage].training(context)
    params, loss = training.objective(jax.jit(training.init)(jax.random.key(0)))
    # Away from the start, where many gradients are zero.
    flat, unravel = ravel_pytree(params)
    params = unravel(flat + 0.1 * jax.random.normal(jax.random.key(1), flat.shape))
    rng, widths = np.random.default_rng(0), context.tokenizer.widths
    table = np.stack([rng.integers(0, widths) for _ in range(2 * size)]).astype(np.uint8)
    plan = Plan.at_rate(0.5, noise_multiplier=1.0, clip_norm=4.0, steps=1)
    execution = Execution(clipping="lattice", microbatch=size)
    keys = jax.tree.map(lambda column: column[0], step_keys(Roots.make(0), stage, 0, 1))

    def summed(records: jax.Array, indices: jax.Array, count: jax.Array) -> jax.Array:
        def fetch(rows: jax.Array, first: jax.Array) -> jax.Array:
            return records.at[rows].get(mode="fill", fill_value=0)

        total = len(records)
        drawn = Draw(indices, count, jnp.uint32(total))
        zero = execution.zero_sum(params)
        part = add_drawn(zero, plan, execution, loss, params, drawn, fetch, total, keys)
        return ravel_pytree(part.gradient)[0]

    def added(total: int, ends: Iterable[int]) -> list[np.ndarray]:
        """By record 0, to the sum over the records before each end, where there are `total`."""
        compiled = Compiled(summed)

        def sum_of(first: int, end: int) -> np.ndarray:
            indices = np.where(np.arange(total) < end - first, np.arange(total) + first, total)
            return np.asarray(
                compiled(table[:total], indices.astype(np.int32), np.int32(end - first))
            )

        return [sum_of(0, end) - sum_of(1, end) for end in ends]

    found = added(2 * size, range(1, 2 * size + 1))
    assert found[0].any()
    for total in totals:
        found += added(total, {1, total})
    print(sum(int((other != found[0]).sum()) for other in found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), [int(total) for total in sys.argv[3:]])
