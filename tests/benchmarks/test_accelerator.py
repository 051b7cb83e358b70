"""The accelerator's check, rehearsed on a toy stage; the plans that it takes are the shipped."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdpjax.config_file import load_config
from rdpjax.data.tokenizer import Marginals
from rdpjax.datasets.registry import find_dataset
from rdpjax.fitting.generator import make_context
from rdpjax.fitting.plans import make_plans
from rdpjax.stages.stage import Training

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class ToyStage:
    """Linear regression of the first column on all."""

    sampling_rate: float = 0.2
    steps: int = 10
    clip_norm: float = 1.0

    def training(self, context: Any) -> Training:
        def loss(params: Any, codes: jax.Array, key: jax.Array) -> jax.Array:
            seen = codes.astype(jnp.float32) / 8
            return (jnp.dot(seen, params["w"]) + params["b"] - seen[0]) ** 2

        def update(state: Any, gradient: Any, key: Any) -> tuple[Any, dict[str, Any]]:
            return jax.tree.map(lambda p, g: p - 0.1 * g, state, gradient), {}

        return Training(
            init=lambda key: {"w": jnp.zeros(12), "b": jnp.float32(0)},
            objective=lambda state: (state, loss),
            update=update,
            release=lambda state: state,
        )


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`benchmarks.accelerator_stages`; packages of the same name come second."""
    monkeypatch.syspath_prepend(str(ROOT))
    return pytest.importorskip("benchmarks.accelerator_stages")


@pytest.fixture
def checks(stages: ModuleType) -> ModuleType:
    return pytest.importorskip("benchmarks.accelerator_checks")


@pytest.fixture
def command(stages: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    found = pytest.importorskip("benchmarks.accelerator")
    precision = jax.config.jax_default_matmul_precision
    monkeypatch.setattr(found, "LIMIT_S", 10_000)  # a busy machine leaves nothing out
    yield found
    jax.config.update("jax_default_matmul_precision", precision)


@pytest.fixture
def bench(stages: ModuleType, checks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(checks, "BLOCK_S", 0.01)
    labeler = next(case for case in stages.cases(200) if case.name == "cardio labeler")
    cpu = jax.local_devices(backend="cpu")[0]
    return checks.Bench(replace(labeler, name="toy", stage=ToyStage()), cpu, cpu, 3)


def test_a_toy_stage_is_checked_and_timed(bench: Any, command: ModuleType) -> None:
    bench.agree()
    bench.bounded()
    bench.race(3)
    found = bench.found
    assert found.sound and found.difference < 1e-5 and 0.99 < found.norm <= 1
    assert np.any(bench.params["w"] != 0)
    assert all(len(rounds) == 3 for rounds in found.speeds.values()) and "plain" in found.speeds
    text = command.page({"toy": found}, "facts", "about", accelerated=False)
    assert "Not run on an accelerator" in text and "| toy | ghost | 13 | 40 |" in text


def test_what_differs_from_the_cpu_fails(
    bench: Any, command: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunk = bench.chunk
    monkeypatch.setattr(bench, "chunk", lambda *a: jax.tree.map(lambda p: p + 2e-4, chunk(*a)))
    bench.agree()
    assert not bench.found.sound
    text = command.page({"toy": bench.found}, "facts", "about", accelerated=True)
    assert "FAILED" in text and "Not run" not in text


def test_a_gradient_beyond_its_bound_fails(
    bench: Any, checks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = checks.alone
    monkeypatch.setattr(
        checks, "alone", lambda *a: jax.tree.map(lambda leaf: 1.001 * leaf, longer(*a))
    )
    bench.bounded()
    assert not bench.found.sound


def test_a_rival_that_computes_something_else_is_not_timed(
    bench: Any, checks: ModuleType, stages: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = stages.plain_sum
    monkeypatch.setattr(
        checks, "plain_sum", lambda *a: jax.tree.map(lambda leaf: 1.01 * leaf, plain(*a))
    )
    bench.bounded()
    bench.race(1)
    assert "plain" not in bench.found.speeds
    assert any("plain: its clipped sum differs" in note for note in bench.found.notes)


@pytest.mark.parametrize("dataset", ["cardio", "sepsis"])
def test_plans_are_the_shipped_ones(stages: ModuleType, dataset: str) -> None:
    config = load_config(f"{dataset}.toml")
    assert stages.shipped_stages(dataset) == config.stages
    schema = find_dataset(dataset).codec(config.data).schema
    expected = make_context(config, schema, Marginals.uniform(schema, 1000.0), {})
    plans = make_plans(config).stages
    found = [case for case in stages.cases(1000) if case.name.startswith(dataset)]
    assert [case.name for case in found] == [f"{dataset} {name}" for name in plans]
    for case, plan in zip(found, plans.values(), strict=True):
        assert replace(case.plan, noise_multiplier=plan.noise_multiplier) == plan
        assert case.context.stages == expected.stages
        assert case.context.label_share == expected.label_share
        assert np.array_equal(case.context.prior, expected.prior)
        assert np.array_equal(case.context.features, expected.features)


def test_what_is_missing_or_unknown_is_one_line(
    command: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--stages", "cardio nothing"]) == 2
    assert "no stage 'cardio nothing'; the stages are cardio vae" in capsys.readouterr().err
    assert command.main(["--records", "3"]) == 2
    assert "records or more" in capsys.readouterr().err
    monkeypatch.setattr(command, "NEEDS", ("jax", "nowhere_to_be_found"))
    assert command.main([]) == 2
    said = capsys.readouterr().err
    assert said == "rdpjax: error: nowhere_to_be_found is not installed; install it with pip\n"


def test_no_more_packages_are_needed_than_are_said() -> None:
    """Those of the accountant, the configuration and the reports may be missing."""
    others = ("dp_accounting", "tyro", "tomli_w", "mpmath", "scipy", "matplotlib", "sklearn")
    script = f"import sys; sys.modules.update(dict.fromkeys({others}))\n"
    script += "import benchmarks.accelerator, benchmarks.accelerator_checks\n"
    script += "from benchmarks.accelerator_stages import cases; print(len(cases(100)))"
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert ended.stdout == "4\n", ended.stderr


def test_what_is_left_out_is_no_success(
    command: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "LIMIT_S", -1)
    assert command.main(["--records", "100", "--stages", "cardio labeler"]) == 1
    seen = capsys.readouterr()
    assert "norms: out of time" in seen.out and "left out: cardio labeler" in seen.err


@pytest.mark.slow
def test_a_stage_of_a_shipped_plan(command: ModuleType, tmp_path: Path) -> None:
    words = ["--records", "600", "--steps", "3", "--rounds", "1", "--stages", "cardio labeler"]
    page = tmp_path / "page.md"
    assert command.main([*words, "--markdown", str(page)]) == 0
    assert "| cardio labeler | ghost |" in page.read_text(encoding="utf-8")
