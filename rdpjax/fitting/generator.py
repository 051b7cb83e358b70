"""Released generator: draws, labels and accepts synthetic records.

Candidates come in numbered blocks of fixed size, each from its own derived key, so the same seed
gives the same rows whatever the number asked for at a time. No private record is read here:
parameters, marginals and multipliers are noisy or computed from noisy quantities.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd

from rdpjax.codecs.codec import Encoding
from rdpjax.config import Config
from rdpjax.data.conditions import Condition
from rdpjax.data.schema import Numeric, Schema
from rdpjax.data.tokenizer import Marginals, Tokenizer
from rdpjax.dpsgd.compiled import Compiled
from rdpjax.dpsgd.keys import as_key, derive
from rdpjax.errors import UserError
from rdpjax.fitting.raking import Tilt, fit_tilt
from rdpjax.fitting.where import meeting
from rdpjax.models.vae import log_prior
from rdpjax.stages.stage import Context

FITTED = 16_384  # generated rows that the encoding is fitted on
LEAST_KEPT = 0.001  # share of generated rows that keep the rules
DRAWS = 4  # the first draw, and at most three redraws of a row that breaks a rule


@dataclass(frozen=True)
class Generator:
    """Generator of records from noise: everything that is released beside the records.

    Attributes:
      config: the run's settings.
      schema: public columns.
      marginals: noisy one-way marginals.
      artefacts: released parameters of each stage.
      encoding: decodes rows of the table to records.
      offset: added to the labeler's logits, so that their mean probability is the noisy share.
      tilt: raking multipliers; None before they are fitted.
    """

    config: Config
    schema: Schema
    marginals: Marginals
    artefacts: Mapping[str, Any]
    encoding: Encoding
    offset: float = 0.0
    tilt: Tilt | None = None

    @cached_property
    def context(self) -> Context:
        return make_context(self.config, self.schema, self.marginals, self.artefacts)

    def fitted(self, root: bytes) -> Generator:
        """Return a copy with all that is fitted on a pool of generated records; post-processing."""
        count = -(-self.config.pool_rows // self.config.block_rows)
        blocks = list(itertools.islice(self._candidates(root, "pool"), count))
        codes = np.concatenate([codes for codes, _, _ in blocks])
        self._check_rules(np.concatenate([values for _, values, _ in blocks]))
        ready = self
        if self.config.recipe.labeler is not None:
            logits = np.concatenate([self._label_logits(codes) for codes, _, _ in blocks])
            offset = _offset(logits, self.context.label_share)
            ready = replace(self, offset=offset)
            uniforms = _uniforms(root, "pool-labels", 0, logits.shape)
            codes[:, self._label] = ready._labels(logits, uniforms)
        tilt = self._tilt(codes)
        uniforms = np.concatenate([spare for _, _, spare in blocks])[:, 1]
        sample = codes[tilt.accept(codes, uniforms)][:FITTED]
        encoding = self.encoding.fitted(sample, _random(root, "pool-filling", 0))
        return replace(ready, tilt=tilt, encoding=encoding)

    def _check_rules(self, values: np.ndarray) -> None:
        """Raise UserError where hardly any generated row keeps the rules, so that none come."""
        if self.schema.breaks_rule(values).mean() > 1 - LEAST_KEPT:
            raise UserError(
                f"schema {self.schema.name!r}: hardly any generated row keeps all rules "
                f"({', '.join((*(f'{a} < {b}' for a, b in self.schema.less), *self.schema.rules))})"
                "; mend the rule that the records do not keep either"
            )

    def _tilt(self, codes: np.ndarray) -> Tilt:
        """Fit raking multipliers to the noisy marginals; none where a column is the condition.

        The condition column is drawn from its noisy marginal, and autoregressive networks keep the
        others close to theirs: rejection would distort dependences more than it mends marginals.
        """
        tokenizer = self.context.tokenizer
        shares = tokenizer.code_shares()
        return fit_tilt(codes, shares) if tokenizer.given is None else Tilt.none(*shares.shape)

    def rows(self, root: bytes, count: int, where: tuple[Condition, ...] = ()) -> Iterator[Any]:
        """Yield records, `count` in all, in the order of their blocks; see `where.meeting`."""
        blocks = self.blocks(root)
        return self.decoded(root, meeting(blocks, self.schema, where) if where else blocks, count)

    def decoded(self, root: bytes, blocks: Iterable[np.ndarray], count: int) -> Iterator[Any]:
        """Yield the first `count` records of table rows `blocks`, which are those of `root`."""
        for block, values in enumerate(blocks):
            randoms = partial(_random_part, root, block)
            for part in self.encoding.records(self.context.tokenizer, values, randoms):
                if len(part):
                    yield self.encoding.head(part, count)
                    count -= min(count, len(part))
                if count == 0:
                    return

    def first_blocks(self, root: bytes, count: int) -> list[np.ndarray]:
        """Return the blocks that hold the first `count` rows of the table."""
        found: list[np.ndarray] = []
        blocks = self.blocks(root)
        while sum(map(len, found)) < count:
            found.append(next(blocks))
        return found

    def frame(self, blocks: Sequence[np.ndarray], count: int) -> pd.DataFrame:
        """Return the first `count` of table rows `blocks` as one canonical frame."""
        return self.context.tokenizer.frame(np.concatenate(blocks)[:count])

    def blocks(self, root: bytes, start: int = 0) -> Iterator[np.ndarray]:
        """Yield values (rows, columns) of the accepted candidates, from a block on, for ever."""
        for codes, values, uniforms in self._candidates(root, "rows", start):
            if self.config.recipe.labeler is not None:
                codes[:, self._label] = self._labels(self._label_logits(codes), uniforms[:, 0])
                values[:, self._label] = codes[:, self._label]
            kept = ~self.schema.breaks_rule(values)  # a row that still breaks one is left out
            if self.tilt is not None:
                kept &= self.tilt.accept(codes, uniforms[:, 1])
            yield values[kept]

    def _candidates(
        self, root: bytes, purpose: str, start: int = 0
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield codes (rows, columns), their values, and two spare uniforms a row, by blocks."""
        tokenizer = self.context.tokenizer
        for block, draws in enumerate(self._draws(root, purpose, start), start):
            uniforms = _uniforms(root, f"{purpose}-values", block, (*draws.shape, 2))
            codes = draws[0].copy()
            values = tokenizer.decode(codes, uniforms[0])
            for again in range(1, len(draws)):
                broken = self.schema.breaks_rule(values)
                if not broken.any():
                    break
                codes[broken] = draws[again][broken]
                values[broken] = tokenizer.decode(codes[broken], uniforms[again][broken])
            yield codes, values, _uniforms(root, f"{purpose}-spare", block, (len(codes), 2))

    def _draws(self, root: bytes, purpose: str, start: int) -> Iterator[np.ndarray]:
        """Yield the network's draws of each block; it computes the next one meanwhile."""
        keys = (as_key(derive(root, "sample", purpose, block)) for block in itertools.count(start))
        for draws, _ahead in itertools.pairwise(map(self._draw, keys)):
            yield np.asarray(draws)

    @cached_property
    def _draw(self) -> Any:
        """Compile sampling: key to uint8 codes (draws, rows, columns); one draw without a rule."""
        name, stage = self.config.recipe.sampler
        emit = stage.emit(self.context)
        artefact, draws = self.artefacts[name], DRAWS if self.schema.has_rules else 1
        rows = self.config.block_rows
        return Compiled(lambda key: emit(artefact, key, rows, draws).astype(jnp.uint8))

    @cached_property
    def _label_logits(self) -> Any:
        """Compile the labeler: codes to logits, returned as numpy."""
        drawn = self.config.recipe.labeler
        assert drawn is not None
        name, stage = drawn
        artefact, context = self.artefacts[name], self.context
        logits = Compiled(lambda codes: stage.logits(context, artefact, codes))
        return lambda codes: np.asarray(logits(jnp.asarray(codes)), np.float64)

    def _labels(self, logits: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Draw codes of the binary label from the labeler's logits."""
        positive: np.ndarray = uniforms < _sigmoid(logits + self.offset)
        codes: np.ndarray = positive == self.schema.is_positive[1]
        return codes

    @property
    def _label(self) -> int:
        return self.schema.position(self.schema.label)


def make_context(
    config: Config, schema: Schema, marginals: Marginals, artefacts: Mapping[str, Any]
) -> Context:
    """Build the context of a stage: noisy marginals and released params of earlier stages."""
    tokenizer = Tokenizer.make(schema, marginals, config.max_codes)
    prior = log_prior(tokenizer.code_shares(), tokenizer.widths)
    share = math.nan
    if schema.has_classes:
        share = float(marginals.shares[schema.position(schema.label)][schema.is_positive].sum())
    features = tokenizer.code_features()
    return Context(tokenizer, config.stages, artefacts, prior, features, share)


def collapse_warnings(frame: pd.DataFrame, schema: Schema, marginals: Marginals) -> list[str]:
    """Warn of lost levels and spreads, computed from released quantities alone.

    A level is lost below a quarter of its noisy share (where the share exceeds the noise), a
    numeric column below half of its noisy spread.
    """
    found = []
    margin = 4 * marginals.deviation / marginals.records
    for column, shares in zip(schema.columns, marginals.shares, strict=True):
        if isinstance(column, Numeric):
            values = frame[column.name].to_numpy(np.float64, na_value=np.nan)
            values = values[~np.isin(values, column.points) & ~np.isnan(values)]
            shares = shares[: column.cells]
            if len(values) < 2 or shares.sum() * marginals.records <= margin * marginals.records:
                continue
            centres = column.low + column.cell * (np.arange(column.cells) + 0.5)
            spread = np.sqrt(
                np.average((centres - np.average(centres, weights=shares)) ** 2, weights=shares)
            )
            if values.std() < spread / 2:
                found.append(f"{column.name}: spread is below half of its noisy estimate")
            continue
        values = frame[column.name].to_numpy()
        for level, share in zip(column.levels, shares[: column.cells], strict=True):
            if share > margin and (values == level).mean() < share / 4:
                found.append(f"{column.name} = {level}: below a quarter of its noisy share")
    return found


def _uniforms(root: bytes, purpose: str, block: int, shape: tuple[int, ...]) -> np.ndarray:
    return _random(root, purpose, block).random(shape)


def _random(root: bytes, purpose: str, block: int) -> np.random.Generator:
    high, low = (int(word) for word in derive(root, "sample", purpose, block))
    return np.random.Generator(np.random.Philox(key=(high << 32) | low))


def _random_part(root: bytes, block: int, part: int) -> np.random.Generator:
    return _random(root, "filling", (block << 16) | part)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    chance: np.ndarray = 1 / (1 + np.exp(-np.clip(logits, -50, 50)))
    return chance


def _offset(logits: np.ndarray, share: float) -> float:
    """Solve for the offset at which the mean probability is `share`, by bisection."""
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _sigmoid(logits + middle).mean() < share else (low, middle)
    return (low + high) / 2
