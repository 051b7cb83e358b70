"""All forms of a release hold the same numbers, under the right names."""

from __future__ import annotations

import importlib.util
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from rdpjax.data.stays.patient_release import SCHEMA, write_patients
from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.psv_writing import DECIMALS, STATIC_DECIMALS, rounded
from rdpjax.data.stays.sepsis import COLUMNS, STATICS, VARIABLES

HOURS = 6
NAMES = COLUMNS[:39]


def patients(count: int, seed: int = 0, most: int = 12) -> Patients:
    """Stays of 1 to `most` hours, two thirds missing; NaN after the modelled hours."""
    rng = np.random.default_rng(seed)
    stays = rng.integers(1, most + 1, count)
    starts = np.concatenate([[0], np.cumsum(stays)])
    low, high = np.array([(v.low, v.high) for v in VARIABLES]).T
    values = rng.uniform(low, high, (starts[-1], 34)).astype(np.float32)
    values[rng.random(values.shape) < 2 / 3] = np.nan
    statics = np.stack(
        [
            rng.integers(18, 90, count),
            rng.integers(0, 2, count),
            *(unit := rng.integers(0, 2, count)[None] ^ np.array([[0], [1]])),
            -rng.uniform(0, 300, count),
        ],
        axis=1,
    ).astype(np.float32)
    statics[rng.random(count) < 0.3, 2:4] = np.nan
    assert unit.shape == (2, count)
    onset = np.where(rng.random(count) < 0.3, rng.integers(0, stays), -1)
    made = Patients(
        values, starts, rng.integers(1, 4, count), onset, statics, tuple(map(str, range(count)))
    )
    values[made.row >= HOURS] = np.nan
    return made


def blocks(whole: Patients, size: int) -> Iterator[Patients]:
    for i in range(0, len(whole), size):
        yield whole.take(np.arange(i, min(i + size, len(whole))))


def read_back(path: Path) -> np.ndarray:
    rows = [line.split("|") for line in path.read_text().splitlines()]
    assert rows[0] == list(COLUMNS)
    return np.array(rows[1:], dtype=float)


@pytest.fixture(scope="module")
def whole() -> Patients:
    return patients(57)


@pytest.fixture(scope="module")
def release(whole: Patients, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    medians = np.arange(34) + 0.123
    write_patients(folder, blocks(whole, 20), count=57, hours=HOURS, medians=medians)
    return folder


def test_names_match_values_variable_by_variable(tmp_path):
    """A constant of its own for each variable comes back under its name, in every form."""
    constants = {
        v.name: round((v.low + v.high) / 2 + j * v.step, 2) for j, v in enumerate(VARIABLES)
    }
    constants |= {"Age": 61, "Gender": 1, "Unit1": 0, "Unit2": 1, "HospAdmTime": -7.25}
    values = np.tile([constants[v.name] for v in VARIABLES], (3, 1)).astype(np.float32)
    statics = np.array([[constants[name] for name in STATICS]], np.float32)
    same = Patients(values, np.array([0, 3]), np.array([4]), np.array([2]), statics, ("a",))
    write_patients(tmp_path, [same], count=1, hours=2)
    decimals = dict(zip(NAMES, (*DECIMALS, *STATIC_DECIMALS), strict=True))
    want = {name: np.round(float(np.float32(constants[name])), decimals[name]) for name in NAMES}

    text = pd.read_csv(tmp_path / "psv" / "s000001.psv", sep="|")
    table = pd.read_parquet(tmp_path / "synthetic.parquet")
    array = np.load(tmp_path / "synthetic_3d.npy")
    meta = json.loads((tmp_path / "synthetic_meta.json").read_text())
    index = {facts["name"]: facts["index"] for facts in meta["variables"]}
    assert list(index) == list(NAMES)
    for name in NAMES:
        assert text[name].unique().tolist() == [want[name]]
        assert table[name].unique().tolist() == [want[name]]
        assert np.unique(array[0, index[name]]).tolist() == [np.float32(want[name])]
    for frame in (text, table):
        assert frame["ICULOS"].tolist() == [4, 5, 6]
        assert frame["SepsisLabel"].tolist() == [0, 0, 1]


def test_every_form_holds_the_rounded_patients(release: Path, whole: Patients):
    want = rounded(whole)
    table = pq.read_table(release / "synthetic.parquet")
    assert table.schema.equals(SCHEMA)
    assert pq.ParquetFile(release / "synthetic.parquet").num_row_groups == 3
    assert table["patient"].to_pylist() == np.repeat(np.arange(1, 58), whole.stays).tolist()
    rows = np.stack([table[name].to_numpy() for name in COLUMNS], axis=1)
    np.testing.assert_array_equal(rows[:, :34].astype(np.float32), want.values)
    np.testing.assert_array_equal(rows[:, 39], whole.hours)
    np.testing.assert_array_equal(rows[:, 40], whole.labels)
    files = sorted((release / "psv").iterdir())
    assert [path.name for path in files] == [f"s{i:06d}.psv" for i in range(1, 58)]
    np.testing.assert_array_equal(np.concatenate([read_back(path) for path in files]), rows)
    array = np.load(release / "synthetic_3d.npy", mmap_mode="r")
    assert array.shape == (57, 39, HOURS) and array.dtype == np.float32
    for i, (start, end) in enumerate(zip(whole.starts[:-1], whole.starts[1:], strict=True)):
        kept = min(end - start, HOURS)
        np.testing.assert_array_equal(
            array[i, :, :kept].T, rows[start : start + kept, :39].astype(np.float32)
        )
        assert np.isnan(array[i, :, kept:]).all()


def test_whole_numbers_are_integers(release: Path):
    fields = {
        field.name: str(field.type) for field in pq.read_schema(release / "synthetic.parquet")
    }
    assert {name: fields[name] for name in ("Age", "Gender", "Unit1", "ICULOS", "HR")} == (
        dict.fromkeys(("Age", "Gender", "Unit1", "ICULOS", "HR"), "int32")
    )
    assert fields["Temp"] == fields["HospAdmTime"] == "double"
    for path in (release / "psv").iterdir():
        for line in path.read_text().splitlines()[1:]:
            cells = line.split("|")
            assert not any("." in cells[i] for i in (34, 35, 36, 37, 39, 40))
            assert cells[39].isdigit() and cells[40] in ("0", "1")


def test_hours_after_the_modelled_ones(release: Path, whole: Patients):
    longest = int(np.argmax(whole.stays))
    rows = read_back(release / "psv" / f"s{longest + 1:06d}.psv")
    assert len(rows) == whole.stays[longest] > HOURS
    assert np.isnan(rows[HOURS:, :34]).all()
    assert not np.isnan(rows[HOURS:, [34, 35, 38, 39, 40]]).any()


def test_dense_cells(release: Path, whole: Patients):
    sparse = np.load(release / "synthetic_3d.npy")
    dense = np.load(release / "synthetic_3d_dense.npy")
    assert dense.shape == sparse.shape and dense.dtype == np.float32
    np.testing.assert_array_equal(dense[:, 34:], sparse[:, 34:])
    for i in range(len(whole)):
        kept = min(whole.stays[i], HOURS)
        for j in range(34):
            series = (
                pd.Series(sparse[i, j], dtype=float)
                .ffill()
                .fillna(np.round(j + 0.123, DECIMALS[j]))
            )
            np.testing.assert_array_equal(dense[i, j, :kept], series[:kept].astype(np.float32))
        assert np.isnan(dense[i, :, kept:]).all()


def test_the_description(release: Path):
    meta = json.loads((release / "synthetic_meta.json").read_text())
    assert meta["shape"] == [57, 39, HOURS] and meta["axes"] == ["patient", "variable", "hour"]
    assert set(meta["files"]) == {"psv/sNNNNNN.psv"} | {
        path.name for path in release.iterdir() if path.name not in ("psv", "synthetic_meta.json")
    }
    assert f"first {HOURS} hours" in meta["after_modelled_hours"]
    hr, hours_before = meta["variables"][0], meta["variables"][38]
    assert (hr["name"], hr["unit"], hr["low"], hr["high"]) == ("HR", "beats per minute", 20, 220)
    assert (hours_before["varies"], hours_before["decimals"]) == ("static", 2)


def test_anyone_may_read_a_release(release: Path):
    modes = {path.stat().st_mode & 0o004 for path in release.rglob("*") if path.is_file()}
    assert modes == {0o004}


def test_a_wrong_count_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="have 5 rows, want 6"):
        write_patients(tmp_path, [patients(5)], count=6, hours=HOURS)


@pytest.fixture(scope="module")
def yardstick(shared_data: Path) -> ModuleType:
    path = shared_data.parent / "yardstick" / "score_sepsis.py"
    if not path.is_file():
        pytest.skip(f"no independent scorer: {path.name} is not beside the real data")
    spec = importlib.util.spec_from_file_location("score_sepsis", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore")
def test_an_independent_reader_reads_it(release: Path, whole: Patients, yardstick: ModuleType):
    read, bad = yardstick.load(str(release / "psv"), 1000)
    assert bad == 0 and [len(rows) for rows in read] == whole.stays.tolist()
    table = pd.read_parquet(release / "synthetic.parquet")[list(COLUMNS)].to_numpy(float)
    np.testing.assert_array_equal(np.concatenate(read), table)


def test_memory_does_not_grow_with_the_release(tmp_path):
    """Twice as many patients, streamed in blocks of one size."""
    block = patients(100, most=4)

    def peak(count: int) -> int:
        folder = tmp_path / str(count)
        folder.mkdir()
        again = (block for _ in range(count // 100))
        tracemalloc.start()
        try:
            write_patients(folder, again, count=count, hours=HOURS, medians=np.ones(34))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)  # what is imported and cached at first use
    small, large = peak(2000), peak(4000)
    assert len(list((tmp_path / "4000" / "psv").iterdir())) == 4000
    assert large < 1.1 * small
