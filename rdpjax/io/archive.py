"""Sources of patients' `.psv` files: a folder, or an archive that is read without being unpacked.

Nothing is written to disk and no member's path is ever used as a path: the patient's id is its last
part, or all parts joined by `_`.
"""

from __future__ import annotations

import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO, NamedTuple

from rdpjax.errors import UserError

MOST_BYTES = 2**24
"""Bytes after which a file is refused: two weeks of one patient take a hundredth of that."""

_NOT_IN_IDS = frozenset('<>:"/\\|?*')  # an id becomes a file name on any system
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")  # gzip, bzip2, xz
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
_ALIKE = re.compile(
    r"^[^.].*\.(psv|csv|tsv|txt|parquet)(\.(gz|bz2|xz|zip|bak|old))?$", re.IGNORECASE
)
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError)

_Chosen = Callable[[PurePath], str | None]
_Reader = Callable[[BinaryIO, _Chosen], Iterator["Member"]]


class Member(NamedTuple):
    """One file: its name for messages, its patient's id, its bytes, its end in the source."""

    name: str
    id: str
    content: bytes
    position: int


@dataclass(frozen=True)
class Source:
    """Source of patients' files, read from disk at every iteration.

    Attributes:
      path: the folder or archive; None for simulated files.
      place: prefix of a file's name in messages.
      size: approximate `position` of the last file, for a progress bar.
      files: iterates over them, in any order.
      other: the name of a nested archive, which is not read.
      notes: notes on files that look like records, but are not read.
    """

    path: Path | None
    place: str
    size: int
    files: Callable[[], Iterator[Member]]
    other: Callable[[], str | None] = lambda: None
    notes: tuple[str, ...] = ()

    def members(self) -> Iterator[Member]:
        """Yield the files, one by one; a file longer than `MOST_BYTES` is cut one byte above that.

        Raises:
          UserError: no such file at all, two of one patient, a name that is no valid id, a damaged
            or encrypted archive.
        """
        names: dict[str, str] = {}
        for member in self.files():
            if not is_id(member.id):
                raise UserError(
                    f"{self.place}{member.name}: names no patient; use letters, digits, '_', '-', "
                    "'.' and blanks"
                )
            if member.id in names:
                raise UserError(
                    f"{self.place}{member.name}: patient {member.id!r} has another file, "
                    f"{names[member.id]}; keep one of them, or, if two hospitals number alike, "
                    "give --folder-ids"
                )
            names[member.id] = member.name
            yield member
        if not names:
            mend = "name the folder or archive that has them"
            if inner := self.other():
                mend = f"it holds {inner}: unpack that first"
            raise UserError(f"{self.path}: no .psv file in it; {mend}")


def is_id(id: str) -> bool:
    """Return whether an id is a valid file name on every system.

    Examples:
      >>> [is_id(id) for id in ("p1", "Zoë 2.1", "p?1", ".p1", "p1 ", "")]
      [True, True, False, False, False, False]
    """
    return id.isprintable() and id == id.strip() and id[:1] not in "-." and not _NOT_IN_IDS & {*id}


def open_source(path: Path, *, recursive: bool = True, folder_ids: bool = False) -> Source:
    """Detect by its bytes, not by its name, whether `path` is a folder or which archive it is.

    Args:
      path: a folder, or a `.tar`, `.tar.gz` (also bz2, xz) or `.zip`.
      recursive: search a folder's subfolders too. Of an archive, all members are read anyway.
      folder_ids: a patient's id names the folders in `path` too: `a/p1.psv` is `a_p1`.

    Raises:
      UserError: no such path, an unreadable one, a folder with files only in subfolders that are
        not searched, or a file that is not a supported archive.
    """
    inner: list[str] = []

    def chosen(name: PurePath) -> str | None:
        """Return the id of the patient whose file has this name; None for any other file."""
        if name.name.lower().endswith(_ARCHIVES) and not name.name.startswith("."):
            inner.append(_shown(name.as_posix()))
        if not _is_psv(name):
            return None
        parts = [part for part in name.parts if part not in (".", "..", name.anchor)]
        return "_".join([*parts[:-1], name.stem]) if folder_ids else name.stem

    def other() -> str | None:
        return inner[0] if inner else None

    try:
        if path.is_dir():
            found = sorted(path.rglob("*") if recursive else path.iterdir())
            ids = {file: chosen(file.relative_to(path)) for file in found}
            files = {file: id for file, id in ids.items() if id is not None and file.is_file()}
            if not files and not recursive and any(map(_is_psv, path.rglob("*"))):
                raise UserError(
                    f"{path}: its .psv files lie in folders of it; give --recursive, or name one"
                )
            size = sum(file.stat().st_size for file in files)
            inside = path.rglob("*.[pP][sS][vV]") if not recursive else ()
            notes = _unread(path, [*found, *inside], set(files))
            return Source(path, f"{path}/", size, lambda: _in_folder(path, files), other, notes)
        with path.open("rb") as file:
            start = file.read(512)
        size = path.stat().st_size
    except FileNotFoundError:
        raise UserError(f"{path}: no such folder or archive; check the path") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its rights") from None
    if start[:4] in (b"PK\3\4", b"PK\5\6"):
        reader = _in_zip
    elif start.startswith(_PACKED) or start[257:262] == b"ustar":
        reader = _in_tar
    else:
        raise UserError(
            f"{path}: is neither a folder nor a .tar.gz, .tar or .zip; name the folder of .psv "
            "files or an archive of it"
        )
    return Source(path, f"{path}: ", size, lambda: _in_archive(path, reader, chosen), other)


def _is_psv(name: PurePath) -> bool:
    # macOS stores a hidden companion (`._name`) beside each file of an archive.
    return name.suffix.lower() == ".psv" and not re.search(r"(^|/)\.[^./]", name.as_posix())


def _unread(folder: Path, found: list[Path], read: set[Path]) -> tuple[str, ...]:
    """Describe how many files of a folder look like records, but are not read."""
    others = sorted(
        {
            file.relative_to(folder).as_posix()
            for file in found
            if file not in read and _ALIKE.search(file.name) and file.is_file()
        }
    )
    if not others:
        return ()
    files = "1 file looks" if len(others) == 1 else f"{len(others)} files look"
    return (f"{files} like records, but were not read, such as {others[0]}",)


def _in_folder(folder: Path, files: Mapping[Path, str]) -> Iterator[Member]:
    position = 0
    for file, id in files.items():
        try:
            with file.open("rb") as opened:
                content = opened.read(MOST_BYTES + 1)
        except OSError as error:
            raise UserError(
                f"{file}: cannot be read ({error.strerror}); check its rights"
            ) from None
        position += len(content)
        yield Member(str(file.relative_to(folder)), id, content, position)


def _in_archive(path: Path, reader: _Reader, chosen: _Chosen) -> Iterator[Member]:
    try:
        with path.open("rb") as file:
            yield from reader(file, chosen)
    except _DAMAGE:
        raise UserError(
            f"{path}: the archive is cut off or damaged, or holds no files; fetch it again"
        ) from None


def _in_tar(file: BinaryIO, chosen: _Chosen) -> Iterator[Member]:
    with tarfile.open(fileobj=file, mode="r:*") as archive:
        for info in archive:
            id = chosen(PurePosixPath(info.name)) if info.isfile() else None
            if id is not None:
                opened = archive.extractfile(info)
                assert opened is not None  # isfile() holds
                content = opened.read(MOST_BYTES + 1)
                yield Member(_shown(info.name), id, content, file.tell())
        # tarfile takes a damaged header, or a truncated file, for the end of the archive, and a
        # decompressor verifies its checksum only after the last byte: check the end, then read on.
        rest = archive.fileobj
        assert rest is not None
        rest.seek(archive.offset)
        if rest.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError
        while rest.read(2**20):
            pass


def _in_zip(file: BinaryIO, chosen: _Chosen) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        position = 0
        for info in archive.infolist():
            position += info.compress_size
            id = None if info.is_dir() else chosen(PurePosixPath(info.filename))
            if id is None:
                continue
            if info.flag_bits & 1:
                raise UserError(f"{file.name}: the archive has a password; unpack it first")
            try:
                with archive.open(info) as opened:
                    content = opened.read(MOST_BYTES + 1)
            except NotImplementedError:
                raise UserError(
                    f"{file.name}: {_shown(info.filename)} is compressed by an unknown method; "
                    "pack it as .tar.gz"
                ) from None
            yield Member(_shown(info.filename), id, content, position)


def _shown(name: str) -> str:
    return name if name.isprintable() else repr(name)
