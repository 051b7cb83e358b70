"""What is released beside the records: everything that makes more of them.

Draw, label, accept: candidates come in numbered blocks of fixed size, each from a key of its own,
so the same seed gives the same rows however many are asked for at a time. Nothing here has seen a
record: parameters, marginals and multipliers are noisy or computed from noisy quantities.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from rdpjax.config import Config
from rdpjax.data.codec import Codec, Marginals
from rdpjax.data.schema import Numeric, Schema
from rdpjax.dpsgd.keys import as_key, derive
from rdpjax.models.vae import log_prior
from rdpjax.stages.stage import Context
from rdpjax.tilt import Tilt, fit_tilt

BLOCK = 8192
POOL = 150_000
FEATURES = 8  # cosines of a code's rank that networks see
DRAWS = 4  # the first draw, and at most three more of a row that breaks a rule


@dataclass(frozen=True)
class Generator:
    """Records from noise.

    Attributes:
      config: the run's settings.
      schema: public columns.
      marginals: noisy one-way shares.
      artefacts: what each stage released.
      offset: added to the labeler's logits, so that the label's share is the noisy one.
      tilt: multipliers; None before they are fitted.
    """

    config: Config
    schema: Schema
    marginals: Marginals
    artefacts: Mapping[str, Any]
    offset: float = 0.0
    tilt: Tilt | None = None

    @cached_property
    def context(self) -> Context:
        return make_context(self.config, self.schema, self.marginals, self.artefacts)

    def fitted(self, root: bytes) -> Generator:
        """With label offset and tilt fitted on a pool of generated records; post-processing."""
        blocks = [self._candidates(root, "pool", i) for i in range(-(-POOL // BLOCK))]
        codes = np.concatenate([codes for codes, _, _ in blocks])
        ready = self
        if self.config.label_source == "labeler":
            logits = np.concatenate([self._label_logits(codes) for codes, _, _ in blocks])
            offset = _offset(logits, self.context.label_share)
            uniforms = _uniforms(root, "pool-labels", 0, logits.shape)
            codes[:, self._label] = uniforms < _sigmoid(logits + offset)
            ready = replace(self, offset=offset)
        return replace(ready, tilt=fit_tilt(codes, self.context.codec.code_shares()))

    def rows(self, root: bytes, count: int) -> Iterator[pd.DataFrame]:
        """Canonical frames that together hold `count` records, in the order of their blocks."""
        block = 0
        while count > 0:
            frame = self._block(root, block).iloc[:count]
            count -= len(frame)
            block += 1
            if len(frame):
                yield frame

    def _block(self, root: bytes, block: int) -> pd.DataFrame:
        codes, values, uniforms = self._candidates(root, "rows", block)
        if self.config.label_source == "labeler":
            chance = _sigmoid(self._label_logits(codes) + self.offset)
            codes[:, self._label] = uniforms[:, 0] < chance
        values[:, self._label] = codes[:, self._label]
        if self.tilt is not None:
            values = values[self.tilt.accept(codes, uniforms[:, 1])]
        return self.context.codec.frame(values)

    def _candidates(
        self, root: bytes, purpose: str, block: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Codes (BLOCK, columns), their values, and two spare uniforms a row."""
        draws, labels = self._draw(as_key(derive(root, "sample", purpose, block)))
        draws = np.asarray(draws).astype(np.uint8)
        columns = len(self.schema.columns)
        uniforms = _uniforms(root, f"{purpose}-values", block, (DRAWS, BLOCK, columns, 2))
        codec = self.context.codec
        codes = draws[0].copy()
        codes[:, self._label] = np.asarray(labels)
        values = codec.decode(codes, uniforms[0])
        ruled = sorted({self.schema.position(n) for pair in self.schema.less for n in pair})
        for again in range(1, DRAWS):
            broken = self._breaks_rule(values)
            if not ruled or not broken.any():
                break
            for j in ruled:
                codes[broken, j] = draws[again][broken, j]
            redrawn = codec.decode(codes[broken], uniforms[again][broken])
            values[np.ix_(broken.nonzero()[0], np.array(ruled))] = redrawn[:, ruled]
        return codes, values, _uniforms(root, f"{purpose}-spare", block, (BLOCK, 2))

    def _breaks_rule(self, values: np.ndarray) -> np.ndarray:
        broken = np.zeros(len(values), bool)
        for low, high in self.schema.less:
            broken |= values[:, self.schema.position(low)] >= values[:, self.schema.position(high)]
        return broken

    @cached_property
    def _draw(self) -> Any:
        """Jitted: a key to DRAWS draws of every column, and labels, from one batch of logits."""
        name, stage = [
            (name, stage) for name, stage in self.config.stages.items() if hasattr(stage, "emit")
        ][-1]
        emit = stage.emit(self.context)
        artefact = self.artefacts[name]
        last = jnp.asarray(self.context.codec.widths)[None, None] - 1

        def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
            emit_key, draw_key = jax.random.split(key)
            logits, labels = emit(artefact, emit_key, BLOCK)
            # By the inverse distribution function: one uniform a draw, where Gumbel noise takes
            # `width`. Rounding may pass a column's last code, hence the minimum.
            edges = jnp.cumsum(jax.nn.softmax(logits), axis=-1)
            uniforms = jax.random.uniform(draw_key, (DRAWS, *logits.shape[:2], 1))
            codes = (uniforms >= edges[None]).sum(axis=-1)
            return jnp.minimum(codes, last), labels

        return jax.jit(draw)

    @cached_property
    def _label_logits(self) -> Any:
        """Codes to the labeler's logits, as numpy."""
        stage, artefact = self.config.stages["labeler"], self.artefacts["labeler"]
        context = self.context
        jitted = jax.jit(lambda codes: stage.logits(context, artefact, codes))
        return lambda codes: np.asarray(jitted(jnp.asarray(codes)), np.float64)

    @property
    def _label(self) -> int:
        return self.schema.position(self.schema.label)


def make_context(
    config: Config, schema: Schema, marginals: Marginals, artefacts: Mapping[str, Any]
) -> Context:
    """What stages may know, from the noisy marginals and earlier artefacts."""
    codec = Codec.make(schema, marginals, config.max_codes)
    prior = log_prior(codec.code_shares(), codec.widths)
    share = float(marginals.shares[schema.position(schema.label)][1])
    features = codec.code_features(FEATURES)
    return Context(codec, config.stages, artefacts, prior, features, share)


def collapse_warnings(frame: pd.DataFrame, schema: Schema, marginals: Marginals) -> list[str]:
    """Levels and spreads that were lost, judged from released quantities alone.

    A level is lost below a quarter of its noisy share (where the share stands out of the noise), a
    numeric below half of its noisy spread.
    """
    found = []
    margin = 4 * marginals.deviation / marginals.records
    for column, shares in zip(schema.columns, marginals.shares, strict=True):
        values = frame[column.name].to_numpy()
        if isinstance(column, Numeric):
            centres = column.low + column.cell * (np.arange(column.cells) + 0.5)
            spread = np.sqrt(
                np.average((centres - np.average(centres, weights=shares)) ** 2, weights=shares)
            )
            if values.astype(float).std() < spread / 2:
                found.append(f"{column.name}: spread is below half of its noisy one")
            continue
        for level, share in zip(column.levels, shares, strict=True):
            if share > margin and (values == level).mean() < share / 4:
                found.append(f"{column.name} = {level}: below a quarter of its noisy share")
    return found


def _uniforms(root: bytes, purpose: str, block: int, shape: tuple[int, ...]) -> np.ndarray:
    high, low = (int(word) for word in derive(root, "sample", purpose, block))
    return np.random.Generator(np.random.Philox(key=(high << 32) | low)).random(shape)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(logits, -50, 50)))


def _offset(logits: np.ndarray, share: float) -> float:
    """The offset at which the mean probability is `share`, by bisection."""
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _sigmoid(logits + middle).mean() < share else (low, middle)
    return (low + high) / 2
