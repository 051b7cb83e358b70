"""Training records of a run: the source without the hold-out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rdpjax.data.stays.patients import Patients
from rdpjax.errors import UserError


def training_rows(
    source: pd.DataFrame,
    held_out: pd.DataFrame,
    source_ids: Sequence[object] | None = None,
    held_out_ids: Sequence[object] | None = None,
) -> pd.DataFrame:
    """Select rows of `source` that are not in the hold-out, matched by id, else by the whole row.

    Equal rows without an id are held out together, so matching by row is exact.

    Args:
      source: canonical frame of the table that a run read.
      held_out: canonical frame of its hold-out.
      source_ids: an id per row of `source`, or None.
      held_out_ids: an id per row of `held_out`, or None.

    Raises:
      UserError: if no row is left, or none of the held-out rows is in the source: then the two are
        of different runs.

    Examples:
      >>> table = pd.DataFrame({"x": [5, 6, 6]})
      >>> training_rows(table, table[:1], ["a", "b", "c"], ["b"])["x"].tolist()
      [5, 6]
      >>> training_rows(table, table[:1])["x"].tolist()
      [6, 6]
    """
    if source_ids is not None and held_out_ids is not None:
        held = pd.Index([str(i) for i in source_ids]).isin([str(i) for i in held_out_ids])
    else:
        held = pd.MultiIndex.from_frame(source).isin(
            pd.MultiIndex.from_frame(held_out[list(source.columns)])
        )
    _check(held)
    return source[~held].reset_index(drop=True)


def training_patients(source: Patients, held_out: Patients) -> Patients:
    """Select patients of `source` that are not in the hold-out, matched by id.

    Raises:
      UserError: as for `training_rows`.

    Examples:
      >>> some = Patients(np.zeros((3, 34), np.float32), np.arange(4), np.ones(3, int),
      ...                 np.full(3, -1), np.zeros((3, 5), np.float32), ("a", "b", "c"))
      >>> training_patients(some, some.take(np.array([1]))).ids
      ('a', 'c')
    """
    held = np.isin(np.array(source.ids), np.array(held_out.ids))
    _check(held)
    return source.take(~held)


def _check(held: np.ndarray) -> None:
    if not held.any():
        raise UserError("--train: holds none of the held-out records; give what the run read")
    if held.all():
        raise UserError("--train: all of it is held out; give all that the run read")
