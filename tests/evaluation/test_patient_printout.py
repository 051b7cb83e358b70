from rdpjax.evaluation.patient_printout import as_patient_table

SIDE = {
    "patients": 16_000,
    "positive_stay": 0.055,
    "positive_window": 0.024,
    "stay_median": 38.0,
    "missing_gap": {"HR": 0.002},
    "missing_gap_mean": 0.0011,
    "ks": {"HR": 0.01234},
    "ks_mean": 0.02,
    "ks_worst": "Bilirubin_direct",
    "lag1_gap": {"HR": 0.03},
    "lag1_gap_mean": 0.03,
    "correlation_gap": 0.04,
    "utility": {"stay": {"auroc": 0.8, "auprc": 0.4}, "window": None},
    "copies": {"of_held_out": 0, "expected": 0.0},
}
SCORES = {
    "note": "do not publish",
    "dataset": "sepsis",
    "hours": 24,
    "real_test": {
        "patients": 3200,
        "positive_stay": 0.0584,
        "positive_window": 0.0278,
        "stay_median": 38.0,
    },
    "synthetic": SIDE
    | {"copies": {**SIDE["copies"], "of_training": 1, "expected_of_training": 0.25}},
    "real_train": SIDE | {"patients": 12_800},
}


def line(text: str, name: str) -> list[str]:
    return next(line for line in text.splitlines() if name in line).split()


def test_a_column_for_each_side():
    text = as_patient_table(SCORES)
    assert text.startswith(
        "DO NOT PUBLISH\nsepsis, first 24 hours, against 3,200 held-out patients\n"
    )
    assert line(text, "  patients  ")[-2:] == ["16,000", "12,800"]
    assert line(text, "positive in the stay (real 0.0584)")[-1] == "0.0550"
    assert line(text, "AUROC, label stay")[-2:] == ["0.8000", "0.8000"]
    assert line(text, "AUROC, label window")[-2:] == ["-", "-"]
    assert line(text, "copies of training patients")[-2:] == ["1", "-"]
    assert line(text, "KS, worst column")[-1] == "Bilirubin_direct"
    assert line(text, "missing hours HR")[-1] == "0.0020"
    assert max(map(len, text.splitlines())) <= 90


def test_without_real_training_patients_there_is_one_column():
    text = as_patient_table(
        {**SCORES, "synthetic": SIDE, "real_train": None, "source": "simulated"}
    )
    assert "real train" not in text and "copies of training" not in text
    assert "\nsource: simulated\n" in text
