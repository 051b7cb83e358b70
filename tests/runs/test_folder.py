"""What lies on disk: who may read it, what is whole, what is refused."""

from __future__ import annotations

import dataclasses
import json
import stat
from pathlib import Path

import numpy as np
import pytest

from rdpjax.config import Config
from rdpjax.datasets.cardio import CardioSettings
from rdpjax.dpsgd.keys import Roots
from rdpjax.errors import UserError
from rdpjax.fitting.generator import Generator
from rdpjax.runs.folder import RunFolder, release_of, release_written
from rdpjax.runs.generator_file import write_generator

ROOTS = Roots.make(1)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "runs" / "one")
    folder.create()
    return folder


def test_internal_is_for_its_owner_alone(folder: RunFolder) -> None:
    assert mode(folder.internal) == 0o700
    assert "do not publish" in (folder.internal / "DO_NOT_PUBLISH").read_text()
    folder.write_start(Config(), {"fingerprint": "f"}, ROOTS)
    folder.add_metrics("vae", 0, {"loss": np.array([3.0], np.float32)})
    folder.write_facts({})
    folder.add_history("a", "data 1")
    assert {mode(path) for path in folder.internal.iterdir()} == {0o600}


def test_what_others_write_in_internal_is_protected_too(folder: RunFolder) -> None:
    folder.plots.mkdir(mode=0o755)
    (folder.plots / "losses.png").write_bytes(b"")
    (folder.plots / "losses.png").chmod(0o644)
    folder.release.mkdir()
    folder.release.chmod(0o755)
    folder.protect()
    assert (mode(folder.plots), mode(folder.plots / "losses.png")) == (0o700, 0o600)
    assert mode(folder.release) == 0o755


@pytest.mark.parametrize("given", ["", "release"])
def test_a_release_is_found_from_its_run_or_by_itself(
    given: str, folder: RunFolder, generator: Generator
) -> None:
    write_generator(folder.release, generator)
    assert release_of(folder.path / given) == folder.release


def test_internal_of_an_overwritten_release_too(tmp_path: Path) -> None:
    """A release that `Synthesizer.save` wrote has no `internal/` yet."""
    folder = RunFolder(tmp_path)
    folder.release.mkdir()
    folder.archive()
    folder.create()
    assert mode(folder.internal) == 0o700 and (folder.internal / "DO_NOT_PUBLISH").exists()


def test_start_is_read_as_it_was_written(folder: RunFolder) -> None:
    config = Config(epsilon=2.5, rows=7, data=CardioSettings(derived=("bmi",)))
    folder.write_start(config, {"fingerprint": "f"}, ROOTS)
    assert folder.read_start() == (config, {"fingerprint": "f"}, ROOTS)


@pytest.mark.parametrize(
    "name, text",
    [
        ("keys.json", None),
        ("keys.json", ""),
        ("keys.json", "{}"),
        ("keys.json", '{"sampling": "zz"}'),
        ("keys.json", "[]"),
        ("run.json", "{"),
        ("config.toml", None),
    ],
)
def test_a_start_that_is_not_whole_cannot_be_resumed(
    name: str, text: str | None, folder: RunFolder
) -> None:
    folder.write_start(Config(), {"fingerprint": "f"}, ROOTS)
    path = folder.internal / name
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match="no run to resume there"):
        folder.read_start()


def test_the_noise_root_can_be_forgotten(folder: RunFolder) -> None:
    folder.write_start(Config(), {"fingerprint": "f"}, ROOTS)
    folder.forget_noise(ROOTS)
    _, _, roots = folder.read_start()
    assert roots == dataclasses.replace(ROOTS, noise=b"")
    for path in folder.internal.rglob("*"):
        assert ROOTS.noise.hex().encode() not in path.read_bytes()
    assert mode(folder.internal / "keys.json") == 0o600


def test_metrics_of_a_replayed_step_count_once(folder: RunFolder) -> None:
    assert folder.read_metrics() == []
    folder.add_metrics("vae", 0, {"loss": np.array([3.0, 2.0], np.float32)})
    folder.add_metrics("vae", 1, {"loss": np.array([2.5, 1.0], np.float32)})
    rows = folder.read_metrics()
    assert [(row["step"], row["loss"]) for row in rows] == [(0, 3.0), (1, 2.5), (2, 1.0)]


def test_history_counts_runs_on_the_same_data(folder: RunFolder) -> None:
    assert folder.add_history("a", "data 1") == 1
    assert folder.add_history("a", "data 1") == 1, "a run that is resumed at its end"
    assert folder.add_history("b", "data 2") == 1
    assert folder.add_history("c", "data 1") == 2


def test_archive_keeps_ledgers_reports_and_history(folder: RunFolder) -> None:
    for number in (1, 2):
        folder.write_start(Config(), {}, ROOTS)
        folder.ledger.write_text(f"ledger {number}")
        folder.release.mkdir()
        (folder.release / "privacy.json").write_text(f"report {number}")
        folder.checkpoints.mkdir()
        folder.add_history(str(number), "data")
        folder.archive()
    names = {path.name for path in folder.internal.iterdir()}
    assert names == {"archive", "history.jsonl", "DO_NOT_PUBLISH"} and not folder.release.exists()
    kept = sorted(path.read_text() for path in (folder.internal / "archive").iterdir())
    assert kept == ["ledger 1", "ledger 2", "report 1", "report 2"]


def test_discard_leaves_no_folder(folder: RunFolder) -> None:
    folder.discard()
    assert not folder.path.exists()


def test_discard_leaves_other_files(folder: RunFolder) -> None:
    (folder.path / "notes.txt").write_text("mine")
    folder.discard()
    assert [path.name for path in folder.path.iterdir()] == ["notes.txt"]


def test_discard_keeps_every_entry(folder: RunFolder) -> None:
    assert not folder.exists
    folder.write_start(Config(), {}, ROOTS)
    folder.ledger.write_text("an entry")
    assert folder.exists
    kept = folder.discard()
    assert kept is not None and kept.read_text() == "an entry"
    assert sorted(path.name for path in folder.internal.iterdir()) == ["DO_NOT_PUBLISH", "archive"]
    assert not folder.exists, "the next run may begin here"
    # An empty ledger is no access, and what was archived stays.
    folder.write_start(Config(), {}, ROOTS)
    folder.ledger.write_text("")
    assert folder.discard() is None and kept.exists()
    assert list(kept.parent.iterdir()) == [kept]


def test_archived_ledgers_are_never_overwritten(folder: RunFolder) -> None:
    """Numbers used to be counted: where the user had removed a file, one was taken twice."""
    for number in range(3):
        folder.ledger.write_text(f"ledger {number}")
        kept = folder.archive()
    assert kept is not None and kept.name == "002-ledger.jsonl"
    (kept.parent / "000-ledger.jsonl").unlink()
    (kept.parent / "notes.txt").write_text("mine")
    folder.ledger.write_text("ledger 3")
    folder.archive()
    assert sorted(path.read_text() for path in kept.parent.glob("*.jsonl")) == [
        "ledger 1", "ledger 2", "ledger 3",
    ]  # fmt: skip


def test_an_unprotected_output_takes_the_place_of_a_release(folder: RunFolder) -> None:
    assert folder.output == folder.release and not folder.complete
    folder.unprotected.mkdir()
    (folder.unprotected / "privacy.json").write_text("report")
    assert folder.output == folder.unprotected and folder.complete and folder.exists
    folder.archive()
    assert not folder.unprotected.exists() and not folder.exists
    assert (folder.internal / "archive" / "000-privacy.json").read_text() == "report"


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write there"):
        RunFolder(tmp_path / "file" / "run").check_writable()
    with pytest.raises(UserError, match="cannot write there"):
        RunFolder(tmp_path / "file" / "run").create()
    RunFolder(tmp_path / "new" / "run").check_writable()
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "a check leaves nothing"


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt(), OSError(28, "full")])
def test_a_release_is_whole_or_not_there(error: BaseException, tmp_path: Path) -> None:
    target = tmp_path / "release"
    expected = UserError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), release_written(target) as part:
        (part / "synthetic.csv").write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []
    with release_written(target) as part:
        assert not target.exists(), "nobody sees it before it is whole"
        (part / "synthetic.csv").write_text("all")
    assert [path.name for path in tmp_path.iterdir()] == ["release"]


def test_a_failed_release_leaves_the_one_before(tmp_path: Path) -> None:
    target = tmp_path / "release"
    with release_written(target) as part:
        (part / "a").write_text("first")
    with pytest.raises(RuntimeError), release_written(target) as part:
        raise RuntimeError
    assert (target / "a").read_text() == "first"


def test_facts_are_json(folder: RunFolder) -> None:
    folder.write_start(Config(), {"fingerprint": "f", "age_unit": "auto"}, ROOTS)
    assert json.loads((folder.internal / "run.json").read_text())["age_unit"] == "auto"
