"""Times: each contender's best setting by a short search, then all of them in turns."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.contender import Contender, Problem, Running, Setting, Unable
from benchmarks.workloads import Workload, example_params

TRIAL_S = 0.08
FINALISTS, FINAL_BLOCKS = 3, 15  # short blocks on a noisy machine: the search ends in turns
TOLERANCE = 1e-4
CHECKED = 64  # examples in the clipped sum that all contenders must agree on


class Ready(NamedTuple):
    """A contender at its best setting, compiled and warm.

    Attributes:
      contender: who.
      setting: the fastest that was tried.
      running: takes steps.
      compile_s: the first call, less the time of its steps.
      step_s: one step in the search, seconds.
      tried: seconds a step of every setting tried, the fastest first.
    """

    contender: Contender
    setting: Setting
    running: Running
    compile_s: float
    step_s: float
    tried: list[tuple[float, Setting]]


def problem(workload: Workload) -> Problem:
    """One clipped sum whose clip norm cuts half of the gradients."""
    params, examples = example_params(workload), workload.records(CHECKED, 1)
    keys = jax.random.split(jax.random.key(5), CHECKED)
    noise = jax.vmap(lambda key: jax.random.normal(key, (workload.noise,)))(keys)
    each = jax.jit(jax.vmap(jax.grad(workload.loss), in_axes=(None, 0, 0)))
    gradients = jax.tree.leaves(each(params, examples, noise))
    norms = np.sqrt(sum(np.square(np.asarray(g)).reshape(CHECKED, -1).sum(1) for g in gradients))
    return Problem(params, examples, keys, np.asarray(noise), float(np.median(norms)))


def check(
    workload: Workload, contenders: Sequence[Contender], reference: Contender
) -> tuple[dict[str, float], dict[str, str]]:
    """Relative distance of every contender's clipped sum from the reference's.

    Returns:
      Distances by name; and, of those that cannot run the workload, why.

    Raises:
      SystemExit: a contender computes something else.
    """
    with jax.default_matmul_precision("highest"):
        posed = problem(workload)
        assert reference.clipped_sum is not None
        expected = reference.clipped_sum(workload, posed)
        distances, unable = {}, {}
        for contender in contenders:
            if contender.clipped_sum is None:
                continue
            try:
                found = contender.clipped_sum(workload, posed)
            except Exception as error:  # a rival's own failure is a row of the table
                unable[contender.name] = _reason(error)
                continue
            distance = np.linalg.norm(found - expected) / np.linalg.norm(expected)
            if not distance <= TOLERANCE:
                raise SystemExit(
                    f"{workload.name}: {contender.name} and {reference.name} differ by "
                    f"{distance:.1e} in one clipped sum; nothing was timed"
                )
            distances[contender.name] = float(distance)
    return distances, unable


def tune(
    contender: Contender, workload: Workload, loaded: Any, batch: int, settings: list[Setting]
) -> Ready:
    """The fastest of some settings, ready to run: the first few of a search, once more in turns.

    Raises:
      Unable: no setting runs.
    """
    finalists: list[Ready] = []
    tried: list[tuple[float, Setting]] = []
    problems: list[str] = []
    for setting in settings:
        try:
            _check_memory(contender, workload, batch, setting)
            begun = time.perf_counter()
            running = contender.start(workload, loaded, batch, setting)
            first = running(1)
            compiling = time.perf_counter() - begun
            step_s = _quickest(running, (time.perf_counter() - begun) / first.steps)
        except Unable as error:
            problems.append(str(error))
            continue
        except Exception as error:  # a rival's own failure is a row of the table
            problems.append(_reason(error))
            continue
        tried.append((step_s, setting))
        compile_s = max(0.0, compiling - first.steps * step_s)
        finalists.append(Ready(contender, setting, running, compile_s, step_s, []))
        finalists = sorted(finalists, key=lambda one: one.step_s)[:FINALISTS]
        del running
        gc.collect()
    if not finalists:
        raise Unable("; ".join(dict.fromkeys(problems)))
    blocks = in_turns(finalists, FINAL_BLOCKS, TRIAL_S)
    steps = [np.median([seconds for seconds, _ in each]) for each in blocks]
    best = finalists[int(np.argmin(steps))]
    return best._replace(tried=sorted(tried, key=lambda pair: pair[0]))


def in_turns(
    ready: Sequence[Ready], repeats: int, block_s: float
) -> list[list[tuple[float, float]]]:
    """Of each, `repeats` times: seconds a step and examples a second, all of them in every round.

    A block lasts about `block_s`; the order turns from round to round, and each block follows a
    step that is not timed.
    """
    found: list[list[tuple[float, float]]] = [[] for _ in ready]
    pairs = list(zip(ready, found, strict=True))
    for turn in range(repeats):
        shift = turn % max(1, len(ready))
        for one, blocks in [*pairs[shift:], *pairs[:shift]]:
            one.running(1)
            steps = max(1, round(block_s / one.step_s))
            begun = time.perf_counter()
            work = one.running(steps)
            seconds = time.perf_counter() - begun
            blocks.append((seconds / work.steps, work.examples / seconds))
    return found


def describe(setting: Setting) -> str:
    """A setting in a few words: "scan, microbatch 64, 2 devices"."""
    words = [str(setting[name]) for name in ("loop", "conv") if name in setting]
    if "microbatch" in setting:
        size = setting["microbatch"]
        words.append("whole batch" if size is None else f"microbatch {size}")
    if "devices" in setting:
        words.append(f"{setting['devices']} device" + "s" * (setting["devices"] > 1))
    if setting.get("threads") == 1:
        words.append("1 thread")
    return ", ".join(words).replace("python", "loop")


def _quickest(running: Running, guess: float) -> float:
    """Seconds a step: the least of up to three short blocks."""
    found = guess
    for _ in range(3):
        begun = time.perf_counter()
        work = running(max(1, round(TRIAL_S / found)))
        seconds = time.perf_counter() - begun
        found = min(found, seconds / work.steps)
        if seconds > 1:
            break
    return found


def _check_memory(contender: Contender, workload: Workload, batch: int, setting: Setting) -> None:
    """Refuse a setting whose per-example gradients, and one copy of them, would not fit."""
    if not contender.holds:
        return
    share = setting["microbatch"]
    size = share * setting.get("devices", 1) if share else batch
    needed = 2 * 4 * size * workload.parameters
    if needed > 0.6 * _available():
        raise Unable(f"{size} per-example gradients and one copy take {needed / 2**30:.0f} GiB")


def _available() -> float:
    """Bytes of memory left: the device's, or the machine's."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    with open("/proc/meminfo", encoding="ascii") as file:
        lines = dict(line.split(":") for line in file)
    return int(lines["MemAvailable"].split()[0]) * 1024.0


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160] if lines else ''}"
