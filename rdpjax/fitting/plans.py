"""Plans: every mechanism of a run and its noise, fixed before any record is read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from rdpjax.codecs.codec import Codec
from rdpjax.config import MARGINALS, Config
from rdpjax.data.schema import Categorical, Schema
from rdpjax.data.tokenizer import Marginals, histogram, sensitivity
from rdpjax.dpsgd.plan import Plan
from rdpjax.errors import UserError
from rdpjax.mechanisms.measurement import Answers, Measurement, measurement_event
from rdpjax.privacy.accountants import rdp_epsilon
from rdpjax.privacy.budget import Demand, calibrate, calibrate_alone
from rdpjax.privacy.events import Event, Mechanism, round_up_rate

LEAST_BATCH = 8.0


@dataclass(frozen=True)
class Plans:
    """Every mechanism run of a fit, fixed before any record is read.

    Attributes:
      measurements: noise multiplier of each direct measurement, in the order they run; the table's
        histograms, `marginals`, are the last, unless they are not measured.
      stages: the DP-SGD plan of each training stage.
    """

    measurements: dict[str, float]
    stages: dict[str, Plan] = field(default_factory=dict)

    @property
    def steps(self) -> dict[str, int]:
        """Number of steps of each measurement, 1, and of each stage, in order."""
        stages = {name: plan.steps for name, plan in self.stages.items()}
        return dict.fromkeys(self.measurements, 1) | stages


def make_plans(config: Config) -> Plans:
    """Calibrate noise multipliers to the budget, by shares of it or by an epsilon for each stage.

    Raises:
      UserError: shares that don't sum to 1, or an epsilon that the steps cannot reach.
    """
    spent = config.epsilons or config.shares
    rates = {name: round_up_rate(config.sampling_rate(name)) for name in config.stages}
    measured = [name for name in (*config.measurements, MARGINALS) if name in spent]
    demands = [Demand(name, "discrete_gaussian", 1.0, 1) for name in measured]
    sampled: Mechanism = "poisson_discrete_gaussian" if config.hardened else "poisson_gaussian"
    demands += [
        Demand(name, sampled, rates[name], stage.steps) for name, stage in config.stages.items()
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
            discrete=config.hardened,
        )
        for name, stage in config.stages.items()
    }
    return Plans({name: noise[name] for name in measured}, plans)


def plan_events(config: Config, codec: Codec | None = None) -> list[Event]:
    """Return the events that a configuration will put in the ledger, before any data exists.

    The codec gives the sensitivities of the measurements, which no accountant uses; without one
    they are entered as 1.
    """
    return events_of(make_plans(config), codec)


def events_of(plans: Plans, codec: Codec | None = None) -> list[Event]:
    """Return the events that plans will put in the ledger; see `plan_events`."""
    measured = {each.name: each for each in measurements(codec)} if codec else {}
    events = [
        measured[name].event(noise) if codec else measurement_event(name, noise, 1.0)
        for name, noise in plans.measurements.items()
    ]
    return [*events, *(plan.event(name, 0, plan.steps) for name, plan in plans.stages.items())]


def measurements(codec: Codec) -> tuple[Measurement, ...]:
    """Return all measurements of a codec's records, in order; the table's histograms are last.

    Raises:
      UserError: a table with more bins than can be accounted.
    """
    schema = codec.schema

    def counted(cells: np.ndarray, answers: Answers) -> np.ndarray:
        return histogram(schema, cells)

    numbers = 1 + sum(column.bins for column in schema.columns)
    return (*codec.measurements, Measurement(MARGINALS, sensitivity(schema), numbers, counted))


def target_of(config: Config) -> tuple[float, float] | None:
    """Return the (epsilon, delta) that the ledger enforces, known before any record is read.

    The configuration's total; with epsilons of its stages, their composition by RDP; None only
    without privacy.
    """
    if not config.private:
        return None
    if config.epsilon is not None:
        return config.epsilon, config.delta
    return rdp_epsilon(plan_events(config), config.delta)[0], config.delta


def check_plan(config: Config, schema: Schema, plans: Plans) -> None:
    """Check plan, schema and public facts for contradictions, before any record is read.

    Raises:
      UserError: a schema that a stage cannot learn (by its `check`), or a public number of records
        that is too small for the plan.
    """
    config.recipe.check_schema(schema)
    if (public := public_records(config)) is not None:
        _check_records(config, schema, public, plans, "public")


def public_records(config: Config) -> float | None:
    """Return the public number of records outside the hold-out, whose share is public, or None."""
    return None if config.records is None else config.records * (1 - config.holdout)


def _check_records(
    config: Config, schema: Schema, records: float, plans: Plans, known: str
) -> None:
    """Check that a number of records, public or noisy, suffices for delta and the plan."""
    if config.delta * records >= 1:
        raise UserError(
            f"delta is {config.delta:g}; with about {records:.0f} records it must be below "
            f"{1 / records:.2g}"
        )
    # The noisy count is floored at minimum_records, so the message cannot state a lower one.
    if plans.stages and records <= schema.minimum_records:
        raise UserError(
            f"too few records for the plan: fewer than {schema.minimum_records} ({known} count), "
            "the schema's minimum_records; give more records, or a lower minimum_records in the "
            "schema if it is public that there are as many"
        )
    for name, plan in plans.stages.items():
        if plan.sampling_rate * records < LEAST_BATCH:
            raise UserError(
                f"too few records for the plan: about {records:.0f} ({known} count), so {name} "
                f"expects {plan.sampling_rate * records:.1f} in a batch, and needs "
                f"{LEAST_BATCH:.0f}; raise its sampling_rate, or give more records"
            )


def check_marginals(config: Config, schema: Schema, marginals: Marginals, plans: Plans) -> None:
    """Check size and classes by noisy counts (or the public one), never by the records."""
    known = "noisy" if config.records is None else "public"
    _check_records(config, schema, marginals.records, plans, known)
    if not schema.has_classes:
        return
    records, margin = marginals.records, 4 * marginals.deviation
    label = schema.column(schema.label)
    assert isinstance(label, Categorical)
    shares = marginals.shares[schema.position(schema.label)]
    for positive in (False, True):
        levels = [
            level
            for level, is_so in zip(label.levels, schema.is_positive, strict=True)
            if is_so == positive
        ]
        share = shares[np.asarray(schema.is_positive) == positive].sum()
        if share * records <= margin / label.weight * math.sqrt(len(levels)):
            named = f"level {levels[0]!r}" if len(levels) == 1 else f"one of {len(levels)} levels"
            raise UserError(
                f"label {schema.label!r}: hardly any record has {named}, so there is one class to "
                "learn; check the column"
            )
