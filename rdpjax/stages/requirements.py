"""What stages need of a schema, asked before any record is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rdpjax.data.schema import Schema
from rdpjax.errors import UserError


def check_schema(schema: Schema, stages: Mapping[str, Any], label_source: str) -> None:
    """UserError where a stage, or the source of the labels, needs another label than there is.

    Args:
      schema: public columns.
      stages: the run's stages, by name; one with a method `check(schema)` is asked.
      label_source: "labeler" or "generator".
    """
    if label_source == "labeler":
        need_two_levels(schema, "label_source = 'labeler'")
    for stage in stages.values():
        if hasattr(stage, "check"):
            stage.check(schema)


def need_two_levels(schema: Schema, who: str) -> None:
    """UserError unless the label has exactly two levels."""
    mend = "leave the stage labeler out and use label_source = 'generator'"
    if schema.label is None:
        raise UserError(
            f"{who}: needs a label column of two levels, and schema {schema.name!r} has no label; "
            f"{mend}"
        )
    if (cells := schema.column(schema.label).cells) != 2:
        raise UserError(
            f"{who}: needs a label column of two levels, and {schema.label!r} has {cells}; {mend}"
        )
