"""How a process finds the others: all or none within half a minute, then jax's own start."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import queue
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TypeAlias

import jax

from rdpjax import __version__
from rdpjax.errors import UserError
from rdpjax.processes import tunnel
from rdpjax.processes.team import SILENCE, Team
from rdpjax.processes.wire import Kind, Lost, Wire

LIMIT = 30.0  # seconds to find the others in
HELLO = 1 << 10  # bytes that a stranger may send

Arrivals: TypeAlias = "queue.SimpleQueue[tuple[Wire, int, int]]"


@dataclass(frozen=True)
class Place:
    """Where this process stands among the others.

    Attributes:
      host: of process 0; it listens there for the others.
      port: of process 0.
      index: of this process, 0 to count - 1.
      count: of processes.
    """

    host: str
    port: int
    index: int
    count: int

    @property
    def address(self) -> str:
        """As the flag has it."""
        return f"{self.host}:{self.port}"


def place_of(coordinator: str | None, index: int | None, count: int | None) -> Place | None:
    """The place that three flags name; None if there are none of them.

    Raises:
      UserError: some but not all of them, or one that cannot be.
    """
    given = {"--coordinator": coordinator, "--process-id": index, "--processes": count}
    if lacking := [flag for flag, value in given.items() if value is None]:
        if len(lacking) < len(given):
            raise UserError(
                f"{' and '.join(lacking)} missing: several processes need --coordinator "
                "HOST:PORT, --process-id I and --processes N"
            )
        return None
    assert coordinator is not None and index is not None and count is not None
    if count < 2:
        raise UserError(f"--processes {count}: must be at least 2; drop the flag for one process")
    if not 0 <= index < count:
        raise UserError(f"--process-id {index}: must be 0 to {count - 1} of --processes {count}")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UserError(f"--coordinator {coordinator}: must be HOST:PORT, node0:29500 say")
    return Place(host.strip("[]"), int(port), index, count)


def versions() -> dict[str, str]:
    """What has to be the same in every process before they compute together."""
    return {
        "rdpjax": __version__,
        "jax": jax.__version__,
        "jaxlib": version("jaxlib"),
        "Python": ".".join(platform.python_version_tuple()[:2]),
    }


@contextmanager
def together(
    place: Place | None, facts: Mapping[str, object], *, limit: float = LIMIT
) -> Iterator[Team]:
    """A block that all processes of a run enter and leave together, whichever of them fails.

    Inside it jax computes on the devices of all of them; none may have been used before.

    Args:
      place: of this process; None for a run of one, which waits for nobody.
      facts: what has to be the same in every process, beside the versions.
      limit: seconds to meet in.

    Raises:
      UserError: process 0 does not answer, not all of the others come, or their facts differ.
    """
    if place is None:
        yield Team()
        return
    service = tunnel.free_port()
    team = _lead(place, service, limit) if place.index == 0 else _follow(place, limit)
    try:
        team.agree(versions() | dict(facts))
        _start_jax(place, service)
        yield team
        team.exchange()
        jax.distributed.shutdown()
        team.leave()
    except BaseException as error:
        team.fail(error)
        raise


def _lead(place: Place, service: int, limit: float) -> Team:
    """Process 0: listen for the others."""
    try:
        family = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)[0][0]
        server = socket.create_server((place.host, place.port), family=family)
    except OSError as error:
        raise UserError(
            f"--coordinator {place.address}: process 0 cannot listen there: {_reason(error)}; "
            "give an address of its own machine and a free port"
        ) from None
    wires: dict[int, Wire] = {}
    try:
        _welcome(place, server, service, limit, wires)
    except UserError as error:
        for wire in wires.values():
            _refuse(str(error), wire)
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        raise
    return Team(0, wires, place.count)


def _welcome(
    place: Place, server: socket.socket, service: int, limit: float, wires: dict[int, Wire]
) -> None:
    """Fill `wires` with the others, by their index, and tell them that all are there."""
    deadline = time.monotonic() + limit
    arrivals: Arrivals = queue.SimpleQueue()
    tunnel.background(_answer_door, server, arrivals, service)
    while len(wires) < place.count - 1:
        try:
            wire, index, count = arrivals.get(timeout=max(deadline - time.monotonic(), 0))
        except queue.Empty:
            absent = [str(i) for i in range(1, place.count) if i not in wires]
            raise UserError(
                f"process {', '.join(absent)} of {place.count} did not join in {limit:g} s; "
                f"start it with --coordinator {place.address}"
            ) from None
        if index in wires:
            _refuse(f"--process-id {index} is taken by another process", wire)
            continue
        wires[index] = wire
        if count != place.count:
            raise UserError(
                f"the processes differ in --processes: {place.count} in process 0, {count} in "
                f"process {index}; start all of them with the same"
            )
    for wire in wires.values():
        wire.connection.settimeout(SILENCE)
        wire.send(Kind.READY)
    tunnel.background(_turn_away, arrivals)


def _turn_away(arrivals: Arrivals) -> None:
    while True:
        _refuse("the run there has all its processes already", arrivals.get()[0])


def _answer_door(server: socket.socket, arrivals: Arrivals, service: int) -> None:
    """Let processes and tunnels in; a stranger is let go without a word."""
    with contextlib.suppress(OSError):  # the door is shut
        while True:
            connection, _ = server.accept()
            tunnel.background(_greet, Wire(connection, LIMIT), arrivals, service)


def _greet(wire: Wire, arrivals: Arrivals, service: int) -> None:
    try:
        kind, payload = wire.receive(HELLO)
        if kind is Kind.TUNNEL:
            tunnel.join_ends(wire.connection, tunnel.connected(service, LIMIT))
        elif kind is Kind.HELLO:
            index, count = json.loads(payload)
            wire.send(Kind.HELLO)
            arrivals.put((wire, int(index), int(count)))
        else:
            wire.close()
    except (Lost, OSError, ValueError, TypeError):
        wire.close()


def _refuse(why: str, wire: Wire) -> None:
    with contextlib.suppress(Lost):
        wire.send(Kind.END, why.encode())
    wire.close()


def _follow(place: Place, limit: float) -> Team:
    """Any other process: find process 0."""
    deadline = time.monotonic() + limit
    while True:
        try:
            wire = _knock(place, Kind.HELLO, deadline)
            break
        except (Lost, OSError):
            if time.monotonic() > deadline:
                raise UserError(
                    f"--coordinator {place.address}: no answer in {limit:g} s; start process 0 "
                    "there, and check host, port and firewall"
                ) from None
            time.sleep(0.1)
    # Process 0 waits for the others at most as long, and then says so.
    wire.connection.settimeout(limit + SILENCE)
    try:
        kind, payload = wire.receive()
    except Lost as error:
        wire.close()
        raise UserError(f"process 0 died ({error}) while the processes met") from None
    if kind is Kind.END:
        wire.close()
        raise UserError(payload.decode(errors="replace"))
    wire.connection.settimeout(SILENCE)
    return Team(place.index, {0: wire}, place.count)


def _knock(place: Place, kind: Kind, deadline: float) -> Wire:
    """A connection to process 0, which has answered if it is to be more than a tunnel."""
    left = max(deadline - time.monotonic(), 0.1)
    wire = Wire(socket.create_connection((place.host, place.port), timeout=left), left)
    try:
        wire.send(kind, json.dumps([place.index, place.count]).encode())
        if kind is Kind.HELLO:
            wire.receive(HELLO)
    except Lost:
        wire.close()
        raise
    return wire


def _start_jax(place: Place, service: int) -> None:
    """The coordinator of jax in process 0, and a tunnel to it in each of the others."""
    jax.config.update("jax_enable_preemption_service", False)  # would catch SIGTERM, and go on
    _ask_no_proxy()
    _keep_stdout()
    port = service
    if place.index > 0:
        server = tunnel.listening()
        port = int(server.getsockname()[1])

        def far_end() -> socket.socket:
            return _knock(place, Kind.TUNNEL, time.monotonic() + LIMIT).connection

        tunnel.background(tunnel.serve_near_end, server, far_end)
    jax.distributed.initialize(
        f"{tunnel.LOOPBACK}:{port}",
        place.count,
        place.index,
        cluster_detection_method="deactivate",
        coordinator_bind_address=f"{tunnel.LOOPBACK}:{service}",
        initialization_timeout=round(LIMIT),
    )


def _ask_no_proxy() -> None:
    """A proxy of the environment knows nothing of this machine's own loopback."""
    jax.config.update("jax_check_proxy_envs", False)
    names = ("no_grpc_proxy", "no_proxy", "NO_PROXY")  # gRPC takes the first of them
    known = next((os.environ[name] for name in names if os.environ.get(name)), "")
    os.environ[names[0]] = f"{known},{tunnel.LOOPBACK}".lstrip(",")


def _keep_stdout() -> None:
    """Standard output is Python's alone: the libraries below would report connections there."""
    sys.stdout.flush()
    sys.stdout = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _reason(error: OSError) -> str:
    """What the system says, without what Python adds; names that don't resolve count down."""
    number = error.errno or 0
    return os.strerror(number) if number > 0 else str(error.strerror)
