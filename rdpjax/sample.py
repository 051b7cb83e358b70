"""`python -m rdpjax.sample`: draw more records from a run folder; costs no privacy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from rdpjax.data.datasets import find_dataset
from rdpjax.dpsgd.keys import Roots
from rdpjax.errors import UserError, command
from rdpjax.flags import optional, parsed
from rdpjax.privacy.unprotected import NOT_PRIVATE, output_of, records_name
from rdpjax.run import write_rows
from rdpjax.run_folder import read_generator


@dataclass(frozen=True)
class Flags:
    """Draw more synthetic records from a completed run.

    Attributes:
      run: the run folder.
      rows: how many records.
      out: the file to write, in the format of the run's own release; of patients, the folder.
      seed: a whole number; the same one gives the same rows.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    out: Annotated[Path, tyro.conf.arg(metavar="PATH")]
    rows: int = 50_000
    seed: Annotated[int | None, optional("INT", "the system's randomness")] = None


@command
def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    flags = parsed(lambda: tyro.cli(Flags, prog="python -m rdpjax.sample", args=argv))
    if flags.rows < 1:
        raise UserError(f"--rows is {flags.rows}; ask for 1 or more")
    folder = output_of(flags.run)
    generator = read_generator(folder)
    dataset = find_dataset(generator.config.dataset)
    try:
        report = json.loads((folder / "privacy.json").read_text(encoding="utf-8"))
        format = dict(report["declarations"]["format"])
    except (OSError, KeyError, TypeError, ValueError):
        raise UserError(f"{folder / 'privacy.json'}: names no file format") from None
    if dataset.file is None and flags.out.exists():
        raise UserError(f"{flags.out}: exists; choose another folder")
    root = Roots.make(flags.seed).initialisation
    part = flags.out.with_name(flags.out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir()
        write_rows(part, generator, dataset, format, root, flags.rows)
        private = generator.config.private
        written = part / records_name(dataset.file, private=private) if dataset.file else part
        written.replace(flags.out)
    except OSError as error:
        raise UserError(f"{flags.out}: cannot write there: {error.strerror}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    records = "rows" if dataset.file else "patients"
    print(f"{flags.rows} synthetic {records} in {flags.out}")
    if not private:
        print(f"  {NOT_PRIVATE}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
