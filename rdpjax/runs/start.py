"""Start or resume a run: its options, its folder, its keys."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

from rdpjax.compute.multihost import Hosts
from rdpjax.config import Config
from rdpjax.config_file import parse_config
from rdpjax.datasets.dataset import Source
from rdpjax.dpsgd.keys import Roots
from rdpjax.errors import UserError
from rdpjax.fitting.progress import Progress
from rdpjax.runs.folder import RunFolder


@dataclass(frozen=True)
class Options:
    """Options of a run beside its configuration.

    Attributes:
      out: the run's folder.
      data: the records' file; None looks in the usual places, then simulates.
      environ: environment variables (`RDPJAX_DATA`).
      seed: for a reproducible run whose noise is not secret.
      resume: continue an interrupted run.
      overwrite: start anew in a folder that holds a run.
      keep_noise_key: keep the noise root after the run, for research.
      accept_clipping: go on where much of a column lies outside its bounds.
    """

    out: Path
    data: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    resume: bool = False
    overwrite: bool = False
    keep_noise_key: bool = False
    accept_clipping: bool = False


@contextlib.contextmanager
def resumable(folder: RunFolder) -> Iterator[None]:
    """Add to Ctrl-C's message how to resume, if the run has begun."""
    try:
        yield
    except KeyboardInterrupt:
        if not folder.has_keys:
            raise
        raise KeyboardInterrupt(
            "the same command with --resume goes on with it, at no further cost"
        ) from None


def check_folder(folder: RunFolder, options: Options) -> None:
    """Raise a UserError unless a run can start, or resume, in this folder."""
    if options.resume and options.overwrite:
        raise UserError("give --resume or --overwrite, not both")
    if options.resume and not folder.exists:
        raise UserError(f"{folder.path}: no run to resume there; drop --resume")
    if folder.exists and not (options.resume or options.overwrite):
        raise UserError(f"{folder.path}: holds a run; give --resume, --overwrite or another --out")
    folder.check_writable()


def start_run(
    folder: RunFolder,
    config: Config,
    source: Source,
    options: Options,
    hosts: Hosts,
    lines: Progress,
) -> tuple[str, Roots]:
    """Return name and keys of the run in every process: process 0 makes or reads them."""

    def started() -> dict[str, Any]:
        facts = {
            "fingerprint": source.fingerprint,
            "devices": hosts.mesh.size if hosts.mesh else 1,
        }
        if options.resume:
            name, roots = _resumed(folder, config, facts, options, lines)
        else:
            if folder.exists:
                folder.archive()
            folder.create()
            name, roots = secrets.token_hex(8), Roots.make(options.seed)
            folder.write_start(config, {"run": name, **facts}, roots)
        *keys, secret = astuple(roots)
        return {"run": name, "keys": [key.hex() for key in keys], "secret": secret}

    told = hosts.on_primary(started)
    return told["run"], Roots(*map(bytes.fromhex, told["keys"]), secret=told["secret"])


def _resumed(
    folder: RunFolder,
    config: Config,
    facts: Mapping[str, Any],
    options: Options,
    lines: Progress,
) -> tuple[str, Roots]:
    """Return name and keys of an interrupted run; UserError if it would read other records.

    The same noise on other records would cancel in the difference of the two outputs.
    """
    before, known, roots = folder.read_start()
    if before != parse_config(config.to_toml()):
        raise UserError(
            f"{folder.path}: its configuration differs from this one; use the run's own flags"
        )
    if not roots.noise and not folder.complete:
        raise UserError(
            f"{folder.path}: the run was complete and its noise key is gone, but its release/ is "
            "missing; restore it, or start a new run"
        )
    if known.get("fingerprint") != facts["fingerprint"]:
        raise UserError(f"{folder.path}: the data changed since the run began; start a new one")
    if options.seed is not None and Roots.make(options.seed).sampling != roots.sampling:
        raise UserError(f"{folder.path}: --seed differs from the run's own; drop it")
    if known.get("devices", 1) != facts["devices"]:
        lines.say(
            f"  note: {facts['devices']} devices where the run began with "
            f"{known.get('devices', 1)}: the same draws and noise, parameters to 1e-5"
        )
    return str(known.get("run")), roots
