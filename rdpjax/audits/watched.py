"""The real pipeline, watched: what each of its releases says about candidates of its records.

Nothing that is trained changes. A form and its stages are wrapped so that the candidates' cells are
known, and that in every step the noisy gradient is compared with the candidates' own gradients.
Whoever knows the candidates could compute all of it from what the mechanisms release.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from rdpjax.data.forms import Access, Form
from rdpjax.data.schema import Schema
from rdpjax.dpsgd.clipping import Loss, Params
from rdpjax.dpsgd.execution import Execution
from rdpjax.dpsgd.keys import StepKeys, as_key
from rdpjax.dpsgd.loop import Metrics, State, drawn_sum
from rdpjax.dpsgd.plan import SCALE, Plan
from rdpjax.stages.stage import Context, Training, TrainingStage

TOGETHER = 100
"""Canaries whose gradients are formed at once."""

OWN = 2**31 - 19
"""Folded into a step's key for the randomness inside the losses of candidates."""


@dataclass
class WatchedForm:
    """A form that also makes cells of candidates, under the same noisy measurements.

    Attributes:
      form: the data set's own.
      candidates: records, in any place among them those that may be in the run.
      cells_of_candidates: uint8 or wider `[candidates, columns]`, once the run has made cells.
    """

    form: Form
    candidates: Any
    cells_of_candidates: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.uint8))

    @property
    def schema(self) -> Schema:
        return self.form.schema

    @property
    def accesses(self) -> Mapping[str, float]:
        return self.form.accesses

    def measure(self, access: Access) -> Any:
        return self.form.measure(access)

    def cells(self, records: Any, filling: Any) -> np.ndarray:
        self.cells_of_candidates = self.form.cells(self.candidates, filling)
        return self.form.cells(records, filling)


@dataclass(frozen=True)
class WatchedStage:
    """A stage whose steps also tell how the noisy gradient lies to each canary's.

    Every step has two more metrics, float32 `[canaries]`: `inner`, the inner product of what the
    noisy sum has beyond its expectation with the canary's own clipped gradient, and `square`, the
    square of that gradient's length, both in clip norms. Of a canary that is drawn `inner` is
    greater by `square`.

    Attributes:
      stage: the real one.
      plan: its plan.
      canaries: how many of the candidates, the last ones, are canaries.
      cells: gives the candidates' cells; called when the training is made.
    """

    stage: TrainingStage
    plan: Plan
    canaries: int
    cells: Callable[[], np.ndarray]

    @property
    def sampling_rate(self) -> float:
        return self.stage.sampling_rate

    @property
    def steps(self) -> int:
        return self.stage.steps

    @property
    def clip_norm(self) -> float:
        return self.stage.clip_norm

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stage, name)

    def training(self, context: Context) -> Training:
        own = self.stage.training(context)
        codes = jnp.asarray(context.encoding.encode(self.cells()))
        base, canaries = codes[: -self.canaries], codes[-self.canaries :]
        rate, clip = self.plan.sampling_rate, self.plan.clip_norm
        divisor = rate * context.encoding.marginals.records
        everyone = Plan(SCALE, 1.0, clip, 1)

        def update(state: State, gradient: Params, key: jax.Array) -> tuple[State, Metrics]:
            params, loss = own.objective(state)
            chosen = jax.random.fold_in(as_key(key), OWN)
            raw = jax.random.key_data(chosen)
            keys = StepKeys(raw, raw, raw, raw)
            known, _ = drawn_sum(everyone, Execution(), loss, params, base, keys)
            own_gradients = _gradients(loss, params, canaries, chosen, clip)
            # A canary is in with probability 1/2; whoever is in is drawn with probability q.
            expected = ravel_pytree(known.gradient)[0] + own_gradients.sum(axis=0) / 2
            beyond = ravel_pytree(gradient)[0] * divisor - rate * expected
            told = {
                "inner": own_gradients @ beyond / clip**2,
                "square": jnp.square(own_gradients).sum(axis=1) / clip**2,
            }
            state, metrics = own.update(state, gradient, key)
            return state, metrics | told

        return own._replace(update=update)


def _gradients(
    loss: Loss, params: Params, codes: jax.Array, key: jax.Array, clip: float
) -> Float[Array, "canaries numbers"]:
    """Each canary's clipped gradient, all leaves in one row."""

    def one(row: tuple[jax.Array, jax.Array]) -> jax.Array:
        gradient = ravel_pytree(jax.grad(loss)(params, *row))[0]
        length = jnp.sqrt(jnp.maximum(jnp.vdot(gradient, gradient), 1e-30))
        return gradient * jnp.minimum(1, clip / length)

    rows: jax.Array = jax.lax.map(
        one, (codes, jax.random.split(key, len(codes))), batch_size=TOGETHER
    )
    return rows
