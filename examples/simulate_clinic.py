"""Write clinic.csv: 3,000 simulated patients of an outpatient clinic.

usage: python examples/simulate_clinic.py

Every figure here is a round number chosen by hand. Nothing is fitted to records.
"""

from pathlib import Path

import numpy as np
import pandas as pd

PATIENTS = 3_000


def simulate_clinic(patients: int = PATIENTS, seed: int = 0) -> pd.DataFrame:
    """Return one row a patient; equal arguments give equal rows."""
    rng = np.random.default_rng(seed)
    age = rng.triangular(18, 60, 95, patients).astype(int)
    sex = rng.choice(["female", "male"], patients)
    smoker = rng.choice(["never", "former", "current"], patients, p=[0.5, 0.3, 0.2])
    bmi = rng.normal(26.5, 4, patients).clip(15, 50).round(1)
    pressure = 118 + 0.4 * (age - 50) + 0.8 * (bmi - 26) + rng.normal(0, 12, patients)
    systolic = pressure.clip(80, 220).astype(int)
    glucose = (5.4 + 0.08 * (bmi - 26) + rng.gamma(2, 0.4, patients)).clip(3, 20).round(1)
    visits = rng.poisson(1 + 0.03 * (age - 18), patients).clip(0, 20)
    logit = 0.05 * (age - 60) + 0.04 * (systolic - 120) + 0.8 * (smoker == "current") - 1
    readmitted = (rng.random(patients) < 1 / (1 + np.exp(-logit))).astype(int)
    return pd.DataFrame(
        {
            "age": age,
            "sex": sex,
            "smoker": smoker,
            "bmi": bmi,
            "systolic": systolic,
            "glucose": glucose,
            "visits": visits,
            "readmitted": readmitted,
        }
    )


if __name__ == "__main__":
    simulate_clinic().to_csv(Path(__file__).with_name("clinic.csv"), index=False)
