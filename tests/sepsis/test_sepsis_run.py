"""Patients from files to files: what a run releases, what it keeps, and that it can be repeated."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest

from rdpjax import evaluate, sample, train
from rdpjax.config_file import parse_config
from rdpjax.data.stays.patient_files import read_patients
from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import COLUMNS
from rdpjax.data.stays.simulate_sepsis import simulate_sepsis
from rdpjax.datasets import sepsis_evaluation
from rdpjax.fitting import checkpoint
from rdpjax.privacy.ledger import read_ledger
from rdpjax.privacy.report import replay

HEADER = "|".join(COLUMNS)
PATIENTS = 1497


class Run(NamedTuple):
    path: Path
    data: Path
    flags: list[str]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated patients in a folder."""
    folder = tmp_path_factory.mktemp("cohort") / "patients"
    folder.mkdir()
    for name, content in simulate_sepsis(PATIENTS, seed=3):
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cohort: Path, settings: list[str]) -> Run:
    """A completed run; not to be changed."""
    flags = [*settings, "--root", str(cohort), "--dense"]
    path = tmp_path_factory.mktemp("runs") / "run"
    assert train.main([*flags, "--out", str(path), "--quiet"]) == 0
    return Run(path, cohort, flags)


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its place in it."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def check_release(release: Path, count: int, hours: int) -> Patients:
    """What any release of patients must hold, whatever the settings."""
    texts = [path.read_text() for path in sorted((release / "psv").iterdir())]
    assert len(texts) == count
    for text in texts:
        header, *rows = text.splitlines()
        assert header == HEADER and len(COLUMNS) == 41
        assert rows and all(row.count("|") == 40 for row in rows)
        labels = [row.rsplit("|", 1)[1] for row in rows]
        assert labels == sorted(labels) and set(labels) <= {"0", "1"}
        icu = [int(row.split("|")[-2]) for row in rows]
        assert icu == list(range(icu[0], icu[0] + len(rows))) and icu[0] >= 1
    back = read_patients(release / "psv").patients
    assert len(back) == count and back.stays.min() >= 1 and back.stays.max() <= 336
    assert np.isnan(back.values[back.row >= hours]).all(), "nothing is made up after hour H"
    assert not np.isnan(back.values[back.row < hours]).all()
    array = np.load(release / "synthetic_3d.npy")
    assert array.shape == (count, 39, hours) and array.dtype == np.float32
    rows = back.row < hours
    patient = np.repeat(np.arange(count), back.stays)
    np.testing.assert_allclose(
        array[patient[rows], :34, back.row[rows]], back.values[rows], rtol=1e-5, equal_nan=True
    )
    table = pq.read_table(release / "synthetic.parquet")
    assert table.column_names == ["patient", *COLUMNS] and len(table) == len(back.values)
    meaning = json.loads((release / "synthetic_meta.json").read_text())
    assert meaning["hours"] == hours and meaning["shape"] == [count, 39, hours]
    return back


# -- from files to files -------------------------------------------------------------------------


def test_what_is_released(run: Run) -> None:
    release = run.path / "release"
    check_release(release, 250, 24)
    assert sorted(p.name for p in release.iterdir()) == [
        "generator", "privacy.json", "psv", "schema.toml", "synthetic.parquet",
        "synthetic_3d.npy", "synthetic_3d_dense.npy", "synthetic_meta.json",
    ]  # fmt: skip
    dense = np.load(release / "synthetic_3d_dense.npy")
    sparse = np.load(release / "synthetic_3d.npy")
    known = ~np.isnan(sparse)
    np.testing.assert_array_equal(dense[known], sparse[known])
    assert not np.isnan(dense[:, :34, 0]).any()


def test_what_is_kept(run: Run) -> None:
    internal = run.path / "internal"
    assert stat.S_IMODE(internal.stat().st_mode) == 0o700
    held = files(internal / "holdout")
    assert 0.15 * PATIENTS < len(held) < 0.25 * PATIENTS
    assert all((run.data / name).read_bytes() == content for name, content in held.items())
    facts = json.loads((internal / "facts.json").read_text())
    assert facts["skipped files"] == 0 and "out of bounds" in facts
    (counted,) = map(json.loads, (internal / "history.jsonl").read_text().splitlines())
    assert re.fullmatch("[0-9a-f]{16}", counted["run"]), "the run's own name: each one counts"
    plots = {path.name for path in (internal / "plots").iterdir()}
    assert plots == {"patients.png", "missing.png", "densities.png", "stays.png", "losses.png"}
    cache = run.path.parent / ".patients"
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in cache.iterdir())


def test_held_out_patients_are_not_looked_at(
    run: Run, fitted_on: Callable[[list[str]], Patients], tmp_path: Path
) -> None:
    """Every access sees the same patients: those that are not in the hold-out."""
    seen = fitted_on([*run.flags, "--out", str(tmp_path / "run"), "--quiet"])
    held = {name.removesuffix(".psv") for name in files(run.path / "internal" / "holdout")}
    everybody = {path.stem for path in run.data.iterdir()}
    assert set(seen.ids) == everybody - held and held


def test_the_claim(run: Run) -> None:
    report = json.loads((run.path / "release" / "privacy.json").read_text())
    ledger = read_ledger(run.path / "internal" / "ledger.jsonl")
    assert [event.stage for event in ledger] == [
        "values", "profiles", "marginals", "autoregressive",
    ]  # fmt: skip
    assert report["unit"].startswith("one file = one stay of one patient")
    assert 29.999 < report["epsilon"] <= 30
    assert report["epsilon_pld"] is None, "at e^30 the gap to discrete noise is larger than delta"
    assert report["epsilon"] == pytest.approx(replay(report), abs=1e-6)
    assert report["events"] == [event.to_dict() for event in ledger]
    assert report["declarations"]["format"]["columns"] == list(COLUMNS)


def test_the_release_tells_no_count_hash_shape_or_key(run: Run, findings: Any) -> None:
    internal = run.path / "internal"
    everybody, held = (read_patients(p).patients for p in (run.data, internal / "holdout"))
    numbers = {float(PATIENTS)}
    for some in (everybody, held):
        numbers |= {float(n) for n in (len(some), len(some.values), (some.onset >= 0).sum())}
        numbers |= {float(len(some.stays) - (some.onset >= 0).sum())}
    numbers |= {float(len(everybody) - len(held)), float(len(everybody.values) - len(held.values))}
    start = json.loads((internal / "run.json").read_text())
    keys = json.loads((internal / "keys.json").read_text())
    words = {start["fingerprint"], start["run"], str(run.data), run.data.parent.name}
    words |= {value for value in keys.values() if isinstance(value, str) and value}
    words |= {
        json.loads(line)["noise_id"]
        for line in (internal / "ledger.jsonl").read_text().splitlines()
    }
    numbers = {n for n in numbers if n > 50}  # smaller ones stand for other things in a schema
    assert len(numbers) >= 7 and len(words) >= 8
    assert findings(run.path / "release", numbers, words) == []


class Killed(BaseException):
    pass


def test_an_interrupted_run_goes_on_to_the_same_bytes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in its last stage: every measurement is replayed, so the seed alone gives the bytes.

    What was read is not looked for in the cache: another folder has none.
    """
    out, original = tmp_path / "run", checkpoint.save

    def save(*args: Any, **kwargs: Any) -> Any:
        original(*args, **kwargs)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save)
        with pytest.raises(Killed):
            train.main([*run.flags, "--out", str(out), "--quiet"])
    assert not (out / "release").exists()
    assert train.main([*run.flags, "--out", str(out), "--quiet", "--resume"]) == 0
    assert files(out / "release") == files(run.path / "release")
    assert read_ledger(out / "internal/ledger.jsonl") == read_ledger(
        run.path / "internal/ledger.jsonl"
    )


@pytest.mark.slow
@pytest.mark.parametrize("label,hours", [("window", 48), ("stay", 336)])
def test_other_hours_and_labels(
    label: str, hours: int, cohort: Path, settings: list[str], tmp_path: Path
) -> None:
    """With the flags as the original toolkit spells them, and a public number of patients."""
    archive = tmp_path / "patients.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as file:
        file.add(cohort, "deep/inside")
    flags = [
        *settings, "--root", str(archive), "--max_hours", str(hours), "--label", label,
        "--n_synth", "90", "--batch_size", "150", "--records", "1500", "--quiet",
    ]  # fmt: skip
    assert train.main([*flags, "--out", str(tmp_path / "run")]) == 0
    check_release(tmp_path / "run" / "release", 90, hours)
    config = parse_config((tmp_path / "run/internal/config.toml").read_text())
    assert (config.data.max_hours, config.data.label, config.rows) == (hours, label, 90)
    ledger = read_ledger(tmp_path / "run/internal/ledger.jsonl")
    assert ledger[-1].sampling_rate == pytest.approx(0.1)
    assert all(
        (cohort / name).read_bytes() == content
        for name, content in files(tmp_path / "run/internal/holdout").items()
    )


# -- sample and evaluate -------------------------------------------------------------------------


@pytest.mark.slow
def test_more_patients_into_a_folder(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    for out, seed in ((one, "4"), (two, "4"), (other, "5")):
        assert sample.main([str(run.path), "--rows", "40", "--out", str(out), "--seed", seed]) == 0
        assert {path.name for path in out.iterdir()} == {
            "psv", "synthetic.parquet", "synthetic_3d.npy", "synthetic_3d_dense.npy",
            "synthetic_meta.json",
        }  # fmt: skip
    check_release(one, 40, 24)
    assert files(one) == files(two) and files(one / "psv") != files(other / "psv")
    few = tmp_path / "few"
    assert sample.main([str(run.path), "--rows", "25", "--out", str(few), "--seed", "4"]) == 0
    more = files(one / "psv")
    assert files(few / "psv") == {name: more[name] for name in sorted(more)[:25]}, "the first ones"
    shutil.rmtree(few)
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two", "other"}
    capsys.readouterr()
    assert sample.main([str(run.path), "--rows", "5", "--out", str(one)]) == 2
    assert "one: exists; choose another folder" in capsys.readouterr().err
    assert files(one) == files(two)


@pytest.mark.slow
def test_a_run_is_scored(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    written = tmp_path / "scores.json"
    flags = ["--train", str(run.data), "--json", str(written), "--quiet"]
    assert evaluate.main([str(run.path), *flags]) == 0
    out = capsys.readouterr().out
    assert "DO NOT PUBLISH" in out and "source: file" in out
    scores = json.loads(written.read_text())
    assert scores == json.loads((run.path / "internal" / "evaluation.json").read_text())
    held = len(files(run.path / "internal" / "holdout"))
    assert scores["real_test"]["patients"] == held
    assert scores["real_train"]["patients"] == PATIENTS - held
    assert scores["synthetic"]["patients"] == 250
    (run.path / "internal" / "evaluation.json").unlink()


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Patients, Patients, Patients | None]]:
    """The patients that would be scored; scoring itself has its own tests."""
    calls: list[tuple[Patients, Patients, Patients | None]] = []

    def noted(synthetic: Any, real: Any, train: Any, say: Any) -> dict[str, Any]:
        calls.append((synthetic, real, train))
        return {}

    kind = sepsis_evaluation.SEPSIS_EVALUATION
    kind = dataclasses.replace(kind, score=noted, show=lambda scores: "")
    monkeypatch.setattr(sepsis_evaluation, "SEPSIS_EVALUATION", kind)
    return calls


def test_a_run_is_scored_on_its_hold_out_beside_its_training_patients(
    run: Run, scored: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([str(run.path), "--train", str(run.data)]) == 0
    synthetic, real, training = scored[0]
    held = {name.removesuffix(".psv") for name in files(run.path / "internal" / "holdout")}
    assert len(synthetic) == 250 and set(real.ids) == held and held.isdisjoint(training.ids)
    assert len(training) == PATIENTS - len(held)
    written = run.path / "internal" / "evaluation.json"
    assert json.loads(written.read_text()) == {"source": "file"}
    written.unlink()


def test_two_folders_are_scored_without_a_run(run: Run, scored: list[Any], tmp_path: Path) -> None:
    synthetic, real = run.path / "release" / "psv", run.path / "internal" / "holdout"
    given = ["--real", str(real), "--synthetic", str(synthetic), "--dataset", "sepsis"]
    assert evaluate.main(given) == 0
    assert scored[0][0].ids[0] == "s000001" and scored[0][2] is None
    assert {f"{id}.psv" for id in scored[0][1].ids} == set(files(real))


def test_training_patients_that_are_not_the_runs(
    run: Run, scored: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = run.path / "internal" / "holdout"
    assert evaluate.main([str(run.path), "--train", str(held)]) == 2
    assert "--train: all of it is held out" in capsys.readouterr().err
    one = tmp_path / "other"
    one.mkdir()
    (one / "x.psv").write_bytes(next(iter(files(held).values())))
    assert evaluate.main([str(run.path), "--train", str(one)]) == 2
    assert "--train: holds none of the held-out records" in capsys.readouterr().err
    assert evaluate.main([str(run.path), "--train", str(tmp_path / "none")]) == 2
    assert "none: no such folder or archive" in capsys.readouterr().err
