"""Fit: measurements and training stages in order, under one budget and one ledger."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rdpjax.codecs.codec import Codec
from rdpjax.config import MARGINALS, Config
from rdpjax.data.schema import Schema
from rdpjax.data.tokenizer import Marginals, Tokenizer, marginals_from
from rdpjax.dpsgd.feed import room
from rdpjax.errors import UserError
from rdpjax.fitting.generator import Generator, make_context
from rdpjax.fitting.plans import (
    Plans,
    check_marginals,
    check_plan,
    events_of,
    measurements,
    public_records,
)
from rdpjax.fitting.progress import NoProgress, Progress
from rdpjax.fitting.session import Session
from rdpjax.fitting.stage_run import Examples, StageRun, compiled_ahead
from rdpjax.io.array_file import open_array, write_array
from rdpjax.mechanisms.measurement import Answers, Measurement
from rdpjax.privacy.sealed import Sealed
from rdpjax.stages.stage import Artefact

BLOCK = 2**18
"""Records encoded per block where the tokens go to a file."""
MAPPED = "tokens.npy"


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
    """Measure, train every stage, fit the labeler's offset and the raking multipliers.

    Args:
      config: the run's settings.
      codec: encodes the records as a table of public columns.
      records: private canonical records, as the codec takes them.
      plans: `make_plans(config)`.
      session: runs the mechanisms; the same keys and data give the same result.
      checkpoints: folder to resume from and write to; None keeps everything in memory.
      progress: callback, called after every mechanism and chunk.
      mesh: the devices to train on, where there are several.

    Raises:
      UserError: what `check_plan` refuses, before any record is read; by the noisy counts, too few
        records for the plan, one class, delta not below 1 / records.

    Guarantees:
      The generator is (epsilon, delta)-differentially private in `records`, with the epsilon of the
      ledger's events: it depends on them through the session's answers and chunks alone. A resumed
      chunk replays its masks and its noise.
    """
    progress, ledger = progress or NoProgress(), session.ledger
    schema, sealed = codec.schema, Sealed(records)
    del records
    check_plan(config, schema, plans)
    *first, of_cells = measurements(codec)

    def answer(measurement: Measurement, sealed: Sealed[Any]) -> None:
        session.answer(measurement, plans.measurements[measurement.name], sealed)
        progress.stage(measurement.name, 1)
        progress.advance(measurement.name, 1, ledger.epsilon(config.delta), {})

    for measurement in first:
        answer(measurement, sealed)
    encoding = codec.fit(session.answers)
    cells = sealed.map(encoding.cells)
    if MARGINALS in plans.measurements:
        answer(of_cells, cells)
    marginals = _marginals(config, schema, session.answers)
    check_marginals(config, schema, marginals, plans)
    artefacts: dict[str, Artefact] = {}
    context = make_context(config, schema, marginals, artefacts)
    examples = _placed(context.tokenizer, cells, checkpoints, mesh)
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
    with compiled_ahead(runs, context, examples, marginals.records):
        for run in runs:
            progress.stage(run.name, run.plan.steps)
            artefacts[run.name] = run.train(context, examples, marginals.records, progress)
    if checkpoints:
        (checkpoints.parent / MAPPED).unlink(missing_ok=True)
    if lacking := [e.stage for e in events_of(plans, codec) if e not in ledger.events]:
        raise UserError(
            f"the ledger lacks mechanism runs of {', '.join(lacking)}, so nothing is released; it "
            "was changed after it was written, restore it"
        )
    generator = Generator(config, schema, marginals, artefacts, encoding)
    return generator.fitted(session.roots.initialisation)


def _marginals(config: Config, schema: Schema, answers: Answers) -> Marginals:
    """Estimate marginals from the noisy bin counts, if measured; else take uniform ones."""
    public = public_records(config)
    if MARGINALS not in answers:
        assert public is not None  # `Config` checks this
        return Marginals.uniform(schema, public)
    counts, deviation = answers[MARGINALS]
    if public is not None:
        counts = np.append(counts[:-1], public)
    return marginals_from(schema, counts, deviation)


def _placed(
    tokenizer: Tokenizer, cells: Sealed[np.ndarray], checkpoints: Path | None, mesh: Mesh | None
) -> Examples:
    """Encode bins as tokens; place them on the device if they fit in its memory, else on the host.

    On the host they lie in a mapped file beside the checkpoints, or in memory if there are none.
    """
    shape = cells.shapes.shape
    if math.prod(shape) <= room():  # one byte a token

        def on_device(cells: np.ndarray) -> jax.Array:
            tokens = tokenizer.encode(cells)
            # Other processes' devices are not addressable here: the chunk takes local arrays.
            if mesh is None or jax.process_count() > 1:
                return jnp.asarray(tokens)
            copies: jax.Array = jax.device_put(tokens, NamedSharding(mesh, PartitionSpec()))
            return copies

        return Examples(cells.map(on_device), on_device=True)

    def on_host(cells: np.ndarray) -> np.ndarray:
        blocks = (tokenizer.encode(cells[i : i + BLOCK]) for i in range(0, len(cells), BLOCK))
        if checkpoints is None:
            return np.concatenate(list(blocks))
        path = checkpoints.parent / MAPPED
        write_array(path, blocks, shape, np.uint8)
        return open_array(path)

    return Examples(cells.map(on_host), on_device=False)
