"""`audit release`: membership inference from the released records alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from rdpjax.audits.findings import PRIVATE
from rdpjax.audits.flags import AuditFlags
from rdpjax.audits.roc_picture import draw
from rdpjax.audits.subject import Subject, read_saved, read_subject
from rdpjax.codecs.table import TableEncoding
from rdpjax.data.schema import Categorical, Schema
from rdpjax.errors import UserError
from rdpjax.evaluation.attacks import (
    Outcome,
    Points,
    Scores,
    allowed_area,
    allowed_rate,
    ceiling,
    density_ratio,
    nearest_distance,
    outcome,
)
from rdpjax.fitting.generator import Generator
from rdpjax.flags import optional
from rdpjax.io.atomic import write_json

LEAST = 20
"""Least number of held-out records: one half is attacked, the other half is the reference."""


@dataclass(frozen=True)
class Attack:
    """One membership inference attack and its outcome.

    Attributes:
      name: of the attack.
      members: scores of training records, `[records]`.
      others: scores of as many held-out records, `[records]`.
      outcome: AUC and true positive rates, with intervals.
    """

    name: str
    members: np.ndarray
    others: np.ndarray
    outcome: Outcome


@dataclass(frozen=True)
class ReleaseAudit(AuditFlags):
    """Attack a completed run's released records: membership inference.

    Members are records that the run was trained on, others are as many of its hold-out; the
    attacks see the released records, and a reference of held-out records that are not attacked.
    A negative result proves nothing: the attacks are average-case. The figures are computed from
    the records without privacy: do not publish them.
    """

    path: tyro.conf.Positional[Path]
    """Folder of a completed run with a hold-out, or of what Synthesizer.save wrote."""

    held_out: Annotated[Path | None, optional("FILE", "the run's")] = None
    """Records that were not trained on, where the folder is a saved synthesizer's."""

    records: int = 2000
    """How many members are attacked, and how many others, at most."""

    picture: Annotated[Path | None, optional("FILE", "none")] = None
    """Also draw the ROC curves, as .png, .svg or .pdf."""

    def run(self) -> int:
        """Attack and print; exit status 0 where the claim allows the result, else 1."""
        if self.records < 1:
            raise UserError(f"--records {self.records}: give 1 or more")

        if not self.path.is_dir():
            raise UserError(f"{self.path}: no run folder; `release` attacks a completed run")
        if (self.path / "internal").is_dir():
            if self.held_out is not None:
                raise UserError(f"--held-out: {self.path} is a run and has a hold-out; drop it")
            subject = read_subject(self.path, self.data)
        else:
            subject = read_saved(self.path, self.data, self.held_out)
        epsilon, delta = claimed(subject)
        attacks = attack(subject, self.records, self.say)
        print(as_text(attacks, epsilon, delta))
        if self.json is not None:
            _write(self.json, attacks, epsilon, delta)
        if self.picture is not None:
            curves = {each.name: (each.members, each.others) for each in attacks}
            draw(curves, epsilon, delta, f"Membership inference on {subject.name}", self.picture)
        return int(any(exceeds(each.outcome, epsilon, delta) for each in attacks))


def claimed(subject: Subject) -> tuple[float, float]:
    """Return epsilon and delta of a run's release."""
    assert subject.release is not None
    report = subject.release.report
    if report["epsilon"] is None:
        path = subject.release.folder / "privacy.json"
        raise UserError(f"{path}: states no epsilon, so there is nothing to hold the run to")
    return float(report["epsilon"]), float(report["delta"])


def attack(
    subject: Subject, most: int, say: Callable[[str], object] = lambda line: None
) -> list[Attack]:
    """Run every attack on a run's released records.

    Args:
      subject: a completed run.
      most: largest number of attacked members, and of others.
      say: callback, called with a line of progress.

    Raises:
      UserError: a run without a hold-out, or with fewer than `LEAST` records in it.
    """
    if subject.release is None or subject.held is None:
        raise UserError(f"{subject.name}: no run folder; `release` attacks a completed run")
    if subject.held.sum() < LEAST:
        raise UserError(
            f"{subject.name}: the run held out {int(subject.held.sum())} records, and the attacks "
            f"need {LEAST}; train with a larger --holdout"
        )
    release, dataset = subject.release, subject.dataset
    say("  reading the released records")
    with release.records() as path:
        released = dataset.open(path, {}, dataset.settings()).records
    generator = release.generator

    def points(records: Any) -> Points:
        return features(records, generator)

    # The choice of attacked records is independent of the release: a fixed seed makes it
    # repeatable.
    shuffled = np.random.default_rng(0)
    held = shuffled.permutation(np.flatnonzero(subject.held))
    trained = shuffled.permutation(np.flatnonzero(~subject.held))
    count = min(most, len(held) // 2, len(trained))
    everyone = subject.source.records
    say(f"  {count} members, {count} others, {len(held) - count} for reference")
    members = points(dataset.take(everyone, _mask(trained[:count], subject.held)))
    others = points(dataset.take(everyone, _mask(held[:count], subject.held)))
    reference = points(dataset.take(everyone, _mask(held[count:], subject.held)))
    synthetic = points(released)

    found = []
    scores: dict[str, Callable[[Points], Scores]] = {
        "nearest distance": lambda records: nearest_distance(records, synthetic),
        "density ratio": lambda records: density_ratio(records, synthetic, reference),
    }
    for name, score in scores.items():
        say(f"  {name}")
        inside, outside = score(members), score(others)
        found.append(Attack(name, inside, outside, outcome(inside, outside)))
    return found


def _mask(chosen: np.ndarray, like: np.ndarray) -> np.ndarray:
    mask = np.zeros(len(like), bool)
    mask[chosen] = True
    return mask


def features(records: Any, generator: Generator) -> Points:
    """Scale records to features `[records, features]` by public bounds and released values.

    Numbers as fractions of their range, levels one-hot at a distance of 1 apart; patients by the
    bins of their table, as fractions of each column's.
    """
    if isinstance(generator.encoding, TableEncoding):
        return _of_table(generator.schema, records)
    cells = generator.encoding.cells(records).astype(float)
    most = [max(1, column.cells - 1) for column in generator.schema.columns]
    points: np.ndarray = cells / np.array(most)
    return points


def _of_table(schema: Schema, frame: Any) -> Points:
    parts = []
    for column in schema.columns:
        values = frame[column.name].to_numpy()
        if isinstance(column, Categorical):
            parts.append((values[:, None] == np.array(column.levels)[None, :]) / np.sqrt(2))
            continue
        bounded = np.clip(np.nan_to_num(values.astype(float)), column.low, column.high)
        parts.append((bounded[:, None] - column.low) / (column.high - column.low))
    return np.concatenate(parts, axis=1)


def exceeds(found: Outcome, epsilon: float, delta: float) -> bool:
    """Return whether an attack exceeds what (epsilon, delta) allows any, beyond its intervals."""
    return found.auc.low > allowed_area(epsilon, delta) or any(
        point.found.low > allowed_rate(point.accused.high, epsilon, delta) for point in found.points
    )


def as_text(attacks: list[Attack], epsilon: float, delta: float) -> str:
    """Format the figures as a table, with what the claim allows."""
    head = ("attack", "figure", "measured", "interval", f"allowed by epsilon {epsilon:.3f}")
    rows = [head]
    for each in attacks:
        area = each.outcome.auc
        shown = f"{allowed_area(epsilon, delta):.4f}"
        rows.append((each.name, "AUC", f"{area.share:.4f}", _ends(area), shown))
        for point in each.outcome.points:
            rows.append(
                (
                    each.name,
                    f"TPR at {point.asked:.1%} FPR",
                    f"{point.found.share:.4f}",
                    _ends(point.found),
                    f"{allowed_rate(point.asked, epsilon, delta):.4f}",
                )
            )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    count, confidence = len(attacks[0].members), attacks[0].outcome.confidence
    most = ceiling(count, count, delta, confidence)
    worst = any(exceeds(each.outcome, epsilon, delta) for each in attacks)
    verdict = (
        "EXCEEDED: an attack found more than the claim allows" if worst else "the claim stands"
    )
    return "\n".join(
        [
            *lines,
            f"{count} members and {count} others; intervals of {confidence:.0%} each; {verdict}.",
            f"Without a single error an attack of this size would certify epsilon {most:.2f}.",
            "Average-case attacks: that they find nothing proves nothing.",
            PRIVATE,
        ]
    )


def _ends(rate: Any) -> str:
    return f"[{rate.low:.4f}, {rate.high:.4f}]"


def _write(path: Path, attacks: list[Attack], epsilon: float, delta: float) -> None:
    values = {
        "note": PRIVATE,
        "epsilon": epsilon,
        "delta": delta,
        "attacks": [
            {
                "attack": each.name,
                "members": len(each.members),
                "exceeds": exceeds(each.outcome, epsilon, delta),
                **dataclasses.asdict(each.outcome),
            }
            for each in attacks
        ],
    }
    write_json(path, values)
