"""Determined columns: public functions or code lists of others, computed after generation."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np
import pandas as pd

from rdpjax.data.values import plain_list, text
from rdpjax.errors import UserError, nearest

_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
    ast.Pow: operator.pow, ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs, "sqrt": np.sqrt, "log": np.log, "exp": np.exp, "floor": np.floor,
    "ceil": np.ceil, "round": np.rint, "min": np.minimum, "max": np.maximum,
}  # fmt: skip


@dataclass(frozen=True)
class Determined:
    """Column that others determine: never measured, never modelled, written beside them.

    Attributes:
      name: the column's name.
      of: the column that `codes` translates; None with a formula.
      codes: pairs (level, value), one for each level of `of`.
      formula: arithmetic on numeric columns, `weight / (height / 100) ** 2` say, with + - * / // %
        ** and abs, sqrt, log, exp, floor, ceil, round, min, max; names with other characters than
        letters, digits and _ stand in backticks.
      decimals: decimals of the formula's value.

    Raises:
      UserError: names the column, and what is wrong.

    Examples:
      >>> bmi = Determined("bmi", formula="weight / (height / 100) ** 2", decimals=1)
      >>> bmi.values(pd.DataFrame({"weight": [62.0], "height": [168]})).tolist()
      [22.0]
      >>> grade = Determined("grade", of="school", codes=(("primary", 1), ("college", 3)))
      >>> grade.values(pd.DataFrame({"school": ["college", "primary"]})).tolist()
      [3, 1]
    """

    name: str
    of: str | None = None
    codes: tuple[tuple[Any, Any], ...] = ()
    formula: str = ""
    decimals: int = 0

    def __post_init__(self) -> None:
        text(self.name, "schema: a determined column's name", empty=False)
        where = f"schema: determined column {self.name!r}"
        text(self.formula, f"{where}: formula")
        if self.of is not None:
            text(self.of, f"{where}: of", empty=False)
        object.__setattr__(self, "codes", _pairs(self.codes, f"{where}: codes"))
        if bool(self.formula) == bool(self.codes) or bool(self.codes) != (self.of is not None):
            raise UserError(
                f"{where}: give a formula, or of = COLUMN with codes = {{level = value}}"
            )
        if type(self.decimals) is not int or not 0 <= self.decimals <= 12:
            raise UserError(f"{where}: decimals must lie between 0 and 12, got {self.decimals!r}")
        _ = self.sources

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the columns that determine this one."""
        return (self.of,) if self.of is not None else tuple(sorted(set(self._parsed[1].values())))

    def values(self, frame: pd.DataFrame) -> np.ndarray:
        """Compute the column from canonical records; a missing source gives None or NaN."""
        if self.of is not None:
            known = {str(level): value for level, value in self.codes}
            found = [known.get(str(level)) for level in frame[self.of]]
            return np.array(found, object if None in found else None)
        tree, names = self._parsed
        columns = {
            key: frame[name].to_numpy(np.float64, na_value=np.nan) for key, name in names.items()
        }
        with np.errstate(all="ignore"):
            result = np.broadcast_to(_computed(tree, columns), len(frame))
        return np.where(np.isfinite(result), np.round(result, self.decimals), np.nan)

    @cached_property
    def _parsed(self) -> tuple[ast.expr, dict[str, str]]:
        """Parse the formula: a tree of allowed nodes alone, and the columns by name in it."""
        where = f"schema: determined column {self.name!r}"
        quoted: dict[str, str] = {}

        def key(found: re.Match[str]) -> str:
            quoted.setdefault(f"_column_{len(quoted)}", found.group(1))
            return next(key for key, name in quoted.items() if name == found.group(1))

        try:
            tree = ast.parse(re.sub(r"`([^`]+)`", key, self.formula), mode="eval").body
        except (SyntaxError, ValueError):
            raise UserError(f"{where}: formula {self.formula!r} cannot be read") from None
        names: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id not in _FUNCTIONS:
                names[node.id] = quoted.get(node.id, node.id)
        if (bad := _not_allowed(tree)) is not None:
            raise UserError(f"{where}: formula: {ast.unparse(bad)!r} is no arithmetic on columns")
        if not names:
            raise UserError(f"{where}: formula {self.formula!r} names no column")
        return tree, names

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for TOML."""
        if self.formula:
            return {"name": self.name, "formula": self.formula, "decimals": self.decimals}
        return {"name": self.name, "of": self.of, "codes": {str(k): v for k, v in self.codes}}


def _pairs(codes: Any, where: str) -> tuple[tuple[Any, Any], ...]:
    """Validate pairs of a level and its value, each a number, a text or a boolean."""
    pairs = plain_list([*codes.items()] if isinstance(codes, Mapping) else codes, where)
    found = tuple(plain_list(pair, f"{where}: a pair") for pair in pairs)
    for pair in found:
        if len(pair) != 2 or not all(isinstance(part, str | int | float) for part in pair):
            raise UserError(f"{where} must be values by level, got {pair!r}")
        if any(isinstance(part, float) and not math.isfinite(part) for part in pair):
            raise UserError(f"{where} must be finite, got {pair!r}")
    return tuple((level, value) for level, value in found)


def in_order(
    determined: Sequence[Determined], levels: Mapping[str, Sequence[str]], where: str
) -> tuple[Determined, ...]:
    """Check determined columns against those that are modelled, and order them for computation.

    Args:
      determined: the columns.
      levels: levels of every modelled column as text, by name; none for a number.
      where: name of the schema in messages.

    Raises:
      UserError: a name that stands twice, an unknown source, a cycle, a level without a code.
    """
    known = {column.name: column for column in determined}
    names = [*levels, *known]
    for column in determined:
        if column.name in levels or [c.name for c in determined].count(column.name) > 1:
            raise UserError(f"{where}: a column name stands twice: {column.name!r}; rename one")
        for source in column.sources:
            if source not in names:
                raise UserError(
                    f"{where}: {column.name!r} is determined by {source!r}, and it has no column "
                    f"{source!r}{nearest(source, names)}"
                )
        for level in levels.get(column.of or "", ()):
            if level not in {str(k) for k, _ in column.codes}:
                raise UserError(f"{where}: {column.name!r} has no code for {column.of} = {level!r}")
    try:
        order = TopologicalSorter({c.name: c.sources for c in determined}).static_order()
        return tuple(known[name] for name in order if name in known)
    except CycleError as error:
        circle = ", ".join(map(repr, error.args[1]))
        raise UserError(f"{where}: determined columns in a circle: {circle}; model one") from None


def _not_allowed(node: ast.AST) -> ast.AST | None:
    """Return the first node that is no arithmetic; None if there is none."""
    if isinstance(node, ast.Constant):
        return None if type(node.value) in (int, float) else node
    if isinstance(node, ast.Name):
        return None
    if isinstance(node, ast.Call):
        known = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
        if not known or node.keywords:
            return node
        parts = node.args
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        parts = [node.left, node.right]
    elif isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        parts = [node.operand]
    else:
        return node
    return next((bad for part in parts if (bad := _not_allowed(part)) is not None), None)


def _computed(node: ast.AST, columns: Mapping[str, np.ndarray]) -> Any:
    if isinstance(node, ast.Constant):
        return np.float64(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        return columns[node.id]
    if isinstance(node, ast.Call):
        assert isinstance(node.func, ast.Name)
        return _FUNCTIONS[node.func.id](*(_computed(part, columns) for part in node.args))
    if isinstance(node, ast.BinOp):
        left, right = _computed(node.left, columns), _computed(node.right, columns)
        return _OPERATORS[type(node.op)](left, right)
    assert isinstance(node, ast.UnaryOp)
    return _OPERATORS[type(node.op)](_computed(node.operand, columns))
