"""Where a run computes."""

from __future__ import annotations

import os

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
