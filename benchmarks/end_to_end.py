"""A whole run of `python -m rdpjax.train`, timed from outside, stage by stage.

    python -m benchmarks.end_to_end --data data/cardio_train.csv --repeats 3

Everything is in it: start of Python, reading, compilation (each repetition has an empty compilation
cache, unless --warm), training, fitting, writing rows and plots. Flags after `--` go to the run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRESS = re.compile(r"^\s+(\w+)\s+(\d+)/(\d+) steps")
SAMPLING = re.compile(r"^\s+sampling\s+\d+ rows")
BEFORE, FIT, AFTER = "start, reading, marginals", "fitting labels and raking", "rows and plots"


def timed(words: list[str], environ: dict[str, str]) -> dict[str, float]:
    """Seconds of every part of one run, in order; `total`, and `processor` (user and system).

    Raises:
      SystemExit: the run failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = last = time.monotonic()
    parts: dict[str, float] = {}
    tail: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-m", "rdpjax.train", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            tail = [*tail[-9:], line.rstrip()]
            name = _ended(line)
            if name is not None:
                now = time.monotonic()
                parts[name] = now - last
                last = now
    if process.returncode:
        raise SystemExit("\n".join([*tail, f"the run ended with code {process.returncode}"]))
    now = time.monotonic()
    parts[AFTER] = now - last
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return parts | {"total": now - begun, "processor": spent}


def _ended(line: str) -> str | None:
    """The part of the run that a line of its progress ends."""
    if SAMPLING.match(line):
        return FIT
    match = PROGRESS.match(line)
    if match is None or match[2] != match[3]:
        return None
    return BEFORE if match[1] == "marginals" else match[1]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.end_to_end", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", type=Path, help="the records' file; default: as rdpjax.train")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--warm", action="store_true", help="keep one compilation cache")
    parser.add_argument("--json", type=Path, metavar="FILE", help="seconds of every repetition")
    parser.add_argument("rest", nargs="*", metavar="-- FLAG", help="flags of rdpjax.train")
    arguments = parser.parse_args()
    runs: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.repeats):
            words = ["--out", f"{folder}/run-{number}", *arguments.rest]
            if arguments.data:
                words += ["--data", str(arguments.data)]
            cache = Path(folder) / ("cache" if arguments.warm else f"cache-{number}")
            places = {"JAX_COMPILATION_CACHE_DIR": str(cache), "XDG_CACHE_HOME": str(cache)}
            environ = {**os.environ, **places}
            runs.append(timed(words, environ))
            print(f"run {number + 1}: {runs[-1]['total']:.1f} s", file=sys.stderr, flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    width = max(map(len, runs[0]))
    print(f"{'part':<{width}}  median s  (least - most), {len(runs)} runs")
    for name in runs[0]:
        values = [one[name] for one in runs]
        spread = f"({min(values):.1f} - {max(values):.1f})"
        print(f"{name:<{width}}  {statistics.median(values):8.1f}  {spread}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
