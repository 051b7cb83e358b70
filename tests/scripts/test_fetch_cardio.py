from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "fetch_cardio.py"
HEADER = "id;age;gender;height;weight;ap_hi;ap_lo;cholesterol;gluc;smoke;alco;active;cardio\n"


def fetch(folder: Path, kagglehub: str) -> subprocess.CompletedProcess[str]:
    """Run the script in `folder` with a stand-in for kagglehub."""
    (folder / "kagglehub.py").write_text(kagglehub)
    return subprocess.run(
        [sys.executable, str(SCRIPT)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )


def refused(result: subprocess.CompletedProcess[str], folder: Path) -> str:
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and not result.stdout
    assert not (folder / "data").exists()
    return result.stderr


def test_puts_the_file_where_the_reader_looks_and_only_once(tmp_path: Path):
    (tmp_path / "cached.csv").write_text(HEADER + "row\n")
    stand_in = "def dataset_download(handle, path): return 'cached.csv'"
    result = fetch(tmp_path, stand_in)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "data/cardio_train.csv").read_text() == HEADER + "row\n"
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["cardio_train.csv"]
    assert "there already" in fetch(tmp_path, "raise ImportError").stdout


def test_says_that_kagglehub_is_missing(tmp_path: Path):
    assert "pip install kagglehub" in refused(fetch(tmp_path, "raise ImportError"), tmp_path)


def test_says_that_kaggle_refused(tmp_path: Path):
    stand_in = "def dataset_download(handle, path): raise RuntimeError('403\\nforbidden')"
    message = refused(fetch(tmp_path, stand_in), tmp_path)
    assert "403 forbidden" in message and "token" in message


def test_takes_no_other_file(tmp_path: Path):
    (tmp_path / "cached.csv").write_text("<html>\n")
    stand_in = "def dataset_download(handle, path): return 'cached.csv'"
    assert "header" in refused(fetch(tmp_path, stand_in), tmp_path)
