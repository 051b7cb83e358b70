"""A data set, a codec and a generator outside the package, each in one file: no line of it changes.

They come in through entry points, as those of an installed package do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rdpjax.config_file import load_config, parse_config
from rdpjax.errors import UserError
from rdpjax.generators.registry import find_generator, generators

COMMANDS = """
import sys
from rdpjax import audit, evaluate, sample, train
out = sys.argv[1]
flags = ["--dataset", "diaries", "--generator", "levels"]
print(train.main([*flags, "--data", f"{out}/real.jsonl", "--out", f"{out}/run", "--rows", "300",
                  "--levels.steps", "8", "--pool-rows", "1", "--seed", "1", "--quiet"]))
print(sample.main([f"{out}/run", "--rows", "50", "--out", f"{out}/more.jsonl"]))
print(evaluate.main([f"{out}/run", "--quiet"]))
print(audit.main(["replay", f"{out}/run", "--data", f"{out}/real.jsonl", "--records", "800",
                  "--quiet"]))
print(train.main([*flags, "--data", f"{out}/real.jsonl", "--out", f"{out}/other", "--vae.steps",
                  "8"]))
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """What an installer leaves: the package's entry points beside it."""
    info = tmp_path / "site" / "own_parts-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own_parts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[rdpjax.datasets]\ndiaries = own_parts.diary_data:DIARIES\n"
        "[rdpjax.generators]\nlevels = own_parts.level_generator:LEVELS\n"
    )
    (tmp_path / "site" / "own_parts").symlink_to(Path(__file__).parent / "own_parts")
    return tmp_path / "site"


def test_every_command_takes_them(installed: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    diaries = [random.poisson(6, random.integers(0, 11)).tolist() for _ in range(1500)]
    (tmp_path / "real.jsonl").write_text("".join(f"{json.dumps(d)}\n" for d in diaries))
    paths = [str(installed), *filter(None, sys.path)]
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=400,
    )
    said = done.stdout.splitlines()
    assert [line for line in said if line.isdigit()] == ["0", "0", "0", "0", "2"], done.stderr
    assert "--vae.steps: a setting of the stage vae, and this run's are levels" in done.stderr
    released = (tmp_path / "run/release/synthetic.jsonl").read_text().splitlines()
    assert len(released) == 300 and len((tmp_path / "more.jsonl").read_text().splitlines()) == 50
    assert any("mean days" in line for line in said)
    told = json.loads((tmp_path / "run/release/privacy.json").read_text())
    assert [event["stage"] for event in told["events"]] == ["lengths", "marginals", "levels"]
    assert told["unit"] == "one diary = one person" and 4.9 < told["epsilon"] <= 5


def test_a_generator_brings_its_stages_and_shares() -> None:
    assert list(generators()) == ["vaegan", "vae", "autoregressive"]
    config = parse_config('generator = "autoregressive"\n[autoregressive]\nsteps = 3')
    assert list(config.stages) == ["autoregressive"] and config.stages["autoregressive"].steps == 3
    assert config.label_source == "generator"
    assert config.shares == {"marginals": 0.25, "autoregressive": 0.75}
    assert parse_config(config.to_toml()) == config
    patients = parse_config('dataset = "sepsis"\ngenerator = "autoregressive"')
    assert patients.shares == load_config("sepsis.toml").shares
    instead = load_config("sepsis-vae.toml", generator="autoregressive")
    assert list(instead.stages) == ["autoregressive"] and instead.rows == 20_000


def test_an_unknown_generator_is_refused() -> None:
    with pytest.raises(UserError, match="unknown 'autoregresive'; did you mean 'autoregressive'"):
        find_generator("autoregresive")
    with pytest.raises(UserError, match="config: generator must be text, got 1"):
        parse_config("generator = 1")
