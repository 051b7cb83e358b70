from __future__ import annotations

import dataclasses
import shutil
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
from tests.toys import bring_in_toys


@pytest.fixture
def go(toy_config: Config, small_data: Path, tmp_path: Path) -> Go:
    """`go(name, **options)` runs the toy stages on the small data, seed 1, in `tmp_path / name`."""

    def go(name: str, *, config: Config = toy_config, **options: Any) -> dict[str, Any]:
        given: dict[str, Any] = {"data": small_data, "seed": 1, **options}
        return run(config, Options(out=tmp_path / name, **given), quiet=True)

    return go


@pytest.fixture(scope="session")
def finished_once(
    toy_settings: Config, small_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """What `go("run")` leaves and returns, not to be changed."""
    out = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        bring_in_toys(patch)
        return out, run(toy_settings, Options(out, small_data, seed=1), quiet=True)


@pytest.fixture
def finished(finished_once: tuple[Path, dict[str, Any]], tmp_path: Path) -> dict[str, Any]:
    """As `go("run")`, by a copy of a run."""
    out, summary = finished_once
    shutil.copytree(out, tmp_path / "run")
    return summary | {"run": str(tmp_path / "run")}


@pytest.fixture(scope="session")
def interrupted_once(
    toy_settings: Config, small_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        bring_in_toys(patch)
        killed_at(patch, checkpoint, "save", 1, after=True)
        with pytest.raises(Killed):
            run(toy_settings, Options(out, small_data, seed=1), quiet=True)
    return out


@pytest.fixture
def interrupted(interrupted_once: Path, tmp_path: Path) -> Path:
    """A copy of a run that was killed after the first checkpoint of its first stage."""
    return shutil.copytree(interrupted_once, tmp_path / "run")


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
