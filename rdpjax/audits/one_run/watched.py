"""Training with extra metrics: how the noisy gradients correlate with the canaries' gradients.

Training itself is unchanged. In every step a session compares the noisy gradient with the
candidates' own gradients: an attacker who knows the candidates could compute all of it from the
mechanisms' outputs.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from rdpjax.codecs.codec import Codec
from rdpjax.dpsgd.clipping import Loss, Params
from rdpjax.dpsgd.execution import Execution
from rdpjax.dpsgd.keys import Roots, StepKeys, as_key
from rdpjax.dpsgd.loop import Metrics, State, drawn_sum
from rdpjax.dpsgd.plan import SCALE, Plan
from rdpjax.fitting.session import Session
from rdpjax.privacy.ledger import Ledger
from rdpjax.stages.stage import Context, Training, TrainingStage

TOGETHER = 100
"""Canaries whose per-example gradients are materialised at once."""

OWN = 2**31 - 19
"""Folded into a step's key for the randomness of the candidates' losses."""


class WatchingSession(Session):
    """Log the inner product of the noisy gradient with each canary's clipped gradient.

    Every step has two more metrics, float32 `[canaries]`: `inner`, the inner product of the noisy
    sum minus its expectation with the canary's clipped gradient, and `square`, that gradient's
    squared norm, both in squared clip norms. If the canary is drawn, `inner` is greater by
    `square`.

    Args:
      ledger: as of any session.
      roots: root keys of the run.
      codec: encodes the candidates, under the same noisy answers as the records.
      candidates: records, among them in any place those that may be in the run.
      canaries: how many of the candidates, the last ones, are canaries.
    """

    def __init__(
        self, ledger: Ledger, roots: Roots, codec: Codec, candidates: Any, canaries: int
    ) -> None:
        super().__init__(ledger, roots)
        self._codec, self._candidates, self._canaries = codec, candidates, canaries

    @cached_property
    def cells(self) -> np.ndarray:
        """Bins of the candidates `[candidates, columns]`, once the run has its answers."""
        return self._codec.fit(self.answers).cells(self._candidates)

    def training(self, name: str, stage: TrainingStage, plan: Plan, context: Context) -> Training:
        own = super().training(name, stage, plan, context)
        return watched(own, plan, context, context.tokenizer.encode(self.cells), self._canaries)


def watched(
    own: Training, plan: Plan, context: Context, codes: np.ndarray, canaries: int
) -> Training:
    """Return a training with the metrics of `WatchingSession`.

    Args:
      own: the stage's training.
      plan: the stage's DP-SGD plan.
      context: the stage's context.
      codes: of the candidates, `[candidates, columns]`.
      canaries: how many of them, the last ones, are canaries.
    """
    every = jnp.asarray(codes)
    base, some = every[:-canaries], every[-canaries:]
    rate, clip = plan.sampling_rate, plan.clip_norm
    divisor = rate * context.tokenizer.marginals.records
    everyone = Plan(SCALE, 1.0, clip, 1)

    def update(state: State, gradient: Params, key: jax.Array) -> tuple[State, Metrics]:
        params, loss = own.objective(state)
        chosen = jax.random.fold_in(as_key(key), OWN)
        raw = jax.random.key_data(chosen)
        keys = StepKeys(raw, raw, raw, raw)
        known, _ = drawn_sum(everyone, Execution(), loss, params, base, keys)
        own_gradients = _gradients(loss, params, some, chosen, clip)
        # A canary is in with probability 1/2; a record that is in is drawn with probability q.
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
    """Return each canary's clipped gradient, all leaves flattened to one row."""

    def one(row: tuple[jax.Array, jax.Array]) -> jax.Array:
        gradient = ravel_pytree(jax.grad(loss)(params, *row))[0]
        length = jnp.sqrt(jnp.maximum(jnp.vdot(gradient, gradient), 1e-30))
        return gradient * jnp.minimum(1, clip / length)

    rows: jax.Array = jax.lax.map(
        one, (codes, jax.random.split(key, len(codes))), batch_size=TOGETHER
    )
    return rows
