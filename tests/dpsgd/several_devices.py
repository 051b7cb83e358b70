"""Run by test_devices: trains a toy on so many devices, prints its parameters.

python several_devices.py DEVICES [COORDINATOR PROCESS PROCESSES]
"""

from __future__ import annotations

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rdpjax.dpsgd.execution import AXIS, Execution
from rdpjax.dpsgd.keys import Roots, step_keys
from rdpjax.dpsgd.loop import make_chunk
from rdpjax.dpsgd.plan import Plan

RECORDS, SIZE = 500, 6


def main() -> None:
    devices = int(sys.argv[1])
    if len(sys.argv) > 2:
        coordinator, process, processes = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
        jax.distributed.initialize(coordinator, processes, process)
    mesh = None if devices == 1 else Mesh(np.array(jax.devices()[:devices]), (AXIS,))
    if mesh is not None:
        assert len(mesh.devices) == devices, jax.devices()

    shift = jnp.asarray(
        np.linspace(0, 1, 3), jnp.float32
    )  # closed over: an argument of the program

    def loss(params, record, key):
        hidden = jnp.tanh(record @ params["a"] + 0.1 * jax.random.normal(key, (4,)))
        return jnp.square(hidden @ params["b"] - shift).sum()

    rng = np.random.default_rng(0)
    table = rng.normal(size=(RECORDS, SIZE)).astype(np.float32)
    params = {
        "a": rng.normal(size=(SIZE, 4)).astype(np.float32),
        "b": rng.normal(size=(4, 3)).astype(np.float32),
    }
    plan = Plan.at_rate(0.25, noise_multiplier=1.0, clip_norm=0.5, steps=6)
    given = (params, table, step_keys(Roots.make(5), "toy", 0, 6), np.float32(125))
    if mesh is not None:
        given = jax.device_put(given, NamedSharding(mesh, PartitionSpec()))
    chunk = make_chunk(
        plan,
        Execution(microbatch=16, mesh=mesh),
        lambda state: (state, loss),
        lambda state, gradient, key: (
            jax.tree.map(lambda p, g: p - 0.1 * g, state, gradient),
            {"gradient": jnp.concatenate([g.ravel() for g in jax.tree.leaves(gradient)])},
        ),
    )
    state, metrics = chunk(*given)
    shards = [np.asarray(s.data).tolist() for s in state["a"].addressable_shards]
    assert all(shard == shards[0] for shard in shards), "devices disagree"
    print(
        json.dumps(
            {
                "params": [np.asarray(leaf).ravel().tolist() for leaf in jax.tree.leaves(state)],
                "drawn": np.asarray(metrics["drawn"]).tolist(),
                "gradient": np.asarray(metrics["gradient"]).tolist(),
            }
        )
    )


if __name__ == "__main__":
    main()
