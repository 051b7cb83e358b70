"""Where a run computes."""

from __future__ import annotations

import jax
import pytest

from rdpjax.device import device_mesh, use_device
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
