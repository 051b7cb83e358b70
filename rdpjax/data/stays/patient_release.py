"""Write generated patients: .psv files, one long table, one array, and their description.

psv/sNNNNNN.psv            a file a patient, numbered from 1; `s`, so that no name equals that of
                           a patient of the challenge (pNNNNNN)
synthetic.parquet          the same rows, with the patient's number in front
synthetic_3d.npy           (patients, variables, hours), NaN where not measured
synthetic_3d_dense.npy     the same, missing values imputed (if asked for)
synthetic_meta.json        axes, variables, units, and the meaning of NaN and of the label
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.psv_writing import DECIMALS, STATIC_DECIMALS, rounded, write_psv
from rdpjax.data.stays.sepsis import COLUMNS, LONGEST, STATICS, VARIABLES
from rdpjax.io.array_file import write_array
from rdpjax.io.atomic import PUBLIC

_PATIENTS = 1000  # imputed per batch
_STATIC_FACTS: dict[str, dict[str, Any]] = {
    "Age": {"unit": "years (100 stands for 90 and above)", "kind": "demographic"},
    "Gender": {"unit": "0 woman, 1 man", "kind": "flag", "low": 0, "high": 1},
    "Unit1": {"unit": "1 in the medical unit", "kind": "flag", "low": 0, "high": 1},
    "Unit2": {"unit": "1 in the surgical unit", "kind": "flag", "low": 0, "high": 1},
    "HospAdmTime": {
        "unit": "hours from intensive care back to hospital admission, zero or negative",
        "kind": "demographic",
    },
}


def write_patients(
    folder: Path,
    blocks: Iterable[Patients],
    *,
    count: int,
    hours: int,
    medians: np.ndarray | None = None,
) -> None:
    """Write a release of patients, block by block; memory grows with the block, not with `count`.

    Numbers are rounded to the decimals of `synthetic_meta.json`, the same in every file.

    Args:
      folder: target; it exists, and the caller moves it to its final place.
      blocks: patients in order, some thousand at a time, with NaN after hour `hours` of a stay.
      count: number of patients in all blocks.
      hours: number of modelled hours, the last axis of the arrays.
      medians: `[34]`, public or noisy, in clinical units: imputed before a variable's first
        reading. With them, `synthetic_3d_dense.npy` is written too.

    Raises:
      OSError: the disk is full or not writable.
      ValueError: the blocks do not hold `count` patients.
    """
    array = folder / "synthetic_3d.npy"
    shape = (count, len(VARIABLES) + len(STATICS), hours)
    width = max(6, len(str(count)))
    stays: list[np.ndarray] = [np.empty(0, np.int64)]
    with pq.ParquetWriter(folder / "synthetic.parquet", SCHEMA, compression="zstd") as table:

        def written() -> Iterator[np.ndarray]:
            done = 0
            for block in map(rounded, blocks):
                numbers = np.arange(done + 1, done + len(block) + 1)
                write_psv(folder / "psv", block, (f"s{number:0{width}d}" for number in numbers))
                table.write_table(as_table(block, numbers))
                stays.append(block.stays)
                done += len(block)
                yield as_array(block, hours)

        write_array(array, written(), shape, np.float32, mode=PUBLIC)
    if medians is not None:
        dense = folder / "synthetic_3d_dense.npy"
        medians = np.array([np.round(m, d) for m, d in zip(medians, DECIMALS, strict=True)])
        filled = _filled(array, np.concatenate(stays), medians)
        write_array(dense, filled, shape, np.float32, mode=PUBLIC)
    text = json.dumps(_meaning(count, hours, dense=medians is not None), indent=1)
    (folder / "synthetic_meta.json").write_text(text + "\n", encoding="utf-8")


def _filled(array: Path, stays: np.ndarray, medians: np.ndarray) -> Iterator[np.ndarray]:
    """Impute a file's array in batches; read, since mapped pages count as memory in use."""
    with array.open("rb") as file:
        np.lib.format.read_magic(file)
        (_, *shape), _, dtype = np.lib.format.read_array_header_1_0(file)
        for i in range(0, len(stays), _PATIENTS):
            some = stays[i : i + _PATIENTS]
            cells = np.fromfile(file, dtype, len(some) * int(np.prod(shape)))
            yield filled_in(cells.reshape(len(some), *shape), some, medians)


def _kind(decimals: int) -> pa.DataType:
    # float64: the float32 nearest to 98.6 is 98.5999985 once a reader converts it.
    return pa.float64() if decimals else pa.int32()


SCHEMA = pa.schema(
    [
        pa.field("patient", pa.int32(), nullable=False),
        *zip(COLUMNS, map(_kind, (*DECIMALS, *STATIC_DECIMALS)), strict=False),
        pa.field("ICULOS", pa.int32(), nullable=False),
        pa.field("SepsisLabel", pa.int8(), nullable=False),
    ]
)
"""Columns of `synthetic.parquet`; unmeasured values are null."""


def as_table(patients: Patients, numbers: np.ndarray) -> pa.Table:
    """Convert patients to a long table, a row an hour, with the columns of `SCHEMA`.

    Args:
      patients: as `rounded` returns them.
      numbers: int `[patients]`, the column `patient`.
    """
    statics = np.repeat(patients.statics, patients.stays, axis=0)
    columns = [pa.array(np.repeat(numbers, patients.stays), pa.int32())]
    for values, decimals in zip(
        (*patients.values.T, *statics.T), (*DECIMALS, *STATIC_DECIMALS), strict=True
    ):
        exact = np.round(values.astype(np.float64), decimals)
        columns.append(pa.array(exact, pa.float64(), from_pandas=True).cast(_kind(decimals)))
    columns += [pa.array(patients.hours, pa.int32()), pa.array(patients.labels, pa.int8())]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def as_array(patients: Patients, hours: int) -> np.ndarray:
    """Convert the first hours to an array: 34 hourly variables, then the statics, repeated.

    Returns:
      float32 `[patients, 39, hours]`, NaN where unmeasured and after the stay.

    Examples:
      >>> one = Patients(np.ones((1, 34), np.float32), np.array([0, 1]), np.array([3]),
      ...                np.array([-1]), np.full((1, 5), 7, np.float32), ("a",))
      >>> as_array(one, 2)[0, [0, 33, 34, 38]].tolist()
      [[1.0, nan], [1.0, nan], [7.0, nan], [7.0, nan]]
    """
    kept = patients.row < hours
    patient = np.repeat(np.arange(len(patients)), patients.stays)[kept]
    array = np.full((len(patients), len(VARIABLES) + len(STATICS), hours), np.nan, np.float32)
    row = patients.row[kept]
    array[patient, : len(VARIABLES), row] = patients.values[kept]
    array[patient, len(VARIABLES) :, row] = patients.statics[patient]
    return array


def filled_in(array: np.ndarray, stays: np.ndarray, medians: np.ndarray) -> np.ndarray:
    """Impute by carrying each hourly variable forward; with the median before its first reading.

    Missing statics and the hours after a stay remain NaN.

    Args:
      array: float32 `[patients, 39, hours]`, as `as_array` returns it.
      stays: int `[patients]`, lengths in hours.
      medians: float `[34]`.

    Examples:
      >>> array = np.full((1, 39, 4), np.nan, np.float32); array[0, 1, 1] = 5
      >>> filled_in(array, np.array([3]), np.full(34, 9.0))[0, [0, 1, 34]].tolist()
      [[9.0, 9.0, 9.0, nan], [9.0, 5.0, 5.0, nan], [nan, nan, nan, nan]]
    """
    hourly = array[:, : len(VARIABLES)]
    hour = np.arange(array.shape[2], dtype=np.int32)
    last = np.maximum.accumulate(np.where(np.isnan(hourly), 0, hour), axis=2)
    carried = np.take_along_axis(hourly, last, axis=2)
    carried = np.where(np.isnan(carried), medians[:, None].astype(np.float32), carried)
    inside = hour < stays[:, None, None]
    return np.concatenate(
        [np.where(inside, carried, np.float32(np.nan)), array[:, len(VARIABLES) :]], axis=1
    )


def _meaning(count: int, hours: int, *, dense: bool) -> dict[str, Any]:
    """Build the description in `synthetic_meta.json`."""
    hourly: list[dict[str, Any]] = [
        {
            "name": v.name,
            "unit": v.unit,
            "kind": v.kind,
            "varies": "hourly",
            "decimals": v.decimals,
            "low": v.low,
            "high": v.high,
        }
        for v in VARIABLES
    ]
    static = [
        {"name": name, "varies": "static", "decimals": decimals, **_STATIC_FACTS[name]}
        for name, decimals in zip(STATICS, STATIC_DECIMALS, strict=True)
    ]
    files = {
        "psv/sNNNNNN.psv": "one file a patient, formatted as in the PhysioNet/CinC Challenge 2019; "
        "NNNNNN is the number in the column `patient` of synthetic.parquet",
        "synthetic.parquet": "the same rows in one table; null where the files have NaN",
        "synthetic_3d.npy": "float32 (patients, variables, hours), clinical units, C order; row i "
        "is patient i + 1; hour t is the t-th row of the patient's file, from 0, whose hour in "
        "intensive care is in the column ICULOS",
    }
    if dense:
        files["synthetic_3d_dense.npy"] = (
            "the same array filled in: within a stay, each hourly variable keeps its last reading, "
            "and before the first one it has a public or noisy median; missing static variables "
            "and the hours after a stay stay NaN"
        )
    return {
        "dataset": "sepsis",
        "patients": count,
        "hours": hours,
        "shape": [count, len(VARIABLES) + len(STATICS), hours],
        "axes": ["patient", "variable", "hour"],
        "variables": [{"index": i} | facts for i, facts in enumerate([*hourly, *static])],
        "files": files,
        "missing": "NaN: not measured in this hour, or after the end of the stay; a static "
        "variable is NaN in every hour where it is unknown",
        "stay": f"rows of a patient's file, 1 to {LONGEST}",
        "after_modelled_hours": f"the first {hours} hours of a stay are modelled; in psv/ and "
        "synthetic.parquet a longer stay goes on to its generated length, with NaN in the hourly "
        "variables, and with the static columns, ICULOS and SepsisLabel",
        "SepsisLabel": "0, and from the row of onset to the end of the stay 1; as in the challenge "
        "it turns 1 six hours before the clinical onset",
        "per_patient": {
            "stay": "positive if SepsisLabel is 1 in any row",
            "window": f"positive if SepsisLabel is 1 in any of the first {hours} rows",
            "onset": "rows before the first one whose SepsisLabel is 1; none if there is no such "
            "row",
        },
    }
