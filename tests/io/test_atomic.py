"""Files and folders that are there whole or not at all, and what is never touched."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rdpjax.errors import UserError
from rdpjax.io.atomic import disk_errors, new_file, new_folder, write_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("given", [0o600, 0o644])
def test_a_file_is_whole_and_has_its_mode(tmp_path: Path, given: int) -> None:
    path = tmp_path / "a.txt"
    with new_file(path, mode=given) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole" and mode(path) == given
    write_file(path, "other", mode=given)
    assert path.read_bytes() == b"other" and mode(path) == given
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_a_failure_leaves_nothing_and_the_older_file(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "a.txt"
    for before in ([], ["a.txt"]):
        with pytest.raises(error), new_file(path) as file:
            file.write(b"half")
            raise error
        assert names(tmp_path) == before
        path.write_text("old")
    assert path.read_text() == "old"


def test_nothing_of_the_users_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a.txt.part").mkdir()
    (tmp_path / "a.txt.part" / "notes.txt").write_text("mine")
    (tmp_path / "b.part").write_text("mine")
    write_file(tmp_path / "a.txt", "x")
    with new_folder(tmp_path / "b") as folder:
        (folder / "c").write_text("x")
    assert (tmp_path / "a.txt.part" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "b.part").read_text() == "mine"
    assert names(tmp_path) == ["a.txt", "a.txt.part", "b", "b.part"]


def test_a_file_is_replaced_only_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("mine")
    with (
        pytest.raises(UserError, match=r"a\.txt: exists; give --overwrite"),
        new_file(path, overwrite=False),
    ):
        raise AssertionError
    path.unlink()
    with pytest.raises(UserError, match="exists"), new_file(path, overwrite=False):
        path.write_text("made meanwhile")
    assert path.read_text() == "made meanwhile" and names(tmp_path) == ["a.txt"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "file")
    for text in ("first", "second"):
        write_file(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "deep" / "file").read_text() == text
    with pytest.raises(UserError, match="exists"), new_file(tmp_path / "link", overwrite=False):
        raise AssertionError


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_written_through(tmp_path: Path, linked: bool) -> None:
    pipe = path = tmp_path / "pipe"
    os.mkfifo(pipe)
    if linked:
        path = tmp_path / "link"
        path.symlink_to(pipe)
    seen: list[bytes] = []
    reader = threading.Thread(target=lambda: seen.append(pipe.read_bytes()))
    reader.start()
    with new_file(path, overwrite=False) as file:
        file.write(b"through")
    reader.join(10)
    assert seen == [b"through"] and stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to(os.devnull)
    write_file(tmp_path / "null", "x")
    assert (tmp_path / "null").is_symlink() and stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_standard_output_by_any_name(tmp_path: Path) -> None:
    """A file that the shell made is written through, not replaced."""
    code = "import sys; from pathlib import Path; from rdpjax.io.atomic import write_file\n"
    code += "write_file(Path(sys.argv[1]), 'data\\n'); print('after')"
    link = tmp_path / "link"
    link.symlink_to("/proc/self/fd/1")
    for name in ["-", *([str(link)] if link.parent.exists() and Path("/proc").exists() else [])]:
        with (tmp_path / "out").open("wb") as out:
            subprocess.run([sys.executable, "-c", code, name], stdout=out, check=True, cwd=tmp_path)
        assert (tmp_path / "out").read_text() == "data\nafter\n"
    assert names(tmp_path) == ["link", "out"] and link.is_symlink()


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder; name a file in it"):
        write_file(tmp_path, "x")
    with pytest.raises(OSError, match="No such file"):
        write_file(tmp_path / "none" / "a", "x")


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "b"
    with new_folder(target) as folder:
        (folder / "c").write_text("first")
        assert not target.exists()
    with pytest.raises(RuntimeError), new_folder(target, overwrite=True) as folder:
        raise RuntimeError
    assert (target / "c").read_text() == "first"
    with pytest.raises(UserError, match="b: exists; choose another folder"), new_folder(target):
        raise AssertionError
    with new_folder(target, overwrite=True) as folder:
        (folder / "d").write_text("second")
    assert names(target) == ["d"] and names(target.parent) == ["b"]


def test_disk_errors_name_the_place() -> None:
    message = "runs/a: cannot write there: No space left"
    with pytest.raises(UserError, match=message), disk_errors(Path("runs/a")):
        raise OSError(28, "No space left on device")
