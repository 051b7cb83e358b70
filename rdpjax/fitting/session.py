"""Session: the only reader of sealed records; every mechanism runs here, under a ledger entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rdpjax.compute.multihost import Hosts
from rdpjax.dpsgd.clipping import Params
from rdpjax.dpsgd.keys import Roots, StepKeys, stream_key
from rdpjax.dpsgd.loop import chunk_keys as chunk_keys  # re-exported for the replay audit
from rdpjax.dpsgd.plan import Plan
from rdpjax.mechanisms.measurement import Answer, Measurement
from rdpjax.privacy.ledger import Ledger
from rdpjax.privacy.sealed import Sealed
from rdpjax.stages.stage import Context, Training, TrainingStage

Run = Callable[[StepKeys, Any], tuple[Any, Mapping[str, np.ndarray]]]
"""`run(keys, examples)`: take a chunk's steps; return the new state, and metrics on the host."""


class Session:
    """Run mechanisms on sealed records, each under its entry of one ledger.

    An audit subclasses it to record the mechanisms' outputs, or to replace them.

    Args:
      ledger: an event is appended here before its mechanism runs.
      roots: root keys of the run; noise, sampling and losses derive their keys from these alone.
      hosts: the processes of the run; all hold the answers of process 0.

    Attributes:
      answers: noisy answers of the measurements made so far, by name.

    Guarantees:
      Records are read in `answer` and `chunk` alone, after the event is in the ledger (and on the
      disk, of a ledger with a file), and never where the ledger refuses it. The noise of a
      measurement is keyed by its name, that of a chunk by its stage and steps: the same session
      gives the same noise for the same event and other noise for any other. Nothing is released
      but what these two return, and of that the metrics are private (see `rdpjax.dpsgd.loop.Seen`).
    """

    def __init__(self, ledger: Ledger, roots: Roots, hosts: Hosts | None = None) -> None:
        self.ledger = ledger
        self.roots = roots
        self.hosts = hosts or Hosts()
        self.answers: dict[str, Answer] = {}

    def answer(
        self, measurement: Measurement, noise_multiplier: float, sealed: Sealed[Any]
    ) -> Answer:
        """Measure the records once, with noise, and keep the answer.

        Args:
          measurement: the query; it may use earlier noisy answers.
          noise_multiplier: noise standard deviation over sensitivity; 0 without privacy.
          sealed: the records.
        """
        event = measurement.event(noise_multiplier)
        key = stream_key(self.roots.noise, measurement.name, "noise")
        with self.ledger.access(event) as access:
            found = measurement.answer(sealed.read(access), self.answers, event, key)
        answer = Answer(self.hosts.broadcast(found.vector), found.deviation)
        self.answers[measurement.name] = answer
        return answer

    def training(self, name: str, stage: TrainingStage, plan: Plan, context: Context) -> Training:
        """Build the training of a stage that follows `plan`; reads no record."""
        return stage.training(context)

    def chunk(
        self, name: str, plan: Plan, start: int, steps: int, params: Params, run: Run,
        sealed: Sealed[Any],
    ) -> tuple[Any, Mapping[str, np.ndarray]]:  # fmt: skip
        """Take `steps` steps of a stage from step `start` on.

        Args:
          name: of the stage.
          plan: its DP-SGD plan: the sampler, the noise and the event come from it.
          start: steps taken before.
          steps: number of steps to take.
          params: the trained parameters, or their shapes.
          run: takes the steps.
          sealed: the examples.
        """
        keys = chunk_keys(plan, self.roots, name, start, steps, params)
        with self.ledger.access(plan.event(name, start, steps)) as access:
            return run(keys, sealed.read(access))
