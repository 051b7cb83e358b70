"""Printed table of the scores of `score_patients`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rdpjax.evaluation.printout import Row, Section, scores_as_lines


def as_patient_table(scores: Mapping[str, Any]) -> str:
    """Format the result of `score_patients`, with a column for each scored side.

    Args:
      scores: as `score_patients` returns them; a key `source` ("simulated", say) is shown on top.

    Returns:
      Lines of at most 90 characters, without a final line break.
    """
    test, hours = scores["real_test"], scores["hours"]
    count = f"{test['patients']:,} held-out patients"
    subject = f"{scores['dataset']}, first {hours} hours, against {count}"
    sections = _sections(scores["synthetic"], test, hours)
    return "\n".join(scores_as_lines(scores, subject, sections, 50, 18))


def _sections(shown: Mapping[str, Any], test: Mapping[str, Any], hours: int) -> Iterator[Section]:
    copies: list[Row] = [
        ("exact copies of held-out patients", ("copies", "of_held_out")),
        ("  as many other real patients would have", ("copies", "expected")),
    ]
    if "of_training" in shown["copies"]:
        copies += [
            ("exact copies of training patients", ("copies", "of_training")),
            ("  as many held-out patients would have", ("copies", "expected_of_training")),
        ]
    yield (
        "patients",
        [
            ("patients", ("patients",)),
            (f"positive in the stay (real {test['positive_stay']:.4f})", ("positive_stay",)),
            (
                f"positive within {hours} hours (real {test['positive_window']:.4f})",
                ("positive_window",),
            ),
            (f"median stay in hours (real {test['stay_median']:g})", ("stay_median",)),
            *copies,
        ],
    )
    yield (
        "utility: trained on these patients, tested on held-out real ones",
        [
            (f"gradient boosting {kind.upper()}, label {label}", ("utility", label, kind))
            for label in ("stay", "window")
            for kind in ("auroc", "auprc")
        ],
    )
    yield (
        "distance from the held-out patients (0 is best)",
        [
            ("missing hours, mean gap", ("missing_gap_mean",)),
            ("KS of measured values, mean", ("ks_mean",)),
            ("KS, worst column", ("ks_worst",)),
            ("correlation of consecutive hours, mean gap", ("lag1_gap_mean",)),
            ("correlation across columns, mean gap", ("correlation_gap",)),
            *((f"KS {name}", ("ks", name)) for name in shown["ks"]),
            *((f"missing hours {name}", ("missing_gap", name)) for name in shown["missing_gap"]),
            *((f"consecutive hours {name}", ("lag1_gap", name)) for name in shown["lag1_gap"]),
        ],
    )
