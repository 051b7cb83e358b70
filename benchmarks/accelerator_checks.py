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
    ClippedSum,
    alone,
    jax_privacy_sum,
    plain_sum,
)
from rdpjax.dpsgd.clipping import MARGIN, Loss, Params
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

    @property
    def checked(self) -> bool:
        """Whether parameters and norms were looked at."""
        return self.difference is not None and self.norm is not None


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
        self.begin = jax.device_get(state)
        self.keys = self.case.keys(0, self.steps)
        self.params, _ = self.training.objective(self.begin)
        count = sum(leaf.size for leaf in jax.tree.leaves(self.params))
        self.found = Found(self.clipping, count, self.case.batch)

    def agree(self) -> None:
        """Take the same steps on both and compare; the parameters reached serve the next checks."""
        with jax.default_device(self.device):
            reached = self.chunk(*self._given(self.device))
            self.params = jax.device_get(self.training.objective(reached)[0])
        with jax.default_device(self.cpu):
            training = self.case.training()
            size = default_microbatch("cpu", self.case.batch)
            chunk = self.case.chunk(training, self.clipping, size)
            expected = jax.device_get(training.objective(chunk(*self._given(self.cpu)))[0])
        self.found.difference = float(np.abs(_flat(self.params) - _flat(expected)).max())

    def bounded(self) -> None:
        """The longest clipped gradient over its bound, at the plan's clip norm and far below it."""
        each, bound = self._on_device(partial(alone, self.clipping)), self.case.plan.clip_norm
        worst = []
        for clip_norm in (bound, SMALL * bound):
            self.small = each(np.float32(clip_norm))
            worst.append(_norms(self.small).max() / clip_norm)
        self.found.norm = float(max(worst))

    def race(self, rounds: int) -> None:
        """Time all contenders in turns; first their clipped sums are compared. After `bounded`."""
        sums: dict[str, ClippedSum] = {PLAIN: plain_sum}
        if find_spec("jax_privacy"):
            sums[JAX_PRIVACY] = jax_privacy_sum
        else:
            self.found.notes.append("jax-privacy is not installed")
        expected = _flat(jax.tree.map(lambda leaf: leaf.sum(axis=0, dtype=np.float64), self.small))
        # Where ours clips: a little below the norm that it accounts for.
        bound = SMALL * self.case.plan.clip_norm * (1 - MARGIN)
        runners = {OURS: self._runner(self.chunk)}
        for name, clipped_sum in sums.items():
            try:
                found = _flat(self._on_device(partial(_at, clipped_sum, bound))(None))
                distance = np.linalg.norm(found - expected) / np.linalg.norm(expected)
                if distance <= TOLERANCE:
                    chunk = self.case.whole_batches(self.training, clipped_sum)
                    runners[name] = self._runner(chunk)
                else:
                    self.found.notes.append(f"{name}: its clipped sum differs by {distance:.0e}")
            except Exception as error:  # a rival's own failure is a note of the table
                self.found.notes.append(f"{name}: {type(error).__name__}")
        for turn in range(rounds):
            names = list(runners)
            shift = turn % len(names)
            for name in [*names[shift:], *names[:shift]]:
                self.found.speeds.setdefault(name, []).append(runners[name]())

    def _given(self, device: jax.Device) -> Any:
        """State, codes and keys, all of them put on a device: else a second call compiles again."""
        return jax.device_put((self.begin, self.case.codes, self.keys), device)

    def _runner(self, chunk: Chunk) -> Callable[[], float]:
        """`runner()`: examples a second of a block of whole chunks; warm already.

        A draw counts as its expected size.
        """
        state, codes, keys = self._given(self.device)
        held = [state]

        def chunks(count: int) -> float:
            begun = time.perf_counter()
            with jax.default_device(self.device):
                for _ in range(count):
                    held[0] = chunk(held[0], codes, keys)
                jax.block_until_ready(held[0])
            return time.perf_counter() - begun

        chunks(1)  # compiles
        count = max(1, round(BLOCK_S / chunks(1)))
        return lambda: count * self.steps * self.case.batch / chunks(count)

    def _on_device(self, function: Callable[..., Params]) -> Callable[[Any], Params]:
        """`f(bound)`: of the first examples, under the parameters reached; numpy arrays."""
        keys = jax.random.split(jax.random.key(1), EXAMPLES)
        given = jax.device_put((self.params, self.case.codes[:EXAMPLES], keys), self.device)

        def run(given: Any, bound: Any) -> Params:
            _, loss = self.training.objective(self.begin)
            params, codes, keys = given
            return function(loss, params, codes, keys, bound)

        jitted = jax.jit(run)

        def called(bound: Any) -> Params:
            with jax.default_device(self.device):
                return jax.device_get(jitted(given, bound))

        return called


def _at(
    clipped_sum: ClippedSum, bound: float, loss: Loss, params: Params, codes: Any, keys: Any, _: Any
) -> Params:
    """A clipped sum at a bound that is a plain number, which jax-privacy asks for."""
    return clipped_sum(loss, params, codes, keys, bound)


def _flat(tree: Params) -> np.ndarray:
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)])


def _norms(tree: Params) -> np.ndarray:
    """Of gradients with a leading axis, in float64."""
    leaves = jax.tree.leaves(tree)
    leaves = [np.asarray(leaf, np.float64).reshape(len(leaf), -1) for leaf in leaves]
    return np.sqrt(sum(np.square(leaf).sum(axis=1) for leaf in leaves))
