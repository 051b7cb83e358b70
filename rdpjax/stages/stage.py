"""Interface of a training stage to the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from rdpjax.data.tokenizer import Tokenizer
from rdpjax.dpsgd.loop import Objective, State, Update

Artefact = Any
"""Released params of a stage: a tree of arrays, computed from noisy quantities alone."""

Emit = Callable[[Artefact, jax.Array, int, int], jax.Array]
"""`emit(artefact, key, rows, draws)`: tokens (draws, rows, columns), integers, of whole records.

Each draw alone is `rows` independent records; draws of one row may be dependent (one latent, say).
A record that breaks a rule is replaced by the next draw of its row."""


@dataclass(frozen=True)
class Context:
    """Inputs of a training stage: public, or released by earlier stages.

    Attributes:
      tokenizer: the tokenizer under the noisy marginals, with the schema.
      stages: the run's stages, by name: their settings are public.
      artefacts: released params of earlier stages, by stage name.
      prior: `rdpjax.models.vae.log_prior` of the noisy shares, (columns, width).
      features: token features, (columns, width, order).
      label_share: noisy share of the label's positive levels; NaN where there are no classes.
    """

    tokenizer: Tokenizer
    stages: Mapping[str, Any]
    artefacts: Mapping[str, Artefact]
    prior: np.ndarray
    features: np.ndarray
    label_share: float


class Training(NamedTuple):
    """Training of a stage as pure functions.

    Attributes:
      init: initial state from a key.
      objective: the trained params of a state, and the per-example loss on a record's tokens.
      update: one step, given the noisy gradient; takes no record.
      release: the released params of a final state.
    """

    init: Callable[[jax.Array], State]
    objective: Objective
    update: Update
    release: Callable[[State], Artefact]


@runtime_checkable
class TrainingStage(Protocol):
    """Stage trained by DP-SGD; a frozen dataclass whose fields are its settings.

    A stage with further requirements on the schema has a method `check(schema)`, which raises a
    UserError before any record is read.
    """

    @property
    def sampling_rate(self) -> float: ...
    @property
    def steps(self) -> int: ...
    @property
    def clip_norm(self) -> float: ...

    def training(self, context: Context) -> Training:
        """Return the training under `context`; reads no record."""
        ...


@runtime_checkable
class GeneratingStage(TrainingStage, Protocol):
    """Training stage whose released params generate records."""

    def emit(self, context: Context) -> Emit:
        """Return the sampler of records."""
        ...
