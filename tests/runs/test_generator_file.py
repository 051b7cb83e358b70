"""The released generator on disk: read as it was written, damaged files and pickles refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rdpjax.errors import UserError
from rdpjax.fitting.generator import Generator
from rdpjax.runs.generator_file import read_generator, write_generator


def test_a_generator_is_read_as_it_was_written(generator: Generator, tmp_path: Path) -> None:
    write_generator(tmp_path, generator)
    again = read_generator(tmp_path)
    assert (again.config, again.schema, again.offset) == (
        generator.config, generator.schema, generator.offset,
    )  # fmt: skip
    assert generator.tilt is not None and again.tilt is not None
    np.testing.assert_array_equal(again.tilt.log_multipliers, generator.tilt.log_multipliers)
    assert again.tilt.log_cap == generator.tilt.log_cap
    assert (again.marginals.records, again.marginals.deviation) == (2987.25, 3.5)
    assert again.marginals.halves == generator.marginals.halves
    for ours, theirs in zip(again.marginals.shares, generator.marginals.shares, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert again.artefacts["vae"]["a"]["b"]["c"] == 1
    np.testing.assert_array_equal(
        again.artefacts["labeler"]["weights"], generator.artefacts["labeler"]["weights"]
    )


def break_toml(folder: Path) -> None:
    (folder / "schema.toml").write_text("[")


def break_arrays(folder: Path) -> None:
    (folder / "generator" / "arrays.npz").write_bytes(b"no zip")


def cut_arrays(folder: Path) -> None:
    path = folder / "generator" / "arrays.npz"
    path.write_bytes(path.read_bytes()[:200])


def flip_a_byte(folder: Path) -> None:
    path = folder / "generator" / "arrays.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def lose_an_array(folder: Path) -> None:
    path = folder / "generator" / "arrays.npz"
    arrays = dict(np.load(path))
    del arrays["marginals/halves"]
    np.savez(path, **arrays)


def remove_config(folder: Path) -> None:
    (folder / "generator" / "config.toml").unlink()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (break_toml, "TOML"),
        (break_arrays, r"arrays\.npz: cannot be read: damaged"),
        (cut_arrays, r"arrays\.npz: cannot be read: damaged"),
        (flip_a_byte, r"arrays\.npz: cannot be read: damaged"),
        (lose_an_array, r"arrays\.npz: cannot be read: damaged"),
        (remove_config, "no generator there"),
    ],
)
def test_a_damaged_generator_is_the_users_to_mend(
    damage: Callable[[Path], Any], told: str, generator: Generator, tmp_path: Path
) -> None:
    write_generator(tmp_path, generator)
    damage(tmp_path)
    with pytest.raises(UserError, match=told):
        read_generator(tmp_path)


def test_pickles_are_refused(generator: Generator, tmp_path: Path) -> None:
    """A release comes from strangers: loading it must run nothing of theirs."""
    write_generator(tmp_path, generator)
    path = tmp_path / "generator" / "arrays.npz"
    np.savez(path, **{**dict(np.load(path)), "offset": np.array([{}], object)})
    with pytest.raises(UserError, match=r"arrays\.npz: cannot be read"):
        read_generator(tmp_path)


def test_an_unfitted_generator_is_not_written(generator: Generator, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not fitted"):
        write_generator(tmp_path, dataclasses.replace(generator, tilt=None))
