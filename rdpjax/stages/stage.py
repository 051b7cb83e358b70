"""What every stage offers the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from rdpjax.data.tokenizer import Tokenizer
from rdpjax.dpsgd.loop import Objective, State, Update

Artefact = Any
"""What a stage releases: a tree of arrays, computed from noisy quantities alone."""

Emit = Callable[[Artefact, jax.Array, int, int], jax.Array]
"""`emit(artefact, key, rows, draws)`: codes (draws, rows, columns), integers, of whole records.

Each draw alone is `rows` independent records; draws of one row may share what they are made from
(a latent). A record that breaks a rule is replaced by the next draw of its row."""


@dataclass(frozen=True)
class Context:
    """Everything a training stage may use: public, or released by stages before it.

    Attributes:
      tokenizer: the schema under the noisy marginals.
      stages: the run's stages, by name: their settings are public.
      artefacts: what earlier stages released, by stage name.
      prior: `rdpjax.models.vae.log_prior` of the noisy shares, (columns, width).
      features: what networks see of a code, (columns, width, order).
      label_share: noisy share of the label's positive levels; NaN where there are no classes.
    """

    tokenizer: Tokenizer
    stages: Mapping[str, Any]
    artefacts: Mapping[str, Artefact]
    prior: np.ndarray
    features: np.ndarray
    label_share: float


class Training(NamedTuple):
    """A stage's training as pure functions.

    Attributes:
      init: fresh state from a key.
      objective: what is trained in a state, and its per-example loss on a record's codes.
      update: the step, given the noisy gradient; sees no record.
      release: the artefact in a final state.
    """

    init: Callable[[jax.Array], State]
    objective: Objective
    update: Update
    release: Callable[[State], Artefact]


@runtime_checkable
class TrainingStage(Protocol):
    """A stage trained by DP-SGD; a frozen dataclass whose fields are its settings.

    One that needs more of a schema than columns has a method `check(schema)`, which raises a
    UserError before any record is read.
    """

    @property
    def sampling_rate(self) -> float: ...
    @property
    def steps(self) -> int: ...
    @property
    def clip_norm(self) -> float: ...

    def training(self, context: Context) -> Training:
        """The training under `context`; reads no record."""
        ...


@runtime_checkable
class GeneratingStage(TrainingStage, Protocol):
    """A training stage whose artefact generates records."""

    def emit(self, context: Context) -> Emit:
        """How its artefact makes records."""
        ...
