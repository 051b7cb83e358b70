"""Everything the benchmarks import, in one place, with no device opened yet."""

from __future__ import annotations

import importlib
import os
import warnings
from contextlib import suppress

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes share a GPU

import jax

from benchmarks import contenders_jax, contenders_rdpjax, contenders_torch
from benchmarks.contender import Contender
from rdpjax.compute.devices import prepare_processor

for _name in ("torch", "opacus", "opacus.grad_sample", "jax_privacy"):
    with suppress(ImportError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module(_name)


def all_contenders() -> list[Contender]:
    """In the order of the table."""
    modules = (contenders_rdpjax, contenders_jax, contenders_torch)
    return [contender for module in modules for contender in module.contenders()]


def prepare(cache: str) -> None:
    """Compilation cache and devices of this process, before any device is opened.

    A processor's cores become devices of their own, as in rdpjax's runs; each contender's search
    says whether it uses them. The environment has precedence.
    """
    prepare_processor()
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
