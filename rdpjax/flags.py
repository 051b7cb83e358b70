"""Command-line flags: parse with tyro, and turn its errors into one-line `UserError`s."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import tyro

from rdpjax.errors import UserError

T = TypeVar("T")


Switch = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]
"""Boolean flag, off by default; --help does not state the default."""


def unset(metavar: str) -> object:
    """Return tyro settings for a flag that has no effect unless it is given."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


def optional(metavar: str, default: str, aliases: tuple[str, ...] = ()) -> object:
    """Return tyro settings for a flag whose default is described by words, not a value."""
    hint = f"(default: {default})"
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint, aliases=aliases)


def parsed(parse: Callable[[], T]) -> T:
    """Call `parse`, which runs tyro, and return its result.

    Raises:
      UserError: tyro refused the flags; its boxed message as one line.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            result = parse()
    except SystemExit as stop:
        if stop.code != 2:
            raise
        raise UserError(one_line(said.getvalue())) from None
    sys.stderr.write(said.getvalue())
    return result


def run_verb(verbs: Any, prog: str, description: str, argv: Sequence[str] | None) -> int:
    """Run one of several subcommands, dataclasses of flags with a `run`; return its exit status.

    Parsing, whose stderr is captured, ends before `run`: the subcommand's stderr is not delayed.
    """
    verb = parsed(
        lambda: tyro.cli(
            verbs,
            prog=prog,
            description=description,
            args=argv,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    )
    status: int = verb.run()
    return status


def one_line(box: str) -> str:
    """Return the error in tyro's box, with the first flag that it proposes.

    Examples:
      >>> print(one_line('''
      ... ╭─ Unrecognized options ──────────╮
      ... │ Unrecognized options: --epsilom │
      ... │ ─────────────────────────────── │
      ... │ Perhaps you meant:              │
      ... │     --epsilon FLOAT             │
      ... ╰─────────────────────────────────╯'''))
      unrecognized options: --epsilom; did you mean --epsilon? --help lists the flags
    """

    def between(line: str) -> bool:
        return line.startswith("╭") or not line.strip("─-╰╯│ ")

    groups = itertools.groupby(box.splitlines(), between)
    parts = [" ".join(line.strip("│ ") for line in lines) for rule, lines in groups if not rule]
    # Without box characters in the terminal's encoding, the title becomes the first part.
    said, *others = (parts if "╭" in box else parts[1:]) or ["flags not understood"]
    said = re.sub(r"^Error parsing (\S+): .*?('[^']*').*", r"\1: cannot take \2", said)
    said = re.sub(r"^Missing from .*?: ", "missing: ", said)
    said = said.rstrip(". ")
    proposed = re.search(r"Perhaps you meant:\s+(\S+)", " ".join(others))
    hint = f"; did you mean {proposed[1]}?" if proposed else ";"
    return f"{said[0].lower()}{said[1:]}{hint} --help lists the flags"
