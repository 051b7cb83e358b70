"""Run by test_lattice with the compiler's own settings: prints how many integers depend on a row.

A record's contribution must not depend on where in a microbatch it stands: with one record more
before it, it stands elsewhere.
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from rdpjax.config import load_config
from rdpjax.data.cardio import CARDIO
from rdpjax.data.codec import Marginals
from rdpjax.dpsgd.lattice import lattice_sum
from rdpjax.generator import make_context


def main(stage: str, size: int) -> None:
    config = load_config("cardio.toml")
    context = make_context(config, CARDIO, Marginals.uniform(CARDIO, 5000.0), {})
    training = config.stages[stage].training(context)
    params, loss = training.objective(jax.jit(training.init)(jax.random.key(0)))
    # Away from the start, where many gradients are zero.
    flat, unravel = ravel_pytree(params)
    params = unravel(flat + 0.1 * jax.random.normal(jax.random.key(1), flat.shape))
    rng, widths = np.random.default_rng(0), context.codec.widths
    rows = np.stack([rng.integers(0, widths) for _ in range(size)]).astype(np.uint8)
    keys = jax.random.split(jax.random.key(2), size)
    summed = jax.jit(
        lambda rows, valid, keys: ravel_pytree(
            lattice_sum(loss, params, rows, valid, keys, 4.0).gradient
        )[0]
    )
    found = 0
    for record in range(3):
        alone = []
        for place in range(size):
            order = np.roll(np.arange(size), place - record)
            valid = jnp.arange(size) == place
            alone.append(np.asarray(summed(rows[order], valid, keys[order])))
        found += sum(int((other != alone[0]).sum()) for other in alone)
    print(found)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
