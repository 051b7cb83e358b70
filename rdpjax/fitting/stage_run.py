"""Training of one stage, chunk by chunk, resumable after every checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rdpjax.config import Config
from rdpjax.dpsgd.compiled import Compiled
from rdpjax.dpsgd.execution import Execution, default_clipping, default_microbatch
from rdpjax.dpsgd.feed import make_fed_chunk
from rdpjax.dpsgd.keys import StepKeys, as_key, derive, step_keys
from rdpjax.dpsgd.loop import make_chunk, size_of
from rdpjax.dpsgd.plan import Plan
from rdpjax.errors import UserError
from rdpjax.fitting import checkpoint
from rdpjax.fitting.progress import Progress
from rdpjax.fitting.session import Session
from rdpjax.io.atomic import write_file
from rdpjax.privacy.sealed import Sealed
from rdpjax.stages.stage import Artefact, Context, Training, TrainingStage

CHECKPOINT_SECONDS = 60.0
"""Seconds between checkpoints. A stage is also saved after its first chunk, so that a failing disk
shows at once, and at its end. Chunks after the last checkpoint are replayed after a kill, with the
same keys, and cost no privacy."""

RECORD = "execution.json"


@dataclass(frozen=True)
class Examples:
    """Training examples, and whether they lie on the device.

    Attributes:
      sealed: pytree of arrays `[records, ...]` (tokens, floats, masks), on the device or the host.
      on_device: whether on the device.
    """

    sealed: Sealed[Any]
    on_device: bool

    @property
    def shapes(self) -> Any:
        """Shape and dtype of each array, for the compiler."""
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), self.sealed.shapes)

    @property
    def one(self) -> Any:
        """Shapes and dtypes of a single example."""
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), self.shapes)


@dataclass(frozen=True)
class StageRun:
    """Everything that one stage's training needs, except its examples.

    Attributes:
      name: of the stage.
      stage: its settings.
      plan: its DP-SGD plan.
      config: the run's settings.
      session: takes the chunks, each under its entry in the ledger; checkpoints found and execution
        settings chosen by process 0 hold for all processes.
      folder: of checkpoints to resume from and write to; None keeps everything in memory.
      mesh: the devices, where there are several.
    """

    name: str
    stage: TrainingStage
    plan: Plan
    config: Config
    session: Session
    folder: Path | None = None
    mesh: Mesh | None = None

    def train(
        self, context: Context, examples: Examples, records: float, progress: Progress
    ) -> Artefact:
        """Train under `context` on private `examples`, one for each of about `records` records.

        Examples on the host are fed to the device, draw by draw.
        """
        training = self.session.training(self.name, self.stage, self.plan, context)
        key = as_key(derive(self.session.roots.initialisation, self.name, "init"))
        state, hosts = Compiled(training.init)(key), self.session.hosts
        expected = self.plan.sampling_rate * records
        chosen, why = hosts.on_primary(lambda: self._choice(training, state, examples, expected))
        execution = Execution(**chosen, mesh=self.mesh)
        progress.say(f"  {self.name:<10} {execution.clipping} clipping: {why}")
        state, done = self._resumed(state)
        make = make_chunk if examples.on_device else make_fed_chunk
        chunk = make(self.plan, execution, training.objective, training.update)
        divisor = jnp.float32(expected)
        if done < self.plan.steps:
            progress.say(f"  {self.name:<10} compiling (once)")
        folder = hosts.on_primary(lambda: str(self.folder.absolute()) if self.folder else None)
        due = -math.inf

        def take(keys: StepKeys, records: Any) -> tuple[Any, dict[str, np.ndarray]]:
            after, metrics = chunk(state, records, keys, divisor)
            return after, {name: np.asarray(values) for name, values in metrics.items()}

        while done < self.plan.steps:
            steps = min(self.config.chunk_steps, self.plan.steps - done)
            params = self._params(training, state)
            state, heard = self.session.chunk(
                self.name, self.plan, done, steps, params, take, examples.sealed
            )
            done += steps
            last = done == self.plan.steps
            if folder and (last or hosts.on_primary(time.monotonic) >= due):
                checkpoint.save(Path(folder), done, state)
                due = hosts.on_primary(time.monotonic) + CHECKPOINT_SECONDS
            progress.advance(self.name, done, self.session.ledger.epsilon(self.config.delta), heard)
        # From here on each process computes alone, on its own default device.
        return jax.tree.map(jnp.asarray, training.release(jax.device_get(state)))

    def _resumed(self, state: Any) -> tuple[Any, int]:
        """Return process 0's last checkpoint and its step, or `state` and 0 without one."""
        folder, found = self.folder, [state]

        def load() -> int:
            if not folder or not (saved := checkpoint.steps(folder)):
                return 0
            found[0] = checkpoint.load(folder, saved[-1], state)
            self._check_entered(saved[-1])
            return saved[-1]

        done = self.session.hosts.on_primary(load)
        return self.session.hosts.broadcast(found[0]), done

    def compile_ahead(
        self, context: Context, examples: Examples, records: float, *, compiles: bool
    ) -> Artefact:
        """Compile what `train` will run, into the persistent cache; reads no record.

        Args:
          context: with released params of the right shapes for the earlier stages.
          examples: only their shapes matter.
          records: approximate number of records.
          compiles: False where `train` is already compiling this stage.

        Returns:
          Released params of the right shapes, all zeros, for the stages after this one.
        """
        training = self.session.training(self.name, self.stage, self.plan, context)
        key = as_key(derive(self.session.roots.initialisation, self.name, "init"))
        state = jax.eval_shape(training.init, key)
        if compiles and not (self.folder and checkpoint.steps(self.folder)):
            expected = self.plan.sampling_rate * records
            chosen, _ = self._settings(training, state, examples, expected)
            execution = Execution(**chosen, mesh=self.mesh)
            chunk = make_chunk(self.plan, execution, training.objective, training.update)
            steps = min(self.config.chunk_steps, self.plan.steps)
            keys = step_keys(self.session.roots, self.name, 0, steps)
            if self.plan.discrete:
                numbers = size_of(self._params(training, state))
                noise: Any = jax.ShapeDtypeStruct((steps, numbers), jnp.int32)
                keys = keys._replace(noise=noise)
            chunk.prepare(state, examples.shapes, keys, jnp.float32(1))
            Compiled(training.init).prepare(key)
        released = jax.eval_shape(lambda key: training.release(training.init(key)), key)
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), released)

    def _params(self, training: Training, state: Any) -> Any:
        """Return the shapes of the trained parameters."""
        return jax.eval_shape(lambda state: training.objective(state)[0], state)

    def _check_entered(self, done: int) -> None:
        """Raise a UserError unless the ledger covers every step of a checkpoint."""
        if not self.session.ledger.covers(self.plan.event(self.name, 0, done)):
            raise UserError(
                f"{self.folder}: the checkpoint holds {done} steps of {self.name!r}, which the "
                "ledger does not list; it was changed after it was written, restore it"
            )

    def _choice(
        self, training: Training, state: Any, examples: Examples, expected: float
    ) -> tuple[dict[str, Any], str]:
        """Return execution settings and their reason; stored, so that a resumed run keeps them."""
        record = self.folder / RECORD if self.folder else None
        if record and record.exists():
            return json.loads(record.read_text(encoding="utf-8")), "as in the interrupted run"
        chosen, why = self._settings(training, state, examples, expected)
        if record:
            record.parent.mkdir(parents=True, exist_ok=True)
            write_file(record, json.dumps(chosen) + "\n")
        return chosen, why

    def _settings(
        self, training: Training, state: Any, examples: Examples, expected: float
    ) -> tuple[dict[str, Any], str]:
        params, loss = training.objective(state)
        clipping: str
        clipping, why = default_clipping(loss, params, examples.one, jax.random.key(0))
        if self.plan.discrete:
            clipping, why = "lattice", "hardened: each gradient in integer units"
        elif self.config.clipping not in ("auto", clipping):
            clipping, why = self.config.clipping, f"as configured, although {why}"
        share = expected / (self.mesh.size if self.mesh else 1)
        microbatch = self.config.microbatch or default_microbatch(jax.default_backend(), share)
        precision = self.config.precision
        return {"clipping": clipping, "precision": precision, "microbatch": microbatch}, why


@contextmanager
def compiled_ahead(
    runs: Sequence[StageRun], context: Context, examples: Examples, records: float
) -> Iterator[None]:
    """Compile the programs of later stages in the background while the first one trains.

    Training finds them in the persistent compilation cache; without one nothing is compiled. Errors
    are ignored here: they come again, with their message, when the stage itself is trained.
    """
    caches = getattr(jax.config, "jax_compilation_cache_dir", None)
    if not caches or not examples.on_device or jax.process_count() > 1:
        yield
        return
    stop = threading.Event()

    def work() -> None:
        artefacts = dict(context.artefacts)
        known = dataclasses.replace(context, artefacts=artefacts)
        for i, run in enumerate(runs):
            if stop.is_set():
                return
            with contextlib.suppress(Exception):
                artefacts[run.name] = run.compile_ahead(known, examples, records, compiles=i > 0)

    worker = threading.Thread(target=work, name="compile ahead")
    worker.start()
    try:
        yield
    finally:
        stop.set()
        worker.join()
