"""`python two_hosts.py WHAT FOLDER FLAGS`: one of two processes that try something together.

Prints a JSON object: what this process found. Run by test_multihost.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rdpjax.compute import multihost
from rdpjax.compute.devices import prepare_processor
from rdpjax.compute.multihost import Hosts, joined
from rdpjax.errors import UserError, command
from rdpjax.privacy import ledger as ledgers
from rdpjax.privacy.events import Event
from rdpjax.runs.shared_ledger import open_ledger

ODD = np.array([0x80000000, 0x7FC00123, 0xFF800000, 1], np.uint32).view(np.float32)
"""-0.0, a NaN with a payload, -inf and a subnormal."""
EVENT = Event("vae", "gaussian", 1.0, 10.0, 1.0, steps=4)


def state(index: int) -> dict[str, Any]:
    """Arrays of many kinds, those of the other process all zero."""
    return {
        "odd": np.zeros_like(ODD) if index else ODD,
        "half": jnp.full((4,), 0.1 * (index == 0), jnp.bfloat16),
        "wide": np.float64(0.1 * (index == 0)),
        "step": jnp.uint32(2**32 - 1 if index == 0 else 0),
        "none": jnp.zeros((0, 3)),
    }


def refused(work: Any) -> str:
    """What the UserError says that `work` ends with."""
    try:
        work()
    except UserError as error:
        return str(error)
    raise AssertionError("nothing was refused")


def share(hosts: Hosts) -> dict[str, Any]:
    def fail() -> None:
        raise UserError("no room")

    def fails_in_1() -> None:
        if hosts.index == 1:
            fail()

    told, whole = hosts.broadcast(state(hosts.index)), state(0)
    same = {key: value.tobytes() == np.asarray(whole[key]).tobytes() for key, value in told.items()}
    same |= {f"{key}'s type": told[key].dtype == np.asarray(whole[key]).dtype for key in told}
    hosts.assert_equal({"jax": "1.2", "--seed": None})
    long = "é" * 3000
    return {
        "same": same,
        "told": hosts.on_primary(lambda: [hosts.index, long]) == [0, long],
        "own": hosts.on_all(lambda: hosts.index),
        "primary": refused(lambda: hosts.on_primary(fail)),
        "one": refused(lambda: hosts.on_all(fails_in_1)),
        "differ": refused(lambda: hosts.assert_equal({"same": 1, "--steps": 4 + hosts.index})),
        "lacks": refused(lambda: hosts.assert_equal({"--a": 1} if hosts.index else {})),
    }


def enter(hosts: Hosts, folder: Path) -> dict[str, Any]:
    append = ledgers.append

    def slowly(*given: Any) -> None:
        time.sleep(1)
        append(*given)

    ledgers.append = slowly
    path = folder / "ledger.jsonl"
    ledger = open_ledger(path, hosts, target=(1.0, 1e-5), noise_id="n")
    found: dict[str, Any] = {}
    with ledger.access(EVENT):
        found["on disk"] = len(path.read_text().splitlines())
    hosts.on_all(lambda: None)
    next_steps = Event("vae", "gaussian", 1.0, 10.0, 1.0, steps=1, start=4)
    again = open_ledger(path, hosts, target=(1.0, 1e-5), noise_id="n")
    found["replay"] = again.open(EVENT)
    found["above"] = refused(
        lambda: again.open(Event("vae", "gaussian", 1.0, 1.0, 1.0, steps=9, start=4))
    )
    if hosts.is_primary:
        path.unlink()
        path.mkdir()
    found["unwritten"] = refused(lambda: again.access(next_steps).__enter__())
    found["entries"] = len(again.entries)
    return found


@command
def main(argv: Any = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("what")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--coordinator")
    parser.add_argument("--process-id", type=int)
    parser.add_argument("--processes", type=int)
    given = parser.parse_args(argv)
    if given.what == "alone":
        multihost.START = 2.0
        given.process_id, given.processes = 1, 2
    prepare_processor()
    if given.what == "devices":
        jax.config.update("jax_num_cpu_devices", 1 + given.process_id)
    with joined(given.coordinator, given.process_id, given.processes) as hosts:
        print(json.dumps({"share": share(hosts), "enter": enter(hosts, given.folder)}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
