"""`python -m rdpjax.train`: fit the stages under one budget, write a run folder."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import tyro

from rdpjax import __version__
from rdpjax.compute.devices import Device, device_mesh, keep_programs, prepare_processor, use_device
from rdpjax.compute.multihost import AUTO, joined
from rdpjax.config import Config
from rdpjax.config_file import (
    TABLE_GENERATOR,
    Described,
    config_of,
    default_config,
    load_config,
    load_schema,
)
from rdpjax.datasets.registry import TABLE, datasets
from rdpjax.datasets.table import TableSettings
from rdpjax.errors import UserError, command
from rdpjax.flags import Switch, optional, parsed
from rdpjax.generators.registry import stage_classes
from rdpjax.runs.run import run
from rdpjax.runs.start import Options


@dataclass(frozen=True)
class Flags:
    """Train a private generator and release synthetic records.

    The usual flags: --data FILE --out FOLDER --epsilon 5 --rows 50000. All others have defaults.

    Attributes:
      config: a TOML file, or the name of a shipped one, to start from; flags override it.
      schema: a TOML file that describes the columns of your own table, which --data names.
      generator: which stages to train: vaegan, vae or autoregressive, or an installed package's; in
        place of the configuration's.
      out: run folder: its release/ may be published, its internal/ may not; a run without privacy
        has unprotected/ in place of release/, and nothing of it may be published.
      data: the records: a table (.csv or .csv.gz), or a folder, .tar.gz or .zip of patients' .psv
        files.
      seed: a whole number that makes the run reproducible, and its noise NOT secret.
      resume: continue an interrupted run.
      overwrite: start anew in a folder that holds a run; its ledger is archived.
      keep_noise_key: keep the secret noise key after the run, for research.
      accept_clipping: go on where more than a fifth of a column lies outside its public bounds.
      device: where to compute; auto takes the best there is.
      devices: how many devices share each step; of several processes, in each of them (1 if not
        given).
      coordinator: address of process 0, the same in every process; "auto" asks SLURM, the TPU pod
        or Kubernetes, for the next two as well. Nothing is encrypted: use a network that you trust.
      process_id: number of this process, from 0; process 0 alone writes the run folder.
      processes: how many processes share the run.
      quiet: no progress on stderr.
      json: print the summary as JSON.
    """

    settings: Annotated[Config, tyro.conf.arg(name="")]
    config: Annotated[Path | None, optional("FILE", "DATASET.toml, as shipped: cardio.toml")] = None
    schema: Annotated[Path | None, optional("FILE", "the data set's own")] = None
    generator: Annotated[str | None, optional("NAME", "the configuration's")] = None
    out: Annotated[Path | None, optional("FOLDER", "runs/DATASET")] = None
    data: Annotated[
        Path | None,
        optional(
            "PATH",
            "$RDPJAX_DATA, then the dataset's files in . or ./data, then simulated",
            aliases=("--root",),
        ),
    ] = None
    seed: Annotated[int | None, optional("INT", "the system's randomness")] = None
    resume: Switch = False
    overwrite: Switch = False
    keep_noise_key: Switch = False
    accept_clipping: Switch = False
    device: Device = "auto"
    devices: Annotated[int | None, optional("INT", "one a core of a CPU, at most 8; else 1")] = None
    coordinator: Annotated[str | None, optional("HOST:PORT", "one process")] = None
    process_id: Annotated[int | None, optional("INT", "one process")] = None
    processes: Annotated[int | None, optional("INT", "one process")] = None
    quiet: Switch = False
    json: Switch = False


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: exit status 0, or 2 for a UserError."""
    argv = list(sys.argv[1:] if argv is None else argv)
    default = Flags(settings=_start(argv))
    _check_flags(argv, default.settings)
    flags = parsed(
        lambda: tyro.cli(
            Flags,
            prog="python -m rdpjax.train",
            args=_one_total(argv),
            default=default,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    )
    config = flags.settings
    options = Options(
        out=flags.out or Path("runs") / config.dataset,
        data=flags.data,
        environ=os.environ,
        seed=flags.seed,
        resume=flags.resume,
        overwrite=flags.overwrite,
        keep_noise_key=flags.keep_noise_key,
        accept_clipping=flags.accept_clipping,
    )
    _check_place(flags)
    prepare_processor()
    with joined(flags.coordinator, flags.process_id, flags.processes) as hosts:
        hosts.assert_equal(_same(flags))
        hosts.assert_equal({"--device": hosts.on_all(lambda: use_device(flags.device))})
        keep_programs()
        mesh = hosts.on_all(lambda: device_mesh(flags.devices, flags.device))
        summary = run(config, options, quiet=flags.quiet, hosts=replace(hosts, mesh=mesh))
        if hosts.is_primary:
            print(json.dumps(summary, indent=1) if flags.json else _sentence(summary), flush=True)
    return 0


def _check_place(flags: Flags) -> None:
    """Raise a UserError unless this process can take the place that its flags name."""
    coordinator, index, count = flags.coordinator, flags.process_id, flags.processes
    if index is count is None and coordinator in (None, AUTO):
        return
    if coordinator is None or index is None or count is None:
        raise UserError(
            "give --coordinator HOST:PORT, --process-id I and --processes N together, or "
            f"--coordinator {AUTO} alone on a cluster"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UserError(f"--coordinator {coordinator}: must be HOST:PORT, node0:29500 say")
    if not 0 <= index < count:
        raise UserError(f"--process-id {index}: must be 0 or more and below --processes {count}")


def _same(flags: Flags) -> dict[str, object]:
    """Return what must be equal in every process of a run: versions, and values by their flags."""
    facts: dict[str, object] = {name: version(name) for name in ("jax", "jaxlib")}
    facts |= {"rdpjax": __version__, "Python": ".".join(platform.python_version_tuple()[:2])}
    settings = flags.settings.values() | flags.settings.data.values()
    if isinstance(flags.settings.data, TableSettings) and flags.settings.data.schema:
        settings |= {"schema": flags.settings.data.schema.to_dict()}
    facts |= {f"--{name}": value for name, value in _named(settings)}
    names = ("devices", "seed", "accept_clipping")
    return facts | {f"--{name.replace('_', '-')}": getattr(flags, name) for name in names}


def _named(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _named(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _start(argv: Sequence[str]) -> Config:
    """Return the configuration that flags override: --config FILE, or the data set's own."""
    generator, described = _given(argv, "--generator"), _given(argv, "--schema")
    schema = None if described is None else load_schema(described)
    table = Described(schema, _given(argv, "--label"))
    if (path := _given(argv, "--config")) is not None:
        return load_config(path, generator, table)
    if schema is not None:
        if (named := _given(argv, "--dataset")) not in (None, TABLE):
            raise UserError(f"--schema: the data set {named} has a schema of its own; drop one")
        return config_of({}, "config", generator=generator or TABLE_GENERATOR, table=table)
    config = default_config(_given(argv, "--dataset") or Config.dataset, generator)
    if table.label is not None and not hasattr(config.data, "label"):
        raise UserError("--label: name the table's schema too, with --schema FILE")
    return config


def _check_flags(argv: Sequence[str], config: Config) -> None:
    """Raise a UserError for a flag of another data set or generator, naming its owner."""
    given = {word.split("=", 1)[0].replace("_", "-") for word in argv if word.startswith("--")}
    own = {f.name for f in dataclasses.fields(config.data)}
    for name, dataset in datasets().items():
        for setting in {f.name for f in dataclasses.fields(dataset.settings)} - own:
            if (flag := f"--{setting.replace('_', '-')}") in given:
                raise UserError(
                    f"{flag}: a setting of the data set {name}, and this run's is "
                    f"{config.dataset}; drop it"
                )
    for name in stage_classes():
        theirs = sorted(flag for flag in given if flag.startswith(f"--{name}."))
        if theirs and name not in config.stages:
            raise UserError(
                f"{theirs[0]}: a setting of the stage {name}, and this run's are "
                f"{', '.join(config.stages)}; drop it"
            )


def _one_total(argv: Sequence[str]) -> list[str]:
    """Return flags in which --epsilons replaces the total epsilon of the starting configuration."""
    takes_over = _given(argv, "--epsilons") is not None and _given(argv, "--epsilon") is None
    return [*argv, "--epsilon", "None"] if takes_over else list(argv)


def _given(argv: Sequence[str], flag: str) -> str | None:
    """Return the last value of a flag, before tyro parses the others."""
    found = None
    for i, word in enumerate(argv):
        if word == flag and i + 1 < len(argv):
            found = argv[i + 1]
        elif word.startswith(f"{flag}="):
            found = word.split("=", 1)[1]
    return found


def _sentence(summary: dict[str, Any]) -> str:
    epsilon, pld = summary["epsilon"], summary["epsilon_pld"]
    cost = (
        f"epsilon {epsilon:.6f} (RDP; PLD {f'{pld:.3f}' if pld else 'not available'}; naive sum "
        f"{summary['epsilon_naive_sum']:.3f}) at delta {summary['delta']:g}"
        if epsilon is not None
        else "NOT PRIVATE: trained without noise, for comparisons only"
    )
    runs = summary["runs_on_this_data"]
    seeded = "" if summary["secret_noise"] else "  noise: from your seed, so NOT secret\n"
    notes = "".join(f"  {note}\n" for note in summary["notes"])
    where = f"{summary['run']}/{summary['folder']}/{summary['file']}"
    last = (
        "nothing here may be published: it is not private"
        if epsilon is None
        else "release/ holds these bounds and levels: publish it only if they are public"
        if summary["notes"]
        else "release/ may be published, internal/ may not"
    )
    return (
        f"{summary['rows']} synthetic {summary['records']} in {where}\n"
        f"  source: {summary['source']}\n"
        f"  {cost}\n"
        f"  unit: {summary['unit']}; neighbours: {summary['relation']}\n{seeded}{notes}"
        f"  covers this run alone; runs on these data in this folder: {runs}\n"
        f"  {last}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
