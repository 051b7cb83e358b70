"""Where a run computes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from rdpjax.compute.devices import PLAIN_LOOPS, device_mesh, prepare_processor, use_device
from rdpjax.errors import UserError


@pytest.fixture(autouse=True)
def default_device():
    before = jax.config.jax_default_device
    yield
    jax.config.update("jax_default_device", before)


def test_cpu_is_always_there() -> None:
    assert use_device("cpu") == "cpu"
    assert jax.config.jax_default_device == jax.devices("cpu")[0]


def test_auto_changes_nothing() -> None:
    before = jax.config.jax_default_device
    assert use_device("auto") == jax.devices()[0].device_kind
    assert jax.config.jax_default_device == before


@pytest.mark.parametrize(("device", "extra"), [("gpu", "cuda"), ("tpu", "tpu")])
def test_a_device_that_is_not_there(device, extra) -> None:
    if jax.default_backend() == device:
        pytest.skip(f"this machine has a {device}")
    with pytest.raises(UserError, match=f"--device {device}: no such device here.*{extra} extra"):
        use_device(device)
    assert use_device("cpu") == "cpu"


def test_one_device_needs_no_mesh() -> None:
    assert device_mesh(1) is None and device_mesh(1, "cpu") is None


@pytest.mark.parametrize("count", [-1, 0, 1000])
def test_more_devices_than_there_are(count) -> None:
    here = jax.local_device_count()
    with pytest.raises(UserError, match=f"--devices {count}: must be 1 to {here}, as many as are"):
        device_mesh(count)


def test_the_first_devices_in_one_line() -> None:
    if jax.local_device_count() < 2:
        pytest.skip("one device: set JAX_NUM_CPU_DEVICES")
    mesh = device_mesh(2)
    assert mesh is not None and mesh.axis_names == ("devices",)
    assert list(mesh.devices) == jax.local_devices()[:2]


def test_what_is_asked_of_xla_is_added_to_what_the_environment_asks(monkeypatch) -> None:
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    monkeypatch.setenv("XLA_FLAGS", "--xla_of_the_user")
    prepare_processor()
    added = f"--xla_of_the_user --xla_backend_extra_options={PLAIN_LOOPS}"
    assert os.environ["XLA_FLAGS"] == added
    prepare_processor()
    assert os.environ["XLA_FLAGS"] == added
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_extra_options=of_the_user")
    prepare_processor()
    assert os.environ["XLA_FLAGS"] == "--xla_backend_extra_options=of_the_user"


KEEPS = """
import sys
import jax
import jax.numpy as jnp
jax.jit(jnp.sin)(1.0)  # as a notebook may have done
if "chosen" in sys.argv:
    jax.config.update("jax_compilation_cache_dir", sys.argv[1])
before = dict(jax.config.values)
import rdpjax
rdpjax.Synthesizer
assert dict(jax.config.values) == before, "nothing is set that nobody asked for"
rdpjax.keep_programs()
jax.jit(lambda x: jnp.cos(x) + 2)(1.0)
print(jax.config.jax_compilation_cache_dir)
print(jax.config.jax_persistent_cache_min_compile_time_secs)
"""


@pytest.mark.parametrize("least", ["", "0"])
@pytest.mark.parametrize("chosen", [False, True])
def test_programs_are_kept_on_request_and_where_the_user_chose(
    tmp_path: Path, least: str, chosen: bool
) -> None:
    """After a first program of the caller's none were kept, and the user's least time was lost."""
    environ = {k: v for k, v in os.environ.items() if "CACHE" not in k}
    environ |= {"XDG_CACHE_HOME": str(tmp_path / "xdg")}
    environ |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": least} if least else {}
    own = tmp_path / "own"
    arguments = [sys.executable, "-c", KEEPS, str(own), *["chosen"] * chosen]
    done = subprocess.run(arguments, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder = own if chosen else tmp_path / "xdg" / "rdpjax"
    kept_from = "0.0" if least else "1.0" if chosen else "0.3"
    assert done.stdout.split() == [str(folder), kept_from]
    if not chosen:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert any(path.name.startswith("jit_") for path in folder.iterdir()) == bool(least)
    else:
        assert not (tmp_path / "xdg").exists()
