"""One run: from a data set's file to a run folder, resumable at every chunk."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rdpjax.config import Config
from rdpjax.data.cardio import AgeUnit, HeightUnit
from rdpjax.data.datasets import Dataset, Source, find_dataset
from rdpjax.data.holdout import holdout_mask
from rdpjax.dpsgd.keys import Roots
from rdpjax.errors import UserError
from rdpjax.generator import Generator, collapse_warnings
from rdpjax.pipeline import Plans, fit, make_plans, target_of
from rdpjax.privacy.ledger import Ledger
from rdpjax.progress import Lines
from rdpjax.run_folder import (
    RunFolder,
    disk_errors,
    read_generator,
    release_written,
    write_generator,
)
from rdpjax.synthesizer import claim

SHOWN = 50_000  # rows in the plots and the warnings
SIMULATED = "SIMULATED DATA: no file was found, so these records describe nobody. Give --data PATH."


@dataclass(frozen=True)
class Options:
    """What a run needs beside its configuration.

    Attributes:
      out: the run's folder.
      data: the records' file; None looks in the usual places, then simulates.
      environ: environment variables (`RDPJAX_DATA`).
      age_unit: of the age column.
      height_unit: of the height column.
      seed: for a reproducible run whose noise is not secret.
      resume: go on with an interrupted run.
      overwrite: start anew in a folder that holds a run.
      keep_noise_key: keep the noise root after the run, for research.
    """

    out: Path
    data: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    age_unit: AgeUnit = "auto"
    height_unit: HeightUnit = "auto"
    seed: int | None = None
    resume: bool = False
    overwrite: bool = False
    keep_noise_key: bool = False


def run(config: Config, options: Options, *, quiet: bool = False) -> dict[str, Any]:
    """Train and release; returns the summary of the run.

    Everything that can be wrong with configuration, files and folder is said before anything is
    written. Interrupted at any moment, the run goes on with `resume` and gives the same bits.

    Raises:
      UserError: what a user can mend.
    """
    dataset = find_dataset(config.dataset)
    _check_derived(config, dataset)
    folder = RunFolder(options.out)
    _check_folder(folder, options)
    plans = make_plans(config)
    source = dataset.open(
        options.data, options.environ, age_unit=options.age_unit, height_unit=options.height_unit
    )
    steps = {"marginals": 1} | {name: plan.steps for name, plan in plans.stages.items()}
    lines = Lines(steps, folder.add_metrics, quiet=quiet)
    if source.origin == "simulated":
        lines.say(f"\n  {'!' * 8}  {SIMULATED}  {'!' * 8}\n")
    for note in source.notes:
        lines.say(f"  note: {note}")
    with disk_errors(folder.path):
        name, roots = _start(folder, config, source, options)
        held = holdout_mask(source.keys, config.holdout, roots.holdout)
        if not folder.complete:
            _train(config, dataset, source, held, folder, plans, roots, options.resume, lines)
        if not options.keep_noise_key:
            folder.forget_noise(roots)
        return _finish(config, dataset, source, held, folder, name, roots, lines)


def _train(
    config: Config,
    dataset: Dataset,
    source: Source,
    held: np.ndarray,
    folder: RunFolder,
    plans: Plans,
    roots: Roots,
    resumed: bool,
    lines: Lines,
) -> None:
    if config.holdout > 0:
        folder.holdout.write_text(source.verbatim(held), encoding="utf-8")
    target = target_of(config)
    opened = Ledger.load if folder.ledger.exists() else Ledger.create
    ledger = opened(folder.ledger, target=target, noise_id=roots.noise_id)
    frame = source.frame[~held].reset_index(drop=True)
    schema = dataset.schema
    try:
        generator = fit(
            config,
            schema,
            frame,
            plans=plans,
            roots=roots,
            ledger=ledger,
            checkpoints=folder.checkpoints,
            progress=lines,
        )
    except UserError:
        if not resumed and not folder.checkpoints.exists():
            folder.discard()  # nothing was trained, and nothing will be
        raise
    lines.say(f"  sampling   {config.rows} rows")
    declarations = {
        "source": source.origin,
        "dataset": config.dataset,
        "format": source.layout.to_dict(),
        "holdout": config.holdout,
    }
    report = claim(schema, config, ledger, secret=roots.secret, declarations=declarations)
    with release_written(folder.release) as release:
        write_generator(release, generator)
        write_rows(
            release / "synthetic.csv",
            generator,
            dataset,
            source.layout,
            config,
            roots.initialisation,
        )
        (release / "privacy.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def write_rows(
    path: Path,
    generator: Generator,
    dataset: Dataset,
    layout: Any,
    config: Config,
    root: bytes,
    rows: int | None = None,
) -> None:
    """Stream generated rows to `path` in the input's format, in bounded memory."""
    first = 0
    with path.open("wb") as file:
        file.write(dataset.header(layout, config.derived))
        for frame in generator.rows(root, rows or config.rows):
            file.write(dataset.format(frame, layout, derived=config.derived, first_id=first))
            first += len(frame)


def _check_derived(config: Config, dataset: Dataset) -> None:
    for name in config.derived:
        if name not in dataset.derived:
            raise UserError(f"derived: unknown {name!r}; there are {', '.join(dataset.derived)}")


def _check_folder(folder: RunFolder, options: Options) -> None:
    if options.resume and options.overwrite:
        raise UserError("give --resume or --overwrite, not both")
    if options.resume and not folder.exists:
        raise UserError(f"{folder.path}: no run to resume there; drop --resume")
    if folder.exists and not (options.resume or options.overwrite):
        raise UserError(f"{folder.path}: holds a run; give --resume, --overwrite or another --out")
    folder.check_writable()


def _start(
    folder: RunFolder, config: Config, source: Source, options: Options
) -> tuple[str, Roots]:
    """Name and keys of a new or resumed run; what would read other records is refused.

    The same noise on other records would give these away by a subtraction.
    """
    facts = {
        "fingerprint": source.fingerprint,
        "age_unit": options.age_unit,
        "height_unit": options.height_unit,
    }
    if options.resume:
        before, known, roots = folder.read_start()
        if before != Config.from_toml(config.to_toml()):
            raise UserError(
                f"{folder.path}: its configuration differs from this one; use the run's own flags"
            )
        if known.get("fingerprint") != facts["fingerprint"]:
            raise UserError(f"{folder.path}: the data changed since the run began; start a new one")
        if options.seed is not None and Roots.make(options.seed).sampling != roots.sampling:
            raise UserError(f"{folder.path}: --seed differs from the run's own; drop it")
        for unit in ("age_unit", "height_unit"):
            if known.get(unit) != facts[unit]:
                raise UserError(
                    f"{folder.path}: {unit} was {known.get(unit)} when the run began; "
                    "use the run's own flags"
                )
        return str(known.get("run")), roots
    if folder.exists:
        folder.archive()
    folder.create()
    name, roots = secrets.token_hex(8), Roots.make(options.seed)
    folder.write_start(config, {"run": name, **facts}, roots)
    return name, roots


def _finish(
    config: Config,
    dataset: Dataset,
    source: Source,
    held: np.ndarray,
    folder: RunFolder,
    name: str,
    roots: Roots,
    lines: Lines,
) -> dict[str, Any]:
    """Plots and warnings into `internal/`, and the summary."""
    from rdpjax.evaluation import plots  # late: it brings in matplotlib

    report = json.loads((folder.release / "privacy.json").read_text(encoding="utf-8"))
    generator = read_generator(folder.release)
    # The first of the released rows once more: a release of millions need not fit in memory.
    shown = generator.rows(roots.initialisation, min(config.rows, SHOWN))
    synthetic = pd.concat(list(shown), ignore_index=True)
    real = source.frame[~held]
    folder.plots.mkdir(exist_ok=True)
    plots.plot_densities(real, synthetic, dataset.schema, folder.plots / "densities.png")
    plots.plot_correlations(real, synthetic, dataset.schema, folder.plots / "correlations.png")
    if metrics := folder.read_metrics():
        plots.plot_losses(metrics, folder.plots / "losses.png")
    measured = generator.marginals.deviation > 0  # without, there is no share to compare with
    warnings = collapse_warnings(synthetic, dataset.schema, generator.marginals) if measured else []
    for warning in warnings:
        lines.say(f"  WARNING: {warning}")
    runs = folder.add_history(name, source.fingerprint)
    return {
        "run": str(folder.path),
        "source": source.origin,
        "rows": config.rows,
        "epsilon": report["epsilon"],
        "epsilon_pld": report["epsilon_pld"],
        "epsilon_naive_sum": report["epsilon_naive_sum"],
        "delta": report["delta"],
        "unit": report["unit"],
        "relation": report["relation"],
        "secret_noise": report["secret_noise"],
        "runs_on_this_data": runs,
        "warnings": warnings,
    }
