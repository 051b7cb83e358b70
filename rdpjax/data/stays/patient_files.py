"""Read `.psv` files, one a patient, into `Patients`; copy chosen files."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from rdpjax.data.stays.patient_cache import cache_file, read_cached, write_cached
from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.psv_block import parse_block
from rdpjax.data.stays.psv_stay import Stay
from rdpjax.errors import UserError
from rdpjax.io.archive import Member, Source, open_source
from rdpjax.io.atomic import PRIVATE

_GAPS = "ICULOS leaves out hours, which become rows without a reading"
_REPEATS = "ICULOS repeats hours: the last value measured counts"
BLOCK_BYTES = 2**21
"""Bytes of files that are parsed as one block: bounds the memory."""


@dataclass(frozen=True)
class PatientTable:
    """Private patients as read from a source.

    Attributes:
      patients: in the order of their ids, each the name of a file without `.psv`.
      notes: warnings for the curator; may come from the data.
      skipped: number of bad files that were left out.
      fingerprint: hash of all ids and contents, the same for a folder and an archive of it;
        internal.
      path: the folder or archive; None for a simulated cohort.
      source: the source, to read the files again.
    """

    patients: Patients
    notes: tuple[str, ...]
    skipped: int
    fingerprint: str
    path: Path | None
    source: Source = field(repr=False)

    def copy_files(self, chosen: Collection[str] | np.ndarray, folder: Path) -> int:
        """Write the chosen patients' files, byte for byte, as `folder/<id>.psv`.

        Args:
          chosen: ids, or a bool mask `[patients]`.
          folder: created if absent.

        Returns:
          Number of files written.

        Raises:
          UserError: the source has changed since: a chosen patient is no longer in it.
          ValueError: an id that no patient has.
        """
        if isinstance(chosen, np.ndarray) and chosen.dtype == bool:
            wanted = {self.patients.ids[i] for i in np.flatnonzero(chosen).tolist()}
        else:
            wanted = {str(id) for id in chosen}
        if unknown := wanted.difference(self.patients.ids):
            raise ValueError(f"no patient {min(unknown)!r}")
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        left = set(wanted)
        for member in self.source.members() if wanted else ():
            if member.id in left:
                file = folder / f"{member.id}.psv"
                file.touch(PRIVATE)  # thousands of files: no fsync for each
                file.write_bytes(member.content)
                left.remove(member.id)
                if not left:
                    break
        if left:
            raise UserError(
                f"{self.path}: has changed meanwhile, patient {min(left)!r} is gone; start anew"
            )
        return len(wanted)


def read_patients(
    path: Path | str,
    *,
    recursive: bool = True,
    skip_bad: bool = False,
    folder_ids: bool = False,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    jobs: int | None = None,
) -> PatientTable:
    """Read a folder or an archive of `.psv` files.

    Args:
      path: a folder, `.tar.gz`, `.tar` or `.zip`.
      recursive: search sub-folders too.
      skip_bad: skip files that `parse_psv` refuses.
      folder_ids: include the folders of a patient's file in the id.
      cache: a private folder for the result, keyed by a hash of the source's content. A table with
        bad files is not cached.
      progress: callback, called with the amount read so far and the size of the source.
      jobs: number of parsing threads; by default chosen for the machine.

    Returns:
      The patients, sorted by id.

    Raises:
      UserError: as raised by `open_source`, `Source.members` and `parse_psv`.
    """
    source = open_source(Path(path), recursive=recursive, folder_ids=folder_ids)
    table = _read_kept(source, folder_ids, skip_bad, cache, progress, jobs)
    return replace(table, notes=(*source.notes, *table.notes))


def _read_kept(
    source: Source,
    folder_ids: bool,
    skip_bad: bool,
    cache: Path | None,
    progress: Callable[[int, int], None] | None,
    jobs: int | None,
) -> PatientTable:
    """Load the patients of a source from the cache, else parse and cache them."""
    if cache is None:
        return read_source(source, skip_bad=skip_bad, progress=progress, jobs=jobs)
    kept = cache_file(cache, _content_hash(source) + bytes([folder_ids]))
    found = read_cached(kept)
    if found is not None:
        return PatientTable(found[0], found[1], 0, found[2], source.path, source)
    table = read_source(source, skip_bad=skip_bad, progress=progress, jobs=jobs)
    if not table.skipped:
        write_cached(kept, table.patients, table.notes, table.fingerprint)
    return table


def read_source(
    source: Source,
    *,
    skip_bad: bool = False,
    progress: Callable[[int, int], None] | None = None,
    jobs: int | None = None,
) -> PatientTable:
    """Read the patients of a source; arguments, result and errors as for `read_patients`."""
    stays: dict[str, Stay] = {}
    digests: dict[str, bytes] = {}
    bad: list[UserError] = []
    notes: Counter[str] = Counter()
    first: dict[str, str] = {}
    hours: Counter[str] = Counter()

    def take(members: list[Member], parsed: list[Stay | UserError]) -> None:
        for member, stay in zip(members, parsed, strict=True):
            digests[member.id] = _digest(member.content)
            if isinstance(stay, UserError):
                if not skip_bad:
                    raise UserError(f"{source.place}{stay}; --skip-bad goes on without it")
                bad.append(stay)
                continue
            stays[member.id] = stay
            uneven = {_GAPS: stay.gaps, _REPEATS: stay.repeats}
            found = (note for note, count in uneven.items() if count)
            for note in (*stay.notes, *found):
                notes[note] += 1
                first.setdefault(note, member.name)
            hours.update(uneven)
        if progress is not None:
            progress(members[-1].position, source.size)

    pending: deque[tuple[list[Member], Future[list[Stay | UserError]]]] = deque()
    pool = ThreadPoolExecutor(jobs, "psv")
    try:
        for members in _blocks(source):
            files = [(member.name, member.content) for member in members]
            pending.append((members, pool.submit(parse_block, files)))
            if len(pending) > 4:  # bounds the number of unparsed files in memory
                members, future = pending.popleft()
                take(members, future.result())
        for members, future in pending:
            take(members, future.result())
    finally:
        pool.shutdown(cancel_futures=True)
    if not stays:
        raise UserError(f"{source.place}{bad[0]}; no file of {len(bad)} can be read")
    told = [
        f"{note} ({f'{hours[note]} hours in ' if hours[note] else ''}"
        f"{count} {'file' if count == 1 else 'files'}, such as {first[note]})"
        for note, count in notes.items()
    ]
    if bad:
        left_out = "1 bad file is" if len(bad) == 1 else f"{len(bad)} bad files are"
        told.append(f"{left_out} left out, such as {bad[0]}")
    fingerprint = _combined(digests).hex()
    return PatientTable(_joined(stays), tuple(told), len(bad), fingerprint, source.path, source)


def _blocks(source: Source) -> Iterator[list[Member]]:
    """Yield the files of a source in blocks."""
    block: list[Member] = []
    size = 0
    for member in source.members():
        block.append(member)
        size += len(member.content)
        if size >= BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


def _joined(stays: dict[str, Stay]) -> Patients:
    """Concatenate the stays in the order of their ids."""
    ids = tuple(sorted(stays))
    ordered = [stays[id] for id in ids]
    return Patients(
        values=np.concatenate([stay.values for stay in ordered]),
        starts=np.cumsum([0, *(len(stay.values) for stay in ordered)]),
        first=np.array([stay.first for stay in ordered], np.int32),
        onset=np.array([stay.onset for stay in ordered], np.int32),
        statics=np.stack([stay.statics for stay in ordered]),
        ids=ids,
    )


def _content_hash(source: Source) -> bytes:
    """Hash an archive's bytes, or all files of a folder."""
    if source.path is not None and source.path.is_file():
        with source.path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    return _combined({member.id: _digest(member.content) for member in source.members()})


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _combined(digests: dict[str, bytes]) -> bytes:
    whole = hashlib.blake2b(digest_size=16)
    for id in sorted(digests):
        whole.update(f"{id}\n".encode() + digests[id])
    return whole.digest()
