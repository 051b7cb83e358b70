"""Small seeded runs release what they always released: the net under any rebuilding.

A digest is of the released values, as text and without ids. It changes with a change that means to
change the release alone; CHANGELOG.md then says so.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd
import pytest

from rdpjax import train

PATIENTS = """
dataset = "sepsis"
epsilon = 30.0
rows = 200
pool_rows = 1
label_source = "generator"
stages = ["autoregressive"]
[shares]
values = 0.1
profiles = 0.1
marginals = 0.2
autoregressive = 0.6
[autoregressive]
sampling_rate = 0.1
steps = 4
hidden = 8
"""

GOLDEN = {
    "table": "8cf686402e97d6d3",
    "hardened": "1c2329d5273f7ef7",
    "patients": "ab0a71740ad95d22",
}
"""Digest of the released values, by run: the same on Python 3.11 and 3.13, jax 0.10.2 and 0.12."""


def digest(release: Path) -> str:
    """Digest what was released, to four digits and without ids."""
    table = release / "synthetic.csv"
    frame = pd.read_csv(table, sep=";") if table.exists() else _patients(release)
    values = frame.drop(columns="id", errors="ignore").to_csv(index=False, float_format="%.4g")
    return hashlib.blake2b(values.encode(), digest_size=8).hexdigest()


def _patients(release: Path) -> pd.DataFrame:
    frame = pd.read_parquet(release / "synthetic.parquet")
    return frame.drop(columns=frame.columns[0])  # the patient's number


@pytest.mark.parametrize(
    "name", ["table", *(pytest.param(n, marks=pytest.mark.slow) for n in ("hardened", "patients"))]
)
def test_the_release_is_as_it_was(
    name: str,
    small_data: Path,
    small_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # no patients at hand: a simulated cohort
    monkeypatch.delenv("RDPJAX_DATA", raising=False)
    (tmp_path / "patients.toml").write_text(PATIENTS)
    flags = {
        "table": ["--data", str(small_data), *small_flags],
        "hardened": ["--data", str(small_data), "--hardened", *small_flags],
        "patients": ["--config", "patients.toml"],
    }[name]
    assert train.main([*flags, "--seed", "1", "--devices", "1", "--out", "run", "--quiet"]) == 0
    assert digest(tmp_path / "run" / "release") == GOLDEN[name]
