"""A generator of your own in one file: a mixture of independent columns, trained by DP-SGD.

A stage says how one record is scored (`loss`), what to do with the noisy gradient (`update`), what
is released (`release`) and how that makes records (`emit`). Sampling, clipping, noise, the ledger
and the budget are the library's: a loss cannot spend more than its share.
"""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import pandas as pd

from rdpjax import Budget, Config, Schema, Synthesizer
from rdpjax.models.layers import draw_codes
from rdpjax.stages.optimiser import AveragedAdam
from rdpjax.stages.stage import Context, Emit, Training


@dataclass(frozen=True)
class MixtureStage:
    """p(record) = sum over classes k of p(k) times the product over columns of p(token | k)."""

    sampling_rate: float = 0.1
    steps: int = 150
    clip_norm: float = 1.0
    learning_rate: float = 0.05
    classes: int = 8

    def training(self, context: Context) -> Training:
        """Start at the noisy one-way shares; minimise the negative log-likelihood."""
        prior = jnp.asarray(context.prior)  # log shares, (columns, tokens), measured with noise
        columns = jnp.arange(len(prior))
        optimiser = AveragedAdam(self.learning_rate, self.steps, decay=0.95)

        def init(key):
            start = 0.5 * jax.random.normal(key, (self.classes, *prior.shape))
            return optimiser.start({"classes": jnp.zeros(self.classes), "tables": start})

        def loss(params, tokens, key):  # tokens: one record, (columns,)
            tables = jax.nn.log_softmax(prior[None] + params["tables"])
            given_class = tables[:, columns, tokens].sum(axis=1)
            joint = jax.nn.log_softmax(params["classes"]) + given_class
            return -jax.nn.logsumexp(joint)

        return Training(
            init=init,
            objective=lambda state: (state.params, loss),
            update=lambda state, gradient, key: (optimiser.advance(state, gradient), {}),
            release=lambda state: state.mean,
        )

    def emit(self, context: Context) -> Emit:
        """Draw a class, then every column."""
        prior = jnp.asarray(context.prior)

        def emit(released, key, rows, draws):
            of_class, of_tokens = jax.random.split(key)
            drawn = jax.random.categorical(of_class, released["classes"], shape=(rows,))
            return draw_codes(of_tokens, (prior[None] + released["tables"])[drawn], draws)

        return emit


here = Path(__file__).parent
schema = Schema.from_toml((here / "clinic.toml").read_text())
table = pd.read_csv(here / "clinic.csv")
config = Config(
    dataset="table",
    label_source="generator",  # the label is a column like any other
    stages={"mixture": MixtureStage()},
    shares={"marginals": 0.2, "mixture": 0.8},
)
synth = Synthesizer(schema, Budget(epsilon=5, delta=1e-5), config).fit(table)
rows = synth.sample(5_000)
for name, frame in (("real", table), ("synthetic", rows)):
    print(name, frame.groupby("readmitted")[["age", "systolic"]].mean().round(1), sep="\n")
