"""`python -m rdpjax.evaluate`: real against synthetic records, as a table and as JSON."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from rdpjax.data.cardio import CARDIO, KAGGLE_LAYOUT, read_cardio
from rdpjax.data.schema import Schema
from rdpjax.errors import UserError, command
from rdpjax.evaluation.printout import as_table
from rdpjax.evaluation.score import score
from rdpjax.evaluation.training_rows import training_rows
from rdpjax.flags import parsed

# The order of columns is the published file's, whatever the order in the files given: forests see
# the columns by position, and so their figures compare with those of others.
_DATASETS = {"cardio": (CARDIO, read_cardio, KAGGLE_LAYOUT.fields)}

_File = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]


@dataclass(frozen=True)
class Arguments:
    """Score synthetic records against real ones that nothing was trained on.

    Give a run folder, or --real and --synthetic. The figures are computed on real records without
    privacy: do not publish them.
    """

    run: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[RUN]")] = None
    """A run folder: its release/synthetic.csv is scored against its internal/holdout.csv, and the
    figures also go to its internal/evaluation.json."""

    real: _File = None
    """Real records (.csv or .csv.gz) to score against, in place of the run's hold-out."""

    synthetic: _File = None
    """Synthetic records (.csv or .csv.gz), without a run folder."""

    train: _File = None
    """The real file that the run read: its rows outside the hold-out are scored too, as the
    figures that a perfect copy would reach."""

    dataset: Literal["cardio"] = "cardio"
    """What the two files are, without a run folder."""

    json: _File = None
    """Also write the figures to this file."""

    quiet: bool = False
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
    schema, real_path, synthetic_path = _inputs(given)
    origin = None if given.run is None else _source(given.run)
    _, read, fields = _DATASETS[schema.name]
    real, synthetic = read(real_path), read(synthetic_path)
    train = None
    if given.train is not None:
        source = read(_file(given.train))
        train = training_rows(source.frame, real.frame, source.ids, real.ids)
    names = [name for name in fields if name in schema.names]
    scores = score(
        synthetic.frame[names],
        real.frame,
        schema,
        real_train=train,
        progress=lambda line: None if given.quiet else print(line, file=sys.stderr, flush=True),
    )
    if origin is not None:
        scores["source"] = origin
    print(as_table(scores))
    if given.run is not None:
        _write(given.run / "internal" / "evaluation.json", scores)
    if given.json is not None:
        _write(given.json, scores)
    return 0


def _inputs(given: Arguments) -> tuple[Schema, Path, Path]:
    if given.run is None:
        if given.real is None or given.synthetic is None:
            raise UserError("give a run folder, or both --real FILE and --synthetic FILE")
        return _DATASETS[given.dataset][0], _file(given.real), _file(given.synthetic)
    if given.synthetic is not None:
        raise UserError("give a run folder or --synthetic FILE, not both")
    if not given.run.is_dir():
        raise UserError(f"{given.run}: no such run folder; give the --out of a train command")
    schema = Schema.from_toml(_file(given.run / "release" / "schema.toml").read_text())
    if schema.name not in _DATASETS:
        raise UserError(f"{given.run}: data set {schema.name!r} is not one of {sorted(_DATASETS)}")
    held_out = given.run / "internal" / "holdout.csv"
    if given.real is None and (not held_out.is_file() or _lines(held_out) < 2):
        raise UserError(
            f"{held_out}: no held-out records (a run with --holdout 0 has none); give --real FILE "
            "with real records that were not trained on"
        )
    real = held_out if given.real is None else _file(given.real)
    return schema, real, _file(given.run / "release" / "synthetic.csv")


def _source(run: Path) -> str:
    """What the run says that its records are: a simulated cohort must never pass for a real one."""
    report = _file(run / "release" / "privacy.json")
    try:
        return str(json.loads(report.read_text())["declarations"]["source"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{report}: does not say `source`; was it changed by hand?") from None


def _file(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    return path


def _lines(path: Path) -> int:
    """Lines of a file, counted no further than two."""
    with path.open("rb") as file:
        return sum(1 for _, line in zip(range(2), file, strict=False) if line.strip())


def _write(path: Path, scores: dict[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(json.dumps(scores, indent=2) + "\n")
        part.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); check the path") from None


if __name__ == "__main__":
    raise SystemExit(main())
