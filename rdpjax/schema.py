"""`python -m rdpjax.schema`: draft a table's schema from its header, or check it on its records."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from rdpjax.config_file import load_schema
from rdpjax.data.draft import blank_draft, guessed_draft
from rdpjax.data.guess import guess_column
from rdpjax.data.schema import PEEKED, Schema
from rdpjax.datasets.table_check import check_table
from rdpjax.errors import UserError, command
from rdpjax.flags import Switch, optional, parsed
from rdpjax.io.atomic import PRIVATE, PUBLIC, disk_errors, is_stdout, new_file
from rdpjax.io.delimited import read_header, read_table


@dataclass(frozen=True)
class Flags:
    """Draft the schema of a table, for `train --schema`, or check one: --check SCHEMA --data TABLE.

    A draft is made from the header line alone; bounds and levels are yours to fill in.

    Attributes:
      table: the table to draft a schema of, a .csv or .csv.gz with a header.
      out: the draft, a new TOML file, or - for standard output.
      peek: guess kinds, bounds and levels from the records, which epsilon then does not cover: the
        draft says so, and so does every claim under it.
      overwrite: replace a file that exists.
      check: a schema to check on the records of --data. The shares that are printed are exact: for
        you alone.
      data: the table to check it on.
    """

    table: Annotated[
        tyro.conf.Positional[Path | None], optional("[TABLE]", "none; a draft needs one")
    ] = None
    out: Annotated[Path | None, optional("FILE", "none; a draft needs one")] = None
    peek: Switch = False
    overwrite: Switch = False
    check: Annotated[Path | None, optional("SCHEMA", "a draft is made")] = None
    data: Annotated[Path | None, optional("TABLE", "none; goes with --check")] = None


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: exit status 0, or 2 for a UserError."""
    flags = parsed(
        lambda: tyro.cli(
            Flags,
            prog="python -m rdpjax.schema",
            args=argv,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    )
    if flags.check is not None:
        if flags.data is None:
            raise UserError("--check: name the table to check it on, with --data TABLE")
        if flags.table or flags.out or flags.peek or flags.overwrite:
            raise UserError("--check: takes --data TABLE alone; drop the others")
        for line in check_table(load_schema(flags.check), read_table(flags.data)):
            print(line)
        return 0
    if flags.data is not None:
        raise UserError("--data: goes with --check SCHEMA; a draft takes the table without a flag")
    if flags.table is None:
        raise UserError("name a table to draft a schema of, or --check SCHEMA --data TABLE")
    if flags.out is None:
        raise UserError("--out: name the TOML file to write, or - for standard output")
    _write(flags.table, flags.out, peek=flags.peek, overwrite=flags.overwrite)
    return 0


def _write(table: Path, out: Path, *, peek: bool, overwrite: bool) -> None:
    """Write a draft to a file; what else is to be known goes to stderr."""
    mode = PRIVATE if peek else PUBLIC
    with disk_errors(out), new_file(out, mode=mode, overwrite=overwrite) as file:
        to_screen = is_stdout(out)
        notes, draft = _guessed(table) if peek else ([], _blank(table))
        file.write(draft.encode())
    for note in notes:
        print(f"  {note}", file=sys.stderr)
    said = PEEKED if peek else "no record was read; choose each column's kind and fill in the rest"
    print(f"draft in {out}: {said}", file=sys.stderr if to_screen else sys.stdout)


def _blank(path: Path) -> str:
    return blank_draft(path.name, _name(path), read_header(path))


def _guessed(path: Path) -> tuple[list[str], str]:
    """Return what a person should look at, and a draft that loads as it is."""
    table = read_table(path)
    guesses = {
        name: guess_column(name, table.frame[name].str.strip().value_counts().to_dict())
        for name in table.header
    }
    notes = [
        f"column {name!r} {'dropped' if guess.keys is None else 'guessed'}: {guess.note}"
        for name, guess in guesses.items()
        if guess.note
    ]
    if all(guess.keys is None for guess in guesses.values()):
        raise UserError(f"{path}: {notes[0]}; no column is left: write the schema without --peek")
    draft = guessed_draft(path.name, _name(path), guesses)
    Schema.from_toml(draft)
    return notes, draft


def _name(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".csv") or "table"


if __name__ == "__main__":
    raise SystemExit(main())
