"""What real patients reach under the figures that synthetic ones are judged by (TRTR).

    python benchmarks/sepsis_baseline.py sepsis_training_setB.tar.gz runs/sepsis/internal/holdout

The patients of the archive that are not held out stand in for synthetic ones: what a perfect copy
would reach. Prints one JSON line. Computed on real records without privacy: do not publish.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from rdpjax.data.stays.patient_files import read_patients
from rdpjax.data.stays.patients import Patients
from rdpjax.errors import UserError, command
from rdpjax.evaluation.patients import score_patients


def training_patients(source: Patients, held_out: Patients) -> Patients:
    """The patients of `source` that are not held out, by id.

    Raises:
      UserError: none is left, or a held-out one is not in the source: then the two do not belong
        together.
    """
    held = np.isin(np.array(source.ids), np.array(held_out.ids))
    if held.sum() < len(held_out):
        raise UserError("the source lacks held-out patients; give the one that the run read")
    if held.all():
        raise UserError("every patient of the source is held out; give the one that the run read")
    return source.take(~held)


def real_against_held_out(archive: Path, holdout: Path, *, hours: int = 24) -> dict[str, Any]:
    """Figures of the real training patients, as `score_patients` gives them for synthetic ones.

    Args:
      archive: folder or archive of all real patients.
      holdout: folder of those held out.
      hours: how many hours of a stay are looked at.
    """
    held_out = read_patients(holdout).patients
    train = training_patients(read_patients(archive).patients, held_out)
    scores = score_patients(train, held_out, hours=hours)
    return {"baseline": "real training patients", **scores["synthetic"]}


@command
def main(argv: list[str] | None = None) -> int:
    """The command."""
    given = sys.argv[1:] if argv is None else argv
    if len(given) != 2:
        raise UserError("give the archive of all patients and the folder of those held out")
    print(json.dumps(real_against_held_out(Path(given[0]), Path(given[1]))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
