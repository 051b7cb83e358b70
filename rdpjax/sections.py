"""Sections of a configuration file, and the keys of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rdpjax.errors import UserError, nearest

SECTIONS: dict[str, tuple[str, ...]] = {
    "data": ("dataset", "records", "holdout"),
    "model": ("generator", "stages", "label_source", "max_codes"),
    "privacy": ("epsilon", "delta", "batch_size", "hardened", "private", "shares", "epsilons"),
    "compute": ("clipping", "precision", "microbatch", "chunk_steps"),
    "release": ("rows", "block_rows", "pool_rows"),
}
"""The keys of each section. `[data]` holds the data set's own settings too, `[model.STAGE]` those
of a stage."""


SCHEMA = "schema"
"""Section of a user's own table: `Schema.to_dict`."""


def sectioned(values: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of a file from flat values.

    Args:
      values: by key; a key of no section is a stage's table.
      data: the data set's own settings.

    Examples:
      >>> sectioned({"version": 2, "vae": {"steps": 3}}, {"age_unit": "days"})
      {'version': 2, 'data': {'age_unit': 'days'}, 'model': {'vae': {'steps': 3}}}
    """
    tables: dict[str, dict[str, Any]] = {
        name: {key: values[key] for key in keys if key in values} for name, keys in SECTIONS.items()
    }
    known = {key for keys in SECTIONS.values() for key in keys}
    tables["data"].update(data)
    tables["model"].update({k: v for k, v in values.items() if k not in known | {"version"}})
    return {"version": values["version"]} | {name: t for name, t in tables.items() if t}


def flattened(tables: Mapping[str, Any], where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Invert `sectioned`: return the flat values, and the data set's own settings.

    A file of version 1 has no sections: its values are flat already.

    Raises:
      UserError: an unknown section or key, or a section that is not a table.
    """
    if not any(name in SECTIONS for name in tables) and tables.get("version", 1) != 2:
        return dict(tables), {}
    values: dict[str, Any] = {"version": tables["version"]} if "version" in tables else {}
    data: dict[str, Any] = {}
    for name, table in tables.items():
        if name == "version":
            continue
        if name == SCHEMA:
            data[SCHEMA] = table
            continue
        if name not in SECTIONS:
            raise UserError(f"{where}: unknown section [{name}]{_hint(name)}")
        if not isinstance(table, Mapping):
            raise UserError(f"{where} [{name}]: must be a table")
        for key, value in table.items():
            if key in SECTIONS[name]:
                values[key] = value
            elif name == "data":
                data[key] = value
            elif name == "model" and isinstance(value, Mapping):
                values[key] = value
            else:
                raise UserError(f"{where} [{name}]: unknown key {key!r}{_hint(key)}")
    return values, data


def _hint(key: str) -> str:
    """Return the section that a key belongs to, or the nearest name, as a hint for an error."""
    for name, keys in SECTIONS.items():
        if key in keys:
            return f"; it belongs in [{name}]"
    return nearest(key, [*SECTIONS, *(key for keys in SECTIONS.values() for key in keys)])
