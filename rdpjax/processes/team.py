"""The processes of one run: what they exchange, and how they end together.

Every process holds one connection to process 0. Over it they compare what must be the same, get
what process 0 alone decides (keys, the step to resume at, a state), and hear of each other's end:
a process that waits in a collective cannot be told in any other way, so a background thread of its
own says why in one line and ends it.

The connections carry the secret keys of the run and are not encrypted: as with jax's own, the
network between the processes must be trusted.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from rdpjax.errors import UserError
from rdpjax.processes.tunnel import background
from rdpjax.processes.wire import Kind, Lost, Wire, packed, unpacked

SILENCE = 40.0  # seconds without a word after which a process counts as dead
BEAT = 5.0  # seconds between two signs of life
GRACE = 5.0  # seconds in which a failed collective waits to hear who died
FIRST = 1.0  # seconds that process 0 has to say what is wrong, before others do
AGAIN = "start all processes again with --resume, on any number of them"


@dataclass
class Team:
    """This process among those of its run; without `wires` it is alone, and nothing waits.

    Attributes:
      index: of this process; process 0 decides, and alone writes the run folder.
      wires: to each other process by its index in process 0, to process 0 in the others.
      count: of processes.
      mesh: the devices of all of them that share each step; None for the default one.
    """

    index: int = 0
    wires: dict[int, Wire] = field(default_factory=dict)
    count: int = 1
    mesh: Mesh | None = None

    def __post_init__(self) -> None:
        self._values: dict[int, queue.SimpleQueue[bytes]] = {}
        self._last_word = threading.Lock()  # whoever takes it says why this process ends
        self._parted = False  # by agreement: the others know why
        for index, wire in self.wires.items():
            self._values[index] = queue.SimpleQueue()
            background(self._listen, index, wire)
        if self.wires:
            background(self._beat)

    @property
    def leads(self) -> bool:
        """Whether this is process 0 (or the only one)."""
        return self.index == 0

    # -- exchange ---------------------------------------------------------------------------------

    def exchange(self, value: bytes = b"") -> list[bytes]:
        """What each process said, by its index. All have to call it; nobody goes on before."""
        if not self.wires:
            return [value]
        try:
            if not self.leads:
                self.wires[0].send(Kind.VALUE, value)
                return unpacked(self._values[0].get())
            values = [value, *(self._values[index].get() for index in sorted(self.wires))]
            for wire in self.wires.values():
                wire.send(Kind.VALUE, packed(values))
            return values
        except Lost:
            return self._await_end()

    def share(self, value: Any = None) -> Any:
        """Process 0's value, in every process; anything that JSON can hold."""
        return json.loads(self.exchange(json.dumps(value).encode() if self.leads else b"")[0])

    def share_arrays(self, tree: Any) -> Any:
        """Process 0's arrays, bit for bit, in a tree of the same structure in every process.

        Args:
          tree: arrays or numbers; its shapes and types, but not its values, are the same in all.

        Returns:
          The same tree with NumPy arrays; alone, `tree` as it is.
        """
        if not self.wires:
            return tree
        leaves, structure = jax.tree.flatten(tree)
        own = [np.asarray(leaf) for leaf in leaves]
        said = self.exchange(packed([leaf.tobytes() for leaf in own]) if self.leads else b"")[0]
        shared = [
            np.frombuffer(part, leaf.dtype).reshape(leaf.shape).copy()
            for part, leaf in zip(unpacked(said), own, strict=True)
        ]
        return jax.tree.unflatten(structure, shared)

    def agree(self, facts: Mapping[str, object]) -> None:
        """Go on only if all processes have the same facts.

        Raises:
          UserError: the first fact that differs, in every process in the same words.
        """
        said = [json.loads(part) for part in self.exchange(json.dumps(dict(facts)).encode())]
        for key in dict.fromkeys(key for one in said for key in one):
            for index, one in enumerate(said):
                if one.get(key) != said[0].get(key):
                    self.leave()
                    raise UserError(
                        f"the processes differ in {key}: {_shown(said[0], key)} in process 0, "
                        f"{_shown(one, key)} in process {index}; start all of them with the same"
                    )

    # -- the end ----------------------------------------------------------------------------------

    def leave(self) -> None:
        """The good end: nobody waits for this process any more."""
        self._take_last_word()
        self._parted = True
        self._say_all(Kind.BYE)

    def fail(self, error: BaseException) -> None:
        """The other end: tell the others why, and keep jax from waiting for them at exit."""
        if not self.wires:
            return
        if not self._parted:
            time.sleep(self._patience(error))
            self._take_last_word()
            why = "interrupted" if isinstance(error, KeyboardInterrupt) else _line(error)
            self._say_all(Kind.END, f"process {self.index}: {why}".encode())
        status = {UserError: 2, KeyboardInterrupt: 130}.get(type(error), 1)
        atexit.register(_exit, status)

    def _patience(self, error: BaseException) -> float:
        """Seconds in which somebody who knows better may speak first."""
        if isinstance(error, KeyboardInterrupt):
            return 0.0
        if isinstance(error, UserError):
            return 0.0 if self.leads else FIRST  # what all find, process 0 says, and tidies up
        return GRACE  # a collective fails when another process dies, and that is the news

    def _listen(self, index: int, wire: Wire) -> None:
        try:
            while True:
                kind, payload = wire.receive()
                if kind is Kind.VALUE:
                    self._values[index].put(payload)
                elif kind is Kind.END:
                    return self._stop(payload)
                elif kind is Kind.BYE:
                    return None
        except Lost as error:
            return self._stop(f"process {index} died ({error}); {AGAIN}".encode())

    def _stop(self, why: bytes) -> None:
        """End this process from a thread beside it: its main thread may wait in a collective."""
        if not self._last_word.acquire(blocking=False):
            return
        self._say_all(Kind.END, why)
        os.write(2, b"rdpjax: error: " + why + b"\n")
        _exit(2)

    def _beat(self) -> None:
        while not self._last_word.locked():
            self._say_all(Kind.BEAT)
            time.sleep(BEAT)

    def _say_all(self, kind: Kind, payload: bytes = b"") -> None:
        for wire in self.wires.values():
            try:
                wire.send(kind, payload)
            except Lost:
                continue  # whoever listens to it knows

    def _take_last_word(self) -> None:
        if not self._last_word.acquire(blocking=False):
            self._await_end()

    def _await_end(self) -> Any:
        """Another thread knows why this process ends, and ends it."""
        time.sleep(2 * SILENCE)
        _exit(2)


def _exit(status: int) -> None:
    """End here and now: jax's own way out would wait for processes that are gone."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(status)


def _line(error: BaseException) -> str:
    if isinstance(error, UserError):
        return str(error)
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _shown(facts: Mapping[str, object], key: str) -> str:
    return str(facts[key]) if key in facts else "none"
