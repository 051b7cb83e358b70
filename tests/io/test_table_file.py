from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rdpjax.errors import UserError
from rdpjax.io.layout import Cells
from rdpjax.io.table_file import table_file

BLOCKS = [
    {
        "id": Cells(np.array([f"s{i}" for i in rows], dtype=object)),
        "age": Cells(np.array(rows) + 40.0, 0),
        "bmi": Cells(np.array(rows) / 8 + 20, 2),
    }
    for rows in ([1, 2], [3])
]
TEXT = b"id;age;bmi\ns1;41;20.12\ns2;42;20.25\ns3;43;20.38\n"


def write(path: Path, **how: bool) -> Path:
    with table_file(path, ";", **how) as take:
        for block in BLOCKS:
            take(block)
    return path


@pytest.mark.parametrize("name", ["a.csv", "b.CSV", "dots.in.name.csv"])
def test_delimited(tmp_path: Path, name: str) -> None:
    assert write(tmp_path / name).read_bytes() == TEXT
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o644


def test_gzip_holds_neither_name_nor_time(tmp_path: Path) -> None:
    packed = write(tmp_path / "a.csv.gz").read_bytes()
    assert gzip.decompress(packed) == TEXT
    assert packed == write(tmp_path / "b.csv.gz").read_bytes()


def test_parquet_has_types(tmp_path: Path) -> None:
    frame = pd.read_parquet(write(tmp_path / "a.parquet"))
    assert frame["id"].tolist() == ["s1", "s2", "s3"]
    assert frame["age"].dtype == np.int64 and frame["age"].tolist() == [41, 42, 43]
    assert frame["bmi"].dtype == np.float64 and frame["bmi"].tolist() == [20.12, 20.25, 20.38]


@pytest.mark.parametrize("name", ["a", "a.xlsx", "a.gz", "a.csv.zip", "a.json"])
def test_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"the ending decides the format; name a \.csv"):
        write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_gets_text_whatever_it_is_called(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    seen: list[bytes] = []
    reader = threading.Thread(target=lambda: seen.append(pipe.read_bytes()))
    reader.start()
    write(pipe)
    reader.join(10)
    assert seen == [TEXT] and pipe.is_fifo()


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
def test_a_failure_leaves_the_older_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match="exists; give --overwrite"):
        write(tmp_path / name)
    with pytest.raises(RuntimeError), table_file(tmp_path / name, ";", overwrite=True) as take:
        take(BLOCKS[0])
        raise RuntimeError
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
    assert write(tmp_path / name, overwrite=True).stat().st_size > 10


def test_names_that_hold_the_separator_are_quoted(tmp_path: Path) -> None:
    with table_file(tmp_path / "a.csv", ";") as take:
        take({"a;b": Cells(np.array([1]), 0), 'c"d': Cells(np.array([2]), 0)})
    assert (tmp_path / "a.csv").read_text() == '"a;b";"c""d"\n1;2\n'
