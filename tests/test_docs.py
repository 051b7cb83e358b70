"""What the documents point to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_tests_and_names_that_a_document_mentions_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:rdpjax|tests|benchmarks|research|docs|scripts)/[\w./-]+)", text):
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
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (document.parent / target).exists(), f"{document.name}: no {target}"
