"""Checkpoints: whole or not there, and the same bits back."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rdpjax.checkpoint import load, save, steps
from rdpjax.errors import UserError
from rdpjax.run import run
from rdpjax.start import Options


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
    for name in ("50.npz", "100.npz", "150.npz.part", "notes", "notes.npz"):
        (tmp_path / name).touch()
    assert steps(tmp_path) == [50, 100]


def test_a_type_that_numpy_does_not_know(tmp_path) -> None:
    state = {"half": jnp.linspace(0, 1, 5, dtype=jnp.bfloat16), "count": jnp.uint32(2**32 - 1)}
    save(tmp_path, 1, state)
    again = load(tmp_path, 1, jax.tree.map(jnp.zeros_like, state))
    for name, old in state.items():
        assert again[name].dtype == old.dtype
        np.testing.assert_array_equal(again[name], old)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "cannot read the checkpoint"),
        (lambda path: path.write_bytes(b""), "cannot read the checkpoint"),
        (lambda path: save(path.parent, 50, {"a": jnp.zeros(3)}), "is of another model"),
        (lambda path: save(path.parent, 50, {}), "is of another model"),
    ],
    ids=["torn", "empty", "another", "nothing"],
)
def test_a_checkpoint_that_does_not_fit(change, message, tmp_path, state) -> None:
    save(tmp_path, 50, state)
    change(tmp_path / "50.npz")
    with pytest.raises(UserError, match=rf"50\.npz: .*{message}"):
        load(tmp_path, 50, state)


@contextlib.contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """The system itself stops a write half-way, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_half_way_leaves_the_earlier_one(tmp_path, state) -> None:
    save(tmp_path, 50, state)
    with files_no_longer_than(600), pytest.raises(OSError):
        save(tmp_path, 100, state._replace(step=jnp.float32(9)))
    assert [path.name for path in tmp_path.iterdir()] == ["50.npz"]
    assert float(load(tmp_path, 50, state).step) == 3


def test_a_run_on_a_full_disk_stops_with_one_line_and_resumes(
    toy_config, small_data, tmp_path, monkeypatch
) -> None:
    whole, written = np.savez, iter(range(1, 100))

    def full(file, **arrays) -> None:
        if next(written) == 2:  # the second of two chunks of the first stage
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(file, **arrays)

    monkeypatch.setattr(np, "savez", full)
    options = Options(out=tmp_path / "full", data=small_data, seed=1)
    with pytest.raises(UserError, match="full: cannot write there: No space left on device"):
        run(toy_config, options, quiet=True)
    stage = tmp_path / "full/internal/checkpoints/vae"
    assert steps(stage) == [2] and not list(stage.glob("*.part"))
    assert not (tmp_path / "full/release").exists()
    run(toy_config, replace(options, resume=True), quiet=True)
    assert steps(stage) == [4]
    assert (tmp_path / "full/release/privacy.json").exists()
