"""Three checks of a stage: parameters as on the CPU, gradients within their bound, and speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any

import jax
import numpy as np

from benchmarks.accelerator_stages import (
    EXAMPLES,
    Case,
    Chunk,
    alone,
    jax_privacy_sum,
    own_sum,
    plain_sum,
)
from rdpjax.dpsgd.clipping import Params
from rdpjax.dpsgd.execution import Clipping, default_microbatch
from rdpjax.stages.stage import Training

TOLERANCE = 1e-4
"""Of parameters, absolutely, and of clipped sums, relative to their length."""
SMALL = 0.01
"""Part of the clip norm that clips every gradient: the bound is looked at there too."""
BLOCK_S = 0.3
"""Seconds of a timed block, and one chunk at least."""
OURS, PLAIN, JAX_PRIVACY = "rdpjax", "plain", "jax-privacy"


@dataclass
class Found:
    """What was seen of one stage; what was not looked at is None or missing.

    Attributes:
      clipping: how its chunk clips.
      parameters: how many are trained.
      batch: expected draw, and the others' fixed batch.
      difference: largest, of any parameter after the steps, from the CPU's.
      norm: worst norm of a clipped gradient, over its bound.
      speeds: examples a second of each contender, one number a round.
      notes: why something is missing.
    """

    clipping: str
    parameters: int
    batch: int
    difference: float | None = None
    norm: float | None = None
    speeds: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether all that was looked at is as it must be; a NaN is not."""
        agrees = self.difference is None or self.difference <= TOLERANCE
        return agrees and (self.norm is None or self.norm <= 1)


@dataclass
class Bench:
    """One stage on the accelerator, or on what stands in for it.

    Args:
      case: the stage.
      device: where it is checked.
      cpu: where the reference is computed.
      steps: of a chunk.
    """

    case: Case
    device: jax.Device
    cpu: jax.Device
    steps: int

    def __post_init__(self) -> None:
        with jax.default_device(self.device):
            self.training: Training = self.case.training()
            state = self.case.start(self.training)
            self.clipping: Clipping = self.case.clipping(self.training, state)
            # A processor rehearses the accelerator's large microbatches.
            size = default_microbatch("gpu", self.case.batch)
            self.chunk: Chunk = self.case.chunk(self.training, self.clipping, size)
            self.codes = jax.device_put(self.case.codes, self.device)
            self.params, _ = self.training.objective(state)
            count = sum(leaf.size for leaf in jax.tree.leaves(self.params))
        self.found = Found(self.clipping, count, self.case.batch)

    def agree(self) -> None:
        """Take the same steps on both and compare; the parameters reached serve the next checks."""
        with jax.default_device(self.device):
            state = self.chunk(
                self.case.start(self.training), self.codes, self.case.keys(0, self.steps)
            )
            self.params, _ = self.training.objective(state)
        with jax.default_device(self.cpu):
            training = self.case.training()
            size = default_microbatch("cpu", self.case.batch)
            chunk = self.case.chunk(training, self.clipping, size)
            codes = jax.device_put(self.case.codes, self.cpu)
            state = chunk(self.case.start(training), codes, self.case.keys(0, self.steps))
            expected, _ = training.objective(state)
        self.found.difference = max(
            float(np.abs(np.asarray(a) - np.asarray(b)).max())
            for a, b in zip(jax.tree.leaves(self.params), jax.tree.leaves(expected), strict=True)
        )

    def bounded(self) -> None:
        """The longest clipped gradient over its bound, at the plan's clip norm and far below it."""
        each = self._jitted(partial(alone, self.clipping))
        bound = self.case.plan.clip_norm
        self.found.norm = max(
            float(_norms(each(float(c)), EXAMPLES).max() / c) for c in (bound, SMALL * bound)
        )

    def race(self, rounds: int) -> None:
        """Time all contenders in turns; first their clipped sums are compared."""
        case = self.case
        sums = {PLAIN: plain_sum}
        if find_spec("jax_privacy"):
            sums[JAX_PRIVACY] = jax_privacy_sum
        else:
            self.found.notes.append("jax-privacy is not installed")
        bound = SMALL * case.plan.clip_norm  # clips every gradient
        expected = _flat(self._jitted(partial(own_sum, self.clipping))(bound))
        chunks = {OURS: self.chunk}
        for name, clipped_sum in sums.items():
            try:
                found = _flat(self._jitted(clipped_sum, static=True)(bound))
                distance = np.linalg.norm(found - expected) / np.linalg.norm(expected)
            except Exception as error:  # a rival's own failure is a note of the table
                self.found.notes.append(f"{name}: {type(error).__name__}")
                continue
            if not distance <= TOLERANCE:
                self.found.notes.append(f"{name}: its clipped sum differs by {distance:.0e}")
                continue
            chunks[name] = case.whole_batches(self.training, clipped_sum)
        with jax.default_device(self.device):
            runners = {}
            for name, chunk in chunks.items():
                try:
                    runners[name] = self._runner(chunk)
                except Exception as error:
                    self.found.notes.append(f"{name}: {type(error).__name__}")
            for turn in range(rounds):
                names = list(runners)
                shift = turn % len(names)
                for name in [*names[shift:], *names[:shift]]:
                    self.found.speeds.setdefault(name, []).append(runners[name]())

    def _runner(self, chunk: Chunk) -> Callable[[], float]:
        """`runner()`: examples a second of a block of whole chunks; warm already."""
        case = self.case
        keys = jax.device_put(case.keys(0, self.steps), self.device)
        held = [chunk(case.start(self.training), self.codes, keys)]
        jax.block_until_ready(held[0])

        def chunks(count: int) -> float:
            begun = time.perf_counter()
            for _ in range(count):
                held[0] = chunk(held[0], self.codes, keys)
            jax.block_until_ready(held[0])
            return time.perf_counter() - begun

        count = max(1, round(BLOCK_S / chunks(1)))
        # A draw has its expected size on average; the same keys make the same draws in every block.
        return lambda: count * self.steps * case.batch / chunks(count)

    def _jitted(self, function: Callable[..., Params], static: bool = False) -> Any:
        """`f(bound)`: of the first examples, under the parameters reached, on the device."""
        codes = self.codes[:EXAMPLES]
        keys = jax.random.split(jax.random.key(1), EXAMPLES)[: len(codes)]
        params = jax.device_get(self.params)
        state = self.case.start(self.training)

        def run(params: Params, codes: Any, keys: jax.Array, bound: Any) -> Params:
            _, loss = self.training.objective(state)
            return function(loss, params, codes, keys, bound)

        jitted = jax.jit(run, static_argnums=3 if static else ())

        def on_device(bound: float) -> Params:
            with jax.default_device(self.device):
                return jitted(params, codes, keys, bound)

        return on_device


def _flat(tree: Params) -> np.ndarray:
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)])


def _norms(tree: Params, count: int) -> np.ndarray:
    """Of `count` gradients with a leading axis, in float64."""
    leaves = [np.asarray(leaf, np.float64).reshape(count, -1) for leaf in jax.tree.leaves(tree)]
    return np.sqrt(sum(np.square(leaf).sum(axis=1) for leaf in leaves))
