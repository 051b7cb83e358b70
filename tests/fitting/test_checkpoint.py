"""Checkpoints: whole or not there, and the same bits back."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rdpjax.errors import UserError
from rdpjax.fitting import checkpoint
from rdpjax.fitting.checkpoint import load, save, steps
from rdpjax.runs.run import run
from rdpjax.runs.start import Options


class State(NamedTuple):
    params: dict
    moments: tuple
    step: jax.Array


@pytest.fixture
def state() -> State:
    params = {
        "a": {"kernel": jnp.linspace(0, 1, 6).reshape(2, 3), "none/of": jnp.zeros((0, 3))},
        "half": jnp.linspace(0, 1, 5, dtype=jnp.bfloat16),
        "tiny": jnp.float32(1e-45),
    }
    moments = optax.adam(1e-3).init(params)
    key = jnp.asarray([2**32 - 1, 7], jnp.uint32)
    return State(params, (moments, key, jnp.asarray([True, False]), jnp.int32(-5)), jnp.float32(3))


def assert_same(old: object, new: object) -> None:
    """The same structure, types and bits."""
    assert jax.tree.structure(new) == jax.tree.structure(old)
    for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_the_same_bits_and_the_same_structure_come_back(tmp_path, state) -> None:
    save(tmp_path / "vae", 50, state)
    assert_same(state, load(tmp_path / "vae", 50, jax.tree.map(jnp.zeros_like, state)))


@pytest.mark.parametrize("number", [np.nan, np.inf, -0.0])
def test_a_state_of_one_array(number, tmp_path) -> None:
    save(tmp_path, 1, jnp.full(3, number))
    assert_same(jnp.full(3, number), load(tmp_path, 1, jnp.zeros(3)))


def test_only_the_last_is_kept_and_it_is_private(tmp_path, state, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("checkpoints/vae")
    for step in (50, 100, 120):
        save(folder, step, state._replace(step=jnp.float32(step)))
        assert steps(folder) == [step]
        assert [path.name for path in folder.iterdir()] == [str(step)]
    assert float(load(folder, 120, state).step) == 120
    for path in (folder, *folder.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_a_step_that_is_there_is_not_written_again(tmp_path, state) -> None:
    save(tmp_path, 50, state)
    with pytest.raises(FileExistsError, match="50"):
        save(tmp_path, 50, state._replace(step=jnp.float32(9)))
    assert float(load(tmp_path, 50, state).step) == 3


def test_what_is_half_written_is_no_checkpoint(tmp_path, state) -> None:
    assert steps(tmp_path / "none") == []
    for name in ("50", "100", "150.part", "150.part.orbax-checkpoint-tmp", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "200").touch()
    assert steps(tmp_path) == [50, 100]
    save(tmp_path, 300, state)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["200", "300", "notes"]


DAMAGES = {
    "empty": lambda raw: b"",
    "torn": lambda raw: raw[: len(raw) // 2],
    "flipped": lambda raw: raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:],
    "gone": lambda raw: None,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_in_any_file_is_found(damage, tmp_path, state, capfd) -> None:
    save(tmp_path, 50, state)
    files = [path for path in (tmp_path / "50").rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        raw = path.read_bytes()
        path.unlink()
        if raw and (damaged := damage(raw)) is not None:
            path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"50: cannot read the checkpoint; restore it or start"):
            load(tmp_path, 50, state)
        path.write_bytes(raw)
    assert_same(state, load(tmp_path, 50, state))
    assert capfd.readouterr() == ("", "")


def test_a_checkpoint_of_somebody_else(tmp_path, state) -> None:
    from orbax.checkpoint import v1 as ocp

    ocp.save(tmp_path / "50", {"params": np.zeros(3)})
    (tmp_path / "60").mkdir()
    for step in (50, 60, 70):
        with pytest.raises(UserError, match=rf"{step}: cannot read the checkpoint"):
            load(tmp_path, step, state)


@pytest.mark.parametrize(
    "other",
    [
        lambda state: {"a": jnp.zeros(3)},
        lambda state: state._replace(step=jnp.float32([3])),
        lambda state: state._replace(step=jnp.int32(3)),
        lambda state: state._replace(moments=()),
        lambda state: state._replace(params=state.params | {"more": jnp.zeros(3)}),
    ],
    ids=["another", "shape", "type", "fewer", "more"],
)
def test_a_checkpoint_of_another_model(other, tmp_path, state) -> None:
    save(tmp_path, 50, other(state))
    with pytest.raises(UserError, match=r"50: the checkpoint is of another model; resume with"):
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


@pytest.mark.parametrize("size", [10, 300, 1000])
def test_a_disk_that_is_full_half_way_leaves_the_earlier_one(size, tmp_path, state, capfd) -> None:
    save(tmp_path, 50, state)
    with files_no_longer_than(size), pytest.raises(OSError, match="File too large"):
        save(tmp_path, 100, state._replace(step=jnp.float32(9)))
    assert [path.name for path in tmp_path.iterdir()] == ["50"]
    assert_same(state, load(tmp_path, 50, state))
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax's threads
@pytest.mark.parametrize("size", [10, 300, 1000])
def test_a_disk_that_others_fill_meanwhile(size, tmp_path, state, monkeypatch) -> None:
    save(tmp_path, 50, state)
    monkeypatch.setattr(checkpoint, "_make_room", lambda part, size: None)
    with files_no_longer_than(size), pytest.raises(OSError, match="File too large"):
        save(tmp_path, 100, state._replace(step=jnp.float32(9)))
    assert steps(tmp_path) == [50]
    assert_same(state, load(tmp_path, 50, state))
    save(tmp_path, 100, state)
    assert [path.name for path in tmp_path.iterdir()] == ["100"]


def test_a_run_on_a_full_disk_stops_with_one_line_and_resumes(
    toy_config, small_data, tmp_path, monkeypatch
) -> None:
    whole, written = checkpoint._write, iter(range(1, 100))

    def full(part, arrays) -> None:
        if next(written) == 2:  # the second of two chunks of the first stage
            part.mkdir()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(part, arrays)

    monkeypatch.setattr(checkpoint, "_write", full)
    options = Options(out=tmp_path / "full", data=small_data, seed=1)
    with pytest.raises(UserError, match="full: cannot write there: No space left on device"):
        run(toy_config, options, quiet=True)
    stage = tmp_path / "full/internal/checkpoints/vae"
    assert steps(stage) == [2] and not list(stage.glob("*.part"))
    assert not (tmp_path / "full/release").exists()
    run(toy_config, replace(options, resume=True), quiet=True)
    assert steps(stage) == [4]
    assert (tmp_path / "full/release/privacy.json").exists()


WRITER = """
import sys
import numpy as np
from pathlib import Path
from rdpjax.fitting.checkpoint import save, steps

folder = Path(sys.argv[1])
done = max(steps(folder), default=0)
while True:
    done += 1
    save(folder, done, {str(i): np.full((50, i), done, np.float32) for i in range(1, 20)})
    print(done, flush=True)
"""


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_writer_that_is_killed_leaves_a_whole_checkpoint(kills, tmp_path) -> None:
    chance = random.Random(kills)
    like = {str(i): np.zeros((50, i), np.float32) for i in range(1, 20)}
    for _ in range(kills):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            first = int(process.stdout.readline())
            time.sleep(0.3 * chance.random())
            process.send_signal(signal.SIGKILL)
            written = [first, *map(int, process.stdout.read().split())]
        found = steps(tmp_path)
        assert found and found[-1] in (written[-1], written[-1] + 1)
        for step in found:
            for array in load(tmp_path, step, like).values():
                assert np.all(np.asarray(array) == step)
    save(tmp_path, 10**6, like)
    assert [path.name for path in tmp_path.iterdir()] == ["1000000"], "and the rest is cleared away"


DEVICES = """
import sys
import numpy as np
import rdpjax.train
from pathlib import Path
from rdpjax.fitting import checkpoint

assert not any(name.startswith("orbax") for name in sys.modules), "half a second of every start"
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

folder = Path(sys.argv[1])
mesh = Mesh(np.array(jax.devices()), ("records",))
assert mesh.size == 8
places = {"whole": PartitionSpec(), "split": PartitionSpec("records"), "free": None}
values = {name: np.arange(16.0, dtype=np.float32) * i for i, name in enumerate(places, 1)}
state = {
    name: jnp.asarray(values[name]) if place is None
    else jax.device_put(values[name], NamedSharding(mesh, place))
    for name, place in places.items()
}
checkpoint.save(folder, 1, state)
again = checkpoint.load(folder, 1, jax.tree.map(jnp.zeros_like, state))
for name, array in again.items():
    assert np.array_equal(array, values[name])
    assert array.committed == (name != "free")
    if array.committed:
        assert array.sharding == state[name].sharding, array.sharding
elsewhere = checkpoint.load(folder, 1, {name: jnp.zeros(16) for name in state})
for name, array in elsewhere.items():
    assert np.array_equal(array, values[name]) and not array.committed
jax.jit(lambda tree: jax.tree.map(jnp.sum, tree))(again)
"""


def test_arrays_on_eight_devices_come_back_to_them_and_nothing_is_said(tmp_path) -> None:
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", DEVICES, str(tmp_path / "a/b")],
        capture_output=True,
        text=True,
        env=os.environ | {"XLA_FLAGS": flags},
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
