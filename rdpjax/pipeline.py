"""The stages in order, under one budget and one ledger."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rdpjax.config import MARGINALS, Config
from rdpjax.data.array_file import open_array, write_array
from rdpjax.data.codec import Codec, Marginals, encode_cells, marginals_from
from rdpjax.data.schema import Categorical, Schema
from rdpjax.dpsgd.feed import room
from rdpjax.dpsgd.keys import Roots, derive
from rdpjax.dpsgd.plan import Plan
from rdpjax.errors import UserError
from rdpjax.generator import Generator, make_context
from rdpjax.privacy.budget import Demand, calibrate, calibrate_alone
from rdpjax.privacy.events import Event, round_up_rate
from rdpjax.privacy.ledger import Ledger
from rdpjax.processes.team import Team
from rdpjax.progress import Progress, Silence
from rdpjax.stages.marginals import marginals_event, measure
from rdpjax.stages.stage import Artefact
from rdpjax.training import StageRun, compiled_ahead

LEAST_BATCH = 8.0
BLOCK = 2**18
"""Records that are encoded at once where they go to a file."""


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
    mesh: Mesh | None = None,
    team: Team | None = None,
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
      mesh: the devices to train on, where there are several.
      team: the processes to train with, where there are several; all call this alike.

    Raises:
      UserError: too few records for the plan, one class, delta not below 1 / records.

    Guarantees:
      The generator is (epsilon, delta)-differentially private in `frame`, with the epsilon of the
      ledger's events. A resumed chunk replays its masks and its noise.
    """
    progress, team = progress or Silence(), team or Team()
    cells = encode_cells(schema, frame)
    marginals = _marginals(config, schema, cells, plans, roots, ledger, team)
    progress.stage(MARGINALS, 1)
    progress.advance(MARGINALS, 1, ledger.epsilon(config.delta), {})
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
    if isinstance(codes, np.memmap):
        Path(str(codes.filename)).unlink()
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
    team: Team,
) -> Marginals:
    # A public count is of the whole table; the hold-out, a public share of it, is not read.
    public = None if config.records is None else config.records * (1 - config.holdout)
    if plans.marginals is None:
        assert public is not None  # the configuration refuses anything else
        return Marginals.uniform(schema, public)
    event = marginals_event(schema, plans.marginals)
    key = derive(roots.noise, MARGINALS, "noise")
    noisy, deviation = measure(schema, cells, event, key, ledger.open)
    noisy = team.share_arrays(noisy)
    if public is not None:
        noisy[-1] = public
    return marginals_from(schema, noisy, deviation)


def _placed(
    codec: Codec, cells: np.ndarray, checkpoints: Path | None, mesh: Mesh | None
) -> jax.Array | np.ndarray:
    """Codes where training reads them: on the device, if it has room for so many.

    Else on the host: in a mapped file beside the checkpoints, or in memory if nothing is written.
    """
    if cells.size <= room():  # a code is a byte
        codes = codec.encode(cells)
        # Of another process's devices nothing can be said here: the chunk takes local arrays.
        if mesh is None or jax.process_count() > 1:
            return jnp.asarray(codes)
        return jax.device_put(codes, NamedSharding(mesh, PartitionSpec()))
    blocks = (codec.encode(cells[i : i + BLOCK]) for i in range(0, len(cells), BLOCK))
    if checkpoints is None:
        return np.concatenate(list(blocks))
    path = checkpoints.parent / "codes.npy"
    write_array(path, blocks, cells.shape, np.uint8)
    return open_array(path)


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
