"""Steps in JAX on fixed batches, in a python loop or a scan; what all JAX contenders share.

Where a setting has several devices, each holds the state and its share of the batch. A step that is
`mapped` sees that share alone, and says where the devices meet (`across`); any other is written for
the whole batch, and XLA divides it. Several devices of a processor are waited for after every
program: their sums stall for good where programs queue up. All are compiled as rdpjax's own
programs are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.contender import Running, Setting, Work
from benchmarks.workloads import Records, Workload, fresh_params
from rdpjax.dpsgd.compiled import compiler_options
from rdpjax.dpsgd.execution import AXIS

Step = Callable[[Any, Any, jax.Array], Any]
"""`step(state, batch, key)`: the next state."""

SIZES = (32, 64, 128, 256)
EVERYWHERE, SHARED = PartitionSpec(), PartitionSpec(AXIS)


def device_counts() -> tuple[int, ...]:
    """What to search: one device; and on a processor all of them, where its cores are several."""
    count = jax.local_device_count() if jax.default_backend() == "cpu" else 1
    return (1,) if count == 1 else (1, count)


def mesh(setting: Setting) -> Mesh | None:
    """The setting's devices in a line; None for a single one."""
    count = setting["devices"]
    return None if count == 1 else Mesh(np.array(jax.local_devices()[:count]), (AXIS,))


def placed(tree: Any, setting: Setting, spec: PartitionSpec = EVERYWHERE) -> Any:
    """Arrays on the setting's devices."""
    grid = mesh(setting)
    return tree if grid is None else jax.device_put(tree, NamedSharding(grid, spec))


def settled(state: Any, setting: Setting) -> Any:
    """The state; waited for where several devices must not fall behind."""
    return state if setting["devices"] == 1 else jax.block_until_ready(state)


def own_key(key: jax.Array, setting: Setting) -> jax.Array:
    """A key for what this device alone draws."""
    return key if setting["devices"] == 1 else jax.random.fold_in(key, jax.lax.axis_index(AXIS))


def across(total: Any, setting: Setting) -> Any:
    """The sum of what each device has summed."""
    if setting["devices"] == 1:
        return total
    vector, unravel = ravel_pytree(total)  # devices meet once, and not at every leaf
    return unravel(jax.lax.psum(vector, AXIS))


def chunk_steps(batch: int) -> int:
    """Steps of one scan: a chunk of rdpjax's runs, fewer where steps are long."""
    if jax.default_backend() != "cpu":
        return 50
    return max(2, min(50, 32_768 // batch))


def load(records: Records) -> Any:
    """Records as device arrays, in memory of their own."""
    return jax.block_until_ready(jax.tree.map(jnp.array, records))


def flat(tree: Any) -> np.ndarray:
    return np.asarray(ravel_pytree(tree)[0], np.float64)


def _compiled(function: Any, setting: Setting, specs: tuple[Any, ...], mapped: bool) -> Any:
    """The function jitted on the setting's devices; the first argument's memory is used again."""
    options = compiler_options()
    grid = mesh(setting)
    if grid is None:
        return jax.jit(function, donate_argnums=0, compiler_options=options)
    if mapped:
        function = jax.shard_map(
            function, mesh=grid, in_specs=specs, out_specs=EVERYWHERE, check_vma=False
        )
    everywhere = NamedSharding(grid, EVERYWHERE)
    return jax.jit(function, donate_argnums=0, out_shardings=everywhere, compiler_options=options)


def _looped(
    step: Step, state: Any, records: Any, batch: int, setting: Setting, mapped: bool
) -> Running:
    """One dispatch a step, on a batch that was cut beforehand."""
    cut = jax.tree.map(lambda leaf: jnp.array(leaf[:batch]), records)
    examples = jax.block_until_ready(placed(cut, setting, SHARED))
    split = jax.random.split(jax.random.key(2), 512)
    keys = placed([split[i] for i in range(512)], setting)
    jitted = _compiled(step, setting, (EVERYWHERE, SHARED, EVERYWHERE), mapped)
    held = [placed(state, setting)]

    def running(steps: int) -> Work:
        for i in range(steps):
            held[0] = settled(jitted(held[0], examples, keys[i % 512]), setting)
        jax.block_until_ready(held[0])
        return Work(steps, steps * batch)

    return running


def _scanned(
    step: Step, state: Any, records: Any, batch: int, setting: Setting, mapped: bool
) -> Running:
    """Whole chunks of steps in one program; batches are slices of the records."""
    length = chunk_steps(batch)
    total = jax.tree.leaves(records)[0].shape[0]
    share = batch // setting["devices"]

    def chunk(state: Any, records: Any, keys: jax.Array) -> Any:
        def one(state: Any, inputs: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
            i, key = inputs
            mine = 0 if share == batch else jax.lax.axis_index(AXIS) * share
            first = i * batch % (total - batch + 1) + mine
            return step(state, _slice(records, first, share), key), None

        return jax.lax.scan(one, state, (jnp.arange(length), keys))[0]

    jitted = _compiled(chunk, setting, (EVERYWHERE, EVERYWHERE, EVERYWHERE), mapped)
    keys = placed(jax.random.split(jax.random.key(2), length), setting)
    records = placed(records, setting)
    held = [placed(state, setting)]

    def running(steps: int) -> Work:
        chunks = max(1, round(steps / length))
        for _ in range(chunks):
            held[0] = settled(jitted(held[0], records, keys), setting)
        jax.block_until_ready(held[0])
        return Work(chunks * length, chunks * length * batch)

    return running


def _slice(records: Any, start: Any, batch: int) -> Any:
    return jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, batch), records)


def start(
    make: Callable[[Workload, int, Setting], tuple[Any, Step]],
    workload: Workload,
    records: Any,
    batch: int,
    setting: Setting,
    *,
    mapped: bool = True,
) -> Running:
    state, step = make(workload, batch, setting)
    run = _scanned if setting["loop"] == "scan" else _looped
    return run(step, jax.tree.map(jnp.array, state), records, batch, setting, mapped)


def start_params(workload: Workload) -> Any:
    return jax.tree.map(jnp.array, fresh_params(workload))


def draw_noise(workload: Workload, key: jax.Array, batch: int) -> jax.Array:
    return jax.random.normal(key, (batch, workload.noise))
