"""Reading of configurations: TOML text, files, and those shipped with the data sets."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdpjax.config import VERSION, Config
from rdpjax.data.schema import Schema
from rdpjax.datasets.registry import TABLE, find_dataset
from rdpjax.datasets.table import TableSettings
from rdpjax.errors import UserError, nearest
from rdpjax.generators.registry import find_generator, stage_classes
from rdpjax.generators.vaegan import VAEGAN
from rdpjax.sections import SCHEMA, flattened
from rdpjax.structure import build

DEFAULT_GENERATOR = "vaegan"
TABLE_GENERATOR = "autoregressive"


@dataclass(frozen=True)
class Described:
    """Description of a table that a command's flags give.

    Attributes:
      schema: the columns; None for those of the configuration.
      label: name of the label; None for that of the schema.
    """

    schema: Schema | None = None
    label: str | None = None


def parse_config(text: str, where: str = "config", *, written: bool = False) -> Config:
    """Parse what `Config.to_toml` writes; a missing key keeps its default.

    In a file that an older run has `written`, epsilon beside epsilons is not a setting: it is their
    composition, or an unused default.

    Raises:
      UserError: not TOML, an unknown key (the nearest is suggested), or a value of a wrong
        kind or range; the message begins with `where`.

    Examples:
      >>> parse_config("epsilon = 1.0").epsilon
      1.0
      >>> parse_config("epsilonn = 1.0")
      Traceback (most recent call last):
      ...
      rdpjax.errors.UserError: config: unknown key 'epsilonn'; did you mean 'epsilon'?
    """
    return config_of(_tables(text, where), where, written=written)


def config_of(
    values: Mapping[str, Any],
    where: str,
    *,
    generator: str | None = None,
    table: Described | None = None,
    written: bool = False,
) -> Config:
    """Build a configuration from the tables of a file; see `parse_config`.

    Args:
      values: keys and tables.
      where: prefix of every error message.
      generator: recipe whose stages, shares and source of labels replace the file's.
      table: description of a user's own table, in place of the file's section `[schema]`.
      written: the file was written by a run.
    """
    # Check the version first: a newer format may have other stages and keys.
    if isinstance(version := values.get("version", VERSION), int) and version > VERSION:
        raise UserError(
            f"{where}: version {version} is newer than this rdpjax's {VERSION}; upgrade rdpjax"
        )
    given, own = flattened(values, where)
    if version == 1:
        given["version"] = VERSION
    described = own.pop(SCHEMA, None)
    schema = None if described is None else Schema.from_dict(described)
    if table is not None:
        schema = table.schema or schema
    if schema is not None:
        given = {"dataset": TABLE, "records": schema.records} | given
        given = {key: value for key, value in given.items() if value is not None}
    chosen = given.get("dataset", Config.dataset)
    dataset = find_dataset(chosen) if isinstance(chosen, str) and chosen != TABLE else None
    kind = dataset.settings if dataset else TableSettings
    # In version 1 the data set's own settings may lie among the others.
    own |= {f.name: given.pop(f.name) for f in dataclasses.fields(kind) if f.name in given}
    classes = stage_classes()
    named = given.pop("generator", None)
    if generator is not None:
        before = given.get("stages", VAEGAN.stages)
        for name in ("stages", "shares", "epsilons", "label_source", *before):
            given.pop(name, None)
        named = generator
    settings: dict[str, Any] = {"stages": VAEGAN.stages}
    if named is not None:
        if not isinstance(named, str):
            raise UserError(f"{where}: generator must be text, got {named!r}")
        recipe = find_generator(named)
        settings = recipe.settings(dataset.shares if dataset else None)
    names = given.pop("stages", list(settings["stages"]))
    stages = {}
    for name in names if isinstance(names, list) else [names]:
        if name not in classes:
            raise UserError(f"{where}: unknown stage {name!r}{nearest(str(name), list(classes))}")
        default: Any = settings["stages"].get(name)
        own_values = given.pop(name, {})
        if type(default) is classes[name] and isinstance(own_values, Mapping):
            own_values = {**vars(default), **own_values}
        stages[name] = build(classes[name], own_values, f"{where} [{name}]")
    if "epsilons" in given:
        settings["shares"] = {}
        if written:
            given.pop("epsilon", None)
    if schema is not None:
        if dataset:
            raise UserError(f"{where}: the data set {chosen!r} has a schema of its own; drop yours")
        own["schema"] = schema
        if table is not None and table.label is not None:
            own["label"] = table.label
    data = build(kind, own, f"{where} [data]" if own else where)
    config: Config = build(Config, settings | given | {"stages": stages, "data": data}, where)
    return config


def load_config(
    path: Path | str, generator: str | None = None, table: Described | None = None
) -> Config:
    """Load a configuration from a TOML file, or a shipped one by name.

    Args:
      path: the file.
      generator: replaces the file's own.
      table: replaces the file's own schema, or its label.

    Raises:
      UserError: no such file, not UTF-8 text, or what `parse_config` refuses.
    """
    path = Path(path)
    found = next((p for p in (path, *_shipped(path.name)) if p.is_file()), None)
    if found is None:
        raise UserError(f"{path}: no such configuration file")
    tables = _tables(_text(found), str(path))
    return config_of(tables, str(path), generator=generator, table=table)


def load_schema(path: Path | str) -> Schema:
    """Load the description of a user's own table.

    Raises:
      UserError: no such file, not UTF-8 text, or what `Schema` refuses; the message begins with the
        path.
    """
    values = _tables(_text(Path(path)), str(path))
    try:
        return Schema.from_dict(values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def default_config(dataset: str, generator: str | None = None) -> Config:
    """Return the configuration shipped with a data set, or defaults where there is none.

    Raises:
      UserError: no such data set, or no such generator.
    """
    if dataset != TABLE:
        find_dataset(dataset)
    name = f"{dataset}.toml"
    if any(path.is_file() for path in _shipped(name)):
        return load_config(name, generator)
    return config_of({"dataset": dataset}, dataset, generator=generator or DEFAULT_GENERATOR)


def _shipped(name: str) -> list[Path]:
    home = Path(__file__).parent
    return [folder / "configs" / name for folder in (home, home.parent)]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{path}: cannot be read as UTF-8 text; name a TOML file") from None


def _tables(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{where}: not TOML: {error}") from None
