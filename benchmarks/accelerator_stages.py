"""Stages of the shipped plans on any device, and their chunks beside two written by others' means.

Imports neither configuration nor accountant, so that a machine needs few packages: the noise
multiplier, which a run calibrates to its budget, is 1. `tests/benchmarks` compares the rest with
what a run makes of the same files.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rdpjax.data.cardio import CARDIO
from rdpjax.data.schema import Schema
from rdpjax.data.stays.patient_table import patient_schema
from rdpjax.data.tokenizer import Marginals, Tokenizer
from rdpjax.dpsgd.clipping import Loss, Params
from rdpjax.dpsgd.execution import CLIPPED_SUMS, Clipping, Execution, default_clipping
from rdpjax.dpsgd.keys import Roots, StepKeys, as_key, derive, step_keys
from rdpjax.dpsgd.loop import make_chunk
from rdpjax.dpsgd.plan import Plan
from rdpjax.generators.registry import find_generator
from rdpjax.models.vae import log_prior
from rdpjax.stages.stage import Context, Training

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SCHEMAS = {"cardio": CARDIO, "sepsis": patient_schema(24, "window")}
MAX_CODES, FEATURES = 32, 8
ROOTS = Roots.make(0)
ROOT_KEY = jax.ShapeDtypeStruct((), jax.random.key(0).dtype)
EXAMPLES = 64
"""Examples whose clipped gradients are looked at one by one."""

ClippedSum = Callable[[Loss, Params, Any, jax.Array, float], Params]
"""`clipped_sum(loss, params, examples, keys, bound)`: one of a whole batch."""
Chunk = Callable[[Any, Any, StepKeys], Any]
"""`chunk(state, codes, keys)`: the state after as many steps as there are keys."""


@dataclass(frozen=True)
class Case:
    """One stage of a shipped plan.

    Attributes:
      name: `dataset stage`.
      stage: its settings.
      context: what it may use.
      records: how many records are trained on.
    """

    name: str
    stage: Any
    context: Context
    records: int

    @cached_property
    def plan(self) -> Plan:
        stage = self.stage
        return Plan.at_rate(
            stage.sampling_rate, noise_multiplier=1.0, clip_norm=stage.clip_norm, steps=stage.steps
        )

    @property
    def batch(self) -> int:
        """Expected size of a draw."""
        return max(1, round(self.plan.sampling_rate * self.records))

    @cached_property
    def codes(self) -> np.ndarray:
        """Random records, uint8 `[records, columns]`."""
        widths = self.context.tokenizer.widths
        draws = np.random.default_rng(0).random((self.records, len(widths)))
        return (draws * widths).astype(np.uint8)

    def training(self) -> Training:
        """The training, its arrays on the default device."""
        training: Training = self.stage.training(self.context)
        return training

    def start(self, training: Training) -> Any:
        """The state that a run would start from."""
        return jax.jit(training.init)(as_key(derive(ROOTS.initialisation, self.name, "init")))

    def keys(self, start: int, steps: int) -> StepKeys:
        return step_keys(ROOTS, self.name, start, steps)

    def clipping(self, training: Training, state: Any) -> Clipping:
        """What a run would choose."""
        params, loss = training.objective(state)
        example = jax.ShapeDtypeStruct(self.codes.shape[1:], self.codes.dtype)
        return default_clipping(loss, params, example, jax.random.key(0))[0]

    def chunk(self, training: Training, clipping: Clipping, microbatch: int) -> Chunk:
        """The chunk that a run takes: Poisson draws, clipping, noise and update."""
        execution = Execution(clipping, microbatch=microbatch)
        made = make_chunk(self.plan, execution, training.objective, training.update)
        divisor = np.float32(self.plan.sampling_rate * self.records)
        return lambda state, codes, keys: made(state, codes, keys, divisor)[0]

    def whole_batches(self, training: Training, clipped_sum: ClippedSum) -> Chunk:
        """A chunk as one would write it by hand: batches of a fixed size in turn, no sampling."""
        batch, plan = self.batch, self.plan
        bound = plan.clip_norm

        def step(codes: Any, state: Any, inputs: Any) -> tuple[Any, None]:
            turn, keys = inputs
            params, loss = training.objective(state)
            first = turn * batch % (self.records - batch + 1)
            examples = jax.lax.dynamic_slice_in_dim(codes, first, batch)
            total = clipped_sum(
                loss, params, examples, jax.random.split(as_key(keys.loss), batch), bound
            )
            leaves, structure = jax.tree.flatten(total)
            each = jax.random.split(as_key(keys.noise), len(leaves))
            gradient = [
                (leaf + plan.noise_multiplier * bound * jax.random.normal(key, leaf.shape)) / batch
                for leaf, key in zip(leaves, each, strict=True)
            ]
            state, _ = training.update(state, jax.tree.unflatten(structure, gradient), keys.update)
            return state, None

        def chunk(state: Any, codes: Any, keys: StepKeys) -> Any:
            turns = jnp.arange(len(keys.noise))
            return jax.lax.scan(partial(step, codes), state, (turns, keys))[0]

        return jax.jit(chunk, donate_argnums=0)


def cases(records: int) -> list[Case]:
    """Every stage of the shipped plans, in order, as it trains on so many records.

    What stages release for those after them is random here: a fresh network's zeros would hide
    what is computed through it.
    """
    found = []
    for dataset, schema in SCHEMAS.items():
        stages = shipped_stages(dataset)
        context, random = context_of(schema, stages, records), np.random.default_rng(1)
        for name, stage in stages.items():
            found.append(Case(f"{dataset} {name}", stage, context, records))
            training = stage.training(context)
            shapes = jax.eval_shape(lambda key, t=training: t.release(t.init(key)), ROOT_KEY)
            artefact = _random_like(shapes, random)
            context = replace(context, artefacts={**context.artefacts, name: artefact})
    return found


def _random_like(shapes: Any, random: np.random.Generator) -> Any:
    return jax.tree.map(
        lambda leaf: (0.1 * random.standard_normal(leaf.shape)).astype(leaf.dtype), shapes
    )


def shipped_stages(dataset: str) -> dict[str, Any]:
    """Settings of the stages in a data set's configuration, in order."""
    model = tomllib.loads((CONFIGS / f"{dataset}.toml").read_text(encoding="utf-8"))["model"]
    recipe = find_generator(model["generator"])
    return {name: replace(stage, **model.get(name, {})) for name, stage in recipe.stages.items()}


def context_of(schema: Schema, stages: dict[str, Any], records: int) -> Context:
    """A context as runs make it, of a table whose cells are all alike."""
    marginals = Marginals.uniform(schema, float(records))
    tokenizer = Tokenizer.make(schema, marginals, MAX_CODES)
    prior = log_prior(tokenizer.code_shares(), tokenizer.widths)
    share = float(marginals.shares[schema.position(schema.label)][schema.is_positive].sum())
    return Context(tokenizer, stages, {}, prior, tokenizer.code_features(FEATURES), share)


def plain_sum(loss: Loss, params: Params, examples: Any, keys: jax.Array, bound: float) -> Params:
    """Per-example gradients by `vmap`, each scaled to the bound: what everybody writes."""
    gradients = jax.vmap(jax.grad(loss), in_axes=(None, 0, 0))(params, examples, keys)
    squares = [
        jnp.square(leaf).reshape(len(leaf), -1).sum(axis=1) for leaf in jax.tree.leaves(gradients)
    ]
    norms = jnp.sqrt(sum(squares))
    factors = jnp.minimum(1, bound / jnp.maximum(norms, 1e-12))
    return jax.tree.map(lambda leaf: jnp.tensordot(factors, leaf, 1), gradients)


def jax_privacy_sum(
    loss: Loss, params: Params, examples: Any, keys: jax.Array, bound: float
) -> Params:
    """The clipped sum of jax-privacy, over the whole batch at once."""
    import jax_privacy

    def paired(params: Params, pair: tuple[Any, Any]) -> jax.Array:
        return loss(params, pair[0], as_key(pair[1]))

    clipped = jax_privacy.clipping.clipped_grad(paired, l2_clip_norm=bound, keep_batch_dim=False)
    return clipped(params, (examples, jax.random.key_data(keys)))


def alone(
    clipping: Clipping, loss: Loss, params: Params, examples: Any, keys: jax.Array, bound: float
) -> Params:
    """What each example adds to the sum over a microbatch, with a leading axis."""

    def one(valid: jax.Array) -> Params:
        summed: Params = CLIPPED_SUMS[clipping](loss, params, examples, valid, keys, bound).gradient
        return summed

    return jax.lax.map(one, jnp.eye(len(examples), dtype=bool))
