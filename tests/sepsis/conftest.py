"""Runs on patients, small and quick."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rdpjax import train
from rdpjax.config import Config
from rdpjax.data.stays.patients import Patients
from rdpjax.evaluation import patient_plots
from rdpjax.fitting.plans import Plans, make_plans

SETTINGS = """
dataset = "sepsis"
epsilon = 30.0
rows = 250
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
steps = 20
hidden = 8
"""
PLOTS = ("plot_patients", "plot_missingness", "plot_patient_densities", "plot_stays")


@pytest.fixture(scope="module", autouse=True)
def quick() -> Any:
    """Noise that is looked for once, and pictures that are not drawn."""
    import rdpjax.runs.run as module

    plans: dict[str, Plans] = {}

    def planned(config: Config) -> Plans:
        key = repr((config.budget, config.shares, config.stages, config.batch_size, config.records))
        return plans.get(key) or plans.setdefault(key, make_plans(config))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "make_plans", planned)
        for name in PLOTS:
            patch.setattr(patient_plots, name, lambda *args: args[2].write_bytes(b"a picture"))
        yield


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("settings") / "small.toml"
    path.write_text(SETTINGS)
    return ["--config", str(path), "--seed", "1", "--devices", "1"]


@pytest.fixture
def fitted_on(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], Patients]:
    """`fitted_on(flags)`: the patients that `train` would fit on; nothing is trained."""
    import rdpjax.runs.run as module

    class Stop(BaseException):
        pass

    given: list[Patients] = []

    def fit(config: Any, form: Any, records: Patients, **options: Any) -> Any:
        given.append(records)
        raise Stop

    def call(flags: list[str]) -> Patients:
        monkeypatch.setattr(module, "fit", fit)
        with pytest.raises(Stop):
            train.main(flags)
        return given[-1]

    return call
