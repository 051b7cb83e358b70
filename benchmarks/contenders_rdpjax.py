"""rdpjax itself: whole chunks of its training, and its step without privacy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contender import (
    CLIP_NORM,
    LEARNING_RATE,
    NOISE_MULTIPLIER,
    Contender,
    Problem,
    Running,
    Setting,
    Work,
    microbatches,
)
from benchmarks.steps_jax import (
    SIZES,
    Step,
    across,
    chunk_steps,
    device_counts,
    draw_noise,
    flat,
    load,
    mesh,
    own_key,
    placed,
    settled,
    start,
    start_params,
)
from benchmarks.workloads import Workload
from rdpjax.dpsgd.clipping import MARGIN
from rdpjax.dpsgd.execution import CLIPPED_SUMS, Clipping, Execution
from rdpjax.dpsgd.keys import Roots, step_keys
from rdpjax.dpsgd.loop import make_chunk
from rdpjax.dpsgd.plan import Plan
from rdpjax.stages.optimiser import AveragedAdam

SHARED_SIZES = (16, 24, 32, 48, 64, 128)
"""Microbatches of several devices: not all divide a batch, but a Poisson draw has no size."""

ADAM = AveragedAdam(LEARNING_RATE, steps=10_000, decay=0.98)


def _gradient_sum(
    loss: Callable[..., jax.Array], params: Any, examples: Any, noise: jax.Array, microbatch: Any
) -> Any:
    """Gradient of the summed loss, whole or over microbatches in a scan."""

    def total(params: Any, examples: Any, noise: jax.Array) -> jax.Array:
        return jax.vmap(loss, in_axes=(None, 0, 0))(params, examples, noise).sum()

    batch = noise.shape[0]
    if microbatch is None:
        return jax.grad(total)(params, examples, noise)
    parts = jax.tree.map(
        lambda leaf: leaf.reshape(batch // microbatch, microbatch, *leaf.shape[1:]),
        (examples, noise),
    )

    def add(carry: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, carry, jax.grad(total)(params, *part)), None

    return jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), parts)[0]


def _plain(workload: Workload, batch: int, setting: Setting) -> tuple[Any, Step]:
    """Rdpjax's step without clipping, noise and sampling: the same update."""

    def step(state: Any, examples: Any, key: jax.Array) -> Any:
        noise = draw_noise(workload, own_key(key, setting), batch // setting["devices"])
        total = _gradient_sum(workload.loss, state.params, examples, noise, setting["microbatch"])
        mean = jax.tree.map(lambda leaf: leaf / batch, across(total, setting))
        return ADAM.advance(state, mean)

    return ADAM.start(start_params(workload)), step


def _rdpjax(
    clipping: Clipping, workload: Workload, records: Any, batch: int, setting: Setting
) -> Running:
    """Poisson draws, clipping, noise and update, `chunk_steps` of them in one program."""
    length = chunk_steps(batch)
    total = jax.tree.leaves(records)[0].shape[0]
    plan = Plan.at_rate(
        batch / total, noise_multiplier=NOISE_MULTIPLIER, clip_norm=CLIP_NORM, steps=10_000
    )
    execution = Execution(clipping=clipping, microbatch=setting["microbatch"], mesh=mesh(setting))
    chunk = make_chunk(
        plan,
        execution,
        objective=lambda state: (state.params, workload.with_key),
        update=lambda state, gradient, key: (ADAM.advance(state, gradient), {}),
    )
    roots = Roots.make(0)
    records = placed(records, setting)
    held: list[Any] = [placed(ADAM.start(start_params(workload)), setting), 0]

    def running(steps: int) -> Work:
        drawn = []
        for _ in range(max(1, round(steps / length))):
            keys = step_keys(roots, workload.name, held[1], length)
            state, metrics = chunk(held[0], records, keys, jnp.float32(batch))
            held[0] = settled(state, setting)
            held[1] += length
            drawn.append(metrics["drawn"])
        jax.block_until_ready(held[0])
        return Work(length * len(drawn), sum(int(np.asarray(counts).sum()) for counts in drawn))

    return running


def _rdpjax_sum(clipping: Clipping, workload: Workload, problem: Problem) -> np.ndarray:
    examples = jax.tree.map(jnp.asarray, problem.examples)
    valid = jnp.ones(len(problem.noise), bool)
    # rdpjax clips a little below the bound that it accounts for; the others clip at it.
    bound = problem.clip_norm / (1 - MARGIN)
    clipped_sum = CLIPPED_SUMS[clipping]
    summed = jax.jit(
        lambda params: (
            clipped_sum(workload.with_key, params, examples, valid, problem.keys, bound).gradient
        )
    )
    return flat(summed(problem.params))


def _plain_settings(workload: Workload, batch: int) -> list[Setting]:
    """On one device and on all: a device's whole share in a loop and a scan; less in a scan."""
    found: list[Setting] = []
    for devices in device_counts():
        if batch % devices == 0:
            ways = [("python", None), ("scan", None)]
            ways += [("scan", size) for size in microbatches(batch // devices, SIZES[:-1]) if size]
            found += [{"devices": devices, "loop": loop, "microbatch": m} for loop, m in ways]
    return found


def _own_settings(workload: Workload, batch: int) -> list[Setting]:
    """Several devices share microbatches out: one device alone is given larger ones."""
    one, *several = device_counts()
    if not several:
        return [{"devices": one, "microbatch": size} for size in SIZES if size <= 2 * batch]
    pairs = [(one, size) for size in SIZES[1:]]
    pairs += [(devices, size) for devices in several for size in SHARED_SIZES]
    return [{"devices": devices, "microbatch": m} for devices, m in pairs if m <= batch]


def contenders() -> Iterator[Contender]:
    """The step without privacy first: the others are compared with it."""
    yield Contender(
        "plain",
        needs=(),
        rival="plain",
        private=False,
        settings=_plain_settings,
        load=load,
        start=partial(start, _plain),
    )
    modes: tuple[Clipping, ...] = ("vmap", "ghost")
    for clipping in modes:
        yield Contender(
            clipping,
            needs=(),
            rival="plain",
            private=True,
            settings=_own_settings,
            load=load,
            start=partial(_rdpjax, clipping),
            clipped_sum=partial(_rdpjax_sum, clipping),
        )
