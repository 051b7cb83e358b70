"""Registry of the data sets that commands know by name."""

from __future__ import annotations

from functools import cache

from rdpjax.datasets.cardio import CARDIO
from rdpjax.datasets.dataset import Dataset, Settings
from rdpjax.datasets.sepsis import SEPSIS
from rdpjax.datasets.table import TableSettings, table_dataset
from rdpjax.errors import UserError
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


def dataset_of(name: str, settings: Settings) -> Dataset:
    """Return the data set called `name`; for `TABLE`, that of the schema in its settings.

    Raises:
      UserError: no such data set, or a table without its schema.

    Examples:
      >>> from rdpjax.data.cardio import CARDIO as columns
      >>> dataset_of(TABLE, TableSettings(columns)).noun
      'rows'
    """
    if not isinstance(settings, TableSettings):
        return find_dataset(name)
    if settings.schema is None:
        raise UserError(f"data set {TABLE!r}: needs the table's description; give --schema FILE")
    return table_dataset(settings.schema)
