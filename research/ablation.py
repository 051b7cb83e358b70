"""What each stage earns: one run's stages released in three ways, scored on its held-out records.

    python research/ablation.py runs/cardio

Nothing is trained again: the VAE's prior alone, the GAN's generator, and the GAN with the labeler
(the default) share one run's decoder and marginals. Prints one JSON line a variant. Computed on
real records without privacy: do not publish.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pandas as pd

from rdpjax.data.cardio import KAGGLE_LAYOUT, read_cardio
from rdpjax.dpsgd.keys import Roots
from rdpjax.evaluation.score import score
from rdpjax.fitting.generator import Generator
from rdpjax.runs.generator_file import read_generator

VARIANTS = {
    "VAE prior alone": (("vae",), "generator"),
    "with the GAN": (("vae", "gan"), "generator"),
    "with the GAN and the labeler": (("vae", "gan", "labeler"), "labeler"),
}


def variant(generator: Generator, stages: tuple[str, ...], label_source: str) -> Generator:
    """The same artefacts, with some stages left out of the release."""
    config = generator.config
    config = dataclasses.replace(
        config,
        stages={name: config.stages[name] for name in stages},
        shares={name: config.shares[name] for name in ("marginals", *stages)},
        label_source=label_source,
    )
    return dataclasses.replace(generator, config=config, offset=0.0, tilt=None)


def main() -> None:
    run = Path(sys.argv[1])
    generator = read_generator(run / "release")
    real = read_cardio(run / "internal" / "holdout.csv").frame
    order = [name for name in KAGGLE_LAYOUT.fields if name in generator.schema.names]
    root = Roots.make(0).initialisation
    for name, (stages, label_source) in VARIANTS.items():
        fitted = variant(generator, stages, label_source).fitted(root)
        rows = pd.concat(list(fitted.rows(root, generator.config.rows)), ignore_index=True)
        scores = score(rows[order], real, generator.schema)
        print(json.dumps({"variant": name, **scores["synthetic"]}), flush=True)


if __name__ == "__main__":
    main()
