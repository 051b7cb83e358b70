"""The public object: fit, sample, save, load."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rdpjax import __version__
from rdpjax.config import Config
from rdpjax.data.forms import TableForm
from rdpjax.data.schema import Categorical, Schema
from rdpjax.dpsgd.keys import Roots
from rdpjax.errors import UserError, nearest
from rdpjax.generator import Generator
from rdpjax.pipeline import Progress, fit, make_plans, target_of
from rdpjax.privacy.budget import Budget
from rdpjax.privacy.ledger import Ledger
from rdpjax.privacy.report import privacy_report, read_report
from rdpjax.progress import fit_progress
from rdpjax.run_folder import read_generator, release_written, write_generator

PACKAGES = ("jax", "flax", "optax", "dp-accounting", "numpy")


class Synthesizer:
    """Synthetic records of one table, under one budget.

    Args:
      schema: public columns, bounds and levels.
      budget: total epsilon and delta; the configuration's by default.
      config: every other setting.

    Examples:
      >>> import rdpjax
      >>> from rdpjax.data.cardio import CARDIO
      >>> synth = rdpjax.Synthesizer(CARDIO, budget=rdpjax.Budget(epsilon=1, delta=1e-5))
      >>> synth.sample(10)
      Traceback (most recent call last):
      ...
      rdpjax.errors.UserError: nothing to sample from yet; call fit first, or load a run
    """

    def __init__(
        self, schema: Schema, budget: Budget | None = None, config: Config | None = None
    ) -> None:
        config = config or Config(dataset=schema.name)
        if schema.records is not None and config.records is None:
            config = dataclasses.replace(config, records=schema.records)
        if budget is not None:
            config = dataclasses.replace(config, epsilon=budget.epsilon, delta=budget.delta)
        self.schema = schema
        self.config = config
        self.ledger = Ledger()
        self.generator: Generator | None = None
        self._secret = True
        self._declarations: dict[str, Any] = {"source": "given to fit"}

    def fit(
        self,
        frame: pd.DataFrame,
        *,
        seed: int | None = None,
        progress: Progress | None = None,
        quiet: bool = False,
    ) -> Synthesizer:
        """Train on private records.

        Args:
          frame: one row a record, the schema's columns in its units; others are ignored.
          seed: for reproducible runs whose noise is then NOT secret; the operating system's
            randomness by default.
          progress: callback; by default lines on stderr, where that is a terminal.
          quiet: no such lines.

        Raises:
          UserError: a missing column, a value that is no number or level, too few records, or a
            budget that cannot be met.
        """
        clean = check_frame(self.schema, frame)
        # Whoever hands over a frame has kept out what should be: all of its rows are read.
        self.config = dataclasses.replace(self.config, holdout=0.0)
        plans = make_plans(self.config)
        roots = Roots.make(seed)
        ledger = Ledger(target=target_of(self.config), noise_id=roots.noise_id)
        # What a fit has read counts, even if it fails.
        self.generator, self.ledger, self._secret = None, ledger, roots.secret
        self._declarations = {"source": "given to fit"}
        self.generator = fit(
            self.config,
            TableForm(self.schema),
            clean,
            plans=plans,
            roots=roots,
            ledger=ledger,
            progress=progress or fit_progress(plans.steps, quiet=quiet),
        )
        return self

    def sample(self, rows: int, *, seed: int | None = None) -> pd.DataFrame:
        """Synthetic records in the schema's units; costs no privacy.

        Args:
          rows: how many.
          seed: the same seed gives the same rows.
        """
        return pd.concat(list(self.stream(rows, seed=seed)), ignore_index=True)

    def stream(self, rows: int, *, seed: int | None = None) -> Iterator[pd.DataFrame]:
        """As `sample`, in frames of some thousand rows, in bounded memory."""
        if self.generator is None:
            raise UserError("nothing to sample from yet; call fit first, or load a run")
        if rows < 1:
            raise UserError(f"rows is {rows}; ask for 1 or more")
        return self.generator.rows(Roots.make(seed).initialisation, rows)

    def report(self) -> dict[str, Any]:
        """The content of `privacy.json`."""
        return claim(
            self.schema,
            self.config,
            self.ledger,
            secret=self._secret,
            declarations=self._declarations,
        )

    def save(self, path: str | Path) -> None:
        """Write a release (generator, schema, claim) in the folder `path`."""
        if self.generator is None:
            raise UserError("nothing to save yet; call fit first")
        target = Path(path) / "release"
        if target.exists():
            raise UserError(f"{target}: exists; choose another folder")
        with release_written(target) as folder:
            write_generator(folder, self.generator)
            report = json.dumps(self.report(), indent=1)
            (folder / "privacy.json").write_text(report, encoding="utf-8")

    @staticmethod
    def load(path: str | Path) -> Synthesizer:
        """What `save`, or a run of `python -m rdpjax.train`, left in the folder `path`.

        Raises:
          UserError: no completed release there, or one whose `privacy.json` was changed.
        """
        folder = Path(path) / "release"
        generator = read_generator(folder)
        report = read_report(folder / "privacy.json")
        synth = Synthesizer(generator.schema, config=generator.config)
        synth.generator = generator
        synth._secret = bool(report.get("secret_noise"))
        synth._declarations = dict(report.get("declarations", {}))
        synth.ledger = Ledger.from_dict({"version": 1, "events": report.get("events")})
        return synth


def claim(
    schema: Schema,
    config: Config,
    ledger: Ledger,
    *,
    secret: bool,
    declarations: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of `privacy.json` for a completed run."""
    public = {"schema": "bounds, levels and units as in schema.toml", **declarations}
    if config.records is not None:
        public["records"] = config.records
    return privacy_report(
        ledger.events,
        config.delta,
        unit=schema.unit_of_privacy,
        secret_noise=secret,
        declarations=public,
        versions={"rdpjax": __version__} | {name: version(name) for name in PACKAGES},
    )


def check_frame(schema: Schema, frame: pd.DataFrame) -> pd.DataFrame:
    """The schema's columns of a user's frame; UserError for what does not fit the schema."""
    columns = {}
    for column in schema.columns:
        if column.name not in frame.columns:
            hint = nearest(column.name, [str(c) for c in frame.columns])
            raise UserError(f"column {column.name!r} is missing{hint}")
        given = frame[column.name]
        if isinstance(given, pd.DataFrame):
            raise UserError(f"column {column.name!r} stands twice; remove one")
        if isinstance(column, Categorical):
            # By equality: True is the level 1, where the codec would look for the same kind.
            known = {level: level for level in column.levels}
            values = given.astype(object).map(known.get)
            bad = values.isna().to_numpy()
            what = f"is no level; levels are {', '.join(map(str, column.levels))}"
        else:
            values = _numbers(given)
            bad, what = ~np.isfinite(values), "is no finite number"
        if bad.any():
            row = int(bad.argmax())
            raise UserError(f"row {row}, column {column.name!r}: {given.iloc[row]!s} {what}")
        columns[column.name] = np.asarray(values)
    return pd.DataFrame(columns)


def _numbers(values: pd.Series) -> np.ndarray:
    """Float64; NaN for whatever is no number, dates among it."""
    if values.dtype.kind in "mMc":
        return np.full(len(values), np.nan)
    return pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)
