"""The stages in order, under one budget and one ledger."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rdpjax.codecs.codec import Codec
from rdpjax.config import MARGINALS, Config
from rdpjax.data.array_file import open_array, write_array
from rdpjax.data.encoding import Encoding, Marginals, histogram, marginals_from, sensitivity
from rdpjax.data.schema import Categorical, Schema
from rdpjax.dpsgd.feed import room
from rdpjax.dpsgd.plan import Plan
from rdpjax.errors import UserError
from rdpjax.generator import Generator, make_context
from rdpjax.mechanisms.measurement import Answers, Measurement, measurement_event
from rdpjax.privacy.budget import Demand, calibrate, calibrate_alone
from rdpjax.privacy.events import Event, Mechanism, round_up_rate
from rdpjax.privacy.sealed import Sealed
from rdpjax.progress import Progress, Silence
from rdpjax.session import Session
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


def plan_events(config: Config, codec: Codec | None = None) -> list[Event]:
    """What a configuration will put in the ledger, before any data exists.

    The codec gives the sensitivities of what is measured, which no accountant looks at; without one
    they are entered as 1.
    """
    return _events(make_plans(config), codec)


def _events(plans: Plans, codec: Codec | None) -> list[Event]:
    measured = {each.name: each for each in measurements(codec)} if codec else {}
    events = [
        measured[name].event(noise) if codec else measurement_event(name, noise, 1.0)
        for name, noise in plans.measurements.items()
    ]
    return [*events, *(plan.event(name, 0, plan.steps) for name, plan in plans.stages.items())]


def measurements(codec: Codec) -> tuple[Measurement, ...]:
    """Everything that can be measured of a codec's records, in order; the table's cells are last.

    Raises:
      UserError: a table with more cells than can be accounted.
    """
    schema = codec.schema

    def counted(cells: np.ndarray, answers: Answers) -> np.ndarray:
        return histogram(schema, cells)

    numbers = 1 + sum(column.bins for column in schema.columns)
    return (*codec.measurements, Measurement(MARGINALS, sensitivity(schema), numbers, counted))


def target_of(config: Config) -> tuple[float, float] | None:
    """Epsilon and delta that the ledger guards; None where stages have their own epsilons."""
    return (config.epsilon, config.delta) if config.private and not config.epsilons else None


def fit(
    config: Config,
    codec: Codec,
    records: Any,
    *,
    plans: Plans,
    session: Session,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    mesh: Mesh | None = None,
) -> Generator:
    """Measure, train every stage, fit offset and tilt.

    Args:
      config: the run's settings.
      codec: how the records become a table of public columns.
      records: private canonical records, as the codec takes them.
      plans: `make_plans(config)`.
      session: runs the mechanisms; the same keys and data give the same result.
      checkpoints: folder to resume from and write to; None keeps everything in memory.
      progress: hears of chunks.
      mesh: the devices to train on, where there are several.

    Raises:
      UserError: too few records for the plan, one class, delta not below 1 / records.

    Guarantees:
      The generator is (epsilon, delta)-differentially private in `records`, with the epsilon of the
      ledger's events: it depends on them through the session's answers and chunks alone. A resumed
      chunk replays its masks and its noise.
    """
    progress, ledger = progress or Silence(), session.ledger
    schema, sealed = codec.schema, Sealed(records)
    del records
    *first, of_cells = measurements(codec)

    def answer(measurement: Measurement, sealed: Sealed[Any]) -> None:
        session.answer(measurement, plans.measurements[measurement.name], sealed)
        progress.stage(measurement.name, 1)
        progress.advance(measurement.name, 1, ledger.epsilon(config.delta), {})

    for measurement in first:
        answer(measurement, sealed)
    cells = sealed.map(lambda records: codec.cells(records, session.answers))
    if MARGINALS in plans.measurements:
        answer(of_cells, cells)
    marginals = _marginals(config, schema, session.answers)
    _check_marginals(config, schema, marginals, plans)
    artefacts: dict[str, Artefact] = {}
    context = make_context(config, schema, marginals, artefacts)
    codes = _placed(context.encoding, cells, checkpoints, mesh)
    runs = [
        StageRun(
            name,
            stage,
            plans.stages[name],
            config,
            session,
            checkpoints / name if checkpoints else None,
            mesh,
        )
        for name, stage in config.stages.items()
    ]
    with compiled_ahead(runs, context, codes, marginals.records):
        for run in runs:
            progress.stage(run.name, run.plan.steps)
            artefacts[run.name] = run.train(context, codes, marginals.records, progress)
    if checkpoints:
        (checkpoints.parent / MAPPED).unlink(missing_ok=True)
    if lacking := [e.stage for e in _events(plans, codec) if e not in ledger.events]:
        raise UserError(
            f"the ledger lacks accesses of {', '.join(lacking)}, so nothing is released; it was "
            "changed after it was written, restore it"
        )
    decoder = codec.decoder(session.answers)
    generator = Generator(config, schema, marginals, artefacts, decoder)
    return generator.fitted(session.roots.initialisation)


def _marginals(config: Config, schema: Schema, answers: Answers) -> Marginals:
    """Shares of the cells from their noisy counts, or none; the number of records may be public."""
    # A public count is of the whole table; the hold-out, a public share of it, is not read.
    public = None if config.records is None else config.records * (1 - config.holdout)
    if MARGINALS not in answers:
        assert public is not None  # the configuration refuses anything else
        return Marginals.uniform(schema, public)
    counts, deviation = answers[MARGINALS]
    if public is not None:
        counts = np.append(counts[:-1], public)
    return marginals_from(schema, counts, deviation)


def _placed(
    encoding: Encoding, cells: Sealed[np.ndarray], checkpoints: Path | None, mesh: Mesh | None
) -> Codes:
    """Codes where training reads them: on the device, if it has room for so many.

    Else on the host: in a mapped file beside the checkpoints, or in memory if nothing is written.
    """
    shape, _ = cells.layout
    if math.prod(shape) <= room():  # a code is a byte

        def on_device(cells: np.ndarray) -> jax.Array:
            codes = encoding.encode(cells)
            # Of another process's devices nothing can be said here: the chunk takes local arrays.
            if mesh is None or jax.process_count() > 1:
                return jnp.asarray(codes)
            return jax.device_put(codes, NamedSharding(mesh, PartitionSpec()))

        return Codes(cells.map(on_device), on_device=True)

    def on_host(cells: np.ndarray) -> np.ndarray:
        blocks = (encoding.encode(cells[i : i + BLOCK]) for i in range(0, len(cells), BLOCK))
        if checkpoints is None:
            return np.concatenate(list(blocks))
        path = checkpoints.parent / MAPPED
        write_array(path, blocks, shape, np.uint8)
        return open_array(path)

    return Codes(cells.map(on_host), on_device=False)


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
