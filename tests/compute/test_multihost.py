"""Two real processes exchange values and compare them; and processes that cannot start."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdpjax.compute.multihost import Hosts, joined
from rdpjax.errors import UserError
from rdpjax.train import main

SCRIPT = [sys.executable, str(Path(__file__).with_name("two_hosts.py"))]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--coordinator a:1", "give --coordinator HOST:PORT, --process-id I and --processes N tog"),
        ("--process-id 0 --processes 2", "give --coordinator HOST:PORT, --process-id I and"),
        ("--coordinator auto --processes 2", "or --coordinator auto alone on a cluster"),
        (
            "--coordinator a:1 --process-id 2 --processes 2",
            "--process-id 2: must be 0 or more and below --processes 2",
        ),
        ("--coordinator a:1 --process-id -1 --processes 2", "--process-id -1: must be 0 or more"),
        (
            "--coordinator a:1 --process-id 0 --processes 0",
            "must be 0 or more and below --processes 0",
        ),
        ("--coordinator a --process-id 0 --processes 2", "--coordinator a: must be HOST:PORT"),
        ("--coordinator a:b --process-id 0 --processes 2", "must be HOST:PORT"),
        ("--coordinator :1 --process-id 0 --processes 2", "must be HOST:PORT"),
        ("--coordinator a:70000 --process-id 0 --processes 2", "must be HOST:PORT"),
    ],
)
def test_flags_that_cannot_be(given: str, message: str, capsys: Any) -> None:
    assert main(given.split()) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1


def test_one_process_is_an_identity() -> None:
    with joined(None, None, None) as hosts:
        assert hosts == Hosts() and hosts.is_primary
        value = object()
        assert hosts.on_primary(lambda: value) is value
        assert hosts.on_all(lambda: value) is value
        assert hosts.broadcast(value) is value
        hosts.assert_equal({"anything": value})

        def fail() -> None:
            raise UserError("no room")

        for run in (hosts.on_primary, hosts.on_all):
            with pytest.raises(UserError, match="no room"):
                run(fail)


def test_a_port_in_use() -> None:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with (
            pytest.raises(UserError, match=rf"--coordinator 127.0.0.1:{port}: cannot start: .*use"),
            joined(f"127.0.0.1:{port}", 0, 2),
        ):
            pass


def test_no_cluster_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "KUBERNETES_SERVICE_HOST", "JAX_COORDINATOR_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    refused = pytest.raises(UserError, match="--coordinator auto: cannot start")
    with refused, joined("auto", None, None):
        pass


def test_two_processes_exchange_compare_and_enter(
    in_processes: Callable[..., Any], tmp_path: Path
) -> None:
    ended = in_processes([*SCRIPT, "meet", str(tmp_path)], [], [])
    assert [one.status for one in ended] == [0, 0], ended[0].err + ended[1].err
    for index, found in enumerate(json.loads(one.out) for one in ended):
        one = found["share"]
        assert one["same"] == dict.fromkeys(one["same"], True)
        assert one["told"] and one["own"] == index
        assert one["primary"] == ("process 0: no room" if index else "no room")
        assert one["one"] == ("no room" if index else "process 1: no room")
        differ = "the processes differ in --steps: 4 in process 0, 5 in process 1; start all with"
        assert one["differ"].startswith(differ)
        assert "differ in --a: none in process 0, 1 in process 1" in one["lacks"]

        one = found["enter"]
        assert one["on disk"] == 1, "no process reads before the entry is on the disk"
        assert one["replay"] is False and one["entries"] == 1
        assert "above the target" in one["above"]
        assert "cannot write the ledger" in one["unwritten"]
        assert "nothing was read" in one["unwritten"]


def test_two_processes_with_different_numbers_of_devices(
    in_processes: Callable[..., Any], tmp_path: Path
) -> None:
    for ended in in_processes([*SCRIPT, "devices", str(tmp_path)], [], []):
        assert ended.status == 2
        assert (
            ended.err
            == "rdpjax: error: the processes differ in their number of devices; make it the same\n"
        )


def test_nobody_comes(in_processes: Callable[..., Any], tmp_path: Path) -> None:
    (ended,) = in_processes([*SCRIPT, "alone", str(tmp_path)], [])
    assert ended.status == 2 and len(ended.err.splitlines()) == 1
    assert "the processes did not meet in 2 s; start all with the same --coordinator" in ended.err
