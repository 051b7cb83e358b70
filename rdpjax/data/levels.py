"""Public levels of a column, and the texts that stand for a missing value."""

from __future__ import annotations

import math
from typing import Any

from rdpjax.data.values import plain_list, text
from rdpjax.errors import UserError

Level = bool | int | str

MISSING = ("", "?", "NA", "N/A", "nan", "NaN", "NULL", "null", "None", "-")
"""Texts by which files commonly say that a value is missing."""

MOST_TOKENS = 255
"""Most outcomes that a network tells apart: a token is one byte."""


def check_levels(levels: tuple[Any, ...], where: str) -> None:
    """Raise UserError unless these are 2 to 255 distinct numbers, words or booleans."""
    for level in levels:
        # pandas reads a missing word as NaN too.
        if level is None or (isinstance(level, float) and math.isnan(level)):
            raise UserError(
                f"{where}: level {level} stands for a missing value; give it another name"
            )
        if isinstance(level, str) and "\0" in level:  # NumPy drops one at the end
            raise UserError(f"{where}: level {level!r} holds a NUL character; give it another name")
        if not isinstance(level, Level):
            raise UserError(
                f"{where}: level {level!r} is a {type(level).__name__}; levels are whole numbers, "
                "words or booleans"
            )
    if len({type(level) for level in levels}) > 1:
        raise UserError(
            f"{where}: levels are of several kinds ({', '.join(map(repr, levels[:9]))}); make them "
            "all numbers or all words"
        )
    if not 2 <= len(levels) <= 255 or len(set(levels)) != len(levels):
        raise UserError(
            f"{where}: needs 2 to 255 distinct levels, got {len(levels)}"
            + ("; group the rare ones, or take the first digits of a code" * (len(levels) > 255))
        )


def missing_of(texts: Any, where: str) -> tuple[str, ...]:
    """Validate the texts that stand for a missing value.

    Examples:
      >>> missing_of(["?", ""], "schema column 'age'")
      ('?', '')
    """
    if isinstance(texts, str):
        texts = (texts,)
    found = tuple(
        text(item, f"{where}: missing") for item in plain_list(texts, f"{where}: missing")
    )
    if len(set(found)) != len(found) or any(item != item.strip() for item in found):
        raise UserError(f"{where}: missing must be texts without blanks round them, none twice")
    return found
