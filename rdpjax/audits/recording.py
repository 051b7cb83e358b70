"""A fit that is watched, and one that is told what its mechanisms answered.

Differential privacy has two halves: each mechanism's answer moves little with one record, and all
else depends on the answers alone. A fit that is told the answers of another one shows both. Its own
answers can be compared with those that it was told; and whatever still differs has read the records
by another way.

Nothing is patched: a fit asks its team for what process 0 found, tells its progress what it did,
and trains whatever stages the configuration has.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int32

from rdpjax.config import Config
from rdpjax.data.forms import Form
from rdpjax.dpsgd.clipping import Params
from rdpjax.dpsgd.keys import Roots
from rdpjax.dpsgd.loop import Metrics
from rdpjax.generator import Generator
from rdpjax.pipeline import fit
from rdpjax.plans import Plans
from rdpjax.privacy.events import Event
from rdpjax.privacy.ledger import Ledger
from rdpjax.processes.team import Team
from rdpjax.stages.stage import Context, Training

Until = Literal["measurements", "stages", "release"]

GRADIENT = "noisy gradient"
"""Name of the metric that holds what a stage's update was given."""


@dataclass
class Recording:
    """What one fit did.

    Attributes:
      answers: noisy vector of each measurement, float64.
      gradients: noisy gradient of each step of each stage, float32 `[steps, parameters]`.
      metrics: all else that each step of each stage told, `[steps]` each.
      states: each stage's last state, and the context that it was trained under.
      entries: of the ledger.
      generator: what would be released; None where the fit ended before.
    """

    answers: dict[str, np.ndarray] = field(default_factory=dict)
    gradients: dict[str, np.ndarray] = field(default_factory=dict)
    metrics: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    states: dict[str, tuple[Any, Context]] = field(default_factory=dict)
    entries: tuple[Event, ...] = ()
    generator: Generator | None = None


class WatchedState(NamedTuple):
    """A stage's state, and what its steps are told.

    Attributes:
      inner: the stage's own state.
      script: the gradients that its steps are told.
      told: whether they are told any.
      step: steps taken.
    """

    inner: Any
    script: Float[Array, "steps parameters"]
    told: Bool[Array, ""]
    step: Int32[Array, ""]


@dataclass(frozen=True)
class WatchedStage:
    """A stage whose update tells the gradient that it was given, and may be told another.

    Attributes:
      stage: as configured.
      taken: how many steps are taken.
      ended: hears of the last state and of the context.
    """

    stage: Any
    taken: int
    ended: Callable[[Any, Context], None]

    @property
    def sampling_rate(self) -> float:
        return float(self.stage.sampling_rate)

    @property
    def steps(self) -> int:
        return int(self.stage.steps)

    @property
    def clip_norm(self) -> float:
        return float(self.stage.clip_norm)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.stage, name)  # a model, an emitter: what other stages ask for

    def training(self, context: Context) -> Training:
        inner: Training = self.stage.training(context)

        def init(key: jax.Array) -> WatchedState:
            state = inner.init(key)
            size = sum(leaf.size for leaf in jax.tree.leaves(inner.objective(state)[0]))
            script = jnp.zeros((self.taken, size), jnp.float32)
            return WatchedState(state, script, jnp.bool_(False), jnp.int32(0))

        def update(
            state: WatchedState, gradient: Params, key: jax.Array
        ) -> tuple[WatchedState, Metrics]:
            own, unravel = ravel_pytree(gradient)
            given = jnp.where(state.told, state.script[state.step], own)
            after, metrics = inner.update(state.inner, unravel(given), key)
            return state._replace(inner=after, step=state.step + 1), metrics | {GRADIENT: own}

        def release(state: WatchedState) -> Any:
            # Shapes are asked for too, of states that are not there.
            if not isinstance(state.step, jax.core.Tracer):
                self.ended(jax.device_get(state.inner), context)
            return inner.release(state.inner)

        return Training(init, lambda state: inner.objective(state.inner), update, release)


class _End(Exception):
    """The rest of the fit is not asked for."""


class _Interrupted(Exception):
    """As `kill -9` would, at a checkpoint."""


@dataclass
class _Observer(Team):
    """A team of one, and a progress: passes on what fits tell and are told.

    Attributes:
      told: the recording whose answers the fit is told; None for its own.
      until: where the fit ends.
      stages: names of the stages, in order.
      cut: stages that are interrupted once, after their first chunk.
    """

    told: Recording | None = None
    until: Until = "release"
    stages: tuple[str, ...] = ()
    cut: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.found = Recording()
        self._name = ""
        self._heard: dict[str, list[Mapping[str, np.ndarray]]] = {}

    def share_arrays(self, tree: Any) -> Any:
        if not isinstance(tree, WatchedState):
            self.found.answers[self._name] = np.array(tree)
            told = self.told.answers.get(self._name) if self.told else None
            return tree if told is None else told.copy()
        script = self.told.gradients.get(self._name) if self.told else None
        if script is None:
            return tree
        return tree._replace(script=jnp.asarray(script), told=jnp.bool_(True))

    def say(self, text: str) -> None:
        """Nobody listens."""

    def stage(self, name: str, steps: int) -> None:
        self._name = name
        if self.until == "measurements" and name in self.stages:
            raise _End

    def advance(self, name: str, done: int, epsilon: float, metrics: Mapping[str, Any]) -> None:
        if metrics:
            self._heard.setdefault(name, []).append(metrics)
        if metrics and name in self.cut:
            self.cut.remove(name)
            raise _Interrupted

    def ended(self, state: Any, context: Context) -> None:
        self.found.states[self._name] = (state, context)
        chunks = self._heard.get(self._name, [])
        joined = {key: np.concatenate([c[key] for c in chunks]) for key in (chunks or [{}])[0]}
        if joined:
            self.found.gradients[self._name] = joined.pop(GRADIENT)
            self.found.metrics[self._name] = joined
        if self.until == "stages" and self._name == self.stages[-1]:
            raise _End


def record(
    config: Config,
    form: Form,
    records: Any,
    *,
    plans: Plans,
    roots: Roots,
    target: tuple[float, float] | None = None,
    told: Recording | None = None,
    until: Until = "stages",
    interrupted_in: Path | None = None,
) -> Recording:
    """Fit, and record what was done.

    Args:
      config: the run's settings.
      form: how the records become a table.
      records: canonical records.
      plans: what is accessed, with how much noise.
      roots: the keys.
      target: epsilon and delta that the ledger guards.
      told: a recording; the answers in it take the place of this fit's own, which are recorded.
      until: where the fit ends: only with the release is there a generator.
      interrupted_in: a folder for checkpoints; then the fit is interrupted after the first chunk of
        each stage that has several, and resumed. What was told before an interruption is lost.

    Raises:
      UserError: as `rdpjax.pipeline.fit`.
    """
    stages = tuple(config.stages)
    cut = set(stages if interrupted_in else ())
    observer = _Observer(told=told, until=until, stages=stages, cut=cut)

    def ended(state: Any, context: Context) -> None:  # a function: configurations are copied deep
        observer.ended(state, context)

    watched = {
        name: WatchedStage(stage, plans.stages[name].steps, ended)
        for name, stage in config.stages.items()
    }
    ledger = Ledger(target=target, noise_id=roots.noise_id)
    resumed = True
    while resumed:
        resumed = False
        try:
            observer.found.generator = fit(
                dataclasses.replace(config, stages=watched),
                form,
                records,
                plans=plans,
                roots=roots,
                ledger=ledger,
                checkpoints=interrupted_in,
                progress=observer,
                team=observer,
            )
        except _Interrupted:
            # Another process would go on here: only to such a one are repeated chunks replays.
            resumed = True
            ledger = Ledger.resumed(ledger.to_lines(), target=target, noise_id=roots.noise_id)
        except _End:
            pass
    if observer.found.generator is not None:
        observer.found.generator = dataclasses.replace(observer.found.generator, config=config)
    observer.found.entries = ledger.entries
    return observer.found
