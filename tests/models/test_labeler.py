from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rdpjax.models.labeler import Labeler
from rdpjax.models.layers import code_features

MODEL = Labeler(label=2, channels=3, hidden=4)
CODES = np.random.default_rng(0).integers(0, 5, (20, 4)).astype(np.uint8)
FEATURES = jnp.asarray(np.random.default_rng(1).normal(size=(4, 5, 3)), jnp.float32)
START = jax.jit(MODEL.init)(jax.random.key(0), FEATURES[:, 0])["params"]
MOVED = jax.tree.map(
    lambda leaf: leaf + jax.random.normal(jax.random.key(leaf.size), leaf.shape), START
)


@jax.jit
def apply(params: object, codes: jax.Array) -> jax.Array:
    return MODEL.apply({"params": params}, code_features(codes, FEATURES))


def logits(params: object, codes: np.ndarray) -> np.ndarray:
    return np.asarray(apply(params, codes))


def test_it_starts_undecided():
    np.testing.assert_array_equal(logits(START, CODES), np.zeros(20))


def test_it_never_looks_at_the_label():
    for value in (0, 1, 4, 255):
        changed = CODES.copy()
        changed[:, 2] = value
        np.testing.assert_array_equal(logits(MOVED, changed), logits(MOVED, CODES))


def test_it_looks_at_every_other_column():
    for column in (0, 1, 3):
        changed = CODES.copy()
        changed[:, column] = (changed[:, column] + 1) % 5
        assert (np.abs(logits(MOVED, changed) - logits(MOVED, CODES)) > 1e-4).all()


def test_one_record_needs_no_batch_axis():
    assert logits(MOVED, CODES[0]).shape == ()
    np.testing.assert_allclose(logits(MOVED, CODES[3]), logits(MOVED, CODES)[3], rtol=1e-5)


def test_the_label_moves_no_parameter():
    """The gradient of the logit is the same whatever the label, entries of its own being zero."""
    changed = CODES[0].copy()
    changed[2] = (changed[2] + 1) % 5
    slope = jax.jit(jax.grad(apply))
    gradients = [slope(MOVED, codes) for codes in (CODES[0], changed)]
    for a, b in zip(*map(jax.tree.leaves, gradients), strict=True):
        np.testing.assert_array_equal(a, b)
    linear = gradients[0]["Dense_0"]["kernel"].reshape(4, 3)
    assert not jnp.any(linear[2]) and jnp.all(linear[jnp.array([0, 1, 3])])
