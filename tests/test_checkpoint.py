"""Checkpoints: whole or not there, and the same bits back."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rdpjax.checkpoint import load, save, steps


class State(NamedTuple):
    params: dict
    moments: tuple
    step: jax.Array


@pytest.fixture
def state() -> State:
    params = {"a": {"kernel": jnp.linspace(0, 1, 6).reshape(2, 3)}, "b": jnp.float32(1e-30)}
    return State(params, optax.adam(1e-3).init(params), jnp.float32(3))


def test_the_same_bits_and_the_same_structure_come_back(tmp_path, state) -> None:
    save(tmp_path / "vae", 50, state)
    like = jax.tree.map(jnp.zeros_like, state)
    again = load(tmp_path / "vae", 50, like)
    assert jax.tree.structure(again) == jax.tree.structure(state)
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(again), strict=True):
        assert old.dtype == new.dtype
        np.testing.assert_array_equal(np.asarray(old), np.asarray(new))


def test_only_the_last_is_kept(tmp_path, state) -> None:
    for step in (50, 100, 120):
        save(tmp_path / "vae", step, state._replace(step=jnp.float32(step)))
        assert steps(tmp_path / "vae") == [step]
    assert float(load(tmp_path / "vae", 120, state).step) == 120


def test_a_step_may_be_written_again(tmp_path, state) -> None:
    save(tmp_path, 50, state)
    save(tmp_path, 50, state._replace(step=jnp.float32(9)))
    assert float(load(tmp_path, 50, state).step) == 9


def test_what_is_half_written_is_no_checkpoint(tmp_path) -> None:
    assert steps(tmp_path / "none") == []
    for name in ("50", "100", "150.orbax-checkpoint-tmp", "notes"):
        (tmp_path / name).mkdir()
    assert steps(tmp_path) == [50, 100]
