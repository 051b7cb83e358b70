"""Adam with linear decay and averaged iterates: the state of one trained network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class Trained(NamedTuple):
    """Training state of a network.

    Attributes:
      params: current parameters.
      moments: state of the optimiser.
      mean: moving average of the parameters.
      step: number of steps taken, float32.
    """

    params: Any
    moments: Any
    mean: Any
    step: jax.Array


@dataclass(frozen=True)
class AveragedAdam:
    """Adam with a learning rate that falls linearly to zero, and a moving average of the iterates.

    The falling rate damps the noise of the gradients; the average is exponential.

    Attributes:
      learning_rate: initial learning rate.
      steps: updates until the rate is 0.
      decay: decay of the moving average; shorter memory at the start.
      b1: decay of Adam's first moment.
    """

    learning_rate: float
    steps: int
    decay: float
    b1: float = 0.9

    def start(self, params: Any) -> Trained:
        # Copy the average: the chunk donates its state, and a buffer cannot be donated twice.
        return Trained(
            params, self._adam.init(params), jax.tree.map(jnp.copy, params), jnp.float32(0)
        )

    def advance(self, state: Trained, gradient: Any) -> Trained:
        # optax mixes its integer count with floats, which the tests' strict promotion refuses.
        with jax.numpy_dtype_promotion("standard"):
            updates, moments = self._adam.update(gradient, state.moments, state.params)
        params = optax.apply_updates(state.params, updates)
        keep = jnp.minimum(self.decay, (1 + state.step) / (10 + state.step))
        mean = jax.tree.map(lambda m, p: keep * m + (1 - keep) * p, state.mean, params)
        return Trained(params, moments, mean, state.step + 1)

    @property
    def _adam(self) -> optax.GradientTransformation:
        rate = optax.linear_schedule(self.learning_rate, 0.0, self.steps)
        return optax.adam(rate, b1=self.b1)
