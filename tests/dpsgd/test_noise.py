from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdpjax.dpsgd.keys import Roots, derive, step_keys
from rdpjax.dpsgd.noise import add_gaussian

KEY = derive(Roots.make(3).noise, "s", "noise")
TREE = {"a": jnp.zeros((40, 50)), "b": {"c": jnp.zeros(700), "d": jnp.zeros(())}}


def test_every_leaf_gets_noise_of_the_given_deviation():
    noisy = add_gaussian(KEY, TREE, 3.0)
    assert jax.tree.structure(noisy) == jax.tree.structure(TREE)
    for leaf in (noisy["a"], noisy["b"]["c"]):
        values = np.asarray(leaf, np.float64)
        assert abs(values.std() / 3 - 1) < 5 / np.sqrt(2 * values.size)
        assert abs(values.mean()) < 5 * 3 / np.sqrt(values.size)
        # Kurtosis, for a law with the right deviation need not be normal.
        kurtosis = (values**4).mean() / (values**2).mean() ** 2
        assert abs(kurtosis - 3) < 5 * np.sqrt(24 / values.size)
    assert noisy["b"]["d"].shape == () and noisy["b"]["d"] != 0


def test_it_is_added_to_what_is_there_and_does_not_depend_on_it():
    shifted = jax.tree.map(lambda leaf: leaf + 8.0, TREE)
    plain, moved = add_gaussian(KEY, TREE, 1.0), add_gaussian(KEY, shifted, 1.0)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(moved), strict=True):
        np.testing.assert_allclose(b - a, 8.0, atol=2e-6)


def test_leaves_and_keys_share_nothing():
    noisy = add_gaussian(KEY, TREE, 1.0)
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(noisy)])
    assert len(np.unique(flat)) > 0.999 * flat.size
    keys = step_keys(Roots.make(3), "s", 0, 20).noise
    steps = np.stack([add_gaussian(key, TREE["a"], 1.0).ravel() for key in keys])
    between = np.corrcoef(steps) - np.eye(20)
    assert np.abs(between).max() < 5.5 / np.sqrt(steps.shape[1])


def test_the_same_key_replays_the_same_noise():
    for a, b in zip(
        jax.tree.leaves(add_gaussian(KEY, TREE, 1.0)),
        jax.tree.leaves(add_gaussian(KEY, TREE, 1.0)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_no_deviation_adds_nothing():
    tree = {"x": jnp.linspace(-1, 1, 9)}
    np.testing.assert_array_equal(add_gaussian(KEY, tree, 0.0)["x"], tree["x"])


def test_an_empty_tree_stays_empty():
    assert add_gaussian(KEY, {}, 1.0) == {}


def test_noise_is_float32_whatever_the_leaf():
    fine = add_gaussian(KEY, {"x": jnp.zeros(2000)}, 1.0)["x"]
    for dtype in (jnp.bfloat16, jnp.float16):
        noisy = add_gaussian(KEY, {"x": jnp.zeros(2000, dtype)}, 1.0)["x"]
        assert noisy.dtype == jnp.float32
        np.testing.assert_array_equal(noisy, fine)
    # bfloat16 keeps 8 bits: noise that survives the round trip would have been drawn in it.
    assert (fine.astype(jnp.bfloat16).astype(jnp.float32) == fine).mean() < 0.02


def test_it_is_jaxs_own_normals_times_the_deviation():
    noisy = add_gaussian(KEY, {"a": jnp.zeros((7, 11)), "b": jnp.zeros(24)}, 3.0)
    flat = np.concatenate([np.ravel(noisy["a"]), noisy["b"]])
    theirs = jax.random.wrap_key_data(jnp.asarray(KEY), impl="threefry2x32")
    np.testing.assert_array_equal(flat, 3 * jax.random.normal(theirs, (101,)))


def test_more_numbers_than_a_key_has_are_refused():
    numbers = jax.ShapeDtypeStruct((2**16, 2**16 + 1), jnp.float32)
    with pytest.raises(ValueError, match="one key is good for"):
        jax.eval_shape(lambda leaf: add_gaussian(KEY, leaf, 1.0), numbers)
