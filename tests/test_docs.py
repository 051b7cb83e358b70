"""What the documents say is there: files, tests, names, links, commands with their flags, code."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from functools import cache
from io import StringIO
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
]
each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix()
)


@each_document
def test_files_tests_and_names_that_a_document_mentions_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    folders = "rdpjax|tests|benchmarks|research|docs|scripts|configs|examples"
    for path in re.findall(rf"[`\"]((?:{folders})/[\w./-]+)", text):
        assert (ROOT / path).exists(), f"{document.name}: no {path}"
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text):
        found = (ROOT / path).read_text(encoding="utf-8")
        assert f"def {name}(" in found, f"{document.name}: no {name} in {path}"
    for path, names in re.findall(r"`(rdpjax/[\w/]+\.py)` \(((?:`\w+`(?:, )?)+)\)", text):
        found = (ROOT / path).read_text(encoding="utf-8")
        for name in re.findall(r"\w+", names):
            assert re.search(rf"(?:def|class) {name}\b|^{name}\b", found, re.MULTILINE), (
                f"{document.name}: no {name} in {path}"
            )
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", text):
        assert (document.parent / target).exists(), f"{document.name}: no {target}"


@each_document
def test_every_python_block_compiles_and_its_imports_are_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        compile(block, document.name, "exec")
        for module, names in re.findall(r"^from (rdpjax[\w.]*) import ([\w, ]+)$", block, re.M):
            for name in names.split(", "):
                assert hasattr(importlib.import_module(module), name), f"{module}: no {name}"


@each_document
def test_every_command_and_flag_is_known(document: Path) -> None:
    for line, words in commands(document.read_text(encoding="utf-8")):
        known = help_of(*asked(words))
        for flag in re.findall(r"(?<![\w-])--[a-z][\w.-]*", " ".join(words)):
            assert re.search(rf"{re.escape(flag)}(?![\w-])", known), f"{document.name}: {line}"


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Commands of the package that a text shows, as lines and as words after `scripts/run`."""
    shown = re.findall(r"(?:scripts/run|python -m rdpjax\.)[^`\n]*", text)
    for line in shown:
        words = re.sub(r"scripts/run|python -m rdpjax\.", "", line.split("  ")[0], count=1)
        verb = words.split()[0] if words.split() else ""
        if re.fullmatch(r"[a-z]+", verb):
            yield line, shlex.split(words.split(" #")[0].replace("[", "").replace("]", ""))


def asked(words: list[str]) -> list[str]:
    """The verb, its sub-verb (the first of {a,b}) and the data set: they decide about the help."""
    asked = words[:1]
    if words[0] in ("account", "audit") and len(words) > 1:
        asked.append(words[1].strip("{}").split(",")[0])
    if words[0] == "train" and "--dataset" in words:
        asked += ["--dataset", words[words.index("--dataset") + 1].strip("{}").split(",")[0]]
    return [word for word in asked if word != "NAME"] if "NAME" not in asked else words[:1]


@cache
def help_of(verb: str, *flags: str) -> str:
    main = importlib.import_module(f"rdpjax.{verb}").main
    printed = StringIO()
    with redirect_stdout(printed), suppress(SystemExit):
        main([*flags, "--help"])
    return printed.getvalue()


def test_commands_are_found_and_a_wrong_flag_is_seen() -> None:
    text = "`scripts/run audit {replay,release} RUN --jsn F` and python -m rdpjax.sample RUN # --no"
    (_, words), (_, other) = commands(text)
    assert words[0] == "audit" and other == ["sample", "RUN"]
    assert "--jsn" not in help_of(*asked(words)) and "--json" in help_of(*asked(words))


def test_the_readme_is_short_and_its_example_is_the_script_that_is_run() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 110
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(example.splitlines()) <= 25
    script = (ROOT / "examples/table.py").read_text(encoding="utf-8")
    assert script.endswith(f'"""\n\n{example}')


def test_every_page_is_in_the_sites_navigation() -> None:
    listed = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    pages = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    assert pages == set(listed)
