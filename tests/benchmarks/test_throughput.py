"""The benchmarks' own honesty: contenders compute the same, and rows become tables as they are."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import jax
import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKLOAD = "cardio-labeler"  # the smallest


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`benchmarks.imported`; packages of the same name that others install come second."""
    monkeypatch.syspath_prepend(str(ROOT))
    return pytest.importorskip("benchmarks.imported")


def row(contender: str, batch: int, step_ms: float | None, **more: object) -> dict[str, object]:
    speed = None if step_ms is None else batch / step_ms * 1e3
    return {
        "workload": "cardio-vae",
        "batch": batch,
        "contender": contender,
        "examples_per_second": speed,
        "step_ms": step_ms,
        "rounds": {"examples_per_second": [speed] * 3, "step_ms": [step_ms] * 3},
        "ratio_to_plain": step_ms,
        "compile_s": 1.0,
        "peak_mib": 10.0,
        "setting": "",
        "note": "",
        "machine": "2 cores",
        "versions": "jax",
        "command": "python",
        **more,
    }


@pytest.mark.parametrize(
    "name",
    ["ghost", "optax", "jax-privacy"]
    + [f"opacus-{mode}" for mode in ("hooks", "functorch", "ew", "ghost")],
)
@pytest.mark.filterwarnings("ignore")
def test_clipped_sums_agree(imported: ModuleType, name: str) -> None:
    from benchmarks.measure import check
    from benchmarks.workloads import WORKLOADS

    contenders = {one.name: one for one in imported.all_contenders()}
    one = contenders[name]
    if one.missing:
        pytest.skip(f"{one.missing} is not installed")
    with jax.numpy_dtype_promotion("standard"):  # rivals mix dtypes
        distances, unable = check(WORKLOADS[WORKLOAD], [one], contenders["vmap"])
    assert not unable
    assert distances[name] < 1e-5


@pytest.mark.usefixtures("imported")
def test_ratios_and_page(tmp_path: Path) -> None:
    from benchmarks.report import page, plot, ratios, table

    rows = [
        row("plain", 256, 4.0),
        row("plain-optax", 256, 4.0),
        row("ghost", 256, 5.0),
        row("jax-privacy", 256, 10.0),
        row("opacus-hooks", 256, 60.0),
        row("opacus-ew", 256, None, note="refuses"),
    ]
    said = "\n".join(ratios(json.loads(json.dumps(rows))))
    assert "ghost / best Opacus (opacus-hooks) in examples/s: 12.00" in said
    assert "ghost / jax-privacy in examples/s: 2.00" in said
    assert "ghost step / plain step: 1.25" in said
    assert "ghost step / hand-written optax step: 1.25" in said
    assert "plain step / hand-written optax step: 1.00" in said
    assert len(table(rows).splitlines()) == 7
    text = page(rows)
    assert "opacus-ew: refuses" in text and "no" in text.lower()
    assert "GPU: none was at hand" in text
    plot(rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


@pytest.mark.usefixtures("imported")
def test_a_slow_minute_of_the_machine_falls_on_both_sides() -> None:
    from benchmarks.report import paired

    assert paired([2.0, 20.0, 2.2], [1.0, 10.0, 1.0]) == 2.0


@pytest.mark.usefixtures("imported")
def test_end_to_end_reads_progress() -> None:
    from benchmarks.end_to_end import BEFORE, FIT, _ended

    assert _ended("  marginals      1/1 steps  epsilon so far 0.1") == BEFORE
    assert _ended("  vae          500/500 steps  epsilon so far 3.1  70.0 steps/s") == "vae"
    assert _ended("  vae           50/500 steps  epsilon so far 0.9") is None
    assert _ended("  sampling   50000 rows") == FIT
