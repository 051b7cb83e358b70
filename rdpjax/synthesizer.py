"""`Synthesizer`: fit, sample, save and load from Python."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd

from rdpjax.codecs.table import TableCodec
from rdpjax.config import Config
from rdpjax.config_file import TABLE_GENERATOR
from rdpjax.data.frame import check_frame, released_frame
from rdpjax.data.outside import count_outside, heed
from rdpjax.data.schema import Schema
from rdpjax.datasets.registry import TABLE
from rdpjax.datasets.table import TableSettings
from rdpjax.dpsgd.keys import Roots
from rdpjax.errors import UserError
from rdpjax.fitting.fit import fit
from rdpjax.fitting.generator import Generator
from rdpjax.fitting.plans import check_plan, make_plans, target_of
from rdpjax.fitting.progress import Progress, fit_progress
from rdpjax.fitting.session import Session
from rdpjax.fitting.where import read_where
from rdpjax.generators.registry import find_generator
from rdpjax.privacy.accountants import rdp_epsilon
from rdpjax.privacy.budget import Budget
from rdpjax.privacy.events import events_to_list
from rdpjax.privacy.ledger import Ledger
from rdpjax.privacy.report import earlier_fits, read_report, with_earlier_fits
from rdpjax.privacy.unprotected import output_for, output_of
from rdpjax.runs.claim import claim
from rdpjax.runs.folder import RunFolder, release_written
from rdpjax.runs.generator_file import read_generator, write_generator
from rdpjax.runs.lock import run_lock


class Synthesizer:
    """Generator of synthetic records of one table, under one (epsilon, delta) budget.

    Args:
      schema: public columns, bounds and levels.
      budget: total (epsilon, delta); the configuration's by default.
      config: every other setting.
      generator: name of the stages to train, in place of the configuration's; without a
        configuration "autoregressive".

    Raises:
      UserError: an argument of the wrong type, or a schema without the label that a stage needs.

    Attributes:
      ledger: events of the last fit, also of one that failed after it had read records.
      earlier_fits: the ledgers of all fits before it, the first one first. What all fits cost
        together, as if they had read the same records, is in `report` and in the `repr`.

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
        self,
        schema: Schema,
        budget: Budget | None = None,
        config: Config | None = None,
        *,
        generator: str | None = None,
    ) -> None:
        _check_kind(schema, Schema, "schema: give a Schema(name, columns)")
        _check_kind(budget, Budget | None, "budget: give Budget(epsilon=..., delta=...)")
        _check_kind(config, Config | None, "config: give Config(...)")
        if config is None:
            recipe = find_generator(generator or TABLE_GENERATOR)
            config = Config(dataset=TABLE, data=TableSettings(schema), **recipe.settings())
        elif generator is not None:
            config = dataclasses.replace(config, **find_generator(generator).settings())
        config.recipe.check_schema(schema)
        if schema.records is not None and config.records is None:
            config = dataclasses.replace(config, records=schema.records)
        if budget is not None:
            config = dataclasses.replace(config, epsilon=budget.epsilon, delta=budget.delta)
        self.schema = schema
        self.config = config
        self.ledger = Ledger()
        self.earlier_fits: tuple[Ledger, ...] = ()
        self.generator: Generator | None = None
        self._secret = True
        self._declarations: dict[str, Any] = {"source": "given to fit"}

    def __reduce__(self) -> NoReturn:
        raise UserError("a Synthesizer is not pickled; use save(path) and Synthesizer.load(path)")

    def fit(
        self,
        frame: pd.DataFrame,
        *,
        seed: int | None = None,
        progress: Progress | None = None,
        accept_clipping: bool = False,
        quiet: bool = False,
    ) -> Synthesizer:
        """Train on private records.

        A first fit compiles for a while. Later processes find the programs where
        `rdpjax.keep_programs()` was called before, or jax's own compilation cache is set: that is a
        setting of the whole process, so it is the caller's, and fit changes none.

        Args:
          frame: one row a record, the schema's columns in its units; others are ignored.
          seed: for reproducible runs whose noise is then NOT secret; the operating system's
            randomness by default.
          progress: callback; by default lines on stderr, where that is a terminal.
          accept_clipping: go on where more than a fifth of a column's values lie outside its
            bounds, or of the rows break a rule.
          quiet: no lines by default.

        Raises:
          UserError: not a DataFrame, a missing column, a value that is no number or level, a column
            that is mostly clipped, too few records, or a budget that cannot be met. All but the
            number of records is checked before anything is measured.

        Warns:
          UserWarning: values outside a column's bounds, from 1 % on; counted exactly, so not
            private.
        """
        if self.config.measurements:
            raise UserError(
                f"config: dataset {self.config.dataset!r} is of patients' files, and fit takes a "
                f"table; use dataset = {TABLE!r}"
            )
        # A frame is no file of a data set, and its caller has already removed any hold-out.
        settings = TableSettings(self.schema)
        table: dict[str, Any] = {"dataset": TABLE, "data": settings, "holdout": 0.0}
        self.config = dataclasses.replace(self.config, **table)
        plans = make_plans(self.config)
        check_plan(self.config, self.schema, plans)
        clean = check_frame(self.schema, frame)
        found = count_outside(self.schema, clean)
        for note in heed(found, accept=accept_clipping, mend="accept_clipping=True"):
            warnings.warn(note, stacklevel=2)
        roots = Roots.make(seed)
        ledger = Ledger(target=target_of(self.config), noise_id=roots.noise_id)
        # Mechanisms that ran count even if the fit fails, and so do those of all earlier fits.
        if self.ledger.entries:
            self.earlier_fits += (self.ledger,)
        self.generator, self.ledger, self._secret = None, ledger, roots.secret
        self._declarations = {"source": "given to fit"}
        self.generator = fit(
            self.config,
            TableCodec(self.schema),
            clean,
            plans=plans,
            session=Session(ledger, roots),
            progress=progress or fit_progress(plans.steps, quiet=quiet),
        )
        return self

    def sample(
        self, rows: int, *, seed: int | None = None, where: str | None = None
    ) -> pd.DataFrame:
        """Draw synthetic records in the schema's units; post-processing, costs no privacy.

        Args:
          rows: number of records.
          seed: the same seed gives the same rows.
          where: conditions that every record meets, such as "ill = 1 and age >= 70".
        """
        return pd.concat(list(self.stream(rows, seed=seed, where=where)), ignore_index=True)

    def stream(
        self, rows: int, *, seed: int | None = None, where: str | None = None
    ) -> Iterator[pd.DataFrame]:
        """Yield as `sample`, in frames of some thousand rows, in bounded memory."""
        if self.generator is None:
            raise UserError("nothing to sample from yet; call fit first, or load a run")
        if rows < 1:
            raise UserError(f"rows is {rows}; ask for 1 or more")
        asked = () if where is None else read_where(where, self.schema)
        frames = self.generator.rows(Roots.make(seed).initialisation, rows, asked)
        return (released_frame(self.schema, frame) for frame in frames)

    def report(self) -> dict[str, Any]:
        """Return the content of `privacy.json`; after several fits with the composition of all."""
        report = claim(
            self.schema,
            self.config,
            self.ledger,
            secret=self._secret,
            declarations=self._declarations,
        )
        fits = [fit.events for fit in self.earlier_fits]
        return with_earlier_fits(report, fits, self.config.delta)

    def __repr__(self) -> str:
        delta = self.config.delta
        state = "fitted" if self.generator else "not fitted"
        if self.ledger.entries:
            state += f", epsilon {self.ledger.epsilon(delta):.4g} at delta {delta:g}"
        if self.earlier_fits:
            fits = (*self.earlier_fits, self.ledger)
            epsilon, _ = rdp_epsilon([event for fit in fits for event in fit.events], delta)
            state += f", {epsilon:.4g} with {len(self.earlier_fits)} earlier fits"
        return f"<Synthesizer of {self.schema.name!r}: {state}>"

    def save(self, path: str | Path) -> None:
        """Write the generator, the schema and the claim in a folder of `path`.

        The folder is `release`; after a fit without privacy, `unprotected`.

        Raises:
          UserError: nothing was fitted, one of the two folders exists or cannot be written, a run
            was begun there, or another process trains or saves there.
        """
        if self.generator is None:
            raise UserError("nothing to save yet; call fit first")
        report, path = self.report(), Path(path)
        with run_lock(path):
            if (there := output_of(path)).exists():
                raise UserError(f"{there}: exists; choose another folder")
            if RunFolder(path).exists:  # a release beside its ledger would pass for its own
                raise UserError(f"{path}: holds an unfinished run; choose another folder")
            target = output_for(path, private=self.config.private)
            with release_written(target) as folder:
                write_generator(folder, self.generator, report["epsilon"])
                text = json.dumps(report, indent=1)
                (folder / "privacy.json").write_text(text, encoding="utf-8")

    @staticmethod
    def load(path: str | Path) -> Synthesizer:
        """Load what `save`, or a run of `python -m rdpjax.train`, wrote in the folder `path`.

        Raises:
          UserError: no completed release there, or one whose `privacy.json` was changed.
        """
        folder = output_of(Path(path))
        generator = read_generator(folder)
        report = read_report(folder / "privacy.json")
        synth = Synthesizer(generator.schema, config=generator.config)
        synth.generator = generator
        synth._secret = bool(report.get("secret_noise"))
        synth._declarations = dict(report.get("declarations", {}))
        synth.ledger = Ledger.from_dict({"version": 1, "events": report.get("events")})
        fits = [events_to_list(fit) for fit in earlier_fits(report)]
        synth.earlier_fits = tuple(Ledger.from_dict({"version": 1, "events": e}) for e in fits)
        return synth


def _check_kind(value: object, kind: Any, mend: str) -> None:
    if not isinstance(value, kind):
        raise UserError(f"{mend}, got {value!r}")
