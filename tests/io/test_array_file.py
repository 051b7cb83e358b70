from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rdpjax.errors import UserError
from rdpjax.io.array_file import open_array, write_array

ROWS = np.arange(60, dtype=np.uint8).reshape(10, 2, 3)


def test_blocks_come_back_as_one_array(tmp_path: Path):
    path = tmp_path / "tokens.npy"
    write_array(path, (ROWS[i : i + 4] for i in (0, 4, 8)), ROWS.shape, np.uint8)
    found = open_array(path)
    assert isinstance(found, np.memmap) and not found.flags.writeable
    np.testing.assert_array_equal(found, ROWS)
    np.testing.assert_array_equal(np.load(path), ROWS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced_by_what_is_written_next(tmp_path: Path):
    path = tmp_path / "tokens.npy"
    for rows in (ROWS, ROWS[:3, ::-1]):
        write_array(path, [rows], rows.shape, np.uint8)
        np.testing.assert_array_equal(open_array(path), rows)


@pytest.mark.parametrize(
    "blocks",
    [[ROWS[:9]], [ROWS, ROWS], [ROWS.astype(int)], [ROWS[:, 0]]],
    ids=["too few", "too many", "type", "shape"],
)
def test_blocks_of_another_shape_or_type_are_refused(tmp_path: Path, blocks: list[np.ndarray]):
    with pytest.raises(ValueError, match=r"rows, want 10|want uint8\(10, 2, 3\)"):
        write_array(tmp_path / "tokens.npy", blocks, ROWS.shape, np.uint8)
    assert not list(tmp_path.iterdir())


def test_what_the_disk_refuses_leaves_the_earlier_file(tmp_path: Path):
    def full() -> Iterator[np.ndarray]:
        yield ROWS[:5]
        raise OSError(28, "No space left on device")

    path = tmp_path / "tokens.npy"
    write_array(path, [ROWS], ROWS.shape, np.uint8)
    with pytest.raises(OSError, match="No space left"):
        write_array(path, full(), ROWS.shape, np.uint8)
    np.testing.assert_array_equal(open_array(path), ROWS)
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_or_damaged_file_is_said_in_one_line(tmp_path: Path):
    path = tmp_path / "tokens.npy"
    with pytest.raises(UserError, match=r"tokens\.npy: no such file"):
        open_array(path)
    write_array(path, [ROWS], ROWS.shape, np.uint8)
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:20], b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"tokens\.npy: is cut off or no array file"):
            open_array(path)
