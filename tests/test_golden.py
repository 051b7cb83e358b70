"""Small seeded runs release what they always released: the net under any rebuilding.

A digest is of the released values, as text and without ids, and of the ledger's events. It changes
only with a change that means to change the release; CHANGELOG.md then says so.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest

from rdpjax import generator, train

PATIENTS = """
dataset = "sepsis"
epsilon = 30.0
rows = 200
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
    "table": ("", ""),
    "hardened": ("", ""),
    "patients": ("", ""),
}
"""Digests of the released values and of the events, by run."""


def digests(release: Path) -> tuple[str, str]:
    """Digest what was released: values to four digits, and events to nine."""
    table = release / "synthetic.csv"
    frame = pd.read_csv(table, sep=";") if table.exists() else _patients(release)
    values = frame.drop(columns="id", errors="ignore").to_csv(index=False, float_format="%.4g")
    events = [
        {k: f"{v:.9g}" if isinstance(v, float) else v for k, v in event.items()}
        for event in json.loads((release / "privacy.json").read_text())["events"]
    ]
    return _digest(values), _digest(json.dumps(events, sort_keys=True))


def _patients(release: Path) -> pd.DataFrame:
    frame = pd.read_parquet(release / "synthetic.parquet")
    return frame.drop(columns=frame.columns[0])  # the patient's number


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@pytest.mark.parametrize("name", GOLDEN)
def test_the_release_is_as_it_was(
    name: str,
    small_data: Path,
    small_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # no patients at hand: a simulated cohort
    monkeypatch.delenv("RDPJAX_DATA", raising=False)
    monkeypatch.setattr(generator, "POOL", generator.BLOCK)
    (tmp_path / "patients.toml").write_text(PATIENTS)
    flags = {
        "table": ["--data", str(small_data), *small_flags],
        "hardened": ["--data", str(small_data), "--hardened", *small_flags],
        "patients": ["--config", "patients.toml"],
    }[name]
    assert train.main([*flags, "--seed", "1", "--devices", "1", "--out", "run", "--quiet"]) == 0
    assert digests(tmp_path / "run" / "release") == GOLDEN[name]
