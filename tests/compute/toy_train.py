"""`python toy_train.py FLAGS`: the train command with stages and plans of a moment.

`--dies-at N` kills the process, as `kill -9` does, when it opens its N-th access.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOISE = 9.0
REPORT = {
    "epsilon": 1.0,
    "epsilon_pld": 1.0,
    "epsilon_naive_sum": 1.0,
    "delta": 1e-5,
    "unit": "row",
    "relation": "add-or-remove-one",
    "secret_noise": False,
    "notes": [],
}
ROOT = Path(__file__).resolve().parents[2]


def toys() -> Any:
    """The module of the toy stages; the tests' settings for jax come first."""
    sys.path.insert(0, str(ROOT))
    importlib.import_module("tests.conftest")
    return importlib.import_module("tests.toys")


def planned(config: Any) -> Iterator[tuple[str, Any]]:
    """Plans at a noise that costs less than any budget: to look for it would take seconds."""
    from rdpjax.dpsgd.plan import Plan
    from rdpjax.privacy.events import round_up_rate

    for name, stage in config.stages.items():
        rate = round_up_rate(config.sampling_rate(name))
        plan = Plan.at_rate(rate, noise_multiplier=NOISE, clip_norm=1.0, steps=stage.steps)
        yield name, plan


def main() -> int:
    module, flags = toys(), sys.argv[1:]
    import rdpjax.config_file
    from rdpjax import train
    from rdpjax.evaluation import plots
    from rdpjax.fitting.plans import Plans
    from rdpjax.runs import run
    from rdpjax.runs.shared_ledger import SharedLedger

    classes = {"vae": module.ToyStage, "labeler": module.ToyLabeler}
    rdpjax.config_file.stage_classes = lambda: classes
    flags = ["--chunk-steps", "2", "--block-rows", "512", "--pool-rows", "2048", *flags]
    for plot in ("plot_densities", "plot_correlations", "plot_losses"):
        setattr(plots, plot, lambda *args: None)
    run.make_plans = lambda config: Plans({"marginals": NOISE}, dict(planned(config)))
    run.claim = lambda *args, **kwargs: REPORT
    if "--dies-at" in flags:
        at = flags.index("--dies-at")
        left, opened = int(flags[at + 1]), SharedLedger.open
        del flags[at : at + 2]

        def last(ledger: Any, event: Any) -> bool:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return opened(ledger, event)

        SharedLedger.open = last  # type: ignore[method-assign]
    return train.main(flags)


if __name__ == "__main__":
    raise SystemExit(main())
