"""Audit a run: what it cost, and experiments that try to break its claim.

The table is simulated, the network small and the training short. An audit ends with status 0 where
the claim stands and with 1 where it is broken; `check=True` stops the script then.
"""

import subprocess
import sys
from pathlib import Path

from rdpjax.data.simulate import simulate_cardio

SMALL = """
label_source = "generator"
stages = ["vae"]
rows = 500
pool_rows = 10_000

[shares]
marginals = 0.2
vae = 0.8

[vae]
steps = 4
channels = 4
latent = 4
"""


def rdpjax(verb: str, *flags: str) -> None:
    """Run a command, as `scripts/run VERB ...` does."""
    subprocess.run([sys.executable, "-m", f"rdpjax.{verb}", *flags], check=True)


Path("small.toml").write_text(SMALL)
Path("table.csv").write_text(simulate_cardio(3_000))
rdpjax("train", "--config", "small.toml", "--data", "table.csv", "--out", "runs/audited")

# What each mechanism cost; anyone who has privacy.json can compute the same.
rdpjax("account", "show", "runs/audited")

# Neighbouring tables under the same keys: no sum may move by more than its declared sensitivity,
# and nothing else by one bit.
rdpjax("audit", "replay", "runs/audited", "--data", "table.csv", "--records", "600")

# Membership inference on the released rows alone: finds copies and near-copies.
rdpjax("audit", "release", "runs/audited", "--data", "table.csv")
