"""How the tests run jax, and where they find the real data.

Set through the environment, before jax is imported, so that commands run in a process of their own
get the same.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from rdpjax.config import Config
    from rdpjax.data.schema import Schema

ROOT = Path(__file__).resolve().parents[1]

# A (batch,) that meets a (batch, features) is a mistake here, never a wish.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")
# Two test processes share the cores: neither should start a thread for each of them.
# And nearly all of a test's time goes into compiling a program that runs for a moment.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0"
)
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The same programs are compiled again and again, by both and from one run to the next.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

settings.register_profile(
    "rdpjax", deadline=None, max_examples=50, derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("rdpjax")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real data: `$RDPJAX_SHARED_DATA`, else `shared/data` beside the checkout."""
    folder = Path(os.environ.get("RDPJAX_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is no folder; name one in RDPJAX_SHARED_DATA")
    return folder


@pytest.fixture(scope="session")
def cardio_path(shared_data: Path) -> Path:
    """The real Kaggle table (`;`-separated, gzip)."""
    path = shared_data / "cardio_train.csv.gz"
    if not path.is_file():
        pytest.skip(f"no real cardio table: {path.name} is not in {shared_data}")
    return path


class SmallRun(NamedTuple):
    """A completed run: its folder, the file that it read, and its configuration."""

    path: Path
    data: Path
    config: Config


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 simulated records in a file of the published form."""
    from rdpjax.data.simulate import simulate_cardio

    path = tmp_path_factory.mktemp("data") / "cardio_train.csv"
    path.write_text(simulate_cardio(3000), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def small_flags() -> list[str]:
    """Flags of a run of the `train` command that takes a few seconds; --out, --data are missing."""
    from rdpjax.config import Config

    tiny = {"steps": 2, "hidden": 16, "channels": 4, "latent": 4, "noise": 8, "fakes": 64}
    settings = [
        f"--{stage}.{name}={tiny[name]}"
        for stage, settings in Config().stages.items()
        for name in vars(settings)
        if name in tiny
    ]
    return ["--rows", "500", *settings]


@pytest.fixture
def small_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tilt is fitted on one block of generated records: the full pool takes seconds."""
    from rdpjax.fitting import generator

    monkeypatch.setattr(generator, "POOL", generator.BLOCK)


@pytest.fixture(scope="session")
def small_run(
    tmp_path_factory: pytest.TempPathFactory, small_data: Path, small_flags: list[str]
) -> SmallRun:
    """A completed small run, trained once; not to be changed, copy it for that.

    Its programs hold what was measured as constants: only with the same keys are they found
    compiled the next time. So the keys are always the same, and only called secret.
    """
    from rdpjax import train
    from rdpjax.config import Config
    from rdpjax.dpsgd.keys import Roots
    from rdpjax.fitting import generator

    roots = replace(Roots.make(1), secret=True)
    path = tmp_path_factory.mktemp("runs") / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generator, "POOL", generator.BLOCK)
        patch.setattr(Roots, "make", staticmethod(lambda seed: roots))
        status = train.main(
            ["--out", str(path), "--data", str(small_data), "--quiet", *small_flags]
        )
    assert status == 0
    return SmallRun(path, small_data, Config.from_toml((path / "internal/config.toml").read_text()))


NUMBER = re.compile(rb"(?<![\w.+-])\d+(?:\.\d+)?(?![\w.])")


@pytest.fixture(scope="session")
def findings() -> Callable[[Path, set[float], set[str]], list[str]]:
    """`findings(release, numbers, words)`: where a release tells a number, by itself or as a shape.

    Or a word. Readings of patients may be any number: their files are searched for words, their
    arrays and tables for shapes.
    """
    import pyarrow.parquet as pq

    def told(path: Path) -> set[float]:
        if path.suffix == ".npy":
            return set(map(float, np.load(path, mmap_mode="r").shape))
        if path.suffix == ".parquet":
            return {float(pq.read_metadata(path).num_rows)}
        if path.suffix == ".psv":
            return set()
        return set(map(float, NUMBER.findall(path.read_bytes())))

    def findings(release: Path, numbers: set[float], words: set[str]) -> list[str]:
        found = []
        for path in sorted(p for p in release.rglob("*") if p.is_file()):
            raw = path.read_bytes()
            found += [f"{path.name}: {word}" for word in words if word.encode() in raw]
            if path.suffix == ".npz":
                for name, array in np.load(path).items():
                    shapes = numbers & set(array.shape)
                    values = numbers & set(np.unique(array.astype(float)).tolist())
                    found += [f"{name}: {value}" for value in shapes | values]
                    found += [f"{name}: {word}" for word in words if word in name]
            else:
                found += [f"{path.name}: {number}" for number in numbers & told(path)]
        return found

    return findings


@dataclass(frozen=True)
class ToyStage:
    """Columns without dependence: logits are a weight of each code and a bias of its number.

    Two leaves of different size, each met twice in the loss, so that clipping by leaf and a leaf or
    a use left out of the norm show. Loss and update use their keys, so that a replay with other
    keys shows. Compiles in a moment.
    """

    sampling_rate: float = 0.1
    steps: int = 4
    clip_norm: float = 1.0

    def training(self, context: Any) -> Any:
        import jax
        import jax.numpy as jnp
        from jax.flatten_util import ravel_pytree

        from rdpjax.stages.stage import Training

        prior = jnp.asarray(context.prior)
        width = prior.shape[1]

        def score(params: Any, codes: Any) -> Any:
            hot = jax.nn.one_hot(codes, width)
            return hot.ravel() @ params["weights"].ravel() + hot.sum(axis=0) @ params["bias"]

        def loss(params: Any, codes: Any, key: Any) -> Any:
            """Tell a record from codes drawn from the prior (noise-contrastive estimation)."""
            fake = jax.random.categorical(key, prior)
            return jax.nn.softplus(score(params, fake) - score(params, codes))

        def update(state: Any, gradient: Any, key: Any) -> Any:
            flat, unravel = ravel_pytree(jax.tree.map(lambda s, g: s - 0.1 * g, state, gradient))
            drift = jax.random.normal(jax.random.wrap_key_data(key), flat.shape)
            return unravel(flat + 0.001 * drift), {"drift": jnp.abs(drift).max()}

        return Training(
            init=lambda key: {
                "weights": 0.01 * jax.random.normal(key, prior.shape),
                "bias": jnp.zeros(width),
            },
            objective=lambda state: (state, loss),
            update=update,
            release=lambda state: {"logits": state["weights"] + state["bias"][None]},
        )

    def emit(self, context: Any) -> Any:
        import jax
        import jax.numpy as jnp

        def emit(artefact: Any, key: Any, rows: int, draws: int) -> Any:
            logits = jnp.asarray(context.prior) + artefact["logits"]
            return jax.random.categorical(key, logits, shape=(draws, rows, len(logits)))

        return emit


@dataclass(frozen=True)
class ToyLabeler:
    """Logistic regression on the codes."""

    sampling_rate: float = 0.1
    steps: int = 4
    clip_norm: float = 1.0

    def training(self, context: Any) -> Any:
        import jax
        import jax.numpy as jnp

        from rdpjax.stages.stage import Training

        label = context.tokenizer.schema.position(context.tokenizer.schema.label)

        def loss(params: Any, codes: Any, key: Any) -> Any:
            logit = self._logit(context, params["weights"], codes) + params["bias"][0]
            return jax.nn.softplus(jnp.where(codes[label] == 1, -logit, logit))

        return Training(
            init=lambda key: {"weights": jnp.zeros(context.prior.shape), "bias": jnp.zeros(1)},
            objective=lambda state: (state, loss),
            update=lambda state, gradient, key: (
                jax.tree.map(lambda s, g: s - 0.5 * g, state, gradient),
                {},
            ),
            # The bias is spread over the columns that a logit is the sum of.
            release=lambda state: {
                "weights": state["weights"] + state["bias"][None] / (len(context.prior) - 1)
            },
        )

    def logits(self, context: Any, artefact: Any, codes: Any) -> Any:
        return self._logit(context, artefact["weights"], codes)

    def _logit(self, context: Any, weights: Any, codes: Any) -> Any:
        import jax.numpy as jnp

        label = context.tokenizer.schema.position(context.tokenizer.schema.label)
        scores = weights[jnp.arange(len(weights)), codes]
        return scores.sum(-1) - scores[..., label]


@pytest.fixture(scope="session")
def toy_settings() -> Config:
    """Two stages that train in a moment."""
    from rdpjax.config import Config

    return Config(
        rows=500,
        shares={"marginals": 0.2, "vae": 0.5, "labeler": 0.3},
        stages={"vae": ToyStage(), "labeler": ToyLabeler()},
    )


@pytest.fixture
def toy_config(toy_settings: Config, monkeypatch: pytest.MonkeyPatch) -> Config:
    """`toy_settings`, read from and written to TOML, in two chunks a stage; small blocks, no plots.

    To write a stage is all that it takes to bring it in: nothing but its name is made known here.
    """
    import rdpjax.config
    from rdpjax.evaluation import plots
    from rdpjax.fitting import generator
    from rdpjax.fitting import stage_run as training

    classes = {"vae": ToyStage, "labeler": ToyLabeler}
    monkeypatch.setattr(rdpjax.config, "stage_classes", lambda: classes)
    monkeypatch.setattr(generator, "BLOCK", 512)
    monkeypatch.setattr(generator, "POOL", 2048)
    monkeypatch.setattr(training, "CHUNK", 2)
    for plot in ("plot_densities", "plot_correlations", "plot_losses"):
        monkeypatch.setattr(plots, plot, lambda *args: None)
    return toy_settings


@pytest.fixture(scope="session")
def toy_schema() -> Schema:
    """A number in halves, a whole one above it, a category in words and a label."""
    from rdpjax.data.schema import Categorical, Numeric, Schema

    return Schema(
        "toy",
        (
            Numeric("low", "kg", 0, 20, resolution=0.5, within="halves"),
            Numeric("high", "cm", 0, 90),
            Categorical("ward", ("north", "south", "west")),
            Categorical("ill", (0, 1)),
        ),
        label="ill",
        less=(("low", "high"),),
    )


@pytest.fixture(scope="session")
def toy_frame() -> pd.DataFrame:
    """3,000 records of `toy_schema`; the label depends on both numbers."""
    rng = np.random.default_rng(0)
    low = np.rint(2 * rng.gamma(4, 2, 3000).clip(0, 20)) / 2
    high = np.rint(low + 5 + 40 * rng.random(3000)).clip(0, 90)
    return pd.DataFrame(
        {
            "low": low,
            "high": high,
            "ward": rng.choice(["north", "south", "west"], 3000, p=[0.6, 0.3, 0.1]),
            "ill": (rng.random(3000) < 1 / (1 + np.exp(-(low - 8) / 3))).astype(int),
        }
    )


class Ended(NamedTuple):
    """How a process ended: its exit status, its output, and the seconds that it lived."""

    status: int
    out: str
    err: str
    seconds: float


@pytest.fixture
def in_processes() -> Iterator[Callable[..., list[Ended]]]:
    """`in_processes(command, flags, flags, ...)`: one process for each flags, all at once.

    Each is given `--coordinator`, with a free port of the loopback, `--process-id` and
    `--processes`. Whoever takes longer than `seconds` is killed, and the test fails.
    """
    started: list[subprocess.Popen[str]] = []

    def run(command: list[str], *flags: list[str], seconds: float = 120) -> list[Ended]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        begun = time.monotonic()
        for index, own in enumerate(flags):
            place = ["--coordinator", address, "--process-id", str(index)]
            line = [*command, *place, "--processes", str(len(flags)), *own]
            started.append(
                subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            )

        def ended(process: subprocess.Popen[str]) -> Ended:
            out, err = process.communicate(timeout=begun + seconds - time.monotonic())
            return Ended(process.returncode, out, err, time.monotonic() - begun)

        with ThreadPoolExecutor(len(started)) as pool:
            return list(pool.map(ended, started[-len(flags) :]))

    yield run
    for process in started:
        process.kill()
        process.communicate()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Which detector caught which sabotage, where those tests ran."""
    passed = terminalreporter.getreports("passed")
    rows = [value for r in passed for name, value in r.user_properties if name == "sabotage"]
    if rows:
        from tests.audits.sabotage_table import table

        terminalreporter.write_sep("=", "sabotage")
        terminalreporter.write_line(table(dict(rows)))
