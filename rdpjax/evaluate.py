"""`python -m rdpjax.evaluate`: score synthetic against real records, as a table and as JSON."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from rdpjax.datasets.dataset import Dataset, Evaluation
from rdpjax.datasets.registry import find_dataset
from rdpjax.errors import UserError, command
from rdpjax.flags import Switch, parsed, unset
from rdpjax.io.atomic import write_json
from rdpjax.runs.release import Release, open_release

_Path = Annotated[Path | None, unset("PATH")]


@dataclass(frozen=True)
class Arguments:
    """Score synthetic records against real ones that nothing was trained on.

    Give a run folder, or --real and --synthetic. Records are a table (.csv or .csv.gz), or a
    folder, .tar.gz or .zip of patients' .psv files. The figures are computed on real records
    without privacy: do not publish them.
    """

    run: Annotated[Path | None, tyro.conf.Positional, unset("[RUN]")] = None
    """A run folder: the records in its release/ are scored against the hold-out in its internal/,
    and the figures also go to its internal/evaluation.json. What Synthesizer.save wrote needs
    --real, and records are drawn from it."""

    real: _Path = None
    """Real records to score against, in place of the run's hold-out."""

    synthetic: _Path = None
    """Synthetic records, without a run folder."""

    train: _Path = None
    """The real records that the run read: those outside the hold-out are scored too, as the
    figures that a perfect copy would reach."""

    dataset: str = "cardio"
    """Data set of the records, without a run folder."""

    folder_ids: Switch = False
    """Make a patient's id from the names of folders and file, as the run did."""

    json: Annotated[Path | None, unset("FILE")] = None
    """Also write the figures to this file."""

    quiet: Switch = False
    """No progress on stderr."""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the flags, score and print; exit status 0, or 2 for a UserError."""
    given = parsed(
        lambda: tyro.cli(
            Arguments,
            args=argv,
            prog="python -m rdpjax.evaluate",
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    )
    if importlib.util.find_spec("sklearn") is None:
        raise UserError("evaluation needs scikit-learn; pip install 'rdpjax[report]'")
    release = None if given.run is None else _release(given)
    dataset = find_dataset(given.dataset) if release is None else release.dataset
    kind = dataset.evaluation()
    internal = None if release is None else release.folder.parent / "internal"
    real = kind.read(_real(given, dataset, internal), given.folder_ids)
    synthetic = _synthetic(given, release, kind)
    train = None if given.train is None else kind.rest(given.train, real, given.folder_ids)

    def say(line: str) -> None:
        if not given.quiet:
            print(line, file=sys.stderr, flush=True)

    scores = kind.score(synthetic, real, train, say)
    if release is not None:
        scores["source"] = release.source
    print(kind.show(scores))
    if internal is not None and internal.is_dir():
        write_json(internal / "evaluation.json", scores)
    if given.json is not None:
        write_json(given.json, scores)
    return 0


def _release(given: Arguments) -> Release:
    """Open the release in the folder that was given."""
    assert given.run is not None
    if given.synthetic is not None:
        raise UserError("give a run folder or --synthetic PATH, not both")
    if not given.run.is_dir():
        raise UserError(f"{given.run}: no such run folder; give the --out of a train command")
    release = open_release(given.run)
    _ = release.source  # raises before any records are read
    return release


def _real(given: Arguments, dataset: Dataset, internal: Path | None) -> Path:
    """Return the path of the real records."""
    if internal is None and (given.real is None or given.synthetic is None):
        raise UserError("give a run folder, or both --real PATH and --synthetic PATH")
    if given.real is not None:
        return given.real
    assert internal is not None
    if not internal.is_dir():
        raise UserError(
            f"{given.run}: holds no hold-out; give --real PATH with real records that were not "
            "trained on"
        )
    held_out = internal / dataset.held_out
    if _is_empty(held_out):
        raise UserError(
            f"{held_out}: no held-out records (a run with --holdout 0 has none); give --real PATH "
            "with real records that were not trained on"
        )
    return held_out


def _synthetic(given: Arguments, release: Release | None, kind: Evaluation) -> Any:
    if release is None:
        assert given.synthetic is not None
        return kind.read(given.synthetic, False)
    with release.records() as path:
        return kind.read(path, False)


def _is_empty(path: Path) -> bool:
    """Return whether there is no record: no line below a table's header, no file in a folder."""
    if path.is_dir():
        return not any(path.iterdir())
    if not path.is_file():
        return True
    with path.open("rb") as file:
        return sum(1 for _, line in zip(range(2), file, strict=False) if line.strip()) < 2


if __name__ == "__main__":
    raise SystemExit(main())
