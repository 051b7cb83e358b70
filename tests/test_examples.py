"""Every example runs, and leaves what it says."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LEAVES = {
    "table": ("runs/clinic/densities.png", "runs/clinic/release/privacy.json"),
    "own_schema": (),
    "patients": ("runs/patients/release/privacy.json", "more/psv"),
    "audit_a_run": ("runs/audited/release/privacy.json",),
    "new_generator": (),
}


def test_every_example_is_run() -> None:
    scripts = {path.stem for path in EXAMPLES.glob("*.py")}
    assert scripts == {*LEAVES, "simulate_clinic"}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAVES)
def test_an_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    left = runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    for path in LEAVES[name]:
        assert (tmp_path / path).exists()
    if "synth" in left:
        assert left["synth"].ledger.epsilon(1e-5) <= left["synth"].config.epsilon


def test_the_table_is_the_simulators_and_fits_its_schema() -> None:
    from rdpjax import Schema
    from rdpjax.data.frame import check_frame

    simulate = runpy.run_path(str(EXAMPLES / "simulate_clinic.py"))["simulate_clinic"]
    table = pd.read_csv(EXAMPLES / "clinic.csv")
    pd.testing.assert_frame_equal(table.head(200), simulate().head(200), atol=0.11, rtol=0)
    schema = Schema.from_toml((EXAMPLES / "clinic.toml").read_text(encoding="utf-8"))
    assert tuple(table) == schema.names
    assert np.shape(check_frame(schema, table)) == table.shape
