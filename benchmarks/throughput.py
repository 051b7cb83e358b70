"""Training steps of rdpjax and its peers, in one run.

    python -m benchmarks.throughput --quick
    python -m benchmarks.throughput --json rows.json --markdown benchmarks/RESULTS.md

Needs the `bench` extra and PyTorch (its CPU build will do); a contender whose package isn't there
is left out by name. First one clipped sum of every DP contender is compared; then each is given its
best setting by a short search; then all are timed in turns.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import statistics
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

if __name__ == "__main__" and not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.contender import Contender, Setting, Unable, cores, records_for
from benchmarks.imported import all_contenders, prepare
from benchmarks.measure import Ready, check, describe, in_turns, tune
from benchmarks.memory import Meter
from benchmarks.report import Row, page, paired, plot, ratios, table
from benchmarks.workloads import WORKLOADS, Workload

BATCHES = (64, 256, 1024, 4096, 16384)
ON_ACCELERATOR = 65536
QUICK = (64, 256, 1024)
SEARCHED = 256  # beyond it, a batch tries the settings that were best at the batch before
KEPT = 3
REPEATS = 21  # on a shared machine a few short blocks are a matter of luck
BLOCK_S = {True: 0.25, False: 0.5}
PACKAGES = ("rdpjax", "jax", "optax", "jax-privacy", "torch", "opacus")


def main() -> int:
    arguments = _arguments()
    names = arguments.workloads or (["cardio-vae"] if arguments.quick else list(WORKLOADS))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as cache:
        prepare(cache)
        accelerator = _accelerator()
        facts = {
            "machine": _machine(accelerator),
            "versions": _versions(),
            "command": _command(),
        }
        _say(f"{facts['machine']}\n{facts['versions']}\n{_threads()}")
        contenders = _present(arguments.contenders)
        batches = arguments.batches or (
            QUICK if arguments.quick else (*BATCHES, ON_ACCELERATOR) if accelerator else BATCHES
        )
        meter = Meter(cache)
        unable = {name: _compared(WORKLOADS[name], contenders) for name in names}
        for name in names:
            settings: dict[str, list[Setting]] = {}
            for batch in batches:
                begun = time.monotonic()
                rows += [
                    row | facts
                    for row in _cells(
                        WORKLOADS[name],
                        batch,
                        contenders,
                        settings,
                        unable[name],
                        meter,
                        arguments.quick,
                    )
                ]
                _say(f"{name}, batch {batch}: {time.monotonic() - begun:.0f} s")
                _write(arguments, rows)
    print(table(rows))
    print()
    print("\n".join(ratios(rows)))
    return 0


def _cells(
    workload: Workload,
    batch: int,
    contenders: list[Contender],
    settings: dict[str, list[Setting]],
    unable: dict[str, str],
    meter: Meter,
    quick: bool,
) -> list[Row]:
    """One batch size of one workload: search, time in turns, measure memory."""
    ready: list[Ready] = []
    reasons = dict(unable)
    records = workload.records(records_for(batch), 0)
    loaded: dict[str, Any] = {}
    for contender in contenders:
        if contender.name in reasons:
            continue
        if contender.rival not in loaded:
            loaded[contender.rival] = contender.load(records)
        tried = settings.get(contender.name) or contender.settings(workload, batch)
        try:
            one = tune(contender, workload, loaded[contender.rival], batch, tried)
        except Unable as reason:
            reasons[contender.name] = str(reason)
            continue
        ready.append(one)
        _say(f"  {contender.name}: {one.step_s * 1e3:.1f} ms a step, {describe(one.setting)}")
        if batch >= SEARCHED:
            settings[contender.name] = [setting for _, setting in one.tried[:KEPT]]
    blocks = in_turns(ready, REPEATS, BLOCK_S[quick])
    times = {one.contender.name: each for one, each in zip(ready, blocks, strict=True)}
    rows = []
    for contender in contenders:
        found = [one for one in ready if one.contender is contender]
        if not found:
            rows.append(_empty(workload, batch, contender, reasons[contender.name]))
            continue
        peak, note = meter.peak(workload.name, batch, contender.name, found[0].setting)
        plain = times.get(contender.rival)
        rows.append(_row(workload, batch, found[0], times[contender.name], plain, peak, note))
    return rows


def _row(
    workload: Workload,
    batch: int,
    one: Ready,
    times: list[tuple[float, float]],
    plain: list[tuple[float, float]] | None,
    peak: float | None,
    note: str,
) -> Row:
    steps, speeds = zip(*times, strict=True)
    return {
        "workload": workload.name,
        "parameters": workload.parameters,
        "batch": batch,
        "contender": one.contender.name,
        "examples_per_second": statistics.median(speeds),
        "step_ms": statistics.median(steps) * 1e3,
        "rounds": {
            "examples_per_second": list(speeds),
            "step_ms": [1e3 * step for step in steps],
        },
        "ratio_to_plain": paired(steps, [step for step, _ in plain]) if plain else None,
        "compile_s": one.compile_s,
        "peak_mib": peak,
        "setting": describe(one.setting),
        "tried_ms": {describe(setting): 1e3 * step for step, setting in one.tried},
        "note": note,
    }


def _empty(workload: Workload, batch: int, contender: Contender, reason: str) -> Row:
    figures = ("examples_per_second", "step_ms", "ratio_to_plain", "compile_s", "peak_mib")
    return {
        "workload": workload.name,
        "parameters": workload.parameters,
        "batch": batch,
        "contender": contender.name,
        **dict.fromkeys(figures),
        "setting": "",
        "note": reason,
    }


def _compared(workload: Workload, contenders: list[Contender]) -> dict[str, str]:
    """Compare the clipped sums; who cannot run the workload, and why."""
    reference = next(one for one in all_contenders() if one.name == "vmap")
    distances, unable = check(workload, contenders, reference)
    found = ", ".join(f"{name} {distance:.0e}" for name, distance in distances.items())
    _say(f"{workload.name}: clipped sums agree with {reference.name}'s: {found}")
    for name, reason in unable.items():
        _say(f"{workload.name}: {name} cannot run it: {reason}")
    return unable


def _present(names: list[str] | None) -> list[Contender]:
    found = []
    for contender in all_contenders():
        if names and contender.name not in names:
            continue
        if contender.missing:
            _say(f"{contender.name}: left out, {contender.missing} is not installed")
            continue
        found.append(contender)
    return found


def _write(arguments: argparse.Namespace, rows: list[Row]) -> None:
    """Files after every batch size, so that a long run that is stopped leaves what it has."""
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if arguments.markdown:
        arguments.markdown.write_text(page(rows), encoding="utf-8")
    if arguments.plot:
        plot(rows, arguments.plot)


# -- facts of the run ----------------------------------------------------------------------------


def _accelerator() -> str | None:
    import jax

    device = jax.devices()[0]
    return None if device.platform == "cpu" else f"{device.platform.upper()} {device.device_kind}"


def _machine(accelerator: str | None) -> str:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        match = re.search(r"model name\s*:\s*(.+)", info.read_text(encoding="utf-8"))
        model = match[1] if match else model
    processor = f"{cores()} cores of {model}"
    return f"{accelerator}, {processor}" if accelerator else processor


def _versions() -> str:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join([f"Python {platform.python_version()}", *found])


def _threads() -> str:
    torch = f"{cores()} for PyTorch, or 1 where that is faster"
    return f"threads: {torch}; JAX takes one a core, on one device or on a device a core"


def _command() -> str:
    return " ".join(["python -m benchmarks.throughput", *sys.argv[1:]])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="cardio-vae at 64, 256 and 1,024")
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), metavar="NAME")
    parser.add_argument("--batches", nargs="+", type=int, metavar="B")
    names = [contender.name for contender in all_contenders()]
    parser.add_argument("--contenders", nargs="+", choices=names, metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="raw rows")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the page")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="examples/s against the batch")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
