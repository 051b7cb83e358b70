"""Patients over time: a folder of .psv files in, a folder of synthetic .psv files out.

The cohort is simulated, and the training short: for real files leave out the flags in `short`.
"""

from pathlib import Path

from rdpjax import sample, train
from rdpjax.data.stays.simulate_sepsis import simulate_sepsis

cohort = Path("cohort")
cohort.mkdir()
for name, content in simulate_sepsis(6_000):
    (cohort / name).write_bytes(content)

# The same as: scripts/run train --dataset sepsis --root cohort --out runs/patients ...
run = ["--dataset", "sepsis", "--root", "cohort", "--out", "runs/patients", "--rows", "200"]
short = ["--label", "stay", "--autoregressive.steps", "60", "--autoregressive.hidden", "16"]
status = train.main([*run, *short])
assert status == 0

# More patients from the released generator: costs no privacy.
assert sample.main(["runs/patients", "--rows", "50", "--out", "more"]) == 0

first = min(Path("runs/patients/release/psv").iterdir())
print(first, *first.read_text().splitlines()[:3], sep="\n")
