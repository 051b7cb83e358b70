"""`python -m rdpjax.sample`: more rows of a completed run."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import threading
from pathlib import Path

import pandas as pd
import pytest

from rdpjax.data.cardio import read_cardio
from rdpjax.sample import main


def sampled(run: Path, out: Path, *flags: str) -> bytes:
    assert main([str(run), "--out", str(out), *flags]) == 0
    return out.read_bytes()


def test_rows_in_the_format_of_the_release(small_run, tmp_path, capsys) -> None:
    out = tmp_path / "more.csv"
    text = sampled(small_run.path, out, "--rows", "700").decode()
    released = (small_run.path / "release" / "synthetic.csv").read_text()
    assert text.splitlines()[0] == released.splitlines()[0]
    assert len(text.splitlines()) == 701
    assert len(read_cardio(out).frame) == 700
    assert capsys.readouterr().out == f"700 synthetic rows in {out}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["more.csv"]


def test_a_seed_gives_the_same_rows_and_a_prefix_of_more(small_run, tmp_path) -> None:
    a = sampled(small_run.path, tmp_path / "a.csv", "--rows", "300", "--seed", "1")
    b = sampled(small_run.path, tmp_path / "b.csv", "--rows", "9000", "--seed", "1")
    c = sampled(small_run.path, tmp_path / "c.csv", "--rows", "300", "--seed", "2")
    d = sampled(small_run.path, tmp_path / "d.csv", "--rows", "300")
    assert b.startswith(a) and len(b.splitlines()) == 9001
    assert len({a, c, d}) == 3


def test_an_older_file_is_replaced_whole_if_asked(small_run, tmp_path, refused) -> None:
    out = tmp_path / "more.csv"
    out.write_text("old\n" * 9999)
    said = refused(small_run.path, "--out", out, "--rows", 5)
    assert f"{out}: exists; give --overwrite, or another name" in said
    assert out.read_text().startswith("old")
    again = sampled(small_run.path, out, "--rows", "5", "--overwrite")
    assert len(again.splitlines()) == 6


def test_a_release_alone_is_enough(small_run, tmp_path) -> None:
    shutil.copytree(small_run.path / "release", tmp_path / "run" / "release")
    assert sampled(tmp_path / "run", tmp_path / "more.csv", "--rows", "5")
    assert sampled(tmp_path / "run" / "release", tmp_path / "again.csv", "--rows", "5")


def test_the_ending_decides_the_format(small_run, tmp_path, refused, capsys) -> None:
    flags = ("--rows", "50", "--seed", "1")
    text = sampled(small_run.path, tmp_path / "a.csv", *flags)
    packed = sampled(small_run.path, tmp_path / "a.csv.gz", *flags)
    assert packed[:2] == b"\x1f\x8b" and gzip.decompress(packed) == text
    sampled(small_run.path, tmp_path / "a.parquet", *flags)
    frame = pd.read_parquet(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(
        frame, pd.read_csv(tmp_path / "a.csv", sep=";"), check_dtype=False
    )
    assert frame["cardio"].dtype == "int64" and frame["weight"].dtype == "float64"
    capsys.readouterr()
    for name in ("a.xlsx", "a", "a.csv.zip"):
        said = refused(small_run.path, "--out", tmp_path / name, *flags)
        assert f"{name}: the ending decides the format" in said


def test_standard_output_holds_the_rows_alone(small_run, tmp_path, capfdbinary) -> None:
    rows = sampled(small_run.path, tmp_path / "a.csv", "--rows", "5", "--seed", "1")
    capfdbinary.readouterr()
    assert main([str(small_run.path), "--out", "-", "--rows", "5", "--seed", "1"]) == 0
    out, err = capfdbinary.readouterr()
    assert out == rows and err.decode() == "5 synthetic rows in -\n"


def test_a_pipe_is_written_through_and_stays(small_run, tmp_path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    seen: list[bytes] = []
    reader = threading.Thread(target=lambda: seen.append(pipe.read_bytes()))
    reader.start()
    assert main([str(small_run.path), "--out", str(link), "--rows", "5"]) == 0
    reader.join(10)
    assert len(seen[0].splitlines()) == 6 and pipe.is_fifo() and link.is_symlink()


def test_nothing_of_the_users_is_removed(small_run, tmp_path) -> None:
    notes = tmp_path / "out.csv.part" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    sampled(small_run.path, tmp_path / "out.csv", "--rows", "5")
    assert notes.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.csv.part"]


def test_identifiers_are_none_of_real_records(small_run, tmp_path) -> None:
    sampled(small_run.path, tmp_path / "a.csv", "--rows", "20")
    ids = list(read_cardio(tmp_path / "a.csv").ids)
    assert ids == [f"s{i:07d}" for i in range(1, 21)]
    assert not set(ids) & set(read_cardio(small_run.data).ids)


@pytest.fixture
def refused(tmp_path, capsys):
    def call(*flags: object) -> str:
        before = sorted(tmp_path.rglob("*"))
        assert main([str(flag) for flag in flags]) == 2
        out, err = capsys.readouterr()
        assert not out and err.startswith("rdpjax: error: ") and err.count("\n") == 1, err
        assert sorted(tmp_path.rglob("*")) == before
        return err

    return call


def test_what_is_wrong_is_named(small_run, tmp_path, refused) -> None:
    run, out = small_run.path, tmp_path / "more.csv"
    file = tmp_path / "file"
    file.write_text("")
    assert "--rows is 0; ask for 1 or more" in refused(run, "--out", out, "--rows", 0)
    assert "--rows: cannot take 'x'" in refused(run, "--out", out, "--rows", "x")
    assert "no generator there; give the folder of a completed run" in refused(
        tmp_path / "none", "--out", out
    )
    assert "missing: --out" in refused(run)
    for place in (".", "..", "/", tmp_path):
        said = refused(run, "--out", place, "--rows", 5)
        assert f"{place}: cannot write there: is a folder; name a file in it" in said
    for place in (file / "more.csv", tmp_path / "none" / "more.csv"):
        assert f"{place}: cannot write there" in refused(run, "--out", place, "--rows", 5)
    shutil.copytree(run / "release", tmp_path / "run" / "release")
    report = tmp_path / "run/release/privacy.json"
    told = json.loads(report.read_text())
    report.write_text(json.dumps(told | {"declarations": {}}))
    assert "release/privacy.json: names no file format" in refused(tmp_path / "run", "--out", out)
    report.write_text(json.dumps(told | {"epsilon": 0.1}))
    assert "claims epsilon 0.1, but its events cost" in refused(tmp_path / "run", "--out", out)
    for text in ("{}", "[]", "{"):
        report.write_text(text)
        assert f"{report}: " in refused(tmp_path / "run", "--out", out)
    report.unlink()
    assert f"{report}: no such file" in refused(tmp_path / "run", "--out", out)
    arrays = tmp_path / "run/release/generator/arrays.npz"
    arrays.write_bytes(arrays.read_bytes()[:2000])
    assert f"{arrays}: cannot be read: damaged" in refused(tmp_path / "run", "--out", out)
