"""The stages in order, under one budget and one ledger."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rdpjax.config import MARGINALS, Config
from rdpjax.data.codec import Codec, Marginals, histogram, marginals_from, sensitivity
from rdpjax.data.forms import Form
from rdpjax.data.schema import Categorical, Schema
from rdpjax.dpsgd.feed import room
from rdpjax.dpsgd.keys import Roots, stream_key
from rdpjax.dpsgd.plan import Plan
from rdpjax.errors import UserError
from rdpjax.generator import Generator, make_context
from rdpjax.io.array_file import open_array, write_array
from rdpjax.privacy.accountants import rdp_epsilon
from rdpjax.privacy.budget import Demand, calibrate, calibrate_alone
from rdpjax.privacy.events import Event, Mechanism, round_up_rate
from rdpjax.privacy.ledger import Ledger
from rdpjax.privacy.sealed import Sealed
from rdpjax.processes.team import Team
from rdpjax.progress import NoProgress, Progress
from rdpjax.stages.measurement import measurement_event, noisy
from rdpjax.stages.requirements import check_schema
from rdpjax.stages.stage import Artefact
from rdpjax.training import Codes, StageRun, compiled_ahead

LEAST_BATCH = 8.0
BLOCK = 2**18
"""Records that are encoded at once where they go to a file."""
MAPPED = "codes.npy"


@dataclass(frozen=True)
class Plans:
    """Every access that a run will make, fixed before any record is read.

    Attributes:
      measurements: noise multiplier of each direct measurement, in the order they are made; the
        table's histograms, `marginals`, are the last, unless they are not measured.
      stages: the DP-SGD plan of each training stage.
    """

    measurements: dict[str, float]
    stages: dict[str, Plan] = field(default_factory=dict)

    @property
    def steps(self) -> dict[str, int]:
        """Steps of each measurement, 1, and of each stage, in order."""
        stages = {name: plan.steps for name, plan in self.stages.items()}
        return dict.fromkeys(self.measurements, 1) | stages


def make_plans(config: Config) -> Plans:
    """The plans of a configuration: noise multipliers from the budget, by shares or alone.

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


def plan_events(config: Config, form: Form | None = None) -> list[Event]:
    """What a configuration will put in the ledger, before any data exists.

    The form gives the sensitivities of what is measured, which no accountant looks at; without one
    they are entered as 1.
    """
    return _events(make_plans(config), form)


def _events(plans: Plans, form: Form | None) -> list[Event]:
    events = [
        _measurement(name, noise, form) if form else measurement_event(name, noise, 1.0)
        for name, noise in plans.measurements.items()
    ]
    return [*events, *(plan.event(name, 0, plan.steps) for name, plan in plans.stages.items())]


def _measurement(name: str, noise: float, form: Form) -> Event:
    bound = sensitivity(form.schema) if name == MARGINALS else form.accesses[name]
    return measurement_event(name, noise, bound)


def target_of(config: Config) -> tuple[float, float] | None:
    """Epsilon and delta that the ledger guards, known before any record is read.

    The configuration's total; of a plan by epsilons of its stages, their composition by RDP; None
    without privacy alone.
    """
    if not config.private:
        return None
    if config.epsilon is not None:
        return config.epsilon, config.delta
    return rdp_epsilon(plan_events(config), config.delta)[0], config.delta


def fit(
    config: Config,
    form: Form,
    records: Any,
    *,
    plans: Plans,
    roots: Roots,
    ledger: Ledger,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    mesh: Mesh | None = None,
    team: Team | None = None,
) -> Generator:
    """Measure, train every stage, fit offset and tilt.

    Args:
      config: the run's settings.
      form: how the records become a table of public columns.
      records: private canonical records, as the form takes them.
      plans: `make_plans(config)`.
      roots: secret keys of this run; the same keys and data give the same result.
      ledger: entered before each access.
      checkpoints: folder to resume from and write to; None keeps everything in memory.
      progress: hears of chunks.
      mesh: the devices to train on, where there are several.
      team: the processes to train with, where there are several; all call this alike.

    Raises:
      UserError: what `check_plan` refuses, before any record is read; by the noisy counts, too few
        records for the plan, one class, delta not below 1 / records.

    Guarantees:
      The generator is (epsilon, delta)-differentially private in `records`, with the epsilon of the
      ledger's events. A resumed chunk replays its masks and its noise.
    """
    progress, team = progress or NoProgress(), team or Team()
    schema, sealed = form.schema, Sealed(records)
    del records
    check_plan(config, schema, plans)

    def measured(
        name: str, vector: Callable[[Any], np.ndarray], of: Sealed[Any] = sealed
    ) -> tuple[np.ndarray, float]:
        event = _measurement(name, plans.measurements[name], form)
        with ledger.access(event) as access:
            key = stream_key(roots.noise, name, "noise")
            vector_with_noise, deviation = noisy(vector(of.read(access)), event, key)
        progress.stage(name, 1)
        progress.advance(name, 1, ledger.epsilon(config.delta), {})
        return team.share_arrays(vector_with_noise), deviation

    filling = form.measure(measured)
    cells = sealed.map(lambda records: form.cells(records, filling))
    public = public_records(config)
    if MARGINALS in plans.measurements:
        counts, deviation = measured(MARGINALS, lambda cells: histogram(schema, cells), cells)
        if public is not None:
            counts[-1] = public
        marginals = marginals_from(schema, counts, deviation)
    else:
        assert public is not None  # the configuration refuses anything else
        marginals = Marginals.uniform(schema, public)
    _check_marginals(config, schema, marginals, plans)
    artefacts: dict[str, Artefact] = {}
    context = make_context(config, schema, marginals, artefacts)
    codes = _placed(context.codec, cells, checkpoints, mesh)
    runs = [
        StageRun(
            name,
            stage,
            plans.stages[name],
            config,
            roots,
            ledger,
            checkpoints / name if checkpoints else None,
            mesh,
            team,
        )
        for name, stage in config.stages.items()
    ]
    with compiled_ahead(runs, context, codes, marginals.records):
        for run in runs:
            progress.stage(run.name, run.plan.steps)
            artefacts[run.name] = run.train(context, codes, marginals.records, progress)
    if checkpoints:
        (checkpoints.parent / MAPPED).unlink(missing_ok=True)
    if lacking := [e.stage for e in _events(plans, form) if e not in ledger.events]:
        raise UserError(
            f"the ledger lacks accesses of {', '.join(lacking)}, so nothing is released; it was "
            "changed after it was written, restore it"
        )
    generator = Generator(config, schema, marginals, artefacts, filling=filling)
    return generator.fitted(roots.initialisation)


def _placed(
    codec: Codec, cells: Sealed[np.ndarray], checkpoints: Path | None, mesh: Mesh | None
) -> Codes:
    """Codes where training reads them: on the device, if it has room for so many.

    Else on the host: in a mapped file beside the checkpoints, or in memory if nothing is written.
    """
    shape, _ = cells.layout
    if math.prod(shape) <= room():  # a code is a byte

        def on_device(cells: np.ndarray) -> jax.Array:
            codes = codec.encode(cells)
            # Of another process's devices nothing can be said here: the chunk takes local arrays.
            if mesh is None or jax.process_count() > 1:
                return jnp.asarray(codes)
            return jax.device_put(codes, NamedSharding(mesh, PartitionSpec()))

        return Codes(cells.map(on_device), on_device=True)

    def on_host(cells: np.ndarray) -> np.ndarray:
        blocks = (codec.encode(cells[i : i + BLOCK]) for i in range(0, len(cells), BLOCK))
        if checkpoints is None:
            return np.concatenate(list(blocks))
        path = checkpoints.parent / MAPPED
        write_array(path, blocks, shape, np.uint8)
        return open_array(path)

    return Codes(cells.map(on_host), on_device=False)


def check_plan(config: Config, schema: Schema, plans: Plans) -> None:
    """Refuse what plan, schema and public facts rule out, before any record is read.

    Raises:
      UserError: a schema that a stage cannot learn (its `check` says so), or a public number of
        records that is too small for the plan.
    """
    check_schema(schema, config.stages, config.label_source)
    if (public := public_records(config)) is not None:
        _check_records(config, schema, public, plans, "public")


def public_records(config: Config) -> float | None:
    """Public number of records that are read: the hold-out, a public share, is not among them."""
    return None if config.records is None else config.records * (1 - config.holdout)


def _check_records(
    config: Config, schema: Schema, records: float, plans: Plans, known: str
) -> None:
    """Judge a number of records, as it is known: public or noisy."""
    if config.delta * records >= 1:
        raise UserError(
            f"delta is {config.delta:g}; with about {records:.0f} records it must be below "
            f"{1 / records:.2g}"
        )
    # The noisy count is floored there: it says nothing of how many fewer there are.
    if plans.stages and records <= schema.minimum_records:
        raise UserError(
            f"too few records for the plan: fewer than {schema.minimum_records} ({known} count), "
            "the schema's minimum_records; give more records"
        )
    for name, plan in plans.stages.items():
        if plan.sampling_rate * records < LEAST_BATCH:
            raise UserError(
                f"too few records for the plan: about {records:.0f} ({known} count), so {name} "
                f"expects {plan.sampling_rate * records:.1f} in a batch, and needs "
                f"{LEAST_BATCH:.0f}; raise its sampling_rate, or give more records"
            )


def _check_marginals(config: Config, schema: Schema, marginals: Marginals, plans: Plans) -> None:
    """Judge size and classes by the noisy counts (or the public one), never by the data."""
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
