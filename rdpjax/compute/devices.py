"""Devices of a run: CPU cores, accelerators and their mesh."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from jax.experimental.compilation_cache.compilation_cache import reset_cache
from jax.sharding import Mesh

from rdpjax.dpsgd.execution import AXIS
from rdpjax.errors import UserError

Device = Literal["auto", "cpu", "gpu", "tpu"]
MOST_CORES = 8
PLAIN_LOOPS = "xla_cpu_disable_tiled_emitter,xla_cpu_disable_loop_unrolling"
"""XLA flags of the CPU backend; versions that do not know them ignore them."""


def use_device(device: Device) -> str:
    """Select `device` for all later computations; return its kind.

    Raises:
      UserError: there is no such device on this machine.
    """
    if device == "auto":
        return str(jax.local_devices()[0].device_kind)
    try:
        found = jax.local_devices(backend=device)[0]
    except RuntimeError:
        raise UserError(
            f"--device {device}: no such device here; use --device cpu, or install the "
            f"{'cuda' if device == 'gpu' else device} extra on a machine that has one"
        ) from None
    jax.config.update("jax_default_device", found)
    return str(found.device_kind)


def keep_programs() -> None:
    """Enable jax's persistent compilation cache for this process, in a folder of this user alone.

    The commands call it; `Synthesizer` does not, since a library must not change its caller's
    settings unasked. It works also after jax has computed. The folder is `rdpjax` in
    `$XDG_CACHE_HOME` or ~/.cache, of mode 0700: compiled shapes hold the number of records. A cache
    or a least compile time that the user has set stays.
    """
    if getattr(jax.config, "jax_compilation_cache_dir", None):
        return
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rdpjax"
    with contextlib.suppress(OSError):  # without it every run compiles
        home.mkdir(parents=True, mode=0o700, exist_ok=True)
        home.chmod(0o700)
        jax.config.update("jax_compilation_cache_dir", str(home))
        least = "jax_persistent_cache_min_compile_time_secs"
        if jax.config.values[least] == 1.0:  # jax's own value
            jax.config.update(least, 0.3)
        reset_cache()  # after its first program jax does not look for a folder again


def prepare_processor() -> None:
    """Tune the CPU backend for small programs, before jax computes anything.

    Cores become separate devices: small matrix products do not fill several cores, but a step's
    microbatches do. And XLA is kept from compiling element-wise loops as loops over tiles of
    sixteen on the stack: a sum of two arrays takes five times as long that way.
    `XLA_FLAGS` and `JAX_NUM_CPU_DEVICES` have precedence.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_backend_extra_options" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_backend_extra_options={PLAIN_LOOPS}".strip()
    if "device_count" in flags or "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(RuntimeError):  # the backend is initialised already
        jax.config.update("jax_num_cpu_devices", min(MOST_CORES, cores or 1))


def device_mesh(count: int | None, device: Device = "auto") -> Mesh | None:
    """Build a 1-D mesh of the first `count` devices of every process; None for a single device.

    Args:
      count: devices in each process; by default 1, or all of a processor if there is one process.
      device: their kind, as checked by `use_device`.

    Raises:
      UserError: this machine has fewer.
    """
    backend = None if device == "auto" else device
    here = jax.local_devices(backend=backend)
    processes = jax.process_count()
    if count is None:
        count = len(here) if here[0].platform == "cpu" and processes == 1 else 1
    if not 1 <= count <= len(here):
        raise UserError(
            f"--devices {count}: must be 1 to {len(here)}, as many as are here; "
            "JAX_NUM_CPU_DEVICES=N in the environment makes N of a processor"
        )
    if count == processes == 1:
        return None
    every = np.array(jax.devices(backend)).reshape(processes, -1)  # `joined` compared the counts
    return Mesh(every[:, :count].ravel(), (AXIS,))
