"""Files as the challenge writes them."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.psv_writing import DECIMALS, format_patients, rounded, write_psv
from rdpjax.data.stays.sepsis import COLUMNS, VARIABLES


def one(values: np.ndarray, statics: list[float] | None = None, onset: int = -1) -> Patients:
    """One patient whose record begins with hour 3."""
    return Patients(
        values.astype(np.float32),
        np.array([0, len(values)]),
        np.array([3], np.int32),
        np.array([onset], np.int32),
        np.array([statics or [83, 1, 0, 1, -0.03]], np.float32),
        ("p1",),
    )


def lines(patients: Patients) -> list[list[str]]:
    (text,) = format_patients(patients)
    assert text.endswith(b"\n") and b"\r" not in text and b'"' not in text
    return [line.split("|") for line in text.decode("ascii").splitlines()]


def test_numbers_are_spelt_as_in_the_challenge():
    values = np.full((3, 34), np.nan)
    values[0, :3] = 98.4, 100, 36.4
    values[1, [10, 19, 29]] = 0.5, 1.18, 10
    values[2, [0, 14, 17]] = -0.2, 1234.4, 1e4
    header, first, second, third = lines(rounded(one(values, [50, 0, np.nan, np.nan, -98.6], 2)))
    assert header == list(COLUMNS)
    assert first[:4] == ["98", "100", "36.4", "NaN"]
    assert first[34:] == ["50", "0", "NaN", "NaN", "-98.6", "3", "0"]
    assert [second[i] for i in (10, 19, 29)] == ["0.5", "1.18", "10"]
    assert [third[i] for i in (0, 14, 17)] == ["0", "1234", "10000"]  # 0, not -0
    assert third[39:] == ["5", "1"]
    assert {len(cells) for cells in (first, second, third)} == {41}
    assert {text for row in (first, second, third) for text in row if not text[-1].isdigit()} == {
        "NaN"
    }


@pytest.mark.parametrize(
    ("hours", "text"),
    [(-5366.999, "-5367"), (-123.17, "-123.17"), (-98.6, "-98.6"), (-0.03, "-0.03"), (-0.004, "0")],
)
def test_hours_from_admission_have_two_decimals(hours, text):
    rows = lines(rounded(one(np.zeros((2, 34)), [1, 1, 1, 0, hours])))[1:]
    assert [row[38] for row in rows] == [text, text]


def test_every_step_of_every_variable_is_spelt_with_its_decimals_less_trailing_zeros():
    for j, variable in enumerate(VARIABLES):
        steps = np.arange(variable.low, variable.high, variable.step)[:700]
        values = np.full((len(steps), 34), np.nan)
        values[:, j] = steps
        wanted = [f"{step:.{DECIMALS[j]}f}" for step in steps]
        wanted = [text.rstrip("0").rstrip(".") if "." in text else text for text in wanted]
        assert [row[j] for row in lines(rounded(one(values)))[1:]] == wanted


def test_many_patients_are_cut_where_they_end():
    stays = np.random.default_rng(0).integers(1, 90, 2000)
    starts = np.concatenate([[0], np.cumsum(stays)])
    assert starts[-1] > 65_536  # more rows than are formatted at once
    values = np.full((starts[-1], 34), np.nan, np.float32)
    values[:, 0] = np.repeat(np.arange(2000), stays)
    statics = np.zeros((2000, 5), np.float32)
    many = Patients(values, starts, np.ones(2000, int), np.full(2000, -1), statics, ("",) * 2000)
    texts = list(format_patients(many))
    assert [text.count(b"\n") - 1 for text in texts] == stays.tolist()
    for number in (0, 1, 999, 1998, 1999):
        rows = texts[number].decode().splitlines()[1:]
        assert {row.split("|")[0] for row in rows} == {str(number)}
        assert [int(row.split("|")[39]) for row in rows] == [*range(1, stays[number] + 1)]
    assert list(format_patients(many.take(np.arange(0)))) == []


def test_names_are_the_files(tmp_path):
    patient = one(np.ones((2, 34)))
    write_psv(tmp_path / "new", patient, ["p000007"])
    (path,) = (tmp_path / "new").iterdir()
    assert path.name == "p000007.psv"
    assert [path.read_bytes()] == list(format_patients(patient))
    with pytest.raises(ValueError):
        write_psv(tmp_path / "new", patient, ["a", "b"])


@pytest.mark.parametrize(
    "name", ["sepsis_training_setA_sample.tar.gz", "sepsis_training_setB.tar.gz"]
)
def test_real_files_come_out_byte_for_byte(name, shared_data: Path):
    path = shared_data / name
    if not path.is_file():
        pytest.skip(f"{name} is not in {shared_data}")
    seen = 0
    with tarfile.open(path) as archive:
        for member in archive:
            if not member.name.endswith(".psv"):
                continue
            content = archive.extractfile(member).read()
            rows = np.array(
                [line.split("|") for line in content.decode().splitlines()[1:]], dtype=float
            )
            patient = Patients(
                rows[:, :34].astype(np.float32),
                np.array([0, len(rows)]),
                rows[:1, 39].astype(int),
                np.array([rows[:, 40].argmax() if rows[:, 40].any() else -1]),
                rows[:1, 34:39].astype(np.float32),
                (member.name,),
            )
            assert next(format_patients(patient)) == content, member.name
            seen += 1
            if seen == 200:
                break
    assert seen >= 27
