"""The rules of the house: which way imports point, and what no file may hold."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "rdpjax").rglob("*.py"))
COMMANDS = {"train", "sample", "evaluate", "account", "audit", "schema"}
ROOMS = {"data", "models", "dpsgd", "privacy"}
BASE = {"errors", "flags", "io", "structure"}
MIDDLE = ROOMS | BASE | {"mechanisms", "codecs", "stages", "generators", "datasets", "compute"}
FITTING = MIDDLE | {"config", "fitting"}
RUNS = FITTING | {"config_file", "runs"}
MAY_IMPORT = {
    "arrays": set(),
    "errors": set(),
    "flags": {"errors"},
    "io": {"errors", "structure"},
    "structure": {"errors"},
    "named": {"errors"},
    "sections": {"errors"},
    **{room: {"arrays", "errors"} for room in ROOMS},
    "data": {"errors", "io", "structure"},
    "accounting": {"errors", "io", "privacy"},
    "compute": {"errors", "dpsgd"},
    "mechanisms": {"data", "dpsgd", "errors", "privacy"},
    "codecs": {"data", "mechanisms", "errors"},
    "stages": ROOMS | {"arrays", "errors"},
    "generators": {"data", "errors", "named", "stages"},
    "evaluation": {"data", "errors"},
    "datasets": {"data", "codecs", "io", "errors", "flags", "evaluation", "named"},
    "config": ROOMS | {"errors", "flags", "sections", "generators", "codecs", "datasets"},
    "config_file": BASE | {"config", "data", "sections", "generators", "datasets"},
    "fitting": MIDDLE | {"config"},
    "runs": RUNS | {"evaluation"},
    "synthesizer": RUNS,
    "audits": RUNS | {"evaluation"},
    **{command: RUNS for command in COMMANDS},
    "account": RUNS | {"accounting"},
    "audit": {"audits", "errors", "flags"},
}
# A plan knows its event, so that the sampler, the noise and the ledger cannot disagree.
EXCEPTIONS = {("dpsgd/plan.py", "privacy")}


@cache
def imports(path: Path) -> frozenset[str]:
    """Dotted names of all that the file at `path` imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import in line {node.lineno}"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def inside(path: Path) -> str:
    return path.relative_to(ROOT / "rdpjax").as_posix()


def part(path: Path) -> str:
    """What a file belongs to: its room, or itself if it lies at the top."""
    return inside(path).split("/")[0].removesuffix(".py")


@pytest.mark.parametrize("path", SOURCES, ids=inside)
def test_imports_point_one_way(path: Path) -> None:
    if part(path) == "__init__":
        return
    assert part(path) in MAY_IMPORT, f"{inside(path)}: say in MAY_IMPORT what it may import"
    for name in imports(path):
        package, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if package != "rdpjax" or target in {part(path), "__version__"}:
            continue
        allowed = target in MAY_IMPORT[part(path)] or (inside(path), target) in EXCEPTIONS
        assert allowed, f"{inside(path)} imports {name}"


def importers(package: str) -> set[str]:
    return {
        inside(path) for path in SOURCES if any(n.split(".")[0] == package for n in imports(path))
    }


def test_only_privacy_knows_the_accountants() -> None:
    assert {name.split("/")[0] for name in importers("dp_accounting")} <= {"privacy", "accounting"}


def test_privacy_needs_no_accelerator() -> None:
    assert not {n for n in importers("jax") if n.startswith(("privacy/", "accounting/"))}


def test_public_names_are_there_and_cost_nothing_until_used() -> None:
    program = """
import sys
import rdpjax
assert not {"jax", "numpy", "pandas"} & {*sys.modules}, "import rdpjax is to stay fast"
for name in rdpjax.__all__:
    value = getattr(rdpjax, name)
    assert name == "__version__" or value.__name__.endswith(name), name
assert not hasattr(rdpjax, "nothing")
from rdpjax import *
assert datasets is rdpjax.datasets
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_types_are_for_others_too() -> None:
    assert (ROOT / "rdpjax" / "py.typed").is_file()
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["strict"]


def test_dependencies_are_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["report"]]
    declared = {re.match(r"[\w-]+", line)[0].replace("_", "-").lower() for line in wanted}
    owners = packages_distributions()
    for path in SOURCES:
        for top in {name.split(".")[0] for name in imports(path)}:
            if top != "rdpjax" and top not in sys.stdlib_module_names:
                names = {owner.replace("_", "-").lower() for owner in owners.get(top, [top])}
                assert names & declared, f"{inside(path)} imports {top}: not in pyproject.toml"


@pytest.mark.parametrize("path", SOURCES, ids=inside)
def test_a_file_holds_one_idea(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 330
    assert path.name != "utils.py"


def test_no_place_of_a_machine_in_a_file() -> None:
    """Neither the folders of somebody's machine nor the host of a package index."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listing.returncode:
        pytest.skip("not a git checkout: no list of the project's own files")
    folders = "|".join(("work", "root", "home", "Users", "opt"))
    hosts = "|".join(("pypi", "pythonhosted", "npmjs"))
    place = re.compile(rf"(?<![\w.}})/])/(?:{folders})/|\b(?:{hosts})\.org\b")
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).is_file():
            text = (ROOT / name).read_bytes().decode("utf-8", errors="ignore")
            found = place.search(text)
            assert not found, f"{name}: {found and found[0]}"
