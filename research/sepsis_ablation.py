"""What each part of the sepsis generator earns, a Conv1d network over hours among them.

    python -m research.sepsis_ablation ARCHIVE [--rows 16000] [--seeds 1 2] [--only NAME ...]

Splits off a fifth of the patients by a fixed key, trains every variant on the others at label
`stay`, epsilon 5 and delta 1e-5 (unless its name says otherwise), and scores its patients against
the fifth. Variants that differ only in how patients are drawn share a trained network. Computed on
real records without privacy: do not publish.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rdpjax.config import Config
from rdpjax.config_file import load_config
from rdpjax.data.holdout import holdout_mask
from rdpjax.data.stays.filling import Filling
from rdpjax.data.stays.patient_files import read_patients
from rdpjax.data.stays.patients import Patients
from rdpjax.errors import UserError, command
from rdpjax.evaluation.patients import score_patients
from rdpjax.stages.gan import GanStage
from rdpjax.stages.vae import VaeStage
from research.hour_filling import WithoutPanels, filled, joined, steered
from research.hour_network import FILLING, HourStage
from research.sepsis_study import Study, Trained

KEY, HELD_OUT = b"rdpjax ablation.", 0.2


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
      train: the run it takes; None if it takes no generator's.
      draw: patients of that run.
      private: whether these are made from the run's release alone.
    """

    train: Callable[[Study], Trained] | None
    draw: Callable[[Study, Trained | None], Patients]
    private: bool = True


def real(study: Study, trained: Trained | None) -> Patients:
    """TRTR: what a perfect copy would reach."""
    return study.train


def product(study: Study, trained: Trained | None) -> Patients:
    """Patients as the product makes them."""
    assert trained is not None
    return joined(list(trained.generator.rows(study.roots.initialisation, study.rows)))


def refilled(
    study: Study, trained: Trained | None, *, change: Callable[[Filling], Filling] = lambda f: f
) -> Patients:
    """The run's rows of the table, filled in in another way."""
    assert trained is not None
    return filled(change(trained.filling), study.table(trained.generator), study.seed)


def copied(study: Study, trained: Trained | None) -> Patients:
    """Rows of real patients, filled in: the ceiling of the codec."""
    assert trained is not None
    return filled(trained.filling, study.real_table(trained.filling), study.seed)


def by_network(study: Study, trained: Trained | None) -> Patients:
    """Hours and means of residuals by the network over hours."""
    assert trained is not None and trained.network is not None
    stage, artefact = trained.network
    context = replace(trained.generator.context, artefacts={FILLING: trained.filling})
    change = partial(steered, network=(stage, context, artefact))
    return refilled(study, trained, change=change)


def without_panels(filling: Filling) -> Filling:
    return WithoutPanels(filling.hours, filling.values, filling.profiles)


def without_correlation(filling: Filling) -> Filling:
    alone = np.eye(len(filling.profiles.correlation))
    return replace(filling, profiles=replace(filling.profiles, correlation=alone))


def default(study: Study) -> Trained:
    return study.default()


def at_epsilon_1(study: Study) -> Trained:
    return study.run("epsilon 1", replace(study.config, epsilon=1.0))


def vae(study: Study) -> Trained:
    return study.run("vae", _instead(study.config, {"vae": (VaeStage(), 1.0)}))


def vae_gan(study: Study) -> Trained:
    stages = {"vae": (VaeStage(), 0.875), "gan": (GanStage(), 0.125)}
    return study.run("vae, gan", _instead(study.config, stages))


def _instead(config: Config, stages: dict[str, tuple[Any, float]]) -> Config:
    """Other stages for the autoregressive one, with parts of its share."""
    room = config.shares["autoregressive"]
    shares = {name: s for name, s in config.shares.items() if name != "autoregressive"}
    shares |= {name: part * room for name, (_, part) in stages.items()}
    return replace(
        config, stages={name: stage for name, (stage, _) in stages.items()}, shares=shares
    )


def with_hours(study: Study, kind: Any = "autoencoder", profiles: bool = True) -> Trained:
    return study.with_hours(HourStage(kind=kind), profiles=profiles)


VARIANTS = {
    "real training patients": Variant(None, real, private=False),
    "independent noisy histograms": Variant(Study.untrained, refilled),
    "default": Variant(default, product),
    "default at epsilon 1": Variant(at_epsilon_1, product),
    "VAE given stay": Variant(vae, product),
    "VAE given stay, GAN": Variant(vae_gan, product),
    "without panels": Variant(default, partial(refilled, change=without_panels)),
    "without residual correlation": Variant(default, partial(refilled, change=without_correlation)),
    "real codes, filled in": Variant(default, copied, private=False),
    "Conv1d VAE over hours": Variant(with_hours, by_network),
    "Conv1d decoder over hours": Variant(partial(with_hours, kind="decoder"), by_network),
    "Conv1d VAE, no noisy profiles": Variant(partial(with_hours, profiles=False), by_network),
    "that share, no Conv1d": Variant(with_hours, refilled),
}  # fmt: skip


def split(patients: Patients) -> tuple[Patients, Patients]:
    """Patients to learn from and those held out, by a fixed public key."""
    held_out = holdout_mask(patients.ids, HELD_OUT, KEY)
    return patients.take(~held_out), patients.take(held_out)


def row(study: Study, name: str, held_out: Patients) -> dict[str, Any]:
    """One variant's figures.

    Returns:
      `variant`, `seed`, `epsilon` (None: not private), `seconds` of measuring, training and
      drawing, without scoring, and `score_patients`' figures of the variant's patients.
    """
    variant = VARIANTS[name]
    trained = variant.train(study) if variant.train else None
    begun = time.monotonic()
    patients = variant.draw(study, trained)
    seconds = time.monotonic() - begun + (trained.seconds if trained else 0.0)
    epsilon = None
    if variant.private:
        assert trained is not None
        epsilon = trained.ledger.epsilon(study.config.delta)
    scores = score_patients(patients, held_out, hours=study.config.data.max_hours)["synthetic"]
    return {"variant": name, "seed": study.seed, "epsilon": epsilon, "seconds": seconds, **scores}


HEAD = (
    "variant", "seed", "epsilon", "positives", "median stay", "missing gap", "KS mean", "lag-1 gap",
    "correlation gap", "stay AUROC / AUPRC", "window AUROC / AUPRC", "seconds",
)  # fmt: skip


def line(found: dict[str, Any]) -> str:
    """A row of a Markdown table under `HEAD`."""
    cells = [
        found["variant"],
        str(found["seed"]),
        "" if found["epsilon"] is None else f"{found['epsilon']:.2f}",
        f"{found['positive_stay']:.2%}",
        f"{found['stay_median']:.0f}",
        *(
            "" if found[name] is None else f"{found[name]:.4f}"
            for name in ("missing_gap_mean", "ks_mean", "lag1_gap_mean", "correlation_gap")
        ),
        *(_utility(found["utility"][name]) for name in ("stay", "window")),
        f"{found['seconds']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _utility(found: dict[str, float] | None) -> str:
    return "" if found is None else f"{found['auroc']:.3f} / {found['auprc']:.3f}"


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m research.sepsis_ablation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("archive", type=Path, help="folder or archive of all real patients")
    parser.add_argument("--rows", type=int, default=16_000, help="synthetic patients of a variant")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2], metavar="SEED")
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures, a line a row")
    return parser.parse_args(argv)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    given = arguments(argv)
    if given.rows < 1:
        raise UserError(f"rows is {given.rows}; ask for 1 or more")
    train, held_out = split(read_patients(given.archive).patients)
    config = load_config("sepsis.toml")
    data = replace(config.data, label="stay")
    config = replace(config, data=data, epsilon=5.0, delta=1e-5)
    print(f"| {' | '.join(HEAD)} |\n| --- |{' ---: |' * (len(HEAD) - 1)}", flush=True)
    for seed in given.seeds:
        study = Study(config, train, given.rows, seed)
        for name in given.only or VARIANTS:
            found = row(study, name, held_out)
            print(line(found), flush=True)
            if given.json:
                with given.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
