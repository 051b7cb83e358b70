from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rdpjax.config import Config
from rdpjax.fitting import checkpoint
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
