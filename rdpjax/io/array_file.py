"""Arrays larger than memory: written to a .npy file block by block, read through a memory map."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from rdpjax.errors import UserError
from rdpjax.io.atomic import PRIVATE, new_file


def write_array(
    path: Path,
    blocks: Iterable[np.ndarray],
    shape: tuple[int, ...],
    dtype: np.dtype | type,
    *,
    mode: int = PRIVATE,
) -> None:
    """Write an array to a file atomically, block by block.

    It is written, not mapped: a full disk then raises here, where a store through a map of a file
    without allocated blocks would kill the process (SIGBUS).

    Args:
      path: the file, `.npy`; an existing one is replaced.
      blocks: rows in order, each `[rows, ...]` of `dtype`, together `shape`.
      shape: of the whole array, rows first.
      dtype: of the elements.
      mode: of the file.

    Raises:
      OSError: a write fails (disk full, ...); nothing is left behind.
      ValueError: blocks of another shape or dtype.
    """
    dtype = np.dtype(dtype)
    rows = 0
    with new_file(path, mode=mode) as file:
        np.lib.format.write_array_header_1_0(
            file,
            {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
            | {"shape": shape},
        )
        for block in blocks:
            if block.dtype != dtype or block.shape[1:] != shape[1:]:
                raise ValueError(f"a block is {block.dtype}{block.shape}, want {dtype}{shape}")
            file.write(np.ascontiguousarray(block).data)
            rows += len(block)
        if rows != shape[0]:
            raise ValueError(f"the blocks have {rows} rows, want {shape[0]}")


def open_array(path: Path) -> np.ndarray:
    """Memory-map the array in the file read-only: rows are read from disk when accessed.

    Raises:
      UserError: no such file, or one that is truncated or holds no array.
    """
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; start the run anew") from None
    except (OSError, ValueError, EOFError):
        raise UserError(f"{path}: is cut off or no array file; remove it") from None
    return array
