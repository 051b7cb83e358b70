"""A schema of your own: types, bounds, a rule, ordered levels, and settings of the training."""

import numpy as np
import pandas as pd
import tomli_w

from rdpjax import Budget, Categorical, Config, Numeric, Schema, Synthesizer
from rdpjax.fitting.plans import plan_events
from rdpjax.privacy.accountants import rdp_epsilon
from rdpjax.stages.vae import VaeStage

# Public knowledge only: what a value can be, never what it happens to be in your table.
schema = Schema(
    "deliveries",
    (
        Numeric("week", "weeks", 22, 44, source="viability to overdue"),
        Numeric("weight", "kg", 0.3, 7, cell=0.1, resolution=0.01),
        Numeric("length", "cm", 20, 70, resolution=0.5),
        Numeric("head", "cm", 15, 50, resolution=0.5),
        # Levels in order: networks then know that 9 is nearer to 10 than 1 is.
        Categorical("apgar", tuple(range(11)), runs=(11,)),
        Categorical("mode", ("vaginal", "caesarean", "instrumental")),
    ),
    less=(("head", "length"),),  # a rule of every generated row
    unit_of_privacy="one row = one newborn",
)
print(tomli_w.dumps(schema.to_dict()))  # the same as a file; Schema.from_toml reads it

# Simulated records, in place of yours.
rng = np.random.default_rng(0)
week = np.rint(39.5 - rng.gamma(1.5, 1, 1_500)).clip(22, 44)
length = (50 + 1.1 * (week - 39) + rng.normal(0, 2, 1_500)).clip(20, 70)
frame = pd.DataFrame(
    {
        "week": week,
        "weight": (3.4 + 0.17 * (week - 39) + rng.normal(0, 0.4, 1_500)).clip(0.3, 7),
        "length": length,
        "head": (0.68 * length + rng.normal(0, 1, 1_500)).clip(15, 50),
        "apgar": rng.binomial(10, 0.9, 1_500),
        "mode": rng.choice(["vaginal", "caesarean", "instrumental"], 1_500, p=[0.6, 0.3, 0.1]),
    }
)

# Without a label the VAE alone is trained. Shares are parts of one budget, and sum to 1.
config = Config(
    dataset="table",
    label_source="generator",
    stages={"vae": VaeStage(steps=150, sampling_rate=0.06)},
    shares={"marginals": 0.2, "vae": 0.8},
    epsilon=3,
)
epsilon, _ = rdp_epsilon(plan_events(config), config.delta)
print(f"planned, before a record is read: epsilon {epsilon:.3f} at delta {config.delta:g}")

synth = Synthesizer(schema, Budget(epsilon=3, delta=1e-5), config).fit(frame)
rows = synth.sample(1_000)
print(synth, rows.describe(), sep="\n")
assert (rows["head"] < rows["length"]).mean() > 0.99
