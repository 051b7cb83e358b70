from __future__ import annotations

import gzip
import io
import tarfile
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from rdpjax.data.stays import patient_cache, patient_files
from rdpjax.data.stays.patient_files import PatientTable, read_patients
from rdpjax.data.stays.simulate_sepsis import simulate_sepsis
from rdpjax.errors import UserError
from rdpjax.io import archive

FILES = dict(simulate_sepsis(12, seed=3))


def folder(path: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def tar(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def zipped(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


MAKERS: dict[str, Callable[[Path, Mapping[str, bytes]], Path]] = {
    "patients": folder,
    "patients.tar.gz": tar,
    "patients.tar": tar,
    "patients.zip": zipped,
    "patients.bin": zipped,  # told by its bytes
}


def same(one: PatientTable, other: PatientTable) -> None:
    for name in ("values", "starts", "first", "onset", "statics"):
        array, again = getattr(one.patients, name), getattr(other.patients, name)
        assert array.dtype == again.dtype
        np.testing.assert_array_equal(array, again)
    assert tuple(one.patients.ids) == tuple(other.patients.ids)
    assert (one.notes, one.skipped) == (other.notes, other.skipped)
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize("name", MAKERS)
def test_every_source_reads_the_same(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    backwards = {f"set/{name}": FILES[name] for name in reversed(FILES)}
    hidden = {"set/._p000001.psv": b"\0", "__MACOSX/._p1.psv": b"\0", "set/index.html": b"<html>"}
    path = MAKERS[name](tmp_path / name, backwards | hidden)
    plain = read_patients(folder(tmp_path / "plain", FILES))
    monkeypatch.setattr(patient_files, "BLOCK_BYTES", 20_000)
    told: list[tuple[int, int]] = []
    table = read_patients(path, progress=lambda done, size: told.append((done, size)))
    same(table, plain)
    assert table.path == path
    assert tuple(table.patients.ids) == tuple(name.removesuffix(".psv") for name in FILES)
    assert told == sorted(told) and len(told) > 1 and 0 < told[-1][0] <= told[-1][1]
    rows = [content.count(b"\n") - 1 for content in FILES.values()]
    assert table.patients.stays.tolist() == rows

    chosen = np.arange(len(table.patients)) % 5 == 2
    assert table.copy_files(chosen, tmp_path / "out") == 2
    assert table.copy_files(["p000001"], tmp_path / "out") == 1
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == {
        name: FILES[name] for name in ("p000001.psv", "p000003.psv", "p000008.psv")
    }
    with pytest.raises(ValueError, match="no patient 'p9'"):
        table.copy_files(["p9"], tmp_path / "out")


def test_only_the_folder_itself(tmp_path: Path):
    names = list(FILES)
    folder(tmp_path, {names[0]: FILES[names[0]], f"deep/{names[1]}": FILES[names[1]]})
    assert len(read_patients(tmp_path).patients) == 2
    assert list(read_patients(tmp_path, recursive=False).patients.ids) == ["p000001"]


def test_the_fingerprint_sees_every_byte_and_name(tmp_path: Path):
    seen = {read_patients(folder(tmp_path / "a", FILES)).fingerprint}
    other = FILES | {"p000002.psv": FILES["p000002.psv"].replace(b"\n", b"\r\n")}
    seen.add(read_patients(folder(tmp_path / "b", other)).fingerprint)
    renamed = {name.replace("p", "q", 1): content for name, content in FILES.items()}
    seen.add(read_patients(folder(tmp_path / "c", renamed)).fingerprint)
    assert len(seen) == 3


NAMES = ["Zoë", "a.b.c", "ward 3, bed 1", "Zoe\u0308", "(1)", "_"]


@pytest.mark.parametrize("kind", ["patients", "patients.tar.gz", "patients.zip"])
def test_blanks_dots_and_letters_may_name_a_patient(tmp_path: Path, kind: str):
    files = dict(zip((f"{name}.psv" for name in NAMES), FILES.values(), strict=False))
    table = read_patients(MAKERS[kind](tmp_path / kind, files))
    assert set(table.patients.ids) == set(NAMES)
    table.copy_files(NAMES, tmp_path / "out")
    assert {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir()} == files
    assert {f.stat().st_mode & 0o777 for f in (tmp_path / "out").iterdir()} == {0o600}


@pytest.mark.parametrize("name", ["p?1", "p:1", "p\\1", "-p1", " p1", "p1 ", "p\t1", 'p"1'])
def test_what_could_name_no_file_names_no_patient(tmp_path: Path, name: str):
    path = tar(tmp_path / "a.tar", {f"{name}.psv": FILES["p000001.psv"]})
    with pytest.raises(UserError, match="names no patient; use letters, digits"):
        read_patients(path)


@pytest.mark.parametrize("kind", ["patients", "patients.tar.gz", "patients.zip"])
def test_an_archive_in_an_archive_is_named(tmp_path: Path, kind: str):
    inner = zipped(tmp_path / "plain.zip", FILES).read_bytes()
    path = MAKERS[kind](tmp_path / kind, {"set/plain.zip": inner, "set/._plain.zip": b"\0"})
    with pytest.raises(UserError, match=r"it holds set/plain\.zip: unpack that first"):
        read_patients(path)


@pytest.mark.parametrize("kind", ["patients", "patients.tar.gz", "patients.zip"])
def test_folders_may_be_part_of_the_id(tmp_path: Path, kind: str):
    content = FILES["p000001.psv"]
    files = {"a/p1.psv": content, "b/p1.psv": FILES["p000002.psv"], "b/c/p1.psv": content}
    path, cache = MAKERS[kind](tmp_path / kind, files), tmp_path / "cache"
    with pytest.raises(UserError, match="if two hospitals number alike, give --folder-ids"):
        read_patients(path, cache=cache)
    table = read_patients(path, folder_ids=True, cache=cache)
    assert tuple(table.patients.ids) == ("a_p1", "b_c_p1", "b_p1")
    table.copy_files(["b_p1"], tmp_path / "out")
    assert (tmp_path / "out" / "b_p1.psv").read_bytes() == FILES["p000002.psv"]
    again = MAKERS[kind](tmp_path / f"one-{kind}", {"a/p1.psv": content})
    for folder_ids, id in ((True, "a_p1"), (False, "p1"), (True, "a_p1")):
        assert read_patients(again, folder_ids=folder_ids, cache=cache).patients.ids == (id,)


def test_no_member_is_written_or_trusted(tmp_path: Path):
    path = tar(tmp_path / "a.tar.gz", {"../../p000001.psv": FILES["p000001.psv"]})
    table = read_patients(path)
    table.copy_files(["p000001"], tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["p000001.psv"]
    assert {file.name for file in tmp_path.iterdir()} == {"a.tar.gz", "out"}
    with pytest.raises(UserError, match=r"a\.tar: p\?1\.psv: names no patient"):
        read_patients(tar(tmp_path / "a.tar", {"p?1.psv": FILES["p000001.psv"]}))


def test_bad_files(tmp_path: Path):
    bad = {"p000004.psv": b"HR|ICULOS\n80|1\n", "p000007.psv": b""}
    place = folder(tmp_path / "a", FILES | bad)
    with pytest.raises(UserError, match=r"a/p000004\.psv: line 1: .*; --skip-bad goes on without"):
        read_patients(place)
    table = read_patients(place, skip_bad=True, cache=tmp_path / "cache")
    assert (len(table.patients), table.skipped) == (10, 2)
    assert "2 bad files are left out, such as p000004.psv: line 1" in table.notes[-1]
    with pytest.raises(UserError, match="--skip-bad"):  # the cache keeps no such table
        read_patients(place, cache=tmp_path / "cache")
    archive = tar(tmp_path / "b.tar.gz", {f"set/{name}": text for name, text in bad.items()})
    with pytest.raises(UserError, match=r"b\.tar\.gz: set/p000004\.psv: line 1: .*no file of 2"):
        read_patients(archive, skip_bad=True)


def test_a_file_that_is_far_too_long_is_a_bad_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    most = max(map(len, FILES.values()))
    for module in ("data.stays.psv", "data.stays.psv_block", "io.archive"):
        monkeypatch.setattr(f"rdpjax.{module}.MOST_BYTES", most)
    path = zipped(tmp_path / "a.zip", FILES | {"p9.psv": FILES["p000001.psv"] * 30})
    assert read_patients(path, skip_bad=True).skipped == 1
    with pytest.raises(UserError, match=r"p9\.psv: is longer than"):
        read_patients(path)


def test_notes_are_told_once(tmp_path: Path):
    files = {f"p{i}.psv": b"HR|Mood|ICULOS|SepsisLabel\n80|1|1|0\n81|1|2|0\n" for i in range(3)} | {
        "p9.psv": FILES["p000001.psv"]
    }
    notes = read_patients(folder(tmp_path, files)).notes
    assert "column 'Mood' is unknown and ignored (3 files, such as p0.psv)" in notes
    assert len(notes) == len(set(notes)) == 1 + 41 - 3


@pytest.mark.parametrize("name", ["patients", "patients.tar.gz", "patients.zip"])
def test_two_files_of_one_patient(tmp_path: Path, name: str):
    content = FILES["p000001.psv"]
    path = MAKERS[name](tmp_path / name, {"a/p1.psv": content, "b/p1.psv": content})
    with pytest.raises(UserError, match=r"b/p1\.psv: patient 'p1' has another file, a/p1\.psv"):
        read_patients(path, skip_bad=True)


@pytest.mark.parametrize("name", MAKERS)
def test_no_patients(tmp_path: Path, name: str):
    path = MAKERS[name](tmp_path / name, {"set/readme.txt": b"hello"})
    with pytest.raises(UserError, match=r"no \.psv file in it"):
        read_patients(path)


def test_what_is_no_source(tmp_path: Path):
    with pytest.raises(UserError, match="no such folder or archive"):
        read_patients(tmp_path / "nowhere")
    for content in (FILES["p000001.psv"], b"", gzip.compress(b"hello")):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(UserError, match=r"a: (is neither a folder nor|the archive is)"):
            read_patients(tmp_path / "a")


@pytest.mark.parametrize("name", ["patients.tar.gz", "patients.tar", "patients.zip"])
def test_a_damaged_archive(tmp_path: Path, name: str):
    path = MAKERS[name](tmp_path / name, FILES)
    whole = path.read_bytes()
    cuts = [len(whole) // 3, len(whole) // 2 // 512 * 512, len(whole) - 12]
    if path.suffix == ".tar":  # between two members, where tarfile sees nothing amiss
        cuts[2] = 512 + -(-len(FILES["p000001.psv"]) // 512) * 512
    damaged = [whole[:cut] for cut in cuts]
    middle = len(whole) // 2
    if path.suffix == ".tar":  # a header: the contents have no check sum
        middle = cuts[2] + 20
    damaged.append(whole[:middle] + bytes(byte ^ 0xFF for byte in whole[middle:][:40]) + b"")
    damaged[-1] += whole[len(damaged[-1]) :]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"the archive is cut off or damaged.*fetch it again"):
            read_patients(path, skip_bad=True)


def test_a_zip_with_a_password(tmp_path: Path):
    path = zipped(tmp_path / "a.zip", {"p1.psv": FILES["p000001.psv"]})
    content = bytearray(path.read_bytes())
    content[6] |= 1  # of the local header
    content[content.index(b"PK\1\2") + 8] |= 1  # of the directory
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.zip: the archive has a password; unpack it first"):
        read_patients(path)


@pytest.mark.parametrize("name", ["patients", "patients.tar.gz"])
def test_the_cache(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    path, cache = MAKERS[name](tmp_path / name, FILES), tmp_path / "deep" / "cache"
    first = read_patients(path, cache=cache)
    (kept,) = cache.iterdir()
    assert (cache.stat().st_mode & 0o777, kept.stat().st_mode & 0o777) == (0o700, 0o600)

    with monkeypatch.context() as patch:
        patch.setattr(patient_files, "read_source", None)
        again = read_patients(path, cache=cache)
    same(first, again)
    assert again.copy_files(["p000002"], tmp_path / "out") == 1

    whole = kept.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (b"", whole[: len(whole) // 2], bytes(flipped)):
        kept.write_bytes(damaged)
        same(first, read_patients(path, cache=cache))
        assert kept.read_bytes() == whole and list(cache.iterdir()) == [kept]

    MAKERS[name](path, FILES | {"p000002.psv": FILES["p000003.psv"]})
    changed = read_patients(path, cache=cache)
    assert changed.fingerprint != first.fingerprint
    np.testing.assert_array_equal(changed.patients.stays[1], changed.patients.stays[2])
    monkeypatch.setattr(patient_cache, "VERSION", patient_cache.VERSION + 1)
    read_patients(path, cache=cache)
    assert len(list(cache.iterdir())) == 3


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path):
    path = folder(tmp_path / "patients", FILES)
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert len(read_patients(path, cache=tmp_path / "cache").patients) == len(FILES)


def test_a_source_that_changes_meanwhile(tmp_path: Path):
    path = tar(tmp_path / "a.tar.gz", FILES)
    table = read_patients(path)
    tar(path, {"p000001.psv": FILES["p000001.psv"]})
    with pytest.raises(UserError, match="has changed meanwhile, patient 'p000002' is gone"):
        table.copy_files(["p000001", "p000002"], tmp_path / "out")


def test_archives_are_read_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tar(tmp_path / "a.tar.gz", FILES)
    opened: list[object] = []
    genuine = tarfile.open

    def count(*args: object, **named: object) -> tarfile.TarFile:
        opened.append(args)
        return genuine(*args, **named)

    monkeypatch.setattr(archive.tarfile, "open", count)
    read_patients(path, cache=tmp_path / "cache")
    assert len(opened) == 1


def test_hospital_a(shared_data: Path):
    path = shared_data / "sepsis_training_setA_sample.tar.gz"
    if not path.is_file():
        pytest.skip(f"no real patients: {path.name} is not in {shared_data}")
    patients = read_patients(path).patients
    assert (len(patients), len(patients.values)) == (27, 1283)
    assert int((patients.onset >= 0).sum()) == 8
    assert int(np.isnan(patients.statics[:, 2:4]).all(axis=1).sum()) == 10
    assert np.float32(75.91) in patients.statics[:, 0]


@pytest.mark.slow
def test_hospital_b(shared_data: Path, tmp_path: Path):
    path = shared_data / "sepsis_training_setB.tar.gz"
    if not path.is_file():
        pytest.skip(f"no real patients: {path.name} is not in {shared_data}")
    begun = time.process_time()  # of this process: whatever else the machine does
    table = read_patients(path, cache=tmp_path)
    read = time.process_time()
    same(table, read_patients(path, cache=tmp_path))
    assert read - begun < 20 and time.process_time() - read < 2
    patients = table.patients
    assert (len(patients), len(patients.values)) == (16_000, 610_285)
    assert int((patients.onset >= 0).sum()) == 896 and int((patients.onset == 0).sum()) == 175
    assert int((patients.first == 1).sum()) == 14_936
    assert abs(patients.labels.mean() - 0.0138) < 1e-4
    assert (patients.stays.min(), patients.stays.max()) == (8, 336)
    missing = np.isnan(patients.values).mean(axis=0)
    assert 0.6 < missing[2] < 0.7 and 0.997 < missing[8] < 0.999  # Temp, BaseExcess


HEADER = b"HR|ICULOS|SepsisLabel\n"


def test_filled_and_repeated_hours_are_told_with_files_and_hours(tmp_path: Path):
    files = {
        "a.psv": HEADER + b"80|1|0\n81|2|0\n82|9|0\n",
        "b.psv": HEADER + b"80|1|0\n81|4|0\n82|4|0\n83|4|0\n",
        "c.psv": HEADER + b"80|1|0\n81|2|0\n",
    }
    path, cache = folder(tmp_path / "in", files), tmp_path / "cache"
    gaps = "rows without a reading (8 hours in 2 files, such as a.psv)"
    for table in (read_patients(path, cache=cache), read_patients(path, cache=cache)):
        (told,) = [note for note in table.notes if "leaves out hours" in note]
        assert told.endswith(gaps)
        (told,) = [note for note in table.notes if "repeats hours" in note]
        assert told.endswith("(2 hours in 1 file, such as b.psv)")


def test_files_that_look_like_records_but_are_not_read_are_told(tmp_path: Path):
    files = {name: HEADER + b"80|1|0\n" for name in ("a.psv", "b.psv.gz", "c.csv", "in/d.psv")}
    path = folder(tmp_path / "in", {**files, "README.md": b"", "._a.psv": b"", ".e.csv": b""})
    cache = tmp_path / "cache"
    first = read_patients(path, recursive=False, cache=cache).notes[0]
    assert first == "3 files look like records, but were not read, such as b.psv.gz"
    (path / "c.csv").unlink()  # found anew where the patients were kept
    assert read_patients(path, recursive=False, cache=cache).notes[0].startswith("2 files look")
    (path / "b.psv.gz").unlink()
    assert not [n for n in read_patients(path).notes if "not read" in n]  # in/d.psv is
