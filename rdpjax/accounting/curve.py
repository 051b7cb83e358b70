"""Epsilon of a plan against its steps, noise, sampling rate or delta: table, CSV and picture."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import math
import os
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

from rdpjax.accounting.compare import need_noise
from rdpjax.accounting.statement import aligned
from rdpjax.errors import UserError
from rdpjax.io.atomic import PUBLIC, new_file
from rdpjax.privacy.accountants import check_delta, pld_epsilon, rdp_epsilon
from rdpjax.privacy.events import SAMPLED, Event, round_up_rate
from rdpjax.privacy.search import SIGMA_LEAST

Against = Literal["steps", "sigma", "q", "delta"]
PICTURES = (".png", ".svg", ".pdf")
_POINTS = 9


@dataclasses.dataclass(frozen=True)
class Point:
    """Epsilon at one value of the varied parameter.

    Attributes:
      value: Value of the varied parameter.
      epsilon: By RDP.
      order: The Rényi order that gave it; None for 0.
      epsilon_pld: By privacy loss distributions; None where these are not available.
    """

    value: float
    epsilon: float
    order: float | None
    epsilon_pld: float | None


def trace(
    events: Sequence[Event],
    delta: float,
    against: Against,
    *,
    values: Sequence[float] = (),
    stage: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Point, ...]:
    """Compute epsilon of the whole plan at several values of one of its parameters.

    Args:
      events: The plan; every event with noise.
      delta: In (0, 1).
      against: Parameter to vary.
      values: Its values; by default nine from an eighth of the plan's value to eight times it, or
        deltas from 1e-10 to 1e-2.
      stage: Stage whose steps, noise multiplier or sampling rate vary; required for several stages.
      say: Callback, called with a line for each value.

    Returns:
      A point for each value, in order.

    Raises:
      UserError: No such stage, a value out of range, or a plan without noise.

    Examples:
      >>> plan = [Event("hist", "gaussian", 1.0, 10.0, 1.0, 100)]
      >>> for point in trace(plan, 1e-5, "sigma", values=[10, 20]):
      ...     print(f"{point.value:g}: {point.epsilon:.3f} {point.epsilon_pld:.3f}")
      10: 4.729 4.377
      20: 2.166 1.993
    """
    delta = check_delta(delta)
    need_noise(events)
    index = None if against == "delta" else _position(events, against, stage)
    at_values = _checked(values, against) or _around(events, against, index)
    # Build all plans before the first is accounted: a bad value must not fail after minutes.
    plans = [events] * len(at_values)
    if index is not None:
        changes = [_with(events[index], against, value) for value in at_values]
        plans = [[*events[:index], change, *events[index + 1 :]] for change in changes]
    points = []
    for value, changed in zip(at_values, plans, strict=True):
        at = value if index is None else delta
        epsilon, order = rdp_epsilon(changed, at)
        points.append(Point(value, epsilon, order, pld_epsilon(changed, at)))
        say(f"  {against} {value:g}: epsilon {epsilon:.4g}")
    return tuple(points)


def _position(events: Sequence[Event], against: str, stage: str | None) -> int:
    names = [event.stage for event in events]
    if stage is None:
        if len(events) > 1:
            raise UserError(
                f"--of: the plan has several stages ({', '.join(names)}); name the one to vary"
            )
        return 0
    if names.count(stage) != 1:
        many = "no stage" if stage not in names else "several stages"
        raise UserError(f"--of: {many} {stage!r} in the plan; it has {', '.join(names)}")
    return names.index(stage)


def _with(event: Event, against: str, value: float) -> Event:
    if against == "q" and event.mechanism not in SAMPLED:
        raise UserError(f"--of: {event.stage!r} reads every record; its q is 1")
    try:
        if against == "steps":
            return dataclasses.replace(event, steps=int(value))
        if against == "sigma":
            return dataclasses.replace(event, noise_multiplier=value)
        return dataclasses.replace(event, sampling_rate=round_up_rate(value))
    except UserError as error:
        raise UserError(f"--values: {error}") from None


def _checked(values: Sequence[float], against: str) -> list[float]:
    """Check that the varied parameter can take these values, and return them as floats.

    Raises:
      UserError: One is out of range.
    """
    for value in values:
        if against == "delta":
            check_delta(value)
        elif not (math.isfinite(value) and value > 0):
            raise UserError(f"--values: {against} is {value:g}; it must be positive and finite")
        elif against == "sigma" and value < SIGMA_LEAST:
            raise UserError(f"--values: sigma is {value:g}; give {SIGMA_LEAST:g} or more")
        elif against == "q" and value > 1:
            raise UserError(f"--values: q is {value:g}; it must lie in (0, 1]")
        elif against == "steps" and value % 1:
            raise UserError(f"--values: steps is {value:g}; give a whole number")
    return [float(value) for value in values]


def _around(events: Sequence[Event], against: str, index: int | None) -> list[float]:
    spread = [-1 + 2 * i / (_POINTS - 1) for i in range(_POINTS)]
    if index is None:
        return [10 ** (-6 + 4 * part) for part in spread]
    event = events[index]
    if against == "sigma":
        return sorted({max(SIGMA_LEAST, event.noise_multiplier * 8**part) for part in spread})
    if against == "q":
        return sorted({min(1.0, event.sampling_rate * 8**part) for part in spread})
    return sorted({float(max(1, round(event.steps * 8**part))) for part in spread})


def points_as_text(points: Sequence[Point], against: str) -> str:
    """Format the points as a table.

    Examples:
      >>> print(points_as_text([Point(10.0, 4.5, 5.4, None)], "sigma"))
      sigma     RDP  PLD
         10  4.5000
    """
    rows = [(against, "RDP", "PLD")]
    for point in points:
        pld = "" if point.epsilon_pld is None else f"{point.epsilon_pld:.4f}"
        rows.append((f"{point.value:.6g}", f"{point.epsilon:.4f}", pld))
    return "\n".join(aligned(rows, left=()))


def write_csv(points: Sequence[Point], against: str, path: Path) -> None:
    """Write the points as CSV with a header; a cell is empty where there is no value.

    Raises:
      UserError: The file cannot be written; what was there stays.
    """
    _check_place("--csv", path)
    with _whole("--csv", path) as file:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([against, "epsilon", "order", "epsilon_pld"])
        writer.writerows(dataclasses.astuple(point) for point in points)
        file.write(text.getvalue().encode())


def check_files(table: Path | None, picture: Path | None) -> None:
    """Refuse files that could not be written once all is computed.

    Raises:
      UserError: No kind of picture, no such folder, a folder, no permission, or twice the same.
    """
    if table is not None:
        _check_place("--csv", table)
    if picture is not None:
        _check_picture(picture)
    if table is not None and picture is not None and table.resolve() == picture.resolve():
        raise UserError(f"--picture {picture}: is the file of --csv too; name another")


def _check_picture(path: Path) -> None:
    if path.suffix not in PICTURES:
        raise UserError(f"--picture {path}: name a {', '.join(PICTURES)} file")
    _check_place("--picture", path)


def _check_place(flag: str, path: Path) -> None:
    if not path.parent.is_dir():
        raise UserError(f"{flag} {path}: no folder {path.parent}; make it first")
    if path.is_dir():
        raise UserError(f"{flag} {path}: is a folder; name a file in it")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"{flag} {path}: cannot be written: no permission; name another file")


@contextlib.contextmanager
def _whole(flag: str, path: Path) -> Generator[BinaryIO]:
    """Open a file to write, so that a failure leaves nothing half-written at `path`.

    Raises:
      UserError: It cannot be written.
    """
    try:
        with new_file(path, mode=PUBLIC) as file:
            yield file
    except OSError as error:
        raise UserError(f"{flag} {path}: cannot be written: {error.strerror}") from None


def draw(points: Sequence[Point], against: str, title: str, path: Path) -> None:
    """Plot the points to a picture file, of the kind that the file's name ends in.

    Raises:
      UserError: What `check_files` refuses, or the file cannot be written; what was there stays.
    """
    _check_picture(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)  # its own canvas: no pyplot, so no global state and no display
    axes = figure.add_subplot()
    x = [point.value for point in points]
    axes.plot(x, [point.epsilon for point in points], "o-", label="RDP (the claim)")
    pld = [math.nan if p.epsilon_pld is None else p.epsilon_pld for p in points]
    if not all(map(math.isnan, pld)):
        axes.plot(x, pld, "s--", label="PLD")
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel({"sigma": "noise multiplier", "q": "sampling rate"}.get(against, against))
    axes.set_ylabel("epsilon")
    axes.set_title(title)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    with _whole("--picture", path) as file:
        figure.savefig(file, dpi=150, format=path.suffix[1:])
