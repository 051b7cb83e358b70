"""Rivals in JAX: a step written by hand, optax's aggregate and jax-privacy.

All may use several devices. jax-privacy's sum is taken on each device's share of the batch, in a
scan. A step by hand and optax's are handed a batch that lies on all devices, in a loop, and XLA
divides them: optax's aggregate sums and adds noise in one call, for a whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.contender import (
    CLIP_NORM,
    LEARNING_RATE,
    NOISE_MULTIPLIER,
    Contender,
    Problem,
    Setting,
    microbatches,
)
from benchmarks.lax_conv import lax_convolutions
from benchmarks.steps_jax import (
    SIZES,
    Step,
    across,
    device_counts,
    draw_noise,
    flat,
    load,
    own_key,
    start,
    start_params,
)
from benchmarks.workloads import Workload


def _plain_optax(workload: Workload, batch: int, setting: Setting) -> tuple[Any, Step]:
    """What one would write by hand: the mean loss of the batch, its gradient, optax.adam."""
    adam = optax.adam(LEARNING_RATE)
    loss = lax_convolutions(workload.loss) if setting["conv"] == "lax.conv" else workload.loss

    def step(state: Any, examples: Any, key: jax.Array) -> Any:
        params, moments = state
        noise = draw_noise(workload, key, batch)

        def mean(params: Any) -> jax.Array:
            return jax.vmap(loss, in_axes=(None, 0, 0))(params, examples, noise).mean()

        updates, moments = adam.update(jax.grad(mean)(params), moments, params)
        return optax.apply_updates(params, updates), moments

    params = start_params(workload)
    return (params, adam.init(params)), step


def _optax(workload: Workload, batch: int, setting: Setting) -> tuple[Any, Step]:
    aggregate = optax.contrib.differentially_private_aggregate(
        CLIP_NORM, NOISE_MULTIPLIER, key=jax.random.key(1)
    )
    private_adam = optax.chain(aggregate, optax.adam(LEARNING_RATE))

    def step(state: Any, examples: Any, key: jax.Array) -> Any:
        params, moments = state
        each = jax.vmap(jax.grad(workload.loss), in_axes=(None, 0, 0))
        gradients = each(params, examples, draw_noise(workload, key, batch))
        updates, moments = private_adam.update(gradients, moments, params)
        return optax.apply_updates(params, updates), moments

    params = start_params(workload)
    return (params, private_adam.init(params)), step


def _optax_sum(workload: Workload, problem: Problem) -> np.ndarray:
    aggregate = optax.contrib.differentially_private_aggregate(
        problem.clip_norm, 0.0, key=jax.random.key(1)
    )

    def mean(params: Any, examples: Any, noise: jax.Array) -> Any:
        each = jax.vmap(jax.grad(workload.loss), in_axes=(None, 0, 0))
        return aggregate.update(each(params, examples, noise), aggregate.init(params))[0]

    mean_gradient = jax.jit(mean)(problem.params, problem.examples, problem.noise)
    return flat(mean_gradient) * len(problem.noise)


def _theirs(workload: Workload, clip_norm: float, microbatch: int | None) -> Any:
    """jax-privacy's clipped sum, of (params, (examples, noise))."""
    import jax_privacy

    def loss(params: Any, batch: tuple[Any, ...]) -> jax.Array:
        return workload.loss(params, batch[0], batch[1] if len(batch) > 1 else jnp.zeros(0))

    return jax_privacy.clipping.clipped_grad(
        loss, l2_clip_norm=clip_norm, keep_batch_dim=False, microbatch_size=microbatch
    )


def _pair(examples: Any, noise: Any) -> tuple[Any, ...]:
    """Without noise where there is none: jax-privacy cannot cut empty arrays."""
    return (examples, noise) if noise.size else (examples,)


def _jax_privacy(workload: Workload, batch: int, setting: Setting) -> tuple[Any, Step]:
    import jax_privacy

    gradient = _theirs(workload, CLIP_NORM, setting["microbatch"])
    privatizer = jax_privacy.noise_addition.gaussian_privatizer(
        stddev=NOISE_MULTIPLIER * gradient.sensitivity(), prng_key=jax.random.key(1)
    )
    adam = optax.adam(LEARNING_RATE)

    def step(state: Any, examples: Any, key: jax.Array) -> Any:
        params, moments, noises = state
        noise = draw_noise(workload, own_key(key, setting), batch // setting["devices"])
        total = across(gradient(params, _pair(examples, noise)), setting)
        noisy, noises = privatizer.update(total, noises)  # the same on every device
        mean = jax.tree.map(lambda leaf: leaf / batch, noisy)
        updates, moments = adam.update(mean, moments, params)
        return optax.apply_updates(params, updates), moments, noises

    params = start_params(workload)
    return (params, adam.init(params), privatizer.init(params)), step


def _jax_privacy_sum(workload: Workload, problem: Problem) -> np.ndarray:
    theirs = _theirs(workload, problem.clip_norm, len(problem.noise) // 2)
    return flat(jax.jit(theirs)(problem.params, _pair(problem.examples, problem.noise)))


def _by_hand(workload: Workload, batch: int) -> list[Setting]:
    convolutions = ("slices",) if workload.name == "mlp" else ("slices", "lax.conv")
    return [
        {"devices": devices, "conv": conv, "loop": "python"}
        for devices in _dividing(batch)
        for conv in convolutions
    ]


def _optax_settings(workload: Workload, batch: int) -> list[Setting]:
    loops = [{"devices": devices, "loop": "python"} for devices in _dividing(batch)]
    ways = [*loops, {"devices": 1, "loop": "scan"}]
    return [setting | {"microbatch": None} for setting in ways]


def _jax_privacy_settings(workload: Workload, batch: int) -> list[Setting]:
    """All microbatch sizes: in a loop, and a few in a scan; in a scan on several devices."""
    found: list[Setting] = []
    for devices in _dividing(batch):
        sizes = microbatches(batch // devices, SIZES)
        ways = [("python", size) for size in sizes if devices == 1]
        ways += [("scan", size) for size in sizes if devices > 1 or size in (None, 64)]
        found += [{"devices": devices, "loop": loop, "microbatch": m} for loop, m in ways]
    return found


def _dividing(batch: int) -> list[int]:
    return [devices for devices in device_counts() if batch % devices == 0]


def contenders() -> Iterator[Contender]:
    """By hand and without privacy; then those with it."""
    yield Contender(
        "plain-optax",
        needs=(),
        rival="plain",
        private=False,
        settings=_by_hand,
        load=load,
        start=partial(start, _plain_optax, mapped=False),
    )
    yield Contender(
        "optax",
        needs=("optax",),
        rival="plain",
        private=True,
        settings=_optax_settings,
        load=load,
        start=partial(start, _optax, mapped=False),
        clipped_sum=_optax_sum,
        holds=True,
    )
    yield Contender(
        "jax-privacy",
        needs=("jax_privacy",),
        rival="plain",
        private=True,
        settings=_jax_privacy_settings,
        load=load,
        start=partial(start, _jax_privacy),
        clipped_sum=_jax_privacy_sum,
        holds=True,
    )
