from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rdpjax.codecs.table import TableEncoding
from rdpjax.config import Config
from rdpjax.data.schema import Schema
from rdpjax.data.tokenizer import Marginals
from rdpjax.fitting import checkpoint
from rdpjax.fitting.generator import Generator
from rdpjax.fitting.raking import Tilt
from rdpjax.runs.run import run
from rdpjax.runs.start import Options
from tests.runs.runs import Go, Killed, killed_at


@pytest.fixture
def go(toy_config: Config, small_data: Path, tmp_path: Path) -> Go:
    """`go(name, **options)` runs the toy stages on the small data, seed 1, in `tmp_path / name`."""

    def go(name: str, *, config: Config = toy_config, **options: Any) -> dict[str, Any]:
        given: dict[str, Any] = {"data": small_data, "seed": 1, **options}
        return run(config, Options(out=tmp_path / name, **given), quiet=True)

    return go


@pytest.fixture
def interrupted(go: Go, tmp_path: Path) -> Path:
    """A run that was killed after the first checkpoint of its first stage."""
    with pytest.MonkeyPatch.context() as patch:
        killed_at(patch, checkpoint, "save", 1, after=True)
        with pytest.raises(Killed):
            go("run")
    return tmp_path / "run"


@pytest.fixture
def generator(toy_config: Config, toy_schema: Schema) -> Generator:
    rng = np.random.default_rng(0)
    marginals = dataclasses.replace(
        Marginals.uniform(toy_schema, 2987.25), deviation=3.5, halves=(0.25, 0.0, 0.0, 0.0)
    )
    artefacts = {
        "vae": {"logits": rng.random((4, 32), np.float32), "a": {"b": {"c": np.float32(1)}}},
        "labeler": {"weights": rng.random((4, 32), np.float32)},
    }
    tilt = Tilt(rng.random((4, 32)), 0.5, 0.9, 0.8)
    return Generator(
        toy_config, toy_schema, marginals, artefacts, TableEncoding(toy_schema), 0.125, tilt
    )
