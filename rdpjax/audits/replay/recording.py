"""Record a fit's mechanism outputs, or replay a fit with given outputs.

Differential privacy has two halves: each mechanism's output moves little with one record, and all
else depends on the outputs alone. A fit that replays another one's outputs tests both. Its own
outputs can be compared with the replayed ones; and whatever else differs has read the records
by another way.

Nothing is patched: a recording session takes the place of the run's own, and trains whatever stages
the configuration has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int32

from rdpjax.codecs.codec import Codec
from rdpjax.config import Config
from rdpjax.dpsgd.clipping import Params
from rdpjax.dpsgd.keys import Roots
from rdpjax.dpsgd.loop import Metrics
from rdpjax.dpsgd.plan import Plan
from rdpjax.fitting.fit import fit
from rdpjax.fitting.generator import Generator
from rdpjax.fitting.plans import Plans
from rdpjax.fitting.session import Run, Session
from rdpjax.mechanisms.measurement import Answer, Measurement
from rdpjax.privacy.events import Event
from rdpjax.privacy.ledger import Ledger
from rdpjax.privacy.sealed import Sealed
from rdpjax.stages.stage import Context, Training, TrainingStage

Until = Literal["measurements", "stages", "release"]

GRADIENT = "noisy gradient"
"""Name of the metric that holds the noisy gradient, the input of a stage's update."""


@dataclass
class Recording:
    """Mechanism outputs, states and release of one fit.

    Attributes:
      answers: own noisy vector of each measurement, float64.
      gradients: noisy gradient of each step of each stage, float32 `[steps, parameters]`.
      metrics: all other metrics of each stage, `[steps]` each.
      states: each stage's last state, and its context.
      entries: entries of the ledger.
      generator: the release; None where the fit ended before.
    """

    answers: dict[str, np.ndarray] = field(default_factory=dict)
    gradients: dict[str, np.ndarray] = field(default_factory=dict)
    metrics: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    states: dict[str, tuple[Any, Context]] = field(default_factory=dict)
    entries: tuple[Event, ...] = ()
    generator: Generator | None = None


class RecordedState(NamedTuple):
    """State of a recorded training: the stage's state, and the gradients to replay.

    Attributes:
      inner: the stage's own state.
      script: gradients to replay, float32 `[steps, parameters]`.
      told: whether `script` replaces the stage's own gradients.
      step: number of steps taken.
    """

    inner: Any
    script: Float[Array, "steps parameters"]
    told: Bool[Array, ""]
    step: Int32[Array, ""]


def recorded(inner: Training, steps: int, script: np.ndarray | None) -> Training:
    """Return a training whose update records its noisy gradient, and may replay another instead.

    Args:
      inner: the stage's own training.
      steps: number of steps.
      script: gradients to replay, float32 `[steps, parameters]`; None for the fit's own.
    """

    def init(key: jax.Array) -> RecordedState:
        state = inner.init(key)
        size = sum(leaf.size for leaf in jax.tree.leaves(inner.objective(state)[0]))
        told = jnp.zeros((steps, size), jnp.float32) if script is None else jnp.asarray(script)
        return RecordedState(state, told, jnp.bool_(script is not None), jnp.int32(0))

    def update(
        state: RecordedState, gradient: Params, key: jax.Array
    ) -> tuple[RecordedState, Metrics]:
        own, unravel = ravel_pytree(gradient)
        given = jnp.where(state.told, state.script[state.step], own)
        after, metrics = inner.update(state.inner, unravel(given), key)
        return state._replace(inner=after, step=state.step + 1), metrics | {GRADIENT: own}

    return Training(
        init,
        lambda state: inner.objective(state.inner),
        update,
        lambda state: inner.release(state.inner),
    )


class _End(Exception):
    """Raised to end the fit at `until`."""


class _Interrupted(Exception):
    """Raised to simulate `kill -9` after a checkpoint."""


class RecordingSession(Session):
    """Record mechanism outputs, or replay those of another fit.

    Args:
      found: filled by the session; kept across interruptions.
      told: the recording whose outputs are replayed; None for the fit's own.
      until: where the fit ends.
      stages: names of the stages, in order.
      cut: stages that are interrupted once, before their second chunk.
    """

    def __init__(
        self,
        ledger: Ledger,
        roots: Roots,
        found: Recording,
        told: Recording | None,
        until: Until,
        stages: tuple[str, ...],
        cut: set[str],
    ) -> None:
        super().__init__(ledger, roots)
        self.found = found
        self._told, self._until, self._stages, self._cut = told, until, stages, cut
        self._heard: dict[str, list[Mapping[str, np.ndarray]]] = {}
        self._contexts: dict[str, Context] = {}

    def answer(
        self, measurement: Measurement, noise_multiplier: float, sealed: Sealed[Any]
    ) -> Answer:
        own, name = super().answer(measurement, noise_multiplier, sealed), measurement.name
        self.found.answers[name] = np.array(own.vector)
        told = self._told.answers.get(name) if self._told else None
        self.answers[name] = own if told is None else Answer(told.copy(), own.deviation)
        return self.answers[name]

    def training(self, name: str, stage: TrainingStage, plan: Plan, context: Context) -> Training:
        if self._until == "measurements":
            raise _End
        self._contexts[name] = context
        script = self._told.gradients.get(name) if self._told else None
        return recorded(super().training(name, stage, plan, context), plan.steps, script)

    def chunk(
        self, name: str, plan: Plan, start: int, steps: int, params: Params, run: Run,
        sealed: Sealed[Any],
    ) -> tuple[Any, Mapping[str, np.ndarray]]:  # fmt: skip
        if name in self._cut and start > 0:
            self._cut.remove(name)
            raise _Interrupted
        state, metrics = super().chunk(name, plan, start, steps, params, run, sealed)
        self._heard.setdefault(name, []).append(metrics)
        if start + steps == plan.steps:
            self._ended(name, jax.device_get(state.inner))
        return state, metrics

    def _ended(self, name: str, state: Any) -> None:
        self.found.states[name] = (state, self._contexts[name])
        chunks = self._heard[name]
        joined = {key: np.concatenate([chunk[key] for chunk in chunks]) for key in chunks[0]}
        self.found.gradients[name] = joined.pop(GRADIENT)
        self.found.metrics[name] = joined
        if self._until == "stages" and name == self._stages[-1]:
            raise _End


def record(
    config: Config,
    codec: Codec,
    records: Any,
    *,
    plans: Plans,
    roots: Roots,
    target: tuple[float, float] | None = None,
    told: Recording | None = None,
    until: Until = "stages",
    interrupted_in: Path | None = None,
) -> Recording:
    """Fit, and return the recording.

    Args:
      config: the run's settings.
      codec: encodes the records as a table.
      records: canonical records.
      plans: the mechanisms, with their noise multipliers.
      roots: root keys of the fit.
      target: epsilon and delta that the ledger enforces.
      told: a recording whose outputs replace this fit's own, which are recorded.
      until: where the fit ends: only with "release" is there a generator.
      interrupted_in: a folder for checkpoints; then the fit is interrupted after the first chunk of
        each stage that has several, and resumed. Metrics before an interruption are lost.

    Raises:
      UserError: as `rdpjax.fitting.fit.fit`.
    """
    stages = tuple(config.stages)
    found, cut = Recording(), set(stages if interrupted_in else ())
    ledger = Ledger(target=target, noise_id=roots.noise_id)
    resumed = True
    while resumed:
        resumed = False
        session = RecordingSession(ledger, roots, found, told, until, stages, cut)
        try:
            found.generator = fit(
                config, codec, records, plans=plans, session=session, checkpoints=interrupted_in
            )
        except _Interrupted:
            # A new process would resume with this ledger, which accepts repeated chunks as replays.
            resumed = True
            ledger = Ledger.resumed(ledger.to_lines(), target=target, noise_id=roots.noise_id)
        except _End:
            pass
    found.entries = ledger.entries
    return found
