"""A subject that trains in a moment: the toy stages on the toy table."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pandas as pd

from rdpjax.audits.subject import Subject
from rdpjax.codecs.table import TableCodec
from rdpjax.config import Config
from rdpjax.data.crafted import table_canaries
from rdpjax.data.schema import Schema
from rdpjax.datasets.cardio import CARDIO
from rdpjax.datasets.dataset import Dataset, Source


def toy_dataset(schema: Schema) -> Dataset:
    """Cardio's way of handling tables, for another schema."""
    return dataclasses.replace(
        CARDIO,
        codec=lambda settings: TableCodec(schema),
        crafted=partial(table_canaries, schema),
    )


def toy_subject(config: Config, schema: Schema, frame: pd.DataFrame) -> Subject:
    """The configuration with the frame's records."""
    source = Source(
        records=frame,
        keys=[str(i) for i in range(len(frame))],
        format={},
        origin="simulated",
        notes=(),
        fingerprint="",
        keep=lambda mask, folder: np.flatnonzero(mask),
    )
    dataset = dataclasses.replace(toy_dataset(schema), open=lambda *args: source)
    return Subject("toy", config, dataset, source)
