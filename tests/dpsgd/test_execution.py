from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from rdpjax.dpsgd import clipping
from rdpjax.dpsgd.execution import (
    CLIPPED_SUMS,
    Execution,
    default_clipping,
    default_microbatch,
)
from rdpjax.errors import UserError
from rdpjax.models.gan import Discriminator
from rdpjax.models.labeler import Labeler
from rdpjax.models.layers import code_features
from rdpjax.models.vae import Vae

KEYS = jax.random.split(jax.random.key(0), 3)
W = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32))
ROWS = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)


Problem = tuple[Callable[..., jax.Array], Any, np.ndarray]


def dense(w: jax.Array, x: jax.Array, key: jax.Array) -> jax.Array:
    return jnp.square(x.astype(w.dtype) @ w).sum()


def recurrent(w: jax.Array, x: jax.Array, key: jax.Array) -> jax.Array:
    return jax.lax.scan(lambda h, row: (jnp.tanh(h * row), None), x[:2], w)[0].sum() * x[0]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"clipping": "fast"}, "clipping must be vmap, ghost or lattice, got 'fast'"),
        ({"clipping": "auto"}, "clipping must be vmap, ghost or lattice, got 'auto'"),
        ({"precision": "float16"}, "precision must be float32 or bfloat16, got 'float16'"),
        ({"precision": ""}, "precision must be float32 or bfloat16, got ''"),
        ({"microbatch": 0}, "microbatch must be 1 or more, got 0"),
        ({"microbatch": -5}, "microbatch must be 1 or more, got -5"),
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_is_refused_in_one_line(
    setting: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # else refused by its type
    with pytest.raises(UserError) as error:
        Execution(**setting)
    assert str(error.value) == words


def test_every_way_has_the_same_signature() -> None:
    assert set(CLIPPED_SUMS) == {"vmap", "ghost", "lattice"}
    ours, oracle, whole = (inspect.signature(way) for way in CLIPPED_SUMS.values())
    assert ours == oracle == whole


@pytest.mark.parametrize("way", ["vmap", "ghost"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_loss_sees_parameters_in_the_precision_and_sums_are_float32(
    way: Any, precision: Any
) -> None:
    seen = []

    def loss(w: jax.Array, x: jax.Array, key: jax.Array) -> jax.Array:
        seen.append(w.dtype)
        return dense(w, x, key)

    execution = Execution(clipping=way, precision=precision)
    found = execution.clipped_sum(loss, W, ROWS, np.ones(3, bool), KEYS, 1.0)
    assert {str(dtype) for dtype in seen} == {precision}
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found))
    exact = clipping.clipped_sum(dense, W, ROWS, np.ones(3, bool), KEYS, 1.0).gradient
    tolerance = {"float32": 1e-5, "bfloat16": 0.02}[precision]
    gap = np.linalg.norm(np.asarray(found.gradient) - np.asarray(exact))
    assert gap <= tolerance * np.linalg.norm(np.asarray(exact))


@pytest.mark.parametrize("of", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
@pytest.mark.parametrize("way", CLIPPED_SUMS)
def test_no_rows_give_a_zero_sum(way: Any, of: Any) -> None:
    execution = Execution(clipping=way)
    nobody = execution.clipped_sum(
        dense, W, of(np.zeros((0, 4), np.float32)), np.ones(0, bool), KEYS[:0], 1.0
    )
    assert nobody.gradient.shape == W.shape
    assert nobody.gradient.dtype == execution.zero_sum(W).gradient.dtype
    assert not np.any(flat(nobody))


def test_clipping_is_chosen_by_the_layers() -> None:
    assert default_clipping(dense, W, ROWS[0], KEYS[0]) == ("ghost", "every layer has a rule")
    way, why = default_clipping(
        lambda p, x, key: recurrent(p["h"], x, key) + dense(p["w"], x, key),
        {"h": W[:, :2], "w": W},
        ROWS[0],
        KEYS[0],
    )
    assert way == "vmap"
    assert why == "ghost clipping has no rule for ['h'] (scan)"


def test_a_microbatch_fills_a_device() -> None:
    assert [default_microbatch("cpu", n) for n in (1, 64, 128, 300, 1e6)] == [16, 16, 32, 48, 48]
    for expected in (10, 200, 2240, 1e6):
        size = default_microbatch("gpu", expected)
        assert size == default_microbatch("tpu", expected) == min(4096, size)
        assert size > min(expected, 4095)


def test_what_is_left_over_takes_half_but_not_on_a_lattice() -> None:
    assert Execution(microbatch=32).microbatches(400) == (32, 16)
    assert Execution("vmap", microbatch=7).microbatches(5) == (5, 3)
    assert Execution("lattice", microbatch=32).microbatches(400) == (32,)


# The project's own losses.

COLUMNS, WIDTH, ORDER = 4, 5, 3
CODES = np.random.default_rng(0).integers(0, WIDTH, (3, COLUMNS)).astype(np.uint8)
FEATURES = np.random.default_rng(3).normal(size=(COLUMNS, WIDTH, ORDER)).astype(np.float32)


def drawn(init: Callable[..., Any], *args: Any) -> Any:
    """Parameters of the shapes that `init` gives, away from a start where gradients vanish."""
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: (rng.normal(size=leaf.shape) * 0.4).astype(np.float32),
        jax.eval_shape(init, KEYS[0], *args),
    )


def vae() -> Problem:
    model, features = Vae(COLUMNS, WIDTH, ORDER, latent=3, channels=2), jnp.asarray(FEATURES)
    prior = jnp.zeros((COLUMNS, WIDTH))
    return (
        lambda p, codes, key: model.loss(p, codes, key, prior, features, 0.7),
        drawn(model.init),
        CODES,
    )


def discriminator() -> Problem:
    model, features = Discriminator(channels=2, hidden=4), jnp.asarray(FEATURES)

    def loss(p: Any, codes: jax.Array, key: jax.Array) -> jax.Array:
        return jax.nn.softplus(-model.apply({"params": p}, code_features(codes, features)))

    return loss, drawn(model.init, features[:, 0])["params"], CODES


def labeler() -> Problem:
    model, features = Labeler(label=2, channels=2, hidden=4), jnp.asarray(FEATURES)

    def loss(p: Any, codes: jax.Array, key: jax.Array) -> jax.Array:
        logit = model.apply({"params": p}, code_features(codes, features))
        return jax.nn.softplus(jnp.where(codes[2] == 1, -logit, logit))

    return loss, drawn(model.init, features[:, 0])["params"], CODES


problems = pytest.mark.parametrize(  # layers one by one are in test_uses
    "problem",
    [discriminator, *(pytest.param(other, marks=pytest.mark.slow) for other in (vae, labeler))],
)


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(tree)])


@problems
def test_ghost_equals_vmap_and_contributions_are_short_for_every_model(
    problem: Callable[[], Problem],
) -> None:
    """In both precisions; in bfloat16 the gradient is that of float32 to its rounding."""
    loss, params, rows = problem()
    settings: tuple[tuple[Any, Any], ...]
    settings = (("vmap", "float32"), ("ghost", "float32"), ("ghost", "bfloat16"))

    @jax.jit
    def summed(params: Any, valid: Any, bound: Any, scale: Any) -> list[Any]:
        return [
            Execution(clipping=way, precision=precision)
            .clipped_sum(lambda *args: loss(*args) * scale, params, rows, valid, KEYS, bound)
            .gradient
            for way, precision in settings
        ]

    each = np.eye(3, dtype=bool)
    lengths = [np.linalg.norm(flat(summed(params, only, np.inf, 1.0)[0])) for only in each]
    for bound in (np.median(lengths) * 0.9, np.inf):
        oracle, ours, rounded = map(flat, summed(params, np.ones(3, bool), bound, 1.0))
        assert np.linalg.norm(ours - oracle) <= 1e-5 * np.linalg.norm(oracle)
        assert np.linalg.norm(rounded - oracle) <= 0.03 * np.linalg.norm(oracle)
    for large in (1.0, 30.0, 1e4):
        scaled = {k: jax.tree.map(lambda x: x * np.float32(large), v) for k, v in params.items()}  # noqa: B023
        for bound in (0.0, 1e-6, 1.0, 1e6):
            for scale in (1e-20, 1.0, 1e20):
                for only in each:
                    for found in summed(scaled, only, bound, scale):
                        assert np.linalg.norm(flat(found)) <= bound  # fails on NaN too


@problems
def test_every_layer_of_every_model_has_a_rule(problem: Callable[[], Problem]) -> None:
    loss, params, rows = problem()
    assert default_clipping(loss, params, rows[0], KEYS[0]) == ("ghost", "every layer has a rule")


def scaled_by_a_number(w: jax.Array, x: jax.Array, key: jax.Array) -> jax.Array:
    return jnp.square(x.astype(w.dtype) @ (w * 2.0)).sum()


def weight_norm(w: jax.Array, x: jax.Array, key: jax.Array) -> jax.Array:
    length = jnp.sqrt((w * w).sum(axis=0, keepdims=True) + 1e-3)
    return jnp.square(x.astype(w.dtype) @ (w / jnp.broadcast_to(length, w.shape))).sum()


def product(w: jax.Array, x: jax.Array, key: jax.Array) -> jax.Array:
    return jnp.square(x.astype(w.dtype) @ (w @ w.T @ w)).sum()


@pytest.mark.parametrize("loss", [scaled_by_a_number, weight_norm, product])
def test_arithmetic_on_rounded_parameters_is_clipped_too(loss: Callable[..., jax.Array]) -> None:
    @jax.jit
    def both(valid: Any, bound: Any) -> list[clipping.ClippedSum]:
        return [
            Execution(clipping=way, precision="bfloat16").clipped_sum(
                loss, W, ROWS, valid, KEYS, bound
            )
            for way in ("ghost", "vmap")
        ]

    for bound in (0.0, 1e-6, 1.0, 1e6):
        for only in np.eye(3, dtype=bool):
            ours, oracle = (flat(x.gradient) for x in both(only, bound))
            assert np.linalg.norm(ours) <= bound
            assert np.linalg.norm(ours - oracle) <= 0.03 * np.linalg.norm(oracle)
