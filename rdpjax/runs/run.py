"""One run: from a data set's files to a run folder, resumable at every chunk."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from contextlib import ExitStack
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

from rdpjax.compute.multihost import Hosts
from rdpjax.config import Config
from rdpjax.data.holdout import holdout_mask
from rdpjax.data.outside import count_outside, facts_of, heed
from rdpjax.data.schema import PEEKED, Schema
from rdpjax.datasets.dataset import Dataset, Source
from rdpjax.datasets.registry import dataset_of
from rdpjax.dpsgd.keys import Roots
from rdpjax.errors import UserError
from rdpjax.fitting.fit import fit
from rdpjax.fitting.generator import collapse_warnings
from rdpjax.fitting.plans import Plans, check_plan, make_plans, target_of
from rdpjax.fitting.progress import ConsoleProgress
from rdpjax.fitting.session import Session
from rdpjax.io.atomic import disk_errors
from rdpjax.privacy.report import LOOSE
from rdpjax.privacy.sources import refused
from rdpjax.privacy.unprotected import output_for, records_name
from rdpjax.runs.claim import claim
from rdpjax.runs.folder import RunFolder, release_written
from rdpjax.runs.generator_file import read_generator, write_generator
from rdpjax.runs.lock import run_lock
from rdpjax.runs.release import write_rows
from rdpjax.runs.shared_ledger import open_ledger
from rdpjax.runs.start import Options, check_folder, resumable, start_run

SHOWN = 50_000  # released rows that the warnings are computed from
SIMULATED = "SIMULATED DATA: no file was found, so these records are made up. Give --data PATH."


def run(
    config: Config,
    options: Options,
    *,
    quiet: bool = False,
    hosts: Hosts | None = None,
) -> dict[str, Any]:
    """Train and release; returns the summary of the run.

    All errors of configuration, files and folder are raised before anything is written. Interrupted
    at any moment, the run continues with `resume` and gives the same bits.

    Args:
      config: the settings.
      options: where and how to run it.
      quiet: no progress on stderr.
      hosts: the processes that share the run. All of them read the records and train; process 0
        alone prints, writes and releases, and the others return an empty summary.

    Raises:
      UserError: any mistake of the user's.
    """
    dataset = dataset_of(config.dataset, config.data)
    folder = RunFolder(options.out)
    hosts = hosts or Hosts()
    with ExitStack() as held:
        hosts.on_primary(lambda: held.enter_context(run_lock(folder.path)))
        if hosts.is_primary:
            held.callback(folder.protect)
        return _run(config, options, dataset, folder, hosts, quiet=quiet)


def _run(
    config: Config,
    options: Options,
    dataset: Dataset,
    folder: RunFolder,
    hosts: Hosts,
    *,
    quiet: bool,
) -> dict[str, Any]:
    hosts.on_primary(lambda: check_folder(folder, options))
    codec = dataset.codec(config.data)
    plans = make_plans(config)
    check_plan(config, codec.schema, plans)
    keep = folder.add_metrics if hosts.is_primary else _nowhere
    lines = ConsoleProgress(plans.steps, keep, quiet=quiet or not hosts.is_primary)
    # A sibling of the run folders, so that later runs find it; as private as their internal/.
    cache = folder.path.absolute().parent / ".patients"
    if options.data is not None:
        lines.say(f"  reading    {options.data}")
    source = hosts.on_all(
        lambda: dataset.open(options.data, options.environ, config.data, cache, lines.reading)
    )
    hosts.assert_equal({"data (fingerprint)": source.fingerprint})
    if source.origin == "simulated":
        lines.say(f"\n  {'!' * 8}  {SIMULATED}  {'!' * 8}\n")
    source = _judged(source, codec.schema, options)
    for note in source.notes:
        lines.say(f"  note: {note}")
    with disk_errors(folder.path), resumable(folder):
        name, roots = start_run(folder, config, source, options, hosts, lines)
        held = holdout_mask(source.keys, config.holdout, roots.holdout)
        shown: list[np.ndarray] = []
        if not hosts.on_primary(lambda: folder.complete):
            shown = _train(
                config, dataset, source, held, folder, plans, roots, options, hosts, lines
            )
        if not hosts.is_primary:
            return {}
        if not options.keep_noise_key:
            folder.forget_noise(roots)
        return _finish(config, dataset, source, held, folder, name, roots, shown, lines)


def _judged(source: Source, schema: Schema, options: Options) -> Source:
    """Add notes and internal facts on out-of-bounds values to a table; leave other sources alone.

    Raises:
      UserError: a column that is mostly clipped, unless that is accepted; nothing is written yet.
    """
    if not isinstance(source.records, pd.DataFrame):
        return source
    found = count_outside(schema, source.records)
    notes = heed(found, accept=options.accept_clipping, mend="--accept-clipping")
    facts = {**source.facts, "out of bounds": facts_of(found)}
    return dataclasses.replace(source, notes=(*source.notes, *notes), facts=facts)


def _train(
    config: Config,
    dataset: Dataset,
    source: Source,
    held: np.ndarray,
    folder: RunFolder,
    plans: Plans,
    roots: Roots,
    options: Options,
    hosts: Hosts,
    lines: ConsoleProgress,
) -> list[np.ndarray]:
    """Fit and release; return the first blocks of released rows, to process 0."""

    def keep() -> None:
        if config.holdout > 0:
            source.keep(held, folder.internal)
        if source.facts:
            folder.write_facts(source.facts)

    hosts.on_primary(keep)
    ledger = open_ledger(folder.ledger, hosts, target=target_of(config), noise_id=roots.noise_id)
    codec = dataset.codec(config.data)
    try:
        generator = fit(
            config,
            codec,
            dataset.take(source.records, ~held),
            plans=plans,
            session=Session(ledger, roots, hosts),
            checkpoints=folder.checkpoints if hosts.is_primary else None,
            progress=lines,
            mesh=hosts.mesh,
        )
    except UserError as error:
        if hosts.is_primary and not options.resume and not folder.checkpoints.exists():
            # No stage was trained, and none will be; the ledger of the measurements is archived.
            raise refused(error, folder.discard(), config.delta) from None
        raise
    if not hosts.is_primary:
        return []
    lines.say(f"  sampling   {config.rows} rows")
    declarations = {
        "source": source.origin,
        "dataset": config.dataset,
        "format": dict(source.format),
        "holdout": config.holdout,
    }
    report = claim(codec.schema, config, ledger, secret=roots.secret, declarations=declarations)
    with release_written(output_for(folder.path, private=config.private)) as release:
        name = records_name(dataset.file, private=config.private) if dataset.file else ""
        first = generator.first_blocks(roots.initialisation, min(config.rows, SHOWN))
        write_rows(
            release / name, generator, dataset, source.format, roots.initialisation, first=first
        )
        write_generator(release, generator, report["epsilon"])
        (release / "privacy.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return first


def _nowhere(stage: str, start: int, metrics: Mapping[str, Any]) -> None:
    """Discard metrics: process 0 alone stores them."""


def _finish(
    config: Config,
    dataset: Dataset,
    source: Source,
    held: np.ndarray,
    folder: RunFolder,
    name: str,
    roots: Roots,
    shown: list[np.ndarray],
    lines: ConsoleProgress,
) -> dict[str, Any]:
    """Write plots and warnings to `internal/`, and return the summary.

    The first blocks of released rows are `shown`; a run that was completed before generates them
    again.
    """
    from rdpjax.evaluation import plots  # late: it imports matplotlib
    from rdpjax.evaluation.drawing import run_title

    report = json.loads((folder.output / "privacy.json").read_text(encoding="utf-8"))
    simulated = source.origin == "simulated"
    title = run_title(
        folder.path.absolute().name, report["epsilon"], report["delta"], simulated=simulated
    )
    generator = read_generator(folder.output)
    evaluation = dataset.evaluation()
    # Generate the first released rows again: a release of millions need not fit in memory.
    count = min(config.rows, SHOWN)
    shown = shown or generator.first_blocks(roots.initialisation, count)
    drawn = min(config.rows, evaluation.shown)
    synthetic = reduce(dataset.join, generator.decoded(roots.initialisation, shown, drawn))
    rows = np.flatnonzero(~held)
    if len(rows) > evaluation.shown:
        rows = np.random.default_rng(0).choice(rows, evaluation.shown, replace=False)
    real = dataset.take(source.records, np.isin(np.arange(len(held)), rows))
    folder.plots.mkdir(exist_ok=True)
    evaluation.draw(real, synthetic, generator.schema, folder.plots, config.data, title)
    if metrics := folder.read_metrics():
        plots.plot_losses(metrics, folder.plots / "losses.png", title)
    warnings = []
    if generator.marginals.deviation > 0:  # without noise, shares are not measured
        frame = generator.frame(shown, count)
        warnings = collapse_warnings(frame, generator.schema, generator.marginals)
    if LOOSE in report["notes"]:
        warnings.append(LOOSE)
    for warning in warnings:
        lines.say(f"  WARNING: {warning}")
    runs = folder.add_history(name, source.fingerprint)
    return {
        "run": str(folder.path),
        "source": source.origin,
        "rows": config.rows,
        "records": dataset.noun,
        "folder": folder.output.name,
        "file": records_name(dataset.released, private=config.private),
        "epsilon": report["epsilon"],
        "epsilon_pld": report["epsilon_pld"],
        "epsilon_naive_sum": report["epsilon_naive_sum"],
        "delta": report["delta"],
        "unit": report["unit"],
        "relation": report["relation"],
        "secret_noise": report["secret_noise"],
        "runs_on_this_data": runs,
        "notes": [note for note in report["notes"] if note == PEEKED],
        "warnings": warnings,
    }
