"""How the tests run jax, and where they find the real data.

Set through the environment, before jax is imported, so that commands run in a process of their own
get the same.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# A (batch,) that meets a (batch, features) is a mistake here, never a wish.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")
# Two test processes share the cores: neither should start a thread for each of them.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The same programs are compiled again and again, by both and from one run to the next.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

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
