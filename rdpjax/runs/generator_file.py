"""The released generator on disk: schema, settings and arrays, no pickles.

FOLDER/schema.toml generator/{config.toml, arrays.npz}
"""

from __future__ import annotations

import dataclasses
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import tomli_w

from rdpjax.config import Config
from rdpjax.config_file import parse_config
from rdpjax.data.schema import Schema
from rdpjax.data.tokenizer import Marginals
from rdpjax.datasets.registry import dataset_of
from rdpjax.datasets.table import TableSettings
from rdpjax.errors import UserError
from rdpjax.fitting.generator import Generator
from rdpjax.fitting.raking import Tilt
from rdpjax.io.atomic import PUBLIC, new_file, write_file
from rdpjax.privacy.unprotected import mark_settings


def write_generator(folder: Path, generator: Generator, spent: float | None = None) -> None:
    """Write a generator of epsilon `spent` to `folder`: schema, settings and arrays, no pickles."""
    if generator.tilt is None:
        raise ValueError("the generator is not fitted yet")
    (folder / "generator").mkdir(parents=True, exist_ok=True)
    write_file(folder / "schema.toml", tomli_w.dumps(generator.schema.to_dict()), mode=PUBLIC)
    config = generator.config.to_toml(spent)
    write_file(folder / "generator" / "config.toml", config, mode=PUBLIC)
    tilt = generator.tilt
    arrays: dict[str, Any] = {
        "offset": generator.offset,
        "tilt/log_multipliers": tilt.log_multipliers,
        "tilt/scalars": np.array([tilt.log_cap, tilt.effective, tilt.acceptance]),
        "marginals/halves": np.array(generator.marginals.halves),
        "marginals/scalars": np.array([generator.marginals.records, generator.marginals.deviation]),
    }
    arrays |= {f"filling/{k}": v for k, v in generator.encoding.to_arrays().items()}
    for name, share in zip(generator.schema.names, generator.marginals.shares, strict=True):
        arrays[f"marginals/shares/{name}"] = share
    arrays |= _flat(generator.artefacts, "artefacts")
    with new_file(folder / "generator" / "arrays.npz", mode=PUBLIC) as file:
        np.savez_compressed(file, **arrays)
    if not generator.config.private:
        mark_settings(folder)


def read_generator(folder: Path) -> Generator:
    """Read the generator that `write_generator` wrote to `folder`.

    Raises:
      UserError: there is none, or its files are damaged.
    """
    path = folder / "schema.toml"
    try:
        schema = Schema.from_toml(path.read_text(encoding="utf-8"))
        path = folder / "generator" / "config.toml"
        config = parse_config(path.read_text(encoding="utf-8"), written=True)
        path = folder / "generator" / "arrays.npz"
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
        return _generator(config, schema, arrays)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{folder}: no generator there; give the folder of a completed run"
        ) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        raise UserError(f"{path}: cannot be read: damaged; restore the release") from None


def _generator(config: Config, schema: Schema, arrays: Mapping[str, np.ndarray]) -> Generator:
    """Assemble a generator from its parts; KeyError if an array is missing."""
    scalars = [float(value) for value in arrays["tilt/scalars"]]
    records, deviation = (float(value) for value in arrays["marginals/scalars"])
    shares = tuple(arrays[f"marginals/shares/{name}"] for name in schema.names)
    halves = tuple(float(value) for value in arrays["marginals/halves"])
    if isinstance(config.data, TableSettings):
        config = dataclasses.replace(config, data=TableSettings(schema))
    codec = dataset_of(config.dataset, config.data).codec(config.data)
    encoding = {k[8:]: v for k, v in arrays.items() if k.startswith("filling/")}
    return Generator(
        encoding=codec.restored(encoding),
        config=config,
        schema=schema,
        marginals=Marginals(shares, halves, records, deviation),
        artefacts=_nested(arrays, "artefacts"),
        offset=float(arrays["offset"]),
        tilt=Tilt(arrays["tilt/log_multipliers"], *scalars),
    )


def _flat(tree: Any, prefix: str) -> dict[str, np.ndarray]:
    if not isinstance(tree, Mapping):
        return {prefix: np.asarray(tree)}
    parts = [_flat(value, f"{prefix}/{name}") for name, value in tree.items()]
    return {key: value for part in parts for key, value in part.items()}


def _nested(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in arrays.items():
        head, *names = key.split("/")
        if head == prefix:
            node = tree
            for name in names[:-1]:
                node = node.setdefault(name, {})
            node[names[-1]] = jnp.asarray(value)
    return tree
