"""A table: fit clinic.csv under epsilon 5, sample, and draw real beside synthetic."""

from pathlib import Path

import pandas as pd

from rdpjax import Budget, Schema, Synthesizer
from rdpjax.evaluation.drawing import run_title
from rdpjax.evaluation.plots import plot_densities

here = Path(__file__).parent
schema = Schema.from_toml((here / "clinic.toml").read_text())  # bounds and levels: public
table = pd.read_csv(here / "clinic.csv")  # the private records; these are simulated

synth = Synthesizer(schema, budget=Budget(epsilon=5, delta=1e-5))
synth.fit(table)
rows = synth.sample(5_000)  # a DataFrame in the input's units; costs no privacy
synth.save("runs/clinic")  # runs/clinic/release may be published

print(rows.head(), synth, sep="\n")
title = run_title("clinic", synth.ledger.epsilon(1e-5), 1e-5, simulated=True)
plot_densities(table, rows, schema, "runs/clinic/densities.png", title)
