"""The claim of a completed fit: the content of `privacy.json`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from rdpjax import __version__
from rdpjax.config import Config
from rdpjax.data.schema import PEEKED, Schema
from rdpjax.privacy.ledger import Ledger
from rdpjax.privacy.report import privacy_report

PACKAGES = ("jax", "flax", "optax", "dp-accounting", "numpy")


def claim(
    schema: Schema,
    config: Config,
    ledger: Ledger,
    *,
    secret: bool,
    declarations: Mapping[str, Any],
) -> dict[str, Any]:
    """Build the content of `privacy.json` for a completed run."""
    public = {"schema": "bounds, levels and units as in schema.toml", **declarations}
    if config.records is not None:
        public["records"] = config.records
    return privacy_report(
        ledger.events,
        config.delta,
        unit=schema.unit_of_privacy,
        secret_noise=secret,
        declarations=public,
        versions={"rdpjax": __version__} | {name: version(name) for name in PACKAGES},
        notes=(PEEKED,) if schema.peeked else (),
    )
