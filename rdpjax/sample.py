"""`python -m rdpjax.sample`: draw more records from a run folder; costs no privacy."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from rdpjax.dpsgd.keys import Roots
from rdpjax.errors import UserError, command
from rdpjax.fitting.where import read_where
from rdpjax.flags import Switch, optional, parsed
from rdpjax.io.atomic import disk_errors, is_stdout, new_folder
from rdpjax.privacy.unprotected import NOT_PRIVATE
from rdpjax.runs.release import open_release, write_rows


@dataclass(frozen=True)
class Flags:
    """Draw more synthetic records from a completed run.

    Attributes:
      run: the run folder, what Synthesizer.save wrote, or its release/ alone.
      rows: how many records.
      out: the file to write, a .csv, .csv.gz or .parquet, or - for standard output; of patients,
        the folder.
      where: conditions that every record meets, such as "cardio = 1 and weight >= 100"; numbers in
        the units of the schema. Records are drawn until enough meet it.
      seed: a whole number; the same one gives the same rows.
      overwrite: replace a file that exists.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    out: Annotated[Path, tyro.conf.arg(metavar="PATH")]
    rows: int = 50_000
    where: Annotated[str | None, optional("TEXT", "any record")] = None
    seed: Annotated[int | None, optional("INT", "the system's randomness")] = None
    overwrite: Switch = False


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: exit status 0, or 2 for a UserError."""
    flags = parsed(
        lambda: tyro.cli(
            Flags,
            prog="python -m rdpjax.sample",
            args=argv,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    )
    if flags.rows < 1:
        raise UserError(f"--rows is {flags.rows}; ask for 1 or more")
    release = open_release(flags.run)
    generator, dataset, format = release.generator, release.dataset, release.format
    where = () if flags.where is None else read_where(flags.where, generator.schema)
    root = Roots.make(flags.seed).initialisation
    to_screen = False
    with disk_errors(flags.out):
        if dataset.file:
            to_screen = is_stdout(flags.out)
            write_rows(
                flags.out,
                generator,
                dataset,
                format,
                root,
                flags.rows,
                where=where,
                overwrite=flags.overwrite,
            )
        else:
            with new_folder(flags.out) as made:
                write_rows(made, generator, dataset, format, root, flags.rows, where=where)
    said = f"{flags.rows} synthetic {dataset.noun} in {flags.out}"
    said += "" if generator.config.private else f"\n  {NOT_PRIVATE}"
    print(said, file=sys.stderr if to_screen else sys.stdout)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
