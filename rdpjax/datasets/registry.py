"""Registry of the data sets that commands know by name."""

from __future__ import annotations

from functools import cache

from rdpjax.data.schema import Schema
from rdpjax.datasets.cardio import CARDIO
from rdpjax.datasets.dataset import Dataset
from rdpjax.datasets.sepsis import SEPSIS
from rdpjax.datasets.table import table_dataset
from rdpjax.named import find, with_installed

TABLE = "table"
"""Value of the configuration's `dataset` for a user's own schema."""

GROUP = "rdpjax.datasets"
"""Entry points of other packages: `name = "package.module:DATASET"`."""


@cache
def datasets() -> dict[str, Dataset]:
    """Return every data set by name: built-in ones, and those of installed packages."""
    return with_installed(GROUP, {"cardio": CARDIO, "sepsis": SEPSIS})


def find_dataset(name: str) -> Dataset:
    """Return the data set called `name`; UserError with the nearest name if there is none."""
    return find("dataset", name, datasets())


def dataset_of(name: str, schema: Schema) -> Dataset:
    """Return the data set called `name`; for `TABLE`, that of a user's own schema.

    Examples:
      >>> from rdpjax.data.cardio import CARDIO as columns
      >>> dataset_of(TABLE, columns).noun
      'rows'
    """
    return table_dataset(schema) if name == TABLE else find_dataset(name)
