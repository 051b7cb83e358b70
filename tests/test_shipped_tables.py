"""The shipped configurations of public tables fit the tables, down to their last column."""

from __future__ import annotations

from pathlib import Path

import pytest

from rdpjax.config_file import load_config
from rdpjax.data.outside import count_outside
from rdpjax.datasets.registry import dataset_of


@pytest.mark.parametrize(
    ("config", "name", "rows"),
    [
        ("adult.toml", "adult.csv.gz", 32_561),
        ("pima.toml", "diabetes_pima.csv", 768),
        ("air-quality.toml", "air_quality_uci.csv.gz", 9_357),
    ],
)
def test_a_shipped_schema_fits_its_table(
    config: str, name: str, rows: int, shared_data: Path
) -> None:
    settings = load_config(config).data
    source = dataset_of("table", settings).open(shared_data / name, {}, settings)
    assert len(source.records) == rows
    assert max((f.share for f in count_outside(settings.schema, source.records)), default=0) < 0.01
