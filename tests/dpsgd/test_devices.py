"""One, two and eight devices, and two processes, take the same steps from the same keys."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("several_devices.py")


def start(devices: int, *processes: str, here: int) -> subprocess.Popen[str]:
    flags = f"--xla_force_host_platform_device_count={here} --xla_backend_optimization_level=0"
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(devices), *processes],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


@cache
def on(devices: int) -> dict[str, Any]:
    return result(start(devices, here=8))


def same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a["drawn"] == b["drawn"]
    for name in ("params", "gradient"):
        for x, y in zip(a[name], b[name], strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("devices", [2, 8])
def test_devices_change_nothing_but_rounding(devices: int):
    same(on(1), on(devices))


def test_two_processes_change_nothing_but_rounding():
    with socket.create_server(("127.0.0.1", 0)) as server:
        coordinator = f"127.0.0.1:{server.getsockname()[1]}"
    both = [start(4, coordinator, str(i), "2", here=2) for i in range(2)]
    first, second = [result(process) for process in both]
    assert first == second
    same(on(1), first)


def test_noise_is_added_once_whatever_the_devices():
    """Over many coordinates and steps: the deviation of the plan, not of its square root."""
    gradients = np.array(on(8)["gradient"]) * 125  # undo the divisor
    sums = gradients - gradients.mean()
    # Noise of deviation 0.5 on top of clipped sums, which are no longer than the draw times C.
    drawn = np.array(on(8)["drawn"])
    assert np.abs(gradients).max() < drawn.max() * 0.5 + 3
    difference = gradients - np.array(on(1)["gradient"]) * 125
    assert np.abs(difference).max() < 1e-3 < sums.std()
