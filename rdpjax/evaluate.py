"""`python -m rdpjax.evaluate`: real against synthetic records, as a table and as JSON."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import tyro

from rdpjax.data.cardio import CARDIO, KAGGLE_LAYOUT, CardioTable, read_cardio
from rdpjax.data.schema import Schema
from rdpjax.data.stays.patient_files import read_patients
from rdpjax.data.stays.patients import Patients
from rdpjax.errors import UserError, command
from rdpjax.evaluation.patient_printout import as_patient_table
from rdpjax.evaluation.patients import score_patients
from rdpjax.evaluation.printout import as_table
from rdpjax.evaluation.score import score
from rdpjax.evaluation.training_rows import training_patients, training_rows
from rdpjax.flags import Switch, parsed, unset
from rdpjax.io.atomic import write_file
from rdpjax.privacy.report import read_report
from rdpjax.privacy.unprotected import UNPROTECTED, output_of, records_name

_Path = Annotated[Path | None, unset("PATH")]
_Say = Callable[[str], None]


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

    dataset: Literal["cardio", "sepsis"] = "cardio"
    """What the records are, without a run folder."""

    folder_ids: Switch = False
    """Make a patient's id of the names of folders and file, as the run did."""

    json: Annotated[Path | None, unset("FILE")] = None
    """Also write the figures to this file."""

    quiet: Switch = False
    """No progress on stderr."""


@dataclass(frozen=True)
class _Kind:
    """How the records of one data set are found, read, scored and shown.

    Attributes:
      released: what they are called in `release/`.
      held_out: what they are called in `internal/`.
      read: from a path; whether a patient's id names the folders of its file too.
      rest: those at a path that are not among the held-out ones.
      score: synthetic, held-out and training records (or None), and who hears of progress.
      show: the scores as text.
    """

    released: str
    held_out: str
    read: Callable[[Path, bool], Any]
    rest: Callable[[Path, Any, bool], Any]
    score: Callable[[Any, Any, Any, _Say], dict[str, Any]]
    show: Callable[[dict[str, Any]], str]


def _read_table(path: Path, folder_ids: bool = False) -> CardioTable:
    return read_cardio(_file(path))


def _other_rows(path: Path, held_out: CardioTable, folder_ids: bool) -> pd.DataFrame:
    source = _read_table(path)
    return training_rows(source.frame, held_out.frame, source.ids, held_out.ids)


def _score_table(
    synthetic: CardioTable, real: CardioTable, train: pd.DataFrame | None, say: _Say
) -> dict[str, Any]:
    # The order of columns is the published file's, whatever the order in the files given: forests
    # see the columns by position, and so their figures compare with those of others.
    names = [name for name in KAGGLE_LAYOUT.fields if name in CARDIO.names]
    return score(synthetic.frame[names], real.frame, CARDIO, real_train=train, progress=say)


def _read_files(path: Path, folder_ids: bool) -> Patients:
    return read_patients(path, folder_ids=folder_ids).patients


def _other_patients(path: Path, held_out: Patients, folder_ids: bool) -> Patients:
    # Files that the run could not read were not trained on either.
    source = read_patients(path, skip_bad=True, folder_ids=folder_ids)
    return training_patients(source.patients, held_out)


def _score_patients(
    synthetic: Patients, real: Patients, train: Patients | None, say: _Say
) -> dict[str, Any]:
    return score_patients(synthetic, real, real_train=train, progress=say)


_KINDS = {
    "cardio": _Kind(
        "synthetic.csv", "holdout.csv", _read_table, _other_rows, _score_table, as_table
    ),
    "sepsis": _Kind(
        "psv", "holdout", _read_files, _other_patients, _score_patients, as_patient_table
    ),
}


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
    kind, real_path, synthetic_path = _inputs(given)
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


def _inputs(given: Arguments) -> tuple[_Kind, Path, Path]:
    """What the records are, and where the real and the synthetic ones lie."""
    if given.run is None:
        if given.real is None or given.synthetic is None:
            raise UserError("give a run folder, or both --real PATH and --synthetic PATH")
        return _KINDS[given.dataset], given.real, given.synthetic
    if given.synthetic is not None:
        raise UserError("give a run folder or --synthetic PATH, not both")
    if not given.run.is_dir():
        raise UserError(f"{given.run}: no such run folder; give the --out of a train command")
    output = output_of(given.run)
    name = Schema.from_toml(_file(output / "schema.toml").read_text()).name
    if name not in _KINDS:
        raise UserError(f"{given.run}: data set {name!r} is not one of {sorted(_KINDS)}")
    kind = _KINDS[name]
    held_out = given.run / "internal" / kind.held_out
    if given.real is None and _is_empty(held_out):
        raise UserError(
            f"{held_out}: no held-out records (a run with --holdout 0 has none); give --real PATH "
            "with real records that were not trained on"
        )
    released = records_name(kind.released, private=output.name != UNPROTECTED)
    return kind, given.real or held_out, output / released


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
