"""`python -m rdpjax.evaluate`: real against synthetic records, as a table and as JSON."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from rdpjax.datasets.dataset import Dataset
from rdpjax.datasets.registry import find_dataset
from rdpjax.errors import UserError, command
from rdpjax.flags import Switch, parsed, unset
from rdpjax.io.atomic import write_file
from rdpjax.privacy.report import read_report
from rdpjax.privacy.unprotected import UNPROTECTED, output_of, records_name
from rdpjax.run_folder import read_generator

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
    and the figures also go to its internal/evaluation.json."""

    real: _Path = None
    """Real records to score against, in place of the run's hold-out."""

    synthetic: _Path = None
    """Synthetic records, without a run folder."""

    train: _Path = None
    """The real records that the run read: those outside the hold-out are scored too, as the
    figures that a perfect copy would reach."""

    dataset: str = "cardio"
    """What the records are, without a run folder."""

    folder_ids: Switch = False
    """Make a patient's id of the names of folders and file, as the run did."""

    json: Annotated[Path | None, unset("FILE")] = None
    """Also write the figures to this file."""

    quiet: Switch = False
    """No progress on stderr."""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse, score, print; 0, or 2 where the user can mend something."""
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
    dataset, real_path, synthetic_path = _inputs(given)
    kind = dataset.evaluation()
    origin = None if given.run is None else _source(given.run)
    real, synthetic = kind.read(real_path, given.folder_ids), kind.read(synthetic_path, False)
    train = None if given.train is None else kind.rest(given.train, real, given.folder_ids)

    def say(line: str) -> None:
        if not given.quiet:
            print(line, file=sys.stderr, flush=True)

    scores = kind.score(synthetic, real, train, say)
    if origin is not None:
        scores["source"] = origin
    print(kind.show(scores))
    if given.run is not None:
        _write(given.run / "internal" / "evaluation.json", scores)
    if given.json is not None:
        _write(given.json, scores)
    return 0


def _inputs(given: Arguments) -> tuple[Dataset, Path, Path]:
    """What the records are, and where the real and the synthetic ones lie."""
    if given.run is None:
        if given.real is None or given.synthetic is None:
            raise UserError("give a run folder, or both --real PATH and --synthetic PATH")
        return find_dataset(given.dataset), given.real, given.synthetic
    if given.synthetic is not None:
        raise UserError("give a run folder or --synthetic PATH, not both")
    if not given.run.is_dir():
        raise UserError(f"{given.run}: no such run folder; give the --out of a train command")
    output = output_of(given.run)
    dataset = find_dataset(read_generator(output).config.dataset)
    held_out = given.run / "internal" / dataset.held_out
    if given.real is None and _is_empty(held_out):
        raise UserError(
            f"{held_out}: no held-out records (a run with --holdout 0 has none); give --real PATH "
            "with real records that were not trained on"
        )
    released = records_name(dataset.released, private=output.name != UNPROTECTED)
    return dataset, given.real or held_out, output / released


def _source(run: Path) -> str:
    """What the run says that its records are: a simulated cohort must never pass for a real one."""
    path = output_of(run) / "privacy.json"
    try:
        return str(read_report(path)["declarations"]["source"])
    except (KeyError, TypeError):
        raise UserError(f"{path}: does not say `source`; was it changed by hand?") from None


def _file(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    return path


def _is_empty(path: Path) -> bool:
    """Whether there is no record: no line below a table's header, no file in a folder."""
    if path.is_dir():
        return not any(path.iterdir())
    if not path.is_file():
        return True
    with path.open("rb") as file:
        return sum(1 for _, line in zip(range(2), file, strict=False) if line.strip()) < 2


def _write(path: Path, scores: dict[str, Any]) -> None:
    try:
        write_file(path, json.dumps(scores, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); check the path") from None


if __name__ == "__main__":
    raise SystemExit(main())
