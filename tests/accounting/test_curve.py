"""Epsilon against one number of a plan: the points, the files, and what is refused."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pytest

from rdpjax.accounting.curve import Point, check_files, draw, points_as_text, trace, write_csv
from rdpjax.errors import UserError
from rdpjax.privacy.accountants import pld_epsilon, rdp_epsilon
from rdpjax.privacy.events import Event

HIST = Event("hist", "gaussian", 1.0, 10.0, 1.0, 1)
VAE = Event("vae", "poisson_gaussian", 0.125, 3.0, 1.0, 40)


def test_each_point_is_what_the_accountants_say() -> None:
    steps, sigma, rate, delta = (
        trace([HIST, VAE], 1e-5, axis, values=[value], stage="vae")[0]
        for axis, value in (("steps", 80), ("sigma", 6.0), ("q", 0.25), ("delta", 1e-4))
    )
    for point, event, at in (
        (steps, Event("vae", "poisson_gaussian", 0.125, 3.0, 1.0, 80), 1e-5),
        (sigma, Event("vae", "poisson_gaussian", 0.125, 6.0, 1.0, 40), 1e-5),
        (rate, Event("vae", "poisson_gaussian", 0.25, 3.0, 1.0, 40), 1e-5),
        (delta, VAE, 1e-4),
    ):
        assert (point.epsilon, point.order) == rdp_epsilon([HIST, event], at)
        assert point.epsilon_pld == pld_epsilon([HIST, event], at)


def test_values_around_the_plan_unless_given() -> None:
    heard: list[str] = []
    found = trace([HIST], 1e-5, "sigma", say=heard.append)
    values = [point.value for point in found]
    assert values[0] == 1.25 and values[4] == 10.0 and values[8] == 80.0
    assert sorted((p.epsilon for p in found), reverse=True) == [p.epsilon for p in found]
    assert len(heard) == 9 and "sigma 10" in heard[4]
    steps = [point.value for point in trace([HIST], 1e-5, "steps")]
    assert steps == sorted(set(steps)) and steps[0] == 1 and steps[-1] == 8
    rates = [p.value for p in trace([Event("x", "poisson_gaussian", 0.5, 5.0, 1.0, 1)], 1e-5, "q")]
    assert rates[0] == 0.0625 and rates[-1] == 1.0 and len(set(rates)) == len(rates)


def test_files(tmp_path: Path) -> None:
    points = (Point(10.0, 4.5, 5.4, 4.1), Point(20.0, 2.25, None, None))
    write_csv(points, "sigma", tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"sigma": "10.0", "epsilon": "4.5", "order": "5.4", "epsilon_pld": "4.1"}
    assert rows[1]["epsilon_pld"] == rows[1]["order"] == ""
    for name, start in (("x.png", b"\x89PNG"), ("x.svg", b"<?xml"), ("x.pdf", b"%PDF")):
        draw(points, "sigma", "plan", tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    assert points_as_text(points, "sigma").splitlines()[1].split() == ["10", "4.5000", "4.1000"]
    for name in ("x.txt", "missing/x.png"):
        with pytest.raises(UserError, match="--picture"):
            draw(points, "sigma", "plan", tmp_path / name)
    with pytest.raises(UserError, match="--csv"):
        write_csv(points, "sigma", tmp_path / "missing" / "x.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv", "x.pdf", "x.png", "x.svg"]


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.csv"
    path.write_text("before")

    class Full:
        def writerow(self, row: Any) -> None: ...

        def writerows(self, rows: Any) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(csv, "writer", lambda *args, **kwargs: Full())
    with pytest.raises(UserError, match=r"--csv .*: cannot be written: No space left"):
        write_csv((Point(1.0, 2.0, None, None),), "sigma", path)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_a_device_is_written_to_and_a_link_is_followed(tmp_path: Path) -> None:
    write_csv((Point(1.0, 2.0, None, None),), "q", Path(os.devnull))
    assert not Path(os.devnull).is_file()
    (tmp_path / "link.csv").symlink_to(tmp_path / "target.csv")
    write_csv((Point(1.0, 2.0, None, None),), "q", tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "target.csv").read_text().startswith("q,epsilon")


def test_files_are_checked_beforehand(tmp_path: Path) -> None:
    check_files(None, None)
    check_files(tmp_path / "x.csv", tmp_path / "x.png")
    (tmp_path / "folder.png").mkdir()
    for table, picture, message in (
        (tmp_path / "missing" / "x.csv", None, "--csv .*no folder"),
        (tmp_path, None, "--csv .*is a folder"),
        (None, tmp_path / "x.bmp", "name a .png"),
        (None, tmp_path / "missing" / "x.png", "--picture .*no folder"),
        (None, tmp_path / "folder.png", "--picture .*is a folder"),
        (tmp_path / "x.png", tmp_path / "x.png", "--picture .*is the file of --csv too"),
    ):
        with pytest.raises(UserError, match=message):
            check_files(table, picture)


@pytest.mark.parametrize(
    ("axis", "values", "stage", "message"),
    [
        ("q", [1.5], "vae", "q is 1.5"),
        ("q", [0.0], "vae", "q is 0"),
        ("q", [0.5], "hist", "'hist' reads every record"),
        ("steps", [2.5], "vae", "steps is 2.5; give a whole number"),
        ("steps", [0], "vae", "steps is 0"),
        ("sigma", [float("nan")], "vae", "sigma is nan"),
        ("sigma", [0.01], "vae", "sigma is 0.01; give 0.05 or more"),
        ("sigma", [1e155], "vae", r"--values: event 'vae': noise_multiplier is 1e\+155"),
        ("steps", [1e300], "vae", "--values: event 'vae': steps is too large"),
        ("delta", [1.0], None, "delta is 1"),
        ("sigma", [1.0], None, "--of: the plan has several stages"),
        ("sigma", [1.0], "gan", "no stage 'gan' in the plan; it has hist, vae"),
    ],
)
def test_bad_values_are_refused(axis: Any, values: Any, stage: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        trace([HIST, VAE], 1e-5, axis, values=values, stage=stage)


def test_no_noise_is_refused() -> None:
    bare = Event("vae", "poisson_gaussian", 0.25, 0.0, float("inf"), 10)
    with pytest.raises(UserError, match="'vae' adds no noise"):
        trace([bare], 1e-5, "steps")
