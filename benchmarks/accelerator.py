"""Whether every stage trains on an accelerator as on the CPU, and how fast, in one table.

    python -m benchmarks.accelerator --markdown benchmarks/accelerator.md

Of every stage of the shipped plans: 25 steps of its chunk reach the CPU's parameters to 1e-4, under
the same keys and matmuls at highest precision; the worst clipped gradient is no longer than C, at C
and at C / 100; and examples a second of the chunk, of a step written plainly (`vmap` clipping,
fixed batches) and of jax-privacy where that is installed, in turns, once their clipped sums agree.
Meant for six minutes at most: no check is begun after 300 seconds, and the table says what was left
out. Exits with 1 where parameters or norms failed or were left out.

Needs jax, flax, optax, jaxtyping, pandas and pyarrow (the stages' own imports); no accountant, no
configuration. Without an accelerator the CPU stands in for it, with fewer records: a rehearsal.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from rdpjax.errors import UserError, command

if TYPE_CHECKING:
    from benchmarks.accelerator_checks import Found

NEEDS = ("jax", "flax", "optax", "jaxtyping", "pandas", "pyarrow")
LIMIT_S = 300
"""After so many seconds no further check is begun: the last one has a minute."""
RECORDS, REHEARSED = 40_000, 4_000
CONTENDERS = ("rdpjax", "plain", "jax-privacy")
HEAD = (
    "stage", "clipping", "parameters", "batch", "largest difference", "worst norm / C",
    "rdpjax, examples/s", "plain, examples/s", "jax-privacy, examples/s", "rdpjax / plain",
    "rdpjax / jax-privacy", "note",
)  # fmt: skip
REHEARSAL = """\
**Not run on an accelerator**: the CPU stood in for one, with an accelerator's large microbatches,
so that its speeds say nothing of either.

"""
ABOUT = """\
*Largest difference*: of any parameter from the CPU's after {steps} steps, at most 1e-4. *Worst
norm*: of a clipped gradient, over its bound, at most 1. *Batch*: the expected draw of {records:,}
records; the rivals take fixed batches of that size, which spares them the sampling. Examples a
second are medians over {rounds} rounds in turns, ratios medians over the rounds. Matmuls are at
highest precision for all. Noise multiplier 1.
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    begun = time.monotonic()
    given = _arguments(argv)
    if missing := [name for name in NEEDS if find_spec(name) is None]:
        raise UserError(f"{missing[0]} is not installed; install it with pip")
    import jax

    from benchmarks.accelerator_checks import Bench
    from benchmarks.accelerator_stages import EXAMPLES, cases

    jax.config.update("jax_default_matmul_precision", "highest")
    device, cpu = jax.devices()[0], jax.local_devices(backend="cpu")[0]
    records = given.records or (REHEARSED if device.platform == "cpu" else RECORDS)
    if records < EXAMPLES or given.steps < 1 or given.rounds < 1:
        raise UserError(f"give {EXAMPLES} records or more, and 1 step and round or more")
    known = {case.name: case for case in cases(records)}
    if unknown := set(given.stages or ()) - set(known):
        raise UserError(f"no stage {min(unknown)!r}; the stages are {', '.join(known)}")
    benches = [Bench(known[name], device, cpu, given.steps) for name in given.stages or known]
    checks: dict[str, Callable[[Bench], None]] = {
        "parameters": Bench.agree,
        "norms": Bench.bounded,
        "speed": lambda bench: bench.race(given.rounds),
    }
    for what, check in checks.items():
        for bench in benches:
            if time.monotonic() - begun > LIMIT_S:
                bench.found.notes.append(f"{what}: out of time")
                continue
            if bench.found.sound:
                check(bench)
            _say(f"{time.monotonic() - begun:4.0f} s  {what} of {bench.case.name}")
    rows = {bench.case.name: bench.found for bench in benches}
    text = page(rows, _facts(device), _about(given, records), device.platform != "cpu")
    print(text)
    if given.markdown:
        given.markdown.write_text(text, encoding="utf-8")
    failed = [name for name, found in rows.items() if not (found.sound and found.checked)]
    if failed:
        _say(f"FAILED or left out: {', '.join(failed)}")
    return 1 if failed else 0


def page(rows: Mapping[str, Found], facts: str, about: str, accelerated: bool) -> str:
    """The table and what it was made on, in Markdown; a CPU's says that it is none's.

    Args:
      rows: what was found, by stage.
      facts: device, versions.
      about: what the columns are.
      accelerated: whether the device was an accelerator.
    """
    verdict = "" if accelerated else REHEARSAL
    head = f"| {' | '.join(HEAD)} |\n| --- | --- |{' ---: |' * (len(HEAD) - 3)} --- |"
    lines = [f"| {' | '.join(_cells(name, found))} |" for name, found in rows.items()]
    return "\n".join(["# On an accelerator\n", verdict + facts + "\n", about, head, *lines, ""])


def _cells(name: str, found: Found) -> list[str]:
    speeds, notes = found.speeds, found.notes if found.sound else ["FAILED", *found.notes]
    return [
        name,
        found.clipping,
        f"{found.parameters:,}",
        f"{found.batch:,}",
        "" if found.difference is None else f"{found.difference:.1e}",
        "" if found.norm is None else f"{found.norm:.6f}",
        *(f"{median(speeds[one]):,.0f}" if one in speeds else "" for one in CONTENDERS),
        *(_ratio(speeds, one) for one in CONTENDERS[1:]),
        "; ".join(notes),
    ]


def _ratio(speeds: Mapping[str, Sequence[float]], rival: str) -> str:
    """Median over the rounds: a slow minute of the machine falls on both sides."""
    if rival not in speeds:
        return ""
    pairs = zip(speeds[CONTENDERS[0]], speeds[rival], strict=True)
    return f"{median(ours / theirs for ours, theirs in pairs):.2f}"


def _about(given: argparse.Namespace, records: int) -> str:
    return ABOUT.format(steps=given.steps, rounds=given.rounds, records=records)


def _facts(device: Any) -> str:
    found = [
        f"{device.platform.upper()} {device.device_kind}",
        f"Python {platform.python_version()}",
    ]
    for name in ("jax", "jaxlib", "flax", "optax", "jax-privacy"):
        with suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return ", ".join(found)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accelerator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the table's page")
    parser.add_argument("--stages", nargs="+", metavar="NAME", help='such as "cardio vae"')
    records = f"default: {RECORDS:,}; of a CPU {REHEARSED:,}"
    parser.add_argument("--records", type=int, metavar="N", help=records)
    parser.add_argument("--steps", type=int, default=25, help="of a chunk")
    parser.add_argument("--rounds", type=int, default=5, help="of timing")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
