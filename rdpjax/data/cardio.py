"""Kaggle's cardiovascular disease table: public schema, reader and writer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd

from rdpjax.data.schema import Categorical, Column, Numeric, Schema
from rdpjax.errors import UserError, nearest
from rdpjax.io.cells import levels, numbers, words
from rdpjax.io.delimited import Table, read_table, verbatim
from rdpjax.io.layout import Cells, Layout
from rdpjax.io.strings import Strings

DAYS = 365.25
_KAGGLE = "data dictionary of Kaggle's sulianova/cardiovascular-disease-dataset"
_STEPS = "WHO STEPS data cleaning limits (analysis code for national surveys)"

# Related columns are adjacent, since the networks convolve over column positions: a kernel sees
# the pressures, the body measures and the habits each as one neighbourhood.
CARDIO = Schema(
    name="cardio",
    columns=(
        Categorical("gender", (1, 2), source=_KAGGLE),
        Numeric(
            "height",
            "cm",
            120,
            210,
            within="start",
            source=f"{_STEPS}: 100-270, narrowed to adult stature",
        ),
        Numeric(
            "weight",
            "kg",
            30,
            200,
            resolution=0.1,
            within="halves",
            source=f"{_STEPS}: 20-350, narrowed to what common scales weigh",
        ),
        Numeric(
            "age",
            "days",
            29 * DAYS,
            66 * DAYS,
            cell=DAYS / 4,
            resolution=1,
            within="uniform",
            source="adults of 30 to 65 years by public descriptions of the cohort, a year added "
            "on either side",
        ),
        Categorical("cardio", (0, 1), source=_KAGGLE),
        Numeric(
            "ap_hi", "mmHg", 70, 240, within="start", source=f"{_STEPS}: systolic 40-300, narrowed"
        ),
        Numeric(
            "ap_lo", "mmHg", 40, 140, within="start", source=f"{_STEPS}: diastolic 30-200, narrowed"
        ),
        Categorical("cholesterol", (1, 2, 3), source=_KAGGLE),
        Categorical("gluc", (1, 2, 3), source=_KAGGLE),
        Categorical("active", (0, 1), source=_KAGGLE),
        Categorical("smoke", (0, 1), source=_KAGGLE),
        Categorical("alco", (0, 1), source=_KAGGLE),
    ),
    label="cardio",
    less=(("ap_lo", "ap_hi"),),
)

KAGGLE_LAYOUT = Layout(
    separator=";",
    header=(
        "id", "age", "gender", "height", "weight", "ap_hi", "ap_lo",
        "cholesterol", "gluc", "smoke", "alco", "active", "cardio",
    ),
    identifier="id",
)  # fmt: skip
"""Layout of the published file: the default output format where there is no input file."""

AgeUnit = Literal["auto", "days", "years"]
HeightUnit = Literal["auto", "cm", "m"]
Derived = Literal["bmi", "pp"]

_OTHER_NAMES = {"sbp": "ap_hi", "dbp": "ap_lo"}
_FILES = ("cardio_train.csv", "cardio_train.csv.gz")


@dataclass(frozen=True)
class CardioTable:
    """Parsed cardio file.

    Attributes:
      frame: the schema's columns in its order and units, `[records, 12]`: numerics as float64
        (not clipped), categoricals as int64.
      ids: each record's identifier as written, or None where the file has no `id`.
      layout: the file format; public.
      notes: remarks printed for the curator. They may come from the data: not for a release.
      table: the file's raw cells and lines; private.
    """

    frame: pd.DataFrame
    ids: Strings | None
    layout: Layout
    notes: tuple[str, ...]
    table: Table

    @property
    def keys(self) -> Strings:
        """Hold-out keys, hashed per record: the identifiers, or the records' text if none."""
        return self.table.texts if self.ids is None else self.ids

    def verbatim(self, mask: np.ndarray) -> str:
        """Return the header and the records of a mask, bool `[records]`, byte for byte."""
        return verbatim(self.table.header_text, self.table.texts, mask)


def read_cardio(
    path: Path | str, *, age_unit: AgeUnit = "auto", height_unit: HeightUnit = "auto"
) -> CardioTable:
    """Read a cardio file; formats, arguments and errors are those of `parse_cardio`."""
    return parse_cardio(read_table(path), age_unit=age_unit, height_unit=height_unit)


def parse_cardio(
    table: Table, *, age_unit: AgeUnit = "auto", height_unit: HeightUnit = "auto"
) -> CardioTable:
    """Validate a table against the schema and convert it to the schema's units and column order.

    Values outside the bounds are kept: the codec clips them.

    Args:
      table: the file's cells. The pressures may be called `sbp` and `dbp`; other unknown columns
        are left out with a note.
      age_unit: of the age column; auto decides value by value: 120 or more is days, less is years.
      height_unit: of the height column; auto decides value by value: below 3 is metres.

    Returns:
      The records, their identifiers and the file's layout.

    Raises:
      UserError: a column is missing, or a cell is empty, no number or no level.

    Examples:
      >>> from rdpjax.io.delimited import parse_table
      >>> text = b"age,gender,height,weight,sbp,dbp,cholesterol,gluc,smoke,alco,active,cardio\\n"
      >>> table = parse_cardio(parse_table(text + b"50,2,1.68,62,110,80,1,1,0,0,1,0\\n", "t.csv"))
      >>> table.frame[["height", "age", "ap_hi"]].to_dict("records")
      [{'height': 168.0, 'age': 18262.5, 'ap_hi': 110.0}]
      >>> table.layout.renamed
      (('sbp', 'ap_hi'), ('dbp', 'ap_lo'))
    """
    for word, allowed, flag in (
        (age_unit, get_args(AgeUnit), "age unit"),
        (height_unit, get_args(HeightUnit), "height unit"),
    ):
        if word not in allowed:
            raise UserError(f"{flag} {word!r}: must be one of {', '.join(allowed)}")
    written = _columns(table)
    values: dict[str, np.ndarray] = {}
    for column in CARDIO.columns:
        name = written[column.name]
        if isinstance(column, Categorical):
            values[column.name] = levels(table, name, column.levels)
        else:
            values[column.name] = numbers(table, name)
    age, height = values["age"], values["height"]
    # Decided by magnitude: -18393 is days with a wrong sign, not a number of years.
    in_years = np.abs(age) < 120 if age_unit == "auto" else np.full(age.shape, age_unit == "years")
    values["age"] = np.where(in_years, age * DAYS, age)
    in_metres = (
        np.abs(height) < 3 if height_unit == "auto" else np.full(height.shape, height_unit == "m")
    )
    # Rounded, since 1.13 * 100 is 112.99999999999999 in float64.
    values["height"] = np.where(in_metres, np.round(height * 100, 6), height)

    kept = {name: column for column, name in written.items()}
    header = tuple(name for name in table.header if name in kept or name == "id")
    layout = Layout(
        separator=table.separator,
        header=header,
        renamed=tuple((name, kept[name]) for name in header if kept.get(name, name) != name),
        identifier="id" if "id" in table.header else None,
    )
    ids = words(table, "id") if layout.identifier else None
    notes = []
    extra = [name for name in table.header if name not in header]
    if extra:
        notes.append(f"{table.path}: ignored, as the schema has no such column: {', '.join(extra)}")
    if ids is not None and not ids.distinct:
        notes.append(
            f"{table.path}: an id stands in more than one row; privacy is per row, so a person "
            "with several rows is protected less than the printed epsilon says"
        )
    return CardioTable(pd.DataFrame(values, copy=False), ids, layout, tuple(notes), table)


def _columns(table: Table) -> dict[str, str]:
    """Map each column of the schema to its name in the file; UserError if one is missing."""
    written: dict[str, str] = {}
    for name in table.header:
        field = _OTHER_NAMES.get(name, name)
        if field in written:
            raise UserError(
                f"{table.path}: columns {written[field]!r} and {name!r} mean the same; remove one"
            )
        if field in CARDIO.names:
            written[field] = name
    missing = [name for name in KAGGLE_LAYOUT.fields[1:] if name not in written]
    if missing:
        spare = [name for name in table.header if name not in written.values()]
        hint = nearest(missing[0], spare) or nearest(missing[0].upper(), spare)
        noun = "column" if len(missing) == 1 else "columns"
        names = ", ".join(repr(name) for name in missing)
        mend = hint or "; add it or mend the header"
        raise UserError(f"{table.path}: the header has no {noun} {names}{mend}")
    return written


def cardio_columns(
    frame: pd.DataFrame, layout: Layout, *, derived: Sequence[Derived] = (), first: int = 1
) -> dict[str, Cells]:
    """Format one block of generated records as the columns of a file in `layout`.

    Age is written in whole days, height in whole cm, weight with one decimal, all else whole. The
    derived columns follow from the values as written: `bmi` = weight / (height in m)^2 with two
    decimals, `pp` = ap_hi - ap_lo. An identifier is `s` and seven or more digits: the published
    file uses whole numbers, so no synthetic identifier equals a real one.

    Args:
      frame: records in the schema's columns and units, `[records, 12]`, in any column order.
      layout: the file format to write.
      derived: columns to append.
      first: the running number of the first record, used where the layout has an identifier.

    Examples:
      >>> row = dict(age=18393.4, gender=2, height=168, weight=62, ap_hi=110, ap_lo=80,
      ...            cholesterol=1, gluc=1, smoke=0, alco=0, active=1, cardio=0)
      >>> from rdpjax.io.layout import format_cells
      >>> columns = cardio_columns(pd.DataFrame([row]), KAGGLE_LAYOUT, derived=["bmi", "pp"])
      >>> format_cells(list(columns.values()), ";")
      b's0000001;18393;2;168;62.0;110;80;1;1;0;0;1;0;21.97;30\\n'
    """
    for name in derived:
        if name not in get_args(Derived):
            raise UserError(
                f"derived column {name!r}: must be bmi or pp{nearest(name, get_args(Derived))}"
            )
    cells = {
        column.name: _rounded(frame[column.name], _decimals(column)) for column in CARDIO.columns
    }
    height = cells["height"].values / 100
    cells["bmi"] = Cells(cells["weight"].values / height**2, 2)
    cells["pp"] = Cells(cells["ap_hi"].values - cells["ap_lo"].values, 0)
    if layout.identifier is not None:
        running = np.arange(first, first + len(frame))
        cells[layout.identifier] = Cells(np.array([f"s{i:07d}" for i in running], dtype=object))
    names = [*zip(layout.header, layout.fields, strict=True), *zip(derived, derived, strict=True)]
    return {name: cells[field] for name, field in names}


def _rounded(values: pd.Series, decimals: int) -> Cells:
    return Cells(np.round(values.to_numpy(dtype=np.float64), decimals), decimals)


def _decimals(column: Column) -> int:
    """Return the decimals of a column's output: 1 for a resolution of 0.1, 0 for whole numbers."""
    return 1 if isinstance(column, Numeric) and column.resolution < 1 else 0


def find_cardio(data: Path | str | None, environ: Mapping[str, str]) -> Path | None:
    """Locate the input: `data`, else $RDPJAX_DATA, else the working folder or its `data/`.

    Args:
      data: a file or a folder that holds cardio_train.csv or cardio_train.csv.gz, or None.
      environ: the environment, such as `os.environ`.

    Returns:
      The file, or None if no path was given and the default places hold none: simulate then.

    Raises:
      UserError: the named file does not exist, or the named folder holds no such file.
    """
    for named, what in ((data, "--data"), (environ.get("RDPJAX_DATA"), "RDPJAX_DATA")):
        if named:
            path = Path(named)
            if path.is_file():
                return path
            if not path.exists():
                raise UserError(f"{path}: no such file; check {what}")
            found = _inside(path)
            if found is None:
                raise UserError(f"{path}: holds no {' or '.join(_FILES)}; name the file in {what}")
            return found
    return _inside(Path()) or _inside(Path("data"))


def _inside(folder: Path) -> Path | None:
    return next((folder / name for name in _FILES if (folder / name).is_file()), None)
