"""The table of which detector catches which sabotage; light, for the end of a test run."""

from __future__ import annotations

from collections.abc import Mapping


def table(caught: Mapping[str, Mapping[str, str | None]]) -> str:
    """What each detector found of each sabotage, as Markdown; empty where it found nothing."""
    detectors = list(next(iter(caught.values())))
    lines = [
        f"| sabotage | {' | '.join(detectors)} |",
        "|".join(["", *["---"] * (len(detectors) + 1), ""]),
    ]
    for name, found in caught.items():
        cells = [found[detector] or "" for detector in detectors]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def read_table(text: str) -> dict[str, dict[str, str]]:
    """The inverse of `table`, from among other text."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ")
    ]
    head, *rest = rows
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rest}
