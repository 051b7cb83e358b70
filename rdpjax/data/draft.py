"""Drafts of schema files: TOML text for a person to fill in or to correct."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tomli_w

from rdpjax.data.guess import Guess

_KINDS = """\
# kind = "numeric"          # a number
# low = 0                   # public bounds; values beyond them are clipped
# high = 100
# resolution = 1            # 1 for whole numbers, 0.1 for one decimal
# unit = ""                 # "years", say
# spikes = [0]              # exact values that many rows have; most columns need none

# kind = "categorical"      # one of some levels: words or whole numbers
# levels = ["no", "yes"]

# kind = "ordinal"          # levels in order
# levels = [1, 2, 3]

# kind = "boolean"          # true or false

# kind = "date"             # a date, a time of day, or both
# first = "2000-01-01"      # public bounds
# last = "2029-12-31"
# format = "%Y-%m-%d"
# unit = "days"             # or hours, minutes, seconds

# missing = ["", "?"]       # of any kind: the texts of a missing value, "" for an empty cell
"""

_BLANK = """\
# Draft of a schema, from the header alone of {file}: no record was read.
# Keep one kind for each column, without the "# " before it, and delete the others. Bounds and
# levels come from a data dictionary or from general knowledge, never from the records: epsilon
# covers nothing that was read off them.
"""

_PEEKED = """\
# Schema guessed from the records of {file}.
# Epsilon covers nothing that was read for it, and every claim of a run says so as long as the key
# `peeked` stands here. Put public knowledge (a data dictionary, say) in the place of every bound,
# level and format; then delete the key.
"""

_HEAD = """\
name = {name}
# label = {label}  # the column that is to be predicted from the others, a categorical
# unit_of_privacy = "one row = one person"
"""

_RULES = """\
rules = []  # what every generated row keeps: "a < b", "if x = no then y missing"
"""


def blank_draft(file: str, name: str, header: Sequence[str]) -> str:
    """Return a draft in which every column's kind is to be chosen, from a table's header alone.

    Args:
      file: name of the table's file.
      name: name of the data set.
      header: names of the columns.

    Examples:
      >>> draft = blank_draft("t.csv", "t", ["age", 'a "b"'])
      >>> import tomllib
      >>> tomllib.loads(draft)["columns"]
      [{'name': 'age'}, {'name': 'a "b"'}]
    """
    drop = "drop = []  # columns that are left out: identifiers and free text\n"
    head = _BLANK.format(file=literal(file)) + "\n" + _head(name, header[-1]) + drop + _RULES
    entries = [f"[[columns]]\nname = {literal(column)}\n{_KINDS}" for column in header]
    return "\n".join([head, *entries])


def guessed_draft(file: str, name: str, guesses: Mapping[str, Guess]) -> str:
    """Return a draft of guessed columns, marked as `peeked`.

    Args:
      file: name of the table's file.
      name: name of the data set.
      guesses: of each column by its name, in the order of the file.
    """
    left_out = [
        f"  {literal(column)},{_comment(guess.note)}\n"
        for column, guess in guesses.items()
        if guess.keys is None
    ]
    drop = f"drop = [\n{''.join(left_out)}]\n" if left_out else "drop = []\n"
    kinds = {column: (guess.keys or {}).get("kind") for column, guess in guesses.items()}
    label = next((c for c in reversed(kinds) if kinds[c] == "categorical"), [*kinds][-1])
    head = _PEEKED.format(file=literal(file)) + "peeked = true\n\n" + _head(name, label)
    entries = [
        f"[[columns]]{_comment(guess.note)}\nname = {literal(column)}\n"
        + "".join(f"{key} = {literal(value)}\n" for key, value in guess.keys.items())
        for column, guess in guesses.items()
        if guess.keys is not None
    ]
    return "\n".join([head + drop + _RULES, *entries])


def literal(value: Any) -> str:
    """Format a plain value as TOML, lists in one line.

    Examples:
      >>> print(literal(["a", 'b"', 1.5]))
      ["a", "b\\"", 1.5]
    """
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    return tomli_w.dumps({"key": value}).removeprefix("key = ").rstrip("\n")


def _head(name: str, label: str) -> str:
    return _HEAD.format(name=literal(name), label=literal(label))


def _comment(note: str) -> str:
    return f"  # {note}" if note else ""
