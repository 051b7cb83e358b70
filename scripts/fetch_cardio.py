#!/usr/bin/env python3
"""Fetch Kaggle's cardiovascular disease table into ./data/cardio_train.csv (about 3 MB).

usage: python scripts/fetch_cardio.py

Needs `pip install kagglehub`; where Kaggle asks for an account, also a token from
https://www.kaggle.com/settings (kagglehub reads it from ~/.kaggle or the environment).
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

HANDLE = "sulianova/cardiovascular-disease-dataset"
NAME = "cardio_train.csv"
COLUMNS = "id;age;gender;height;weight;ap_hi;ap_lo;cholesterol;gluc;smoke;alco;active;cardio"


def main() -> int:
    """Fetch the file unless it is there; 2 and one line on stderr if that cannot be done."""
    target = Path("data") / NAME
    if target.is_file():
        print(f"{target} is there already; remove it to fetch it again")
        return 0
    try:
        import kagglehub
    except ImportError:
        return fail("kagglehub is missing; run: python -m pip install kagglehub")
    try:
        fetched = Path(kagglehub.dataset_download(HANDLE, path=NAME))
    except Exception as error:  # kagglehub, its HTTP client and the network each have their own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        return fail(
            f"Kaggle did not hand out {HANDLE} ({reason}); check the network, or put a token from "
            "https://www.kaggle.com/settings where kagglehub finds it"
        )
    with fetched.open(encoding="utf-8-sig") as lines:
        if lines.readline().strip() != COLUMNS:
            return fail(f"{fetched} does not start with the header known for {NAME}; look at it")
    target.parent.mkdir(exist_ok=True)
    partial = target.with_name(f".{NAME}.part")
    shutil.copyfile(fetched, partial)
    os.replace(partial, target)  # so that nobody ever reads half a file
    print(f"{target} is ready; scripts/run train --dataset cardio will use it")
    return 0


def fail(message: str) -> int:
    """Say what went wrong and how to mend it; the exit status for it."""
    print(f"fetch_cardio: error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
