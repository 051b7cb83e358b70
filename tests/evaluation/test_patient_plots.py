import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import VARIABLES
from rdpjax.evaluation.patient_plots import (
    _edges,
    measured_shares,
    plot_missingness,
    plot_patient_densities,
    plot_patients,
    plot_stays,
)

PNG = b"\x89PNG\r\n\x1a\n"
PLOTS = [plot_patients, plot_missingness, plot_patient_densities, plot_stays]


def patients_of(count: int, seed: int) -> Patients:
    """Stays of 3 to 40 hours, half of the readings missing; every fifth patient turns positive."""
    rng = np.random.default_rng(seed)
    stays = rng.integers(3, 41, count)
    starts = np.concatenate([[0], np.cumsum(stays)])
    low, high = np.array([(v.low, v.high) for v in VARIABLES]).T
    values = rng.beta(4, 4, (starts[-1], 34)) * (high - low) + low
    values[rng.random(values.shape) < 0.5] = np.nan
    onset = np.where(np.arange(count) % 5 == 0, 2, -1)
    statics = rng.uniform([18, 0, 0, 0, -100], [90, 1, 1, 1, 0], (count, 5))
    return Patients(
        values.astype(np.float32), starts, np.ones(count, int), onset, statics, ("",) * count
    )


@pytest.mark.parametrize("plot", PLOTS)
def test_pictures(plot, tmp_path):
    plot(patients_of(60, 1), patients_of(40, 2), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)
    assert (tmp_path / "a.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    "plot",
    [
        *(plot for plot in PLOTS if plot is not plot_patient_densities),
        pytest.param(plot_patient_densities, marks=pytest.mark.slow),
    ],
)
def test_patients_that_show_nothing(plot, tmp_path):
    """Two patients without a reading or a label: pictures all the same."""
    two = patients_of(60, 1).take(np.arange(2))
    blank = replace(two, values=np.full_like(two.values, np.nan), onset=np.array([-1, -1]))
    plot(patients_of(20, 1), blank, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)


def test_shares_are_of_those_still_there():
    patients = patients_of(80, 1)
    shares = measured_shares(patients, 50)
    assert shares.shape == (34, 50)
    assert np.isnan(shares[:, patients.stays.max() :]).all()
    there = patients.stays > 20
    values = patients.values[patients.starts[:-1][there] + 20]
    np.testing.assert_allclose(shares[:, 20], (~np.isnan(values)).mean(axis=0))


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)
def test_bins_hold_whole_steps_and_all_of_the_range(variable):
    edges = _edges(variable)
    assert edges[0] <= variable.low <= variable.high <= edges[-1]
    steps = np.diff(edges) / variable.step
    assert (np.rint(steps) >= 1).all() and np.abs(steps - np.rint(steps)).max() < 1e-6
    assert len(edges) <= 93


def test_importing_loads_no_plots_and_no_classifiers():
    code = (
        "import sys, rdpjax.evaluation.patient_plots, rdpjax.evaluation.patients\n"
        "sys.exit(' '.join({'matplotlib', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).stderr == b"\n"
