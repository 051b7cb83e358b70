"""Differentially private synthetic data in JAX/Flax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Budget",
    "Categorical",
    "Config",
    "Numeric",
    "Schema",
    "Synthesizer",
    "UserError",
    "__version__",
    "datasets",
    "generators",
    "keep_programs",
]

if TYPE_CHECKING:
    from rdpjax import datasets, generators
    from rdpjax.compute.devices import keep_programs
    from rdpjax.config import Config
    from rdpjax.data.fields import Categorical, Numeric
    from rdpjax.data.schema import Schema
    from rdpjax.errors import UserError
    from rdpjax.privacy.budget import Budget
    from rdpjax.synthesizer import Synthesizer

_HOMES = {
    "Budget": "rdpjax.privacy.budget",
    "Categorical": "rdpjax.data.fields",
    "Config": "rdpjax.config",
    "Numeric": "rdpjax.data.fields",
    "Schema": "rdpjax.data.schema",
    "Synthesizer": "rdpjax.synthesizer",
    "UserError": "rdpjax.errors",
    "keep_programs": "rdpjax.compute.devices",
}
_FOLDERS = ("datasets", "generators")


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562), so that `account` needs no JAX."""
    import importlib

    if name in _FOLDERS:
        return importlib.import_module(f"rdpjax.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'rdpjax' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
