"""Printed table of the scores of `score`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_MODELS = {"gradient_boosting": "gradient boosting", "forest": "forest", "logistic": "logistic"}
Row = tuple[str, tuple[str, ...]]
"""Name of a row, and the keys of its score within a side."""
Section = tuple[str, list[Row]]


def as_table(scores: Mapping[str, Any]) -> str:
    """Format the result of `score`, with a column for each scored table.

    Args:
      scores: as `score` returns them; a key `source` ("simulated", say) is shown on top.

    Returns:
      Lines of at most 90 characters, without a final line break.
    """
    test = scores["real_test"]
    subject = f"{scores['dataset']}, against {test['rows']:,} held-out records"
    missing = [
        f"{title}: level below a quarter of its real share: {level}"
        for title, side in judged(scores).items()
        for level in side["fidelity"]["levels_missing"]
    ]
    sections = _sections(scores["synthetic"], test)
    return "\n".join([*scores_as_lines(scores, subject, sections, 42, 12), *missing])


def judged(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scored sides, by the titles of their columns."""
    sides = {"synthetic": scores["synthetic"], "real train": scores["real_train"]}
    return {title: side for title, side in sides.items() if side is not None}


def scores_as_lines(
    scores: Mapping[str, Any], subject: str, sections: Iterable[Section], name: int, cell: int
) -> list[str]:
    """Format a table of scores, a column for each scored side.

    Args:
      scores: with `note`, `synthetic`, `real_train` (None if not scored) and perhaps `source`.
      subject: what was scored, and against what.
      sections: titles, each with its rows: a name, and the keys of the score within a side.
      name: width of the rows' names, in characters.
      cell: width of a score, in characters.
    """
    sides = judged(scores)
    lines = [
        scores["note"].upper(),
        subject,
        *([f"source: {scores['source']}"] if "source" in scores else []),
        "",
        " " * (name + 2) + "".join(f"{title:>{cell}}" for title in sides),
    ]
    for title, rows in sections:
        lines.append(title)
        for row, path in rows:
            cells = "".join(f"{_cell(side, path):>{cell}}" for side in sides.values())
            lines.append(f"  {row:{name}}{cells}")
    return lines


def _cell(side: Any, path: tuple[str, ...]) -> str:
    """Format a score; `-` where a side has none."""
    for key in path:
        side = None if side is None else side.get(key)
    if side is None or isinstance(side, str):
        return side or "-"
    return f"{side:,d}" if isinstance(side, int) else f"{side:.4f}"


def _sections(shown: Mapping[str, Any], test: Mapping[str, Any]) -> Iterator[Section]:
    records: list[Row] = [("rows", ("rows",))]
    has_classes = test["positives"] is not None
    if has_classes:
        records.append((f"share of positives (test {test['positives']:.4f})", ("positives",)))
    for rule, share in test["rule_breaks"].items():
        records.append((f"{rule} (test {share:.4f})", ("fidelity", "rule_breaks", rule)))
    yield "records", records

    if has_classes:
        yield (
            "utility: trained on these rows, tested on held-out real ones",
            [
                (f"{title} {kind.upper()}", ("utility", model, kind))
                for kind in ("auroc", "auprc")
                for model, title in _MODELS.items()
            ],
        )

    near: list[Row] = [(f"KS {name}", ("fidelity", "ks", name)) for name in shown["fidelity"]["ks"]]
    for key, name in {
        "ks_mean": "KS, mean",
        "tvd1": "total variation, 1-way",
        "tvd2": "total variation, 2-way",
        "tvd3": "total variation, 3-way",
        "two_sample_auroc": "two-sample AUROC (0.5 is best)",
        "column_shapes": "column shapes (1 is best)",
        "pair_trends": "column pair trends (1 is best)",
        "level_ratio_min": "scarcest level over real (1 is best)",
    }.items():
        near.append((name, ("fidelity", key)))
    yield "fidelity (0 is best unless said)", near

    if has_classes:
        yield (
            "the original evaluator's metrics",
            [
                ("MMD squared (0 is best)", ("original", "mmd2")),
                ("dimension-wise prediction F1", ("original", "prediction_f1_macro")),
                ("forest AUROC", ("original", "forest_auroc")),
                ("forest AUPRC", ("original", "forest_auprc")),
            ],
        )
