"""Conditional sampling: the generated rows that meet conditions; post-processing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from rdpjax.data.conditions import Condition, conditions_of
from rdpjax.data.schema import Schema
from rdpjax.errors import UserError

LEAST, TRIED = 1e-5, 1_000_000
"""Fewest rows that may meet the conditions, as a share of at least `TRIED` generated ones."""


def meeting(
    blocks: Iterable[np.ndarray], schema: Schema, conditions: tuple[Condition, ...]
) -> Iterator[np.ndarray]:
    """Yield the rows of each block that meet all conditions.

    Rejection is exact: what is left has the generator's own distribution given the conditions,
    whatever the generator. It takes as many more rows as the conditions are rare.

    Args:
      blocks: decoded values (rows, columns) of the generator.
      schema: the columns.
      conditions: from `read_where`.

    Raises:
      UserError: hardly any generated row meets them.

    Examples:
      >>> from rdpjax.data.fields import Numeric
      >>> schema = Schema("s", (Numeric("age", "years", 0, 120),))
      >>> where = read_where("age >= 70", schema)
      >>> [rows.tolist() for rows in meeting([np.array([[69.0], [70]])], schema, where)]
      [[[70.0]]]
    """
    tried = met = 0
    for values in blocks:
        gaps = schema.gaps(values)
        chosen = np.ones(len(values), bool)
        for condition in conditions:
            chosen &= condition.holds(values, gaps, unknown=False)
        tried, met = tried + len(values), met + int(chosen.sum())
        if tried >= TRIED and met < LEAST * tried:
            raise UserError(
                f"--where: {met} of {tried:,} generated rows meet it; ask for something less rare"
            )
        yield values[chosen]


def read_where(text: str, schema: Schema) -> tuple[Condition, ...]:
    """Parse conditions such as "cardio = 1 and age >= 70"; UserError for others."""
    return conditions_of(text, schema.columns, f"--where {text!r}")
