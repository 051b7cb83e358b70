from rdpjax.evaluation.printout import as_table

SIDE = {
    "rows": 50_000,
    "positives": 0.5,
    "utility": {
        "gradient_boosting": {"auroc": 0.8, "auprc": 0.78},
        "forest": {"auroc": 0.79, "auprc": 0.77},
        "logistic": {"auroc": 0.78, "auprc": 0.76},
    },
    "fidelity": {
        "ks": {"age": 0.01234},
        **dict.fromkeys(("ks_mean", "tvd1", "tvd2", "tvd3", "two_sample_auroc"), 0.02),
        **dict.fromkeys(("column_shapes", "pair_trends", "level_ratio_min"), 0.99),
        "levels_missing": [],
        "rule_breaks": {"ap_lo > ap_hi": 0.0123},
    },
    "original": {
        "mmd2": -0.0001,
        "prediction_f1_macro": 0.6,
        "forest_auroc": 0.77,
        "forest_auprc": 0.7,
    },
}
SCORES = {
    "note": "do not publish",
    "dataset": "cardio",
    "real_test": {"rows": 11_200, "positives": 0.4932, "rule_breaks": {"ap_lo > ap_hi": 0.0181}},
    "synthetic": SIDE,
    "real_train": {**SIDE, "rows": 44_800},
}


def line(text: str, name: str) -> list[str]:
    return next(line for line in text.splitlines() if name in line).split()


def test_a_column_for_each_table():
    text = as_table(SCORES)
    assert text.startswith("DO NOT PUBLISH\ncardio, against 11,200 held-out records\n")
    assert line(text, "  rows")[-2:] == ["50,000", "44,800"]
    assert line(text, "gradient boosting AUPRC")[-2:] == ["0.7800"] * 2
    assert line(text, "KS age")[-2:] == ["0.0123", "0.0123"]
    assert line(text, "ap_lo > ap_hi (test 0.0181)")[-1] == "0.0123"
    assert max(map(len, text.splitlines())) <= 90


def test_without_real_training_rows_there_is_one_column():
    text = as_table({**SCORES, "real_train": None})
    assert "real train" not in text
    assert line(text, "MMD")[-2:] == ["best)", "-0.0001"]


def test_the_source_and_lost_levels_are_said():
    lost = {**SIDE, "fidelity": {**SIDE["fidelity"], "levels_missing": ["gluc=2", "gluc=3"]}}
    text = as_table({**SCORES, "synthetic": lost, "source": "simulated"})
    assert "\nsource: simulated\n" in text
    assert text.endswith("synthetic: level below a quarter of its real share: gluc=3")
