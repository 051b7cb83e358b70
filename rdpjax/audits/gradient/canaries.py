"""Gradient canaries: crafted records, each of which moves one coordinate of the clipped sum.

The stage's parameters are extended by a leaf of zeros, one per canary. A canary's loss is linear in
its own coordinate and steep, so the engine clips its gradient to C along a direction orthogonal to
those of all other canaries and of all records. The engine is the real one: it samples, clips, sums
and adds noise, and its output for the leaf is what an attacker observes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int32

from rdpjax.dpsgd.clipping import Loss, Params
from rdpjax.dpsgd.execution import Execution
from rdpjax.dpsgd.keys import Roots, as_key
from rdpjax.dpsgd.loop import Metrics, chunk_keys, make_chunk
from rdpjax.dpsgd.plan import Plan
from rdpjax.stages.stage import Training

CHUNK = 50
"""Steps of one compiled loop; progress is reported after each."""

STEEP = 1024.0
"""Slope of a canary's loss, in clip norms: a clip that is too wide shows up to this factor."""


@dataclass(frozen=True)
class Coins:
    """Fair coins that decide which canaries are in, independent of everything else.

    Attributes:
      key: raw key of the coins, uint32 `[2]`.
      count: number of canaries.
      fresh: whether every canary's coin is thrown again in every step, or once for the whole run.
    """

    key: np.ndarray
    count: int
    fresh: bool

    def at(self, step: Int32[Array, ""] | int) -> Bool[Array, " canaries"]:
        """Return which canaries are in at a step, bool `[canaries]`."""
        key = jax.random.fold_in(as_key(self.key), step if self.fresh else 0)
        return jax.random.bernoulli(key, shape=(self.count,))


class Extended(NamedTuple):
    """State of an extended training: the stage's state, and the number of steps taken."""

    stage: Any
    step: Int32[Array, ""]


def extended(training: Training, coins: Coins, clip_norm: float) -> Training:
    """Add canaries to a stage's training, over records `{"codes": ..., "canary": ...}`.

    `canary` is an index, or -1 for a record. The metric `canaries`, float32 `[canaries]`, is the
    noisy gradient at their coordinates, still divided by the batch divisor.

    Guarantees:
      A record's gradient is the stage's own, with zeros for the canaries. A canary's is zero but
      for its own number, and zero there too while it is out: as good as absent, for nothing else
      depends on how many records there are. The stage's update is given its own gradient alone.
    """

    def objective(state: Extended) -> tuple[Params, Loss]:
        params, own = training.objective(state.stage)
        slopes = STEEP * clip_norm * coins.at(state.step).astype(jnp.float32)

        def loss(params: Params, record: Any, key: jax.Array) -> jax.Array:
            index = jnp.maximum(record["canary"], 0)
            line = slopes[index] * params["canary"][index]
            return jnp.where(record["canary"] < 0, own(params["stage"], record["codes"], key), line)

        return {"stage": params, "canary": jnp.zeros(coins.count)}, loss

    def update(state: Extended, gradient: Params, key: jax.Array) -> tuple[Extended, Metrics]:
        stage, _ = training.update(state.stage, gradient["stage"], key)
        return Extended(stage, state.step + 1), {"canaries": gradient["canary"]}

    return Training(
        init=lambda key: Extended(training.init(key), jnp.int32(0)),
        objective=objective,
        update=update,
        release=lambda state: training.release(state.stage),
    )


def with_canaries(codes: np.ndarray, count: int) -> dict[str, jax.Array]:
    """Append canaries to records.

    Args:
      codes: uint8 `[records, columns]`.
      count: number of canaries.
    """
    rows = np.concatenate([codes, np.zeros((count, codes.shape[1]), codes.dtype)])
    index = np.concatenate([np.full(len(codes), -1), np.arange(count)]).astype(np.int32)
    return {"codes": jnp.asarray(rows), "canary": jnp.asarray(index)}


def observe(
    plan: Plan,
    execution: Execution,
    training: Training,
    codes: np.ndarray,
    coins: Coins,
    roots: Roots,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Train with canaries, and yield what an attacker observes of them, chunk by chunk.

    Args:
      plan: sampler, noise and clip norm.
      execution: execution settings.
      training: the stage's training, without canaries.
      codes: records that are trained on beside the canaries, uint8 `[records, columns]`.
      coins: decide which canaries are in.
      roots: root keys of the training; the coins must not depend on them.

    Yields:
      Observations in clip norms and coins, float64 and bool `[steps, canaries]`. An observation is
      N(0, sigma**2) for a canary that is out or was not drawn, and N(1, sigma**2) for one that was.
    """
    records = with_canaries(codes, coins.count)
    watched = extended(training, coins, plan.clip_norm)
    chunk = make_chunk(plan, execution, watched.objective, watched.update)
    state = watched.init(jax.random.key(int(coins.key[0])))
    divisor = plan.sampling_rate * len(records["canary"])
    thrown = jax.jit(jax.vmap(coins.at))
    for start in range(0, plan.steps, CHUNK):
        steps = min(CHUNK, plan.steps - start)
        params, _ = watched.objective(state)
        keys = chunk_keys(plan, roots, "audit", start, steps, params)
        state, metrics = chunk(state, records, keys, jnp.float32(divisor))
        seen = np.asarray(metrics["canaries"], np.float64) * divisor / plan.clip_norm
        yield seen, np.asarray(thrown(jnp.arange(start, start + steps)))
