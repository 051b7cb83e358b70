"""A subject that trains in a moment: the toy stages on the toy table."""

from __future__ import annotations

import numpy as np
import pandas as pd
from rdpjax.data.datasets import Dataset, Source
from rdpjax.data.forms import TableForm

from rdpjax.audits.subject import Subject
from rdpjax.config import Config
from rdpjax.data.schema import Schema


def toy_subject(config: Config, schema: Schema, frame: pd.DataFrame) -> Subject:
    """The configuration with the frame's records."""
    dataset = Dataset(
        form=lambda hours, label: TableForm(schema),
        derived=(),
        open=lambda *args: source,
        take=lambda frame, mask: frame[mask].reset_index(drop=True),
        write=lambda folder, blocks, output: None,
    )
    source = Source(
        records=frame,
        keys=[str(i) for i in range(len(frame))],
        format={},
        origin="simulated",
        notes=(),
        fingerprint="",
        keep=lambda mask, folder: np.flatnonzero(mask),
    )
    return Subject("toy", config, dataset, source)
