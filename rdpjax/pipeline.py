"""The stages in order, under one budget and one ledger."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from rdpjax import checkpoint
from rdpjax.config import MARGINALS, Config
from rdpjax.data.codec import Marginals, encode_cells, marginals_from
from rdpjax.data.schema import Categorical, Schema
from rdpjax.dpsgd.keys import Roots, as_key, derive, step_keys
from rdpjax.dpsgd.loop import make_chunk
from rdpjax.dpsgd.plan import Plan
from rdpjax.errors import UserError
from rdpjax.generator import Generator, make_context
from rdpjax.privacy.budget import Demand, calibrate, calibrate_alone
from rdpjax.privacy.events import Event, round_up_rate
from rdpjax.privacy.ledger import Ledger
from rdpjax.stages.marginals import marginals_event, measure
from rdpjax.stages.stage import Artefact, Context, TrainingStage

CHUNK = 50
LEAST_BATCH = 8.0


class Progress(Protocol):
    """Who hears of a run's progress; what it hears is internal."""

    def stage(self, name: str, steps: int) -> None: ...
    def advance(self, name: str, done: int, epsilon: float, metrics: Mapping[str, Any]) -> None: ...


class Silence:
    """Hears nothing."""

    def stage(self, name: str, steps: int) -> None: ...
    def advance(self, name: str, done: int, epsilon: float, metrics: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Plans:
    """Every access that a run will make, fixed before any record is read.

    Attributes:
      marginals: noise multiplier of the histograms; None where they are not measured.
      stages: the DP-SGD plan of each training stage.
    """

    marginals: float | None
    stages: dict[str, Plan] = field(default_factory=dict)


def make_plans(config: Config) -> Plans:
    """The plans of a configuration: noise multipliers from the budget, by shares or alone.

    Raises:
      UserError: shares that don't sum to 1, or an epsilon that the steps cannot reach.
    """
    spent = config.epsilons or config.shares
    rates = {name: round_up_rate(config.sampling_rate(name)) for name in config.stages}
    demands = [Demand(MARGINALS, "gaussian", 1.0, 1)] if MARGINALS in spent else []
    demands += [
        Demand(name, "poisson_gaussian", rates[name], stage.steps)
        for name, stage in config.stages.items()
    ]
    if not config.private:
        noise = {demand.name: 0.0 for demand in demands}
    elif config.epsilons:
        noise = {d.name: calibrate_alone(spent[d.name], config.delta, d) for d in demands}
    else:
        noise = calibrate(config.budget, demands, spent)
    plans = {
        name: Plan.at_rate(
            rates[name],
            noise_multiplier=noise[name],
            clip_norm=stage.clip_norm if config.private else math.inf,
            steps=stage.steps,
            microbatch=stage.microbatch,
        )
        for name, stage in config.stages.items()
    }
    return Plans(noise.get(MARGINALS), plans)


def plan_events(config: Config, schema: Schema | None = None) -> list[Event]:
    """What a configuration will put in the ledger, before any data exists.

    The schema gives the sensitivity of the histograms, which no accountant looks at; without one
    it is entered as 1.
    """
    return _events(make_plans(config), schema)


def _events(plans: Plans, schema: Schema | None) -> list[Event]:
    events = [plan.event(name, 0, plan.steps) for name, plan in plans.stages.items()]
    if plans.marginals is None:
        return events
    if schema is None:
        return [Event(MARGINALS, "gaussian", 1.0, plans.marginals, 1.0, 1), *events]
    return [marginals_event(schema, plans.marginals), *events]


def target_of(config: Config) -> tuple[float, float] | None:
    """Epsilon and delta that the ledger guards; None where stages have their own epsilons."""
    return (config.epsilon, config.delta) if config.private and not config.epsilons else None


def fit(
    config: Config,
    schema: Schema,
    frame: pd.DataFrame,
    *,
    plans: Plans,
    roots: Roots,
    ledger: Ledger,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
) -> Generator:
    """Measure, train every stage, fit offset and tilt.

    Args:
      config: the run's settings.
      schema: public columns.
      frame: private canonical records.
      plans: `make_plans(config)`.
      roots: secret keys of this run; the same keys and data give the same result.
      ledger: entered before each access.
      checkpoints: folder to resume from and write to; None keeps everything in memory.
      progress: hears of chunks.

    Raises:
      UserError: too few records for the plan, one class, delta not below 1 / records.

    Guarantees:
      The generator is (epsilon, delta)-differentially private in `frame`, with the epsilon of the
      ledger's events. A resumed chunk replays its masks and its noise.
    """
    progress = progress or Silence()
    cells = encode_cells(schema, frame)
    marginals = _marginals(config, schema, cells, plans, roots, ledger)
    progress.stage(MARGINALS, 1)
    progress.advance(MARGINALS, 1, ledger.epsilon(config.delta), {})
    _check_marginals(config, schema, marginals, plans)
    artefacts: dict[str, Artefact] = {}
    context = make_context(config, schema, marginals, artefacts)
    codes = jnp.asarray(context.codec.encode(cells))
    for name, stage in config.stages.items():
        progress.stage(name, stage.steps)
        run = _Run(name, stage, plans.stages[name], roots, ledger, config.delta)
        folder = checkpoints / name if checkpoints else None
        artefacts[name] = run.train(context, codes, marginals.records, folder, progress)
    if lacking := [e.stage for e in _events(plans, schema) if e not in ledger.events]:
        raise UserError(
            f"the ledger lacks accesses of {', '.join(lacking)}, so nothing is released; it was "
            "changed after it was written, restore it"
        )
    return Generator(config, schema, marginals, artefacts).fitted(roots.initialisation)


def _marginals(
    config: Config,
    schema: Schema,
    cells: np.ndarray,
    plans: Plans,
    roots: Roots,
    ledger: Ledger,
) -> Marginals:
    # A public count is of the whole table; the hold-out, a public share of it, is not read.
    public = None if config.records is None else config.records * (1 - config.holdout)
    if plans.marginals is None:
        assert public is not None  # the configuration refuses anything else
        return Marginals.uniform(schema, public)
    event = marginals_event(schema, plans.marginals)
    key = derive(roots.noise, MARGINALS, "noise")
    noisy, deviation = measure(schema, cells, event, key, ledger.open)
    if public is not None:
        noisy[-1] = public
    return marginals_from(schema, noisy, deviation)


def _check_marginals(config: Config, schema: Schema, marginals: Marginals, plans: Plans) -> None:
    """Judge size and classes by the noisy counts (or the public one), never by the data."""
    records, margin = marginals.records, 4 * marginals.deviation
    if config.delta * records >= 1:
        raise UserError(
            f"delta is {config.delta:g}; with about {records:.0f} records it must be below "
            f"{1 / records:.2g}"
        )
    for name, plan in plans.stages.items():
        if plan.sampling_rate * records < LEAST_BATCH or records <= schema.minimum_records:
            raise UserError(
                f"too few records for the plan: about {records:.0f}, so {name} expects "
                f"{plan.sampling_rate * records:.1f} in a batch; at least "
                f"{schema.minimum_records} records and batches of {LEAST_BATCH:.0f} are needed"
            )
    label = schema.column(schema.label)
    assert isinstance(label, Categorical)
    for level, share in zip(
        label.levels, marginals.shares[schema.position(schema.label)], strict=True
    ):
        if share * records <= margin:
            raise UserError(
                f"label {schema.label!r}: hardly any record has level {level!r}, so there is one "
                "class to learn; check the column"
            )


@dataclass(frozen=True)
class _Run:
    """One stage's training, chunk by chunk."""

    name: str
    stage: TrainingStage
    plan: Plan
    roots: Roots
    ledger: Ledger
    delta: float

    def train(
        self,
        context: Context,
        codes: jax.Array,
        records: float,
        folder: Path | None,
        progress: Progress,
    ) -> Artefact:
        training = self.stage.training(context)
        key = as_key(derive(self.roots.initialisation, self.name, "init"))
        state = jax.jit(training.init)(key)
        done = 0
        if folder and (saved := checkpoint.steps(folder)):
            done = saved[-1]
            state = checkpoint.load(folder, done, state)
        chunk = make_chunk(self.plan, training.objective, training.update)
        divisor = jnp.float32(self.plan.sampling_rate * records)
        while done < self.plan.steps:
            steps = min(CHUNK, self.plan.steps - done)
            self.ledger.open(self.plan.event(self.name, done, steps))
            keys = step_keys(self.roots, self.name, done, steps)
            state, metrics = chunk(state, codes, keys, divisor)
            heard = {name: np.asarray(values) for name, values in metrics.items()}
            done += steps
            if folder:
                checkpoint.save(folder, done, state)
            progress.advance(self.name, done, self.ledger.epsilon(self.delta), heard)
        return jax.tree.map(jnp.asarray, training.release(state))
