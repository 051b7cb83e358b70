"""Rows to a table, ratios, a page and a plot.

python -m benchmarks.report benchmarks/RESULTS.md rows.json [more.json ...]

writes the page again from raw rows, of several machines too.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

Row = dict[str, Any]

COLUMNS: dict[str, Callable[[Row], str]] = {
    "workload": lambda row: row["workload"],
    "batch": lambda row: f"{row['batch']:,}",
    "contender": lambda row: row["contender"],
    "examples/s": lambda row: _number(row["examples_per_second"], ",.0f"),
    "step ms": lambda row: _number(row["step_ms"], ".2f"),
    "× plain": lambda row: _number(row["ratio_to_plain"], ".2f"),
    "compile s": lambda row: _number(row["compile_s"], ".1f"),
    "peak MiB": lambda row: _number(row["peak_mib"], ",.0f"),
    "setting": lambda row: row["setting"],
    "note": lambda row: row["note"],
}
TEXT = {"workload", "contender", "setting", "note"}

ABOUT = """\
Medians of blocks that were run in turns in one process, ratios medians over the rounds, so that
a slow minute of the machine falls on both sides; every round is in the raw rows of `--json`.
*examples/s* counts real examples: rdpjax draws a Poisson batch whose expectation is
the batch size, from {records} records or more, inside the timed step; every rival is handed the
same fixed batch again and again, which spares it the sampling. *× plain* is the step's time over
that of the step without privacy in the same framework (`plain` in JAX, `pytorch` in PyTorch).
*compile s* is the first call less its steps. *peak MiB* is measured in a fresh process, above the
level after import and data load, without the compiler's own memory but with what libraries touch
at first use. Each contender ran at its
best of the settings that were searched; on a processor, those in JAX searched for one device, and
for a device a core that share the batch. XLA is asked for the same in all of them, as rdpjax asks
in its own runs (`prepare_processor`, `compiler_options`). `plain-optax` is a step as one would
write it by hand, whole batch, the faster of slices and `lax.conv`. Every DP contender's sum of 64
clipped gradients agreed with rdpjax's `vmap` to {tolerance:g} relative before anything was timed.
"""


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def table(rows: Sequence[Row], *, markdown: bool = False) -> str:
    """All rows, aligned for a terminal or as Markdown."""
    cells = [list(COLUMNS)] + [[show(row) for show in COLUMNS.values()] for row in rows]
    if markdown:
        rule = ["---" if name in TEXT else "---:" for name in COLUMNS]
        return "\n".join("| " + " | ".join(line) + " |" for line in [cells[0], rule, *cells[1:]])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if name in TEXT else cell.rjust(width)
            for name, cell, width in zip(COLUMNS, line, widths, strict=True)
        ).rstrip()
        for line in cells
    )


def paired(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median ratio over rounds, in each of which both ran a moment apart."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


def _faster(one: Row, other: Row) -> float:
    """How many times the other's examples a second one processes."""
    return paired(*(row["rounds"]["examples_per_second"] for row in (one, other)))


def _slower(one: Row, other: Row) -> float:
    """How many times the other's step one's takes."""
    return paired(*(row["rounds"]["step_ms"] for row in (one, other)))


def ratios(rows: Sequence[Row]) -> list[str]:
    """The comparisons that matter, for every workload, where both sides were run."""
    lines: list[str] = []
    for workload in dict.fromkeys(row["workload"] for row in rows):
        cells = {
            (row["contender"], row["batch"]): row
            for row in rows
            if row["workload"] == workload and row["step_ms"] is not None
        }
        for batch in sorted({batch for _, batch in cells}):
            lines += _at_batch(workload, batch, cells)
        small, large = cells.get(("ghost", 1024)), cells.get(("ghost", 16384))
        if small and large and small["peak_mib"] and large["peak_mib"]:
            factor = large["peak_mib"] / small["peak_mib"]
            lines.append(f"{workload}: ghost's peak memory at 16384 / at 1024: {factor:.2f}")
    return lines


def _at_batch(workload: str, batch: int, cells: dict[tuple[str, int], Row]) -> Iterable[str]:
    def row(name: str) -> Row | None:
        return cells.get((name, batch))

    ghost, plain, by_hand = row("ghost"), row("plain"), row("plain-optax")
    start = f"{workload}, batch {batch}: "
    opacus = [r for (name, b), r in cells.items() if b == batch and name.startswith("opacus-")]
    if ghost and opacus:
        best = max(opacus, key=lambda r: r["examples_per_second"])
        name = best["contender"]
        yield f"{start}ghost / best Opacus ({name}) in examples/s: {_faster(ghost, best):.2f}"
    if ghost and (theirs := row("jax-privacy")):
        yield f"{start}ghost / jax-privacy in examples/s: {_faster(ghost, theirs):.2f}"
    if ghost and plain:
        yield f"{start}ghost step / plain step: {_slower(ghost, plain):.2f}"
    if ghost and by_hand:
        yield f"{start}ghost step / hand-written optax step: {_slower(ghost, by_hand):.2f}"
    if plain and by_hand:
        yield f"{start}plain step / hand-written optax step: {_slower(plain, by_hand):.2f}"


def page(rows: Sequence[Row], not_run: Sequence[str] = ()) -> str:
    """RESULTS.md: a section for each machine and command."""
    from benchmarks.contender import records_for
    from benchmarks.measure import TOLERANCE

    parts = [
        "# Throughput of rdpjax and its peers\n",
        "Written by `python -m benchmarks.throughput --markdown FILE`, or from its raw rows by "
        "`python -m benchmarks.report`; do not edit.\n",
        ABOUT.format(records=f"{records_for(1):,}", tolerance=TOLERANCE),
    ]
    for (machine, versions), found in groupby(
        rows, key=lambda row: (row["machine"], row["versions"])
    ):
        section = list(found)
        commands = dict.fromkeys(row["command"] for row in section)
        parts += [
            f"## {machine}\n",
            f"{versions}\n",
            "".join(f"    {command}\n" for command in commands),
            table(section, markdown=True) + "\n",
            "".join(f"- {line}\n" for line in ratios(section)),
        ]
    parts += ["## Not run\n", "".join(f"- {line}\n" for line in [*not_run, *_lacking(rows)])]
    return "\n".join(parts)


def _lacking(rows: Sequence[Row]) -> list[str]:
    """What no row shows, in words."""
    machines = " ".join(row["machine"] for row in rows)
    lines = []
    if "GPU" not in machines:
        lines.append("GPU: none was at hand; the same command runs there unchanged.")
    elif not any(row["batch"] >= 65_536 for row in rows):
        lines.append("Batch 65,536, which needs an accelerator.")
    if "TPU" not in machines:
        lines.append("TPU: none was at hand; see [tpu.md](tpu.md).")
    failed = [row for row in rows if row["step_ms"] is None]
    lines += [
        f"{row['workload']}, batch {row['batch']:,}, {row['contender']}: {row['note']}"
        for row in failed
    ]
    return lines


def plot(rows: Sequence[Row], path: Path) -> None:
    """Examples a second against the batch size, a panel for each workload."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    workloads = list(dict.fromkeys(row["workload"] for row in rows))
    contenders = list(dict.fromkeys(row["contender"] for row in rows))
    across = min(3, len(workloads))
    down = -(-len(workloads) // across)
    figure, axes = plt.subplots(down, across, figsize=(5 * across + 2, 4 * down), squeeze=False)
    colours = plt.get_cmap("tab20")(range(20))
    for axis, workload in zip(axes.flat, workloads, strict=False):
        for colour, contender in zip(colours, contenders, strict=False):
            points = [
                (row["batch"], row["examples_per_second"])
                for row in rows
                if (row["workload"], row["contender"]) == (workload, contender) and row["step_ms"]
            ]
            if points:
                line = "o--" if contender in ("plain", "plain-optax", "pytorch") else "o-"
                width = 3 if contender == "ghost" else 1.5
                x, y = zip(*points, strict=True)
                axis.plot(x, y, line, color=colour, label=contender, linewidth=width)
        axis.set(xscale="log", yscale="log", title=workload, xlabel="batch", ylabel="examples/s")
        axis.grid(alpha=0.3)
    for axis in list(axes.flat)[len(workloads) :]:
        axis.remove()
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="center right")
    figure.tight_layout(rect=(0, 0, 1 - 1.6 / (5 * across + 2), 1))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("page", type=Path, help="to write, with a plot of the same name beside it")
    parser.add_argument("rows", type=Path, nargs="+", help="files that --json wrote")
    given = parser.parse_args()
    rows = [row for source in given.rows for row in json.loads(source.read_text(encoding="utf-8"))]
    given.page.write_text(page(rows), encoding="utf-8")
    plot(rows, given.page.with_suffix(".png"))


if __name__ == "__main__":
    main()
