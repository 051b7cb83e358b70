"""Runs of the sepsis generator that an ablation compares, each made once a seed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import jax.numpy as jnp
import numpy as np

from rdpjax.codecs.two_level import PatientEncoding, TwoLevelCodec
from rdpjax.config import MARGINALS, Config
from rdpjax.data.stays.filling import Filling
from rdpjax.data.stays.patients import Patients
from rdpjax.data.tokenizer import encode_cells
from rdpjax.dpsgd.keys import Roots, as_key, derive
from rdpjax.fitting.fit import fit
from rdpjax.fitting.generator import Generator
from rdpjax.fitting.plans import Plans, make_plans, target_of
from rdpjax.fitting.progress import NoProgress
from rdpjax.fitting.session import Session
from rdpjax.fitting.stage_run import Examples, StageRun
from rdpjax.privacy.ledger import Ledger
from rdpjax.privacy.sealed import Sealed
from rdpjax.stages.stage import Artefact
from research.hour_filling import plain_profiles
from research.hour_network import FILLING, HourStage, pack

HOURS = "hours"
"""Name of the stage of the network over hours."""
HOUR_SHARE = 0.15
"""Its share of the budget, taken from the autoregressive network's."""


@dataclass(frozen=True)
class Trained:
    """What a run releases, what it cost and how long it took.

    Attributes:
      generator: fitted.
      ledger: every access to the records.
      seconds: wall clock of measuring and training.
      network: settings and released parameters of the network over hours, if there is one.
    """

    generator: Generator
    ledger: Ledger
    seconds: float
    network: tuple[HourStage, Artefact] | None = None

    @property
    def filling(self) -> Filling:
        assert isinstance(self.generator.encoding, PatientEncoding)
        return self.generator.encoding.filling


@dataclass(frozen=True)
class Study:
    """One seed's runs.

    Attributes:
      config: the default run's settings.
      train: real patients to learn from.
      rows: synthetic patients of a variant.
      seed: of every run; its noise is not secret.
      kept: runs that were made already, by name.
    """

    config: Config
    train: Patients
    rows: int
    seed: int
    kept: dict[str, Trained] = field(default_factory=dict)

    def run(self, name: str, config: Config) -> Trained:
        """A run of the product's own pipeline, kept under `name`."""

        def make() -> Trained:
            return self._fit(config, make_plans(config), self._ledger(config))

        return self._kept(name, make)

    def default(self) -> Trained:
        return self.run("default", self.config)

    def untrained(self) -> Trained:
        """The default run's histograms and a network that was not trained: independent columns."""
        done = self.default()
        ((name, stage),) = done.generator.config.stages.items()
        training = stage.training(done.generator.context)
        start = training.init(as_key(derive(self.roots.initialisation, name, "init")))
        measured = Ledger()
        for event in done.ledger.events:
            if event.stage in (*self.config.measurements, MARGINALS):
                measured.open(event)
        artefacts = {name: training.release(start)}
        generator = replace(done.generator, artefacts=artefacts, tilt=None)
        return Trained(generator, measured, 0.0)

    def with_hours(self, stage: HourStage, *, profiles: bool = True) -> Trained:
        """A run with a network over hours, under the same budget and in the same ledger.

        Args:
          stage: the network's settings.
          profiles: whether it builds on the noisy profiles of hours, or on public defaults alone;
            these are measured, and paid for, all the same.
        """

        def make() -> Trained:
            shares = {**self.config.shares, HOURS: HOUR_SHARE}
            shares["autoregressive"] -= HOUR_SHARE
            stages = {**self.config.stages, HOURS: stage}
            whole = replace(self.config, shares=shares, stages=stages)
            plans = make_plans(whole)
            base = self._kept("less for the table", lambda: self._table_part(plans))
            begun = time.monotonic()
            filling = base.filling
            if not profiles:
                filling = replace(filling, profiles=plain_profiles(filling.profiles))
            encoding = PatientEncoding(filling)
            generator = replace(base.generator, encoding=encoding)
            ledger = self._ledger(whole)
            for event in base.ledger.events:
                ledger.open(event)
            session = Session(ledger, self.roots)
            run = StageRun(HOURS, stage, plans.stages[HOURS], whole, session)
            context = replace(generator.context, artefacts={FILLING: filling})
            packed = jnp.asarray(pack(encoding.cells(self.train), self.train, filling))
            examples = Examples(Sealed(packed), on_device=True)
            artefact = run.train(context, examples, generator.marginals.records, NoProgress())
            seconds = base.seconds + time.monotonic() - begun
            return Trained(generator, ledger, seconds, (stage, artefact))

        return self._kept(f"{stage} {profiles}", make)

    def table(self, generator: Generator) -> np.ndarray:
        """Rows of the table that the generator makes, uint8 `[rows, columns]`."""
        blocks = generator.first_blocks(self.roots.initialisation, self.rows)
        return encode_cells(generator.schema, generator.frame(blocks, self.rows))

    def real_table(self, filling: Filling) -> np.ndarray:
        """As many rows of real patients, drawn at random; not private."""
        chosen = np.random.default_rng(self.seed).choice(
            len(self.train), self.rows, replace=self.rows > len(self.train)
        )
        return PatientEncoding(filling).cells(self.train)[chosen]

    @cached_property
    def codec(self) -> TwoLevelCodec:
        return TwoLevelCodec(self.config.data.max_hours, self.config.data.label)

    @cached_property
    def roots(self) -> Roots:
        return Roots.make(self.seed)

    def _kept(self, name: str, make: Callable[[], Trained]) -> Trained:
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    def _table_part(self, plans: Plans) -> Trained:
        """The default run under `plans` without the network over hours.

        It is the same whatever that network, and so is trained once.
        """
        table = {name: plan for name, plan in plans.stages.items() if name != HOURS}
        ledger = self._ledger(self.config)
        return self._fit(self.config, Plans(plans.measurements, table), ledger)

    def _fit(self, config: Config, plans: Plans, ledger: Ledger) -> Trained:
        begun = time.monotonic()
        session = Session(ledger, self.roots)
        generator = fit(config, self.codec, self.train, plans=plans, session=session)
        return Trained(generator, ledger, time.monotonic() - begun)

    def _ledger(self, config: Config) -> Ledger:
        return Ledger(target=target_of(config), noise_id=self.roots.noise_id)
