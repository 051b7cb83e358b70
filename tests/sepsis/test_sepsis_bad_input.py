"""Patients' files and plans that cannot be: one line, and nothing left behind."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from rdpjax import train
from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.simulate_sepsis import simulate_sepsis


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Ten patients' files in a folder, to be spoilt."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name, content in simulate_sepsis(10, seed=3):
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def refused(
    tmp_path: Path, settings: list[str], capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Calls `train` with its flags, and returns the one line that it complains in.

    Patients that could be read may be kept in the cache beside the runs; of a run nothing is but
    the ledger of what it had measured.
    """

    def there() -> set[Path]:
        return {path for path in tmp_path.rglob("*") if ".patients" not in path.parts}

    def call(data: Path, *flags: str) -> str:
        before = there()
        out = ["--out", str(tmp_path / "run"), "--quiet"]
        assert train.main([*settings, "--root", str(data), *out, *flags]) == 2
        said, err = capsys.readouterr()
        assert not said and err.startswith("rdpjax: error: ") and err.count("\n") == 1, err
        left = {path.name for path in there() - before}
        kept = {"run", "internal", "DO_NOT_PUBLISH", "archive", "000-ledger.jsonl"}
        assert left == (kept if "its ledger is kept in" in err else set()), "left behind"
        return err

    return call


def changed(text: str, line: int, column: str, cell: str) -> str:
    rows = [row.split("|") for row in text.splitlines()]
    rows[line - 1][rows[0].index(column)] = cell
    return "\n".join("|".join(row) for row in rows) + "\n"


def joined(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: joined(t.splitlines()[1:]), "line 1: holds numbers where the header belongs"),
        (lambda t: t.replace("|", ","), "seem to be separated by ','"),
        (lambda t: joined([t.splitlines()[0], *(r.rsplit("|", 1)[0] for r in t.splitlines()[1:])]),
         "line 2 has 40 columns where the header has 41"),
        (lambda t: changed(t, 3, "HR", "high"), "line 3, column 'HR': 'high' is no finite number"),
        (lambda t: joined([t.splitlines()[0], *t.splitlines()]), "line 2 repeats the header"),
        (lambda t: t.splitlines()[0] + "\n", "only a header, zero rows"),
        (lambda t: "", "the file is empty"),
        (lambda t: changed(t, 4, "ICULOS", "NaN"), "line 4, column 'ICULOS': missing"),
        (lambda t: changed(t, 4, "ICULOS", "-3"), "column 'ICULOS': -3 is below 1"),
        (lambda t: changed(t, 4, "ICULOS", "330"), "comes after a later hour; put the rows in"),
        (lambda t: changed(t, 4, "SepsisLabel", "2"), "'SepsisLabel': 2 is neither 0 nor 1"),
        (lambda t: t.replace("|SepsisLabel", "|Label"), "has no column 'SepsisLabel'"),
    ],
)  # fmt: skip
def test_a_bad_file_names_itself(
    spoil: Callable[[str], str], message: str, few: Path, refused: Callable[..., str]
) -> None:
    path = few / "p000004.psv"
    path.write_text(spoil(path.read_text()))
    said = refused(few)
    assert f"{path}: " in said and message in said and "--skip-bad goes on without it" in said


def test_places_without_patients(few: Path, refused: Callable[..., str], tmp_path: Path) -> None:
    empty, deep = tmp_path / "empty", tmp_path / "deep"
    empty.mkdir()
    assert "empty: no .psv file in it; name the folder" in refused(empty)
    deep.mkdir()
    few.rename(deep / "data")
    assert "deep: its .psv files lie in folders of it; give --recursive" in refused(deep)
    assert "too few records" in refused(deep, "--recursive")
    assert "none: no such folder or archive" in refused(tmp_path / "none")
    assert "is neither a folder nor a .tar.gz, .tar or .zip" in refused(
        deep / "data" / "p000004.psv"
    )


def test_a_truncated_archive(few: Path, refused: Callable[..., str], tmp_path: Path) -> None:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as file:
        file.add(few, "data")
    archive = tmp_path / "cut.tar.gz"
    archive.write_bytes(whole.getvalue()[:-2000])
    assert "cut.tar.gz: the archive is cut off or damaged" in refused(archive)


def test_two_files_of_one_patient(few: Path, refused: Callable[..., str]) -> None:
    (few / "again").mkdir()
    (few / "again" / "p000004.psv").write_bytes((few / "p000004.psv").read_bytes())
    said = refused(few, "--recursive")
    assert "patient 'p000004' has another file" in said and "keep one of them" in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--max-hours 0", "max_hours is 0; it must lie between 1 and 336"),
        ("--max-hours 337", "max_hours is 337; it must lie between 1 and 336"),
        ("--batch-size 64 --records 10", "batch_size is 64; it must lie between 1 and records"),
        ("", "too few records for the plan: fewer than 500 (noisy count)"),
        ("--label hour", "invalid choice 'hour' for argument '--label'"),
        ("--derived bmi", "--derived: a setting of the data set cardio, and this run's is sepsis"),
    ],
)
def test_plans_that_cannot_be(
    flags: str, message: str, few: Path, refused: Callable[..., str]
) -> None:
    assert message in refused(few, *flags.split())


def test_the_labeler_is_refused_before_a_file_is_read(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "labeler.toml"
    path.write_text('dataset = "sepsis"\nstages = ["vae", "labeler"]\n')
    said = refused(tmp_path / "none", "--config", str(path))
    assert "needs a label column of two levels" in said
    assert "use label_source = 'generator'" in said


def test_bad_files_can_be_left_out(
    settings: list[str], few: Path, fitted_on: Callable[[list[str]], Patients],
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name in ("p000002.psv", "p000004.psv"):
        (few / name).write_text("nothing\n")
    flags = ["--skip-bad", "--holdout", "0", "--out", str(tmp_path / "run")]
    seen = fitted_on([*settings, "--root", str(few), *flags])
    err = " ".join(capsys.readouterr().err.split())
    assert "2 files could not be read, and were skipped" in err
    assert len(seen) == 8
    facts = json.loads((tmp_path / "run/internal/facts.json").read_text())
    assert facts["skipped files"] == 2
