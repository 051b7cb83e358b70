"""Write patients as .psv files, in the format of the challenge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import COLUMNS, MISSING, SEPARATOR, VARIABLES

DECIMALS = tuple(variable.decimals for variable in VARIABLES)
"""Decimals of each hourly variable in a release."""
STATIC_DECIMALS = (0, 0, 0, 0, 2)
"""Decimals of the static columns: all whole, except the hours from hospital admission."""
_ROWS = 65_536  # rows formatted at once: some 20 MiB of text and buffers


def rounded(patients: Patients) -> Patients:
    """Round to the decimals of a release, so that all its files hold the same numbers.

    Examples:
      >>> one = Patients(np.full((1, 34), 98.64, np.float32), np.array([0, 1]), np.array([1]),
      ...                np.array([-1]), np.full((1, 5), -0.126, np.float32), ("a",))
      >>> again = rounded(one)
      >>> again.values[0, [0, 2]].tolist(), again.statics[0, [0, 4]].round(3).tolist()
      ([99.0, 98.5999984741211], [0.0, -0.12999999523162842])
    """
    return replace(
        patients,
        values=_rounded(patients.values, DECIMALS),
        statics=_rounded(patients.statics, STATIC_DECIMALS),
    )


def _rounded(values: np.ndarray, decimals: tuple[int, ...]) -> np.ndarray:
    out = np.empty(values.shape, np.float32)
    for j, places in enumerate(decimals):
        out[:, j] = np.round(values[:, j].astype(np.float64), places) + 0.0  # avoids -0
    return out


def format_patients(patients: Patients) -> Iterator[bytes]:
    """Format each patient's file, in order.

    Numbers have the fewest digits that identify a float32, so a file of the challenge is reproduced
    as it was read. For a release, apply `rounded` first.

    Examples:
      >>> one = Patients(np.full((2, 34), np.nan, np.float32), np.array([0, 2]), np.array([6]),
      ...                np.array([1]), np.array([[83, 1, 0, 1, -98.6]], np.float32), ("a",))
      >>> one.values[1, :2] = 56.5, 100
      >>> [f"{line[:14]}...{line[-18:]}" for line in next(format_patients(one)).decode().split()]
      ['HR|O2Sat|Temp|...ICULOS|SepsisLabel', 'NaN|NaN|NaN|Na...83|1|0|1|-98.6|6|0',
       '56.5|100|NaN|N...83|1|0|1|-98.6|7|1']
    """
    low = 0
    while low < len(patients):
        most = int(np.searchsorted(patients.starts, patients.starts[low] + _ROWS, "right")) - 1
        high = max(low + 1, most)
        yield from _texts(patients.take(np.arange(low, high)))
        low = high


def _texts(patients: Patients) -> Iterator[bytes]:
    """Format all rows at once, then split by patient."""
    statics = np.repeat(patients.statics, patients.stays, axis=0)
    cells = [_cells(column) for column in (*patients.values.T, *statics.T)]
    cells += [pa.array(patients.hours), pa.array(patients.labels)]
    options = pyarrow.csv.WriteOptions(
        include_header=False, delimiter=SEPARATOR, quoting_style="none"
    )
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(pa.Table.from_arrays(cells, names=list(COLUMNS)), sink, options)
    text = sink.getvalue().to_pybytes()
    lines = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
    header = (SEPARATOR.join(COLUMNS) + "\n").encode()
    start = 0
    for end in lines[patients.starts[1:] - 1] + 1:
        yield header + text[start:end]
        start = end


def _cells(values: np.ndarray) -> pa.Array:
    # Readings have few distinct values: formatting each once is far cheaper than every cell.
    encoded = pa.array(values, pa.float32(), from_pandas=True).dictionary_encode("encode")
    distinct = encoded.dictionary.to_numpy(zero_copy_only=False)
    texts = [
        MISSING if np.isnan(value) else np.format_float_positional(value, trim="-")
        for value in distinct
    ]
    return pa.array(texts, pa.string()).take(encoded.indices)


def write_psv(folder: Path, patients: Patients, names: Iterable[str]) -> None:
    """Write each patient to `folder/NAME.psv`, without rounding.

    Args:
      folder: created if absent.
      patients: to write.
      names: one a patient, without the suffix.

    Raises:
      OSError: the disk is full or not writable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip(names, format_patients(patients), strict=True):
        # Not pathlib: it interns the name of every path, which memory then keeps.
        with open(f"{folder}/{name}.psv", "wb") as file:
            file.write(text)
