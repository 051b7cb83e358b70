"""The figures of `score` as lines that a person can read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_MODELS = {"gradient_boosting": "gradient boosting", "forest": "forest", "logistic": "logistic"}
_Row = tuple[str, tuple[str, ...]]


def as_table(scores: Mapping[str, Any]) -> str:
    """What `score` returns, with a column for each table that was judged.

    Args:
      scores: as `score` returns them; a key `source` ("simulated", say) is shown on top.

    Returns:
      Lines of at most 90 characters, without a last line break.
    """
    sides = {"synthetic": scores["synthetic"], "real train": scores["real_train"]}
    sides = {title: side for title, side in sides.items() if side is not None}
    test = scores["real_test"]
    lines = [
        scores["note"].upper(),
        f"{scores['dataset']}, against {test['rows']:,} held-out records",
        *([f"source: {scores['source']}"] if "source" in scores else []),
        "",
        " " * 44 + "".join(f"{title:>12}" for title in sides),
    ]
    for title, rows in _sections(scores["synthetic"], test):
        lines.append(title)
        for name, path in rows:
            values = (_at(side, path) for side in sides.values())
            cells = (f"{v:,d}" if isinstance(v, int) else f"{v:.4f}" for v in values)
            lines.append(f"  {name:42}" + "".join(f"{cell:>12}" for cell in cells))
    lines += [
        f"{title}: level below a quarter of its real share: {level}"
        for title, side in sides.items()
        for level in side["fidelity"]["levels_missing"]
    ]
    return "\n".join(lines)


def _at(side: Any, path: tuple[str, ...]) -> float | int:
    for key in path:
        side = side[key]
    return side


def _sections(
    shown: Mapping[str, Any], test: Mapping[str, Any]
) -> Iterator[tuple[str, list[_Row]]]:
    records: list[_Row] = [
        ("rows", ("rows",)),
        (f"share of positives (test {test['positives']:.4f})", ("positives",)),
    ]
    for rule, share in test["rule_breaks"].items():
        records.append((f"{rule} (test {share:.4f})", ("fidelity", "rule_breaks", rule)))
    yield "records", records

    yield (
        "utility: trained on these rows, tested on held-out real ones",
        [
            (f"{title} {kind.upper()}", ("utility", model, kind))
            for kind in ("auroc", "auprc")
            for model, title in _MODELS.items()
        ],
    )

    near: list[_Row] = [
        (f"KS {name}", ("fidelity", "ks", name)) for name in shown["fidelity"]["ks"]
    ]
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

    yield (
        "the original evaluator's metrics",
        [
            ("MMD squared (0 is best)", ("original", "mmd2")),
            ("dimension-wise prediction F1", ("original", "prediction_f1_macro")),
            ("forest AUROC", ("original", "forest_auroc")),
            ("forest AUPRC", ("original", "forest_auprc")),
        ],
    )
