"""The one list of data sets that commands know by name."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from rdpjax.codecs.codec import Codec
from rdpjax.codecs.table import TableCodec
from rdpjax.data.schema import Schema
from rdpjax.data.stays.patient_table import Label
from rdpjax.datasets.cardio import CARDIO
from rdpjax.datasets.dataset import Dataset
from rdpjax.datasets.sepsis import SEPSIS
from rdpjax.errors import UserError, nearest

GROUP = "rdpjax.datasets"
"""Entry points of other packages: `name = "package.module:DATASET"`."""


@cache
def datasets() -> dict[str, Dataset]:
    """Every data set by its name: those shipped, and those of installed packages."""
    others = {point.name: point.load() for point in entry_points(group=GROUP)}
    return {"cardio": CARDIO, "sepsis": SEPSIS} | others


def find_dataset(name: str) -> Dataset:
    """The data set called `name`; UserError with the nearest name if there is none."""
    known = datasets()
    if name not in known:
        raise UserError(
            f"dataset: unknown {name!r}{nearest(name, list(known))}; known are {', '.join(known)}"
        )
    return known[name]


def codec_of(name: str, hours: int, label: Label, schema: Schema) -> Codec:
    """The codec of a data set, or that of a user's own table where none is called so."""
    known = datasets()
    return known[name].codec(hours, label) if name in known else TableCodec(schema)
