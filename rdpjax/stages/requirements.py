"""Requirements of stages on a schema, checked before any record is read."""

from __future__ import annotations

from rdpjax.data.schema import Schema
from rdpjax.errors import UserError


def need_two_levels(schema: Schema, who: str) -> None:
    """Raise UserError unless the label has exactly two levels."""
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
