"""What every stage that is trained promises, tried on each with a table of four columns."""

from __future__ import annotations

import dataclasses
from functools import cache
from itertools import pairwise
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from rdpjax.data.schema import Categorical, Numeric, Schema
from rdpjax.data.tokenizer import Marginals, Tokenizer
from rdpjax.dpsgd.execution import Execution
from rdpjax.dpsgd.keys import Roots, derive, step_keys
from rdpjax.dpsgd.loop import make_chunk
from rdpjax.dpsgd.plan import Plan
from rdpjax.errors import UserError
from rdpjax.models.vae import log_prior
from rdpjax.stages.autoregressive import AutoregressiveStage
from rdpjax.stages.gan import GanStage
from rdpjax.stages.labeler import LabelerStage
from rdpjax.stages.optimiser import AveragedAdam
from rdpjax.stages.stage import Context, GeneratingStage, TrainingStage
from rdpjax.stages.vae import VaeStage

SCHEMA = Schema(
    "toy",
    (
        Numeric("x", "m", 0, 5),
        Categorical("c", (1, 2, 3)),
        Categorical("y", (0, 1)),
        Numeric("z", "m", 0, 3),
    ),
    label="y",
)
STAGES: dict[str, Any] = {
    "vae": VaeStage(steps=20, latent=3, channels=2),
    "gan": GanStage(steps=20, fakes=16, noise=4, hidden=4, channels=2),
    "labeler": LabelerStage(steps=20, hidden=4, channels=2),
    "autoregressive": AutoregressiveStage(steps=20, hidden=4),
}
PLATFORMS = ("cpu", "cuda", "tpu")
ROOTS = Roots.make(1)
RECORDS = np.random.default_rng(0).integers(0, (6, 3, 2, 4), (40, 4)).astype(np.uint8)
each_stage = pytest.mark.parametrize("name", STAGES)


@cache
def context() -> Context:
    tokenizer = Tokenizer.make(SCHEMA, Marginals.uniform(SCHEMA, 40.0))
    prior = log_prior(tokenizer.code_shares(), tokenizer.widths)
    bare = Context(tokenizer, STAGES, {}, prior, tokenizer.code_features(3), 0.5)
    training = STAGES["vae"].training(bare)
    decoder = jax.jit(lambda key: training.release(training.init(key)))(jax.random.key(3))
    return dataclasses.replace(bare, artefacts={"vae": decoder})


@cache
def chunk_of(name: str) -> Any:
    stage, training = STAGES[name], STAGES[name].training(context())
    plan = Plan.at_rate(
        0.3,
        noise_multiplier=1.0,
        clip_norm=stage.clip_norm,
        steps=stage.steps,
    )
    return (
        jax.jit(training.init),
        make_chunk(plan, Execution(microbatch=8), training.objective, training.update),
        training,
    )


def at_start(name: str) -> Any:
    """What the stage would release without a step."""
    init, _, training = chunk_of(name)
    return training.release(init(jax.random.key(0)))


def trained(name: str, *chunks: int) -> Any:
    """State after chunks of so many steps (one of two, unless told), and the last's metrics."""
    init, chunk, _ = chunk_of(name)
    state, step = init(jax.random.key(0)), 0
    for steps in chunks or (2,):
        keys = step_keys(ROOTS, name, step, steps)
        state, metrics = chunk(state, RECORDS, keys, jnp.float32(12.0))
        step += steps
    return state, metrics


@each_stage
def test_is_a_stage(name: str):
    assert isinstance(STAGES[name], TrainingStage)
    assert isinstance(STAGES[name], GeneratingStage) == (name != "labeler")


@pytest.mark.parametrize(
    "name",
    [  # `small_run` trains these two
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("vae", "gan")),
        "labeler",
        "autoregressive",
    ],
)
def test_training_moves_every_leaf_and_stays_finite(name: str):
    init, _, training = chunk_of(name)
    before, _ = training.objective(init(jax.random.key(0)))
    state, metrics = trained(name)
    after, _ = training.objective(state)
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert np.isfinite(b).all()
        assert (np.asarray(a) != np.asarray(b)).mean() > 0.9  # noise alone moves everything
    assert all(np.isfinite(column).all() and len(column) == 2 for column in metrics.values())
    assert {"loss", "clipped", "drawn"} <= set(metrics)


@each_stage
@pytest.mark.slow
def test_chunks_of_any_length_give_the_same_bit_for_bit(name: str):
    """The state holds all that a step needs; that the loop adds nothing is in test_loop."""
    whole, _ = trained(name, 3)
    parts, _ = trained(name, 1, 2)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_array_equal(a, b)


@each_stage
def test_a_chunk_lowers_for_every_platform(name: str):
    init, chunk, _ = chunk_of(name)
    arguments = (
        jax.eval_shape(init, jax.random.key(0)),
        jax.ShapeDtypeStruct(RECORDS.shape, RECORDS.dtype),
        step_keys(ROOTS, name, 0, 2),
        jnp.float32(12),
    )
    text = jax.export.export(jax.jit(chunk), platforms=PLATFORMS)(*arguments).mlir_module()
    assert "callback" not in text
    assert "f64" not in text
    assert "custom_call" not in text  # of one platform only, each of them


@each_stage
def test_update_sees_no_record(name: str):
    """The state after a step is a function of the state, the noisy gradient and a key."""
    init, _, training = chunk_of(name)
    state = init(jax.random.key(0))
    params, _ = training.objective(state)
    gradient = jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.01), params)
    closed = jax.make_jaxpr(training.update)(state, gradient, jnp.zeros(2, jnp.uint32))
    held = [np.shape(constant) for constant in closed.consts]
    assert RECORDS.shape not in held and not any(40 in shape for shape in held)


@each_stage
def test_what_is_released_depends_on_noisy_quantities_alone(name: str):
    """The released tree holds the average of the parameters: its shapes tell no record count."""
    released = at_start(name)
    assert jax.tree.leaves(released)
    for leaf in jax.tree.leaves(released):
        assert np.isfinite(leaf).all()
        assert 40 not in np.shape(leaf)


@pytest.mark.parametrize("name", ["vae", "gan", "autoregressive"])
def test_emitted_records_exist_and_are_the_same_for_the_same_key(name: str):
    artefact = at_start(name)
    emit = jax.jit(STAGES[name].emit(context()), static_argnums=(2, 3))
    codes = np.asarray(emit(artefact, jax.random.key(5), 200, 3))
    assert codes.shape == (3, 200, 4) and np.issubdtype(codes.dtype, np.integer)
    for column, width in enumerate(context().tokenizer.widths):
        assert set(codes[0, :, column]) == set(range(width)), "all codes that there are, no other"
    assert (codes[0] != codes[1]).any() and (codes[0, :100] != codes[0, 100:]).any()
    np.testing.assert_array_equal(codes, emit(artefact, jax.random.key(5), 200, 3))


def test_a_label_of_many_levels_is_not_for_the_labeler():
    many = dataclasses.replace(SCHEMA, label="c", positive=(2, 3))
    tokenizer = Tokenizer.make(many, Marginals.uniform(many, 40.0))
    with pytest.raises(UserError, match="'c' has 3; leave the stage labeler out and use"):
        STAGES["labeler"].training(dataclasses.replace(context(), tokenizer=tokenizer))


def test_both_halves_of_the_autoencoder_are_clipped_and_only_the_decoder_is_released():
    init, _, training = chunk_of("vae")
    params, _ = training.objective(init(jax.random.key(0)))
    assert set(params) == {"encoder", "decoder"}
    assert set(at_start("vae")) == {"decoder"}


def test_the_labelers_gradient_is_that_of_cross_entropy():
    init, _, training = chunk_of("labeler")
    params, loss = training.objective(init(jax.random.key(0)))
    key = jax.random.key(0)
    both = jax.jit(jax.value_and_grad(loss))
    for codes in RECORDS[:6]:  # a logit of zero at the start: log 2, slope +-1/2
        value, gradient = both(params, codes, key)
        assert float(value) == pytest.approx(np.log(2))
        for dense in ("Dense_0", "Dense_2"):  # the linear path and the last layer beside it
            assert float(gradient[dense]["bias"][0]) == pytest.approx(0.5 - codes[2])


def test_stages_start_from_keys_of_their_own():
    found = {tuple(derive(ROOTS.initialisation, name, "init").tolist()) for name in STAGES}
    assert len(found) == len(STAGES)


def test_the_optimisers_average_starts_as_a_copy_and_its_rate_ends_at_zero():
    adam = AveragedAdam(0.1, steps=5, decay=0.9)
    start = {"w": jnp.ones(3)}
    state = adam.start(start)
    assert state.mean["w"] is not start["w"]
    step = jax.jit(lambda s: adam.advance(s, {"w": jnp.array([1.0, -1.0, 0.0])}))
    path = [state]
    for _ in range(7):
        path.append(step(path[-1]))
    assert float(path[-1].step) == 7
    moves = [float(abs(b.params["w"][0] - a.params["w"][0])) for a, b in pairwise(path)]
    np.testing.assert_allclose(moves, [0.1, 0.08, 0.06, 0.04, 0.02, 0, 0], atol=1e-6)
    np.testing.assert_allclose(path[1].mean["w"], 0.1 * start["w"] + 0.9 * path[1].params["w"])
    assert (path[-1].mean["w"][2], path[-1].params["w"][2]) == (1, 1)
