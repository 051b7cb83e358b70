"""Parse many patients' files at once: plain ones as one table, the others one by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from rdpjax.data.stays.psv import Header, find_columns, parse_psv
from rdpjax.data.stays.psv_stay import HOUR, HOURLY, LABEL, STATIC, Stay, static_fits
from rdpjax.data.stays.sepsis import COLUMNS, LONGEST, MISSING, SEPARATOR, STATICS
from rdpjax.errors import UserError
from rdpjax.io.archive import MOST_BYTES
from rdpjax.io.plain import read_columns
from rdpjax.io.records import BOM

_PLAIN = b"0123456789.-eENan|\n"


def parse_block(files: Sequence[tuple[str, bytes]]) -> list[Stay | UserError]:
    """Parse files, each given as a name for messages and its bytes.

    Files with a common header that hold only numbers and `NaN` are converted as one table. Files
    whose stay cannot be derived from it (gaps, repeats, faults of any kind) go to `parse_psv`.

    Returns:
      For each file the result of `parse_psv`, or the error that it raises.

    Examples:
      >>> good, bad = parse_block([("a", b"ICULOS|SepsisLabel\\n2|0\\n3|1\\n"), ("b", b"")])
      >>> good.first, good.onset, str(bad)[:20]
      (2, 1, 'b: the file is empty')
    """
    found: list[Stay | UserError | None] = [None] * len(files)
    alike: dict[bytes, list[tuple[int, bytes]]] = {}
    for i, (_, content) in enumerate(files):
        head, body = _split(content)
        if body:
            alike.setdefault(head, []).append((i, body))
    for head, members in alike.items():
        stays = _parse_alike(head, [body for _, body in members])
        for (i, _), stay in zip(members, stays, strict=True):
            found[i] = stay
    return [
        _carefully(content, name) if stay is None else stay
        for stay, (name, content) in zip(found, files, strict=True)
    ]


def _split(content: bytes) -> tuple[bytes, bytes]:
    """Split a plain file into header and body; an empty body for any other."""
    if len(content) > MOST_BYTES:
        return b"", b""
    content = content.removeprefix(BOM).replace(b"\r\n", b"\n").rstrip(b"\n")
    head, _, body = content.partition(b"\n")
    odd = (
        body.translate(None, _PLAIN)
        or body[:1] == b"\n"
        or b"\n\n" in body
        or b"-n" in body.lower()
    )
    return (b"", b"") if odd or not body else (head, body + b"\n")


def _parse_alike(head: bytes, bodies: list[bytes]) -> list[Stay | None]:
    """Parse bodies under one header; None where `parse_psv` is needed."""
    unknown: list[Stay | None] = [None] * len(bodies)
    try:
        header = find_columns([name.strip() for name in head.decode().split(SEPARATOR)])
        rows = _numbers(b"".join(bodies), header)
    except (ValueError, pa.ArrowInvalid):
        return unknown
    stays = np.array([body.count(b"\n") for body in bodies])
    if len(rows) != stays.sum():
        return unknown
    starts = np.concatenate([[0], np.cumsum(stays)[:-1]])
    least = np.fmin.reduceat(rows[:, STATIC], starts)
    greatest = np.fmax.reduceat(rows[:, STATIC], starts)
    with np.errstate(over="ignore"):  # infinities are checked next
        values = rows[:, HOURLY].astype(np.float32)
        statics = least.astype(np.float32)
    hours, labels = rows[:, HOUR], rows[:, LABEL]
    first, last = hours[starts], hours[starts + stays - 1]
    inner = np.ones(len(rows), bool)
    inner[starts] = False
    rising = np.diff(hours, prepend=0) == 1
    falling = np.diff(labels, prepend=0) < 0
    plain = (
        ~np.logical_or.reduceat(np.isinf(values).any(1), starts)
        & ~np.isinf(statics).any(1)
        & ~np.logical_or.reduceat(~((labels == 0) | (labels == 1)) | (inner & falling), starts)
        & np.logical_and.reduceat(rising | ~inner, starts)
        & (first % 1 == 0)
        & (first >= 1)
        & (last <= LONGEST)
        & ((least == greatest) | np.isnan(least)).all(1)
        & _fit(least)
    )
    ill = np.add.reduceat(labels, starts)
    return [
        Stay(
            values[start : start + stay],
            int(first[i]),
            int(stay - ill[i]) if ill[i] else -1,
            statics[i],
            header.notes,
        )
        if plain[i]
        else None
        for i, (start, stay) in enumerate(zip(starts.tolist(), stays.tolist(), strict=True))
    ]


def _numbers(body: bytes, header: Header) -> np.ndarray:
    """Convert the cells to float64 `[rows, 41]`, NaN where missing or absent."""
    present = [(column, at) for column, at in enumerate(header.positions) if at is not None]
    cells = read_columns(
        body,
        SEPARATOR,
        {at: pa.float64() for _, at in present},
        len(header.names),
        missing=["", MISSING, "nan"],
        threads=False,  # other blocks are parsed in parallel already
    )
    rows = np.full((len(cells[0]), len(COLUMNS)), np.nan)
    for (column, _), values in zip(present, cells, strict=True):
        rows[:, column] = values.to_numpy()
    return rows


def _fit(statics: np.ndarray) -> np.ndarray:
    """Return which rows of static values are valid, bool `[rows]`."""
    columns = zip(STATICS, statics.T, strict=True)
    fit: np.ndarray = np.all([static_fits(name, column) for name, column in columns], axis=0)
    return fit


def _carefully(content: bytes, name: str) -> Stay | UserError:
    try:
        return parse_psv(content, name)
    except UserError as error:
        return error
