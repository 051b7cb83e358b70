"""How the tests run jax, and where they find the real data.

Set through the environment, before jax is imported, so that commands run in a process of their own
get the same.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import settings

import tests.checked  # noqa: F401  # first: what is imported before it goes unchecked
from tests.launcher import in_processes  # noqa: F401
from tests.leaks import findings  # noqa: F401
from tests.toys import (  # noqa: F401
    fitted_once,
    synth,
    toy_config,
    toy_frame,
    toy_schema,
    toy_settings,
)

if TYPE_CHECKING:
    from rdpjax.config import Config

collect_ignore = ["own_parts"]  # another package's files, which come in by entry points
ROOT = Path(__file__).resolve().parents[1]

# A (batch,) that meets a (batch, features) is a mistake here, never a wish.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
# So is an integer that meets a float, or a bfloat16 that meets a float32.
os.environ.setdefault("JAX_NUMPY_DTYPE_PROMOTION", "strict")
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
    # One block of generated records is raked: the full pool takes seconds.
    return ["--rows", "500", "--pool-rows", "1", *settings]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile`: all files of `small_run` to one worker, which trains it once."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Together(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return "small_run" if "small_run" in (ROOT / file).read_text("utf-8") else file

    return Together(config, log)


@pytest.fixture(scope="session")
def small_run(
    tmp_path_factory: pytest.TempPathFactory, small_data: Path, small_flags: list[str]
) -> SmallRun:
    """A completed small run, trained once; not to be changed, copy it for that.

    Its programs hold what was measured as constants: only with the same keys are they found
    compiled the next time. So the keys are always the same, and only called secret.
    """
    from rdpjax import train
    from rdpjax.config_file import parse_config
    from rdpjax.dpsgd.keys import Roots

    roots = replace(Roots.make(1), secret=True)
    path = tmp_path_factory.mktemp("runs") / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Roots, "make", staticmethod(lambda seed: roots))
        status = train.main(
            ["--out", str(path), "--data", str(small_data), "--quiet", *small_flags]
        )
    assert status == 0
    return SmallRun(path, small_data, parse_config((path / "internal/config.toml").read_text()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Which detector caught which sabotage, where those tests ran."""
    passed = terminalreporter.getreports("passed")
    rows = [value for r in passed for name, value in r.user_properties if name == "sabotage"]
    if rows:
        from tests.audits.sabotage_table import table

        terminalreporter.write_sep("=", "sabotage")
        terminalreporter.write_line(table(dict(rows)))
