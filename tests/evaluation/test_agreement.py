"""Our figures against an independent scorer of the cardio table, where one lies beside the data."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rdpjax.data.cardio import CARDIO, KAGGLE_LAYOUT, read_cardio
from rdpjax.evaluation.fidelity import fidelity
from rdpjax.evaluation.tables import positives
from rdpjax.evaluation.utility import utility


@pytest.fixture(scope="module")
def yardstick(shared_data: Path) -> Path:
    path = shared_data.parent / "yardstick" / "score_cardio.py"
    if not path.is_file():
        pytest.skip(f"no independent scorer: {path.name} is not beside the real data")
    return path


def halves(frame, rng, rows):
    """Two files' rows: real records, and others that are worse in every respect scored."""
    frame = frame.sample(frac=1, random_state=5)[:rows]
    test, other = frame[: rows // 2], frame[rows // 2 :].copy()
    other["height"] = other["height"].sample(frac=1, random_state=5).to_numpy()
    other["ap_hi"] += rng.integers(-3, 4, len(other))
    other["age"] += rng.integers(-200, 201, len(other))
    other.loc[other["gluc"] == 2, "gluc"] = 1
    return test, other


@pytest.mark.parametrize("rows", [2000, pytest.param(56000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("unit", ["days", pytest.param("years", marks=pytest.mark.slow)])
def test_every_figure_agrees_to_its_last_printed_digit(
    rows, unit, yardstick, cardio_path, tmp_path
):
    import pandas as pd

    raw = pd.read_csv(cardio_path, sep=";")
    test, other = halves(raw, np.random.default_rng(0), rows)
    if unit == "years":
        other = other.assign(age=other["age"] / 365.25)
    test.to_csv(tmp_path / "test.csv", sep=";", index=False)
    other.to_csv(tmp_path / "other.csv", sep=",", index=False)
    command = [yardstick, tmp_path / "other.csv", "--holdout", tmp_path / "test.csv"]
    said = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    theirs = json.loads(said.stdout)

    names = [name for name in KAGGLE_LAYOUT.fields if name in CARDIO.names]
    real, made = (read_cardio(tmp_path / f"{name}.csv").frame[names] for name in ("test", "other"))
    ranks, near = utility(made, real, CARDIO), fidelity(made, real, CARDIO)
    ours = {"rows": len(made), "positive": round(float(positives(made, CARDIO).mean()), 4)}
    for short, model in (("gb", "gradient_boosting"), ("rf", "forest"), ("lr", "logistic")):
        for kind, value in ranks[model].items():
            ours[f"{short}_{kind}"] = round(value, 4)
    ours["ks"] = {name: round(near["ks"][name], 3) for name in theirs["ks"]}
    ours |= {key: round(near[key], 4) for key in ("ks_mean", "tvd1", "tvd2", "tvd3")}
    ours["c2st_gb"] = round(near["two_sample_auroc"], 4)
    ours["levels_missing"] = near["levels_missing"]
    ours["pressure_inverted"] = round(near["rule_breaks"]["ap_lo > ap_hi"], 4)
    assert ours == theirs
    assert theirs["levels_missing"] == ["gluc=2"]
