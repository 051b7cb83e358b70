"""How records become a table of cells, and what has to be measured for that first.

Networks learn tables of public cells. A table of records is one already; a patient becomes a row
of one under noisy histograms of the readings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pandas as pd

from rdpjax.data.encoding import encode_cells
from rdpjax.data.schema import Schema
from rdpjax.data.stays.filling import Filling
from rdpjax.data.stays.hour_profiles import BOUND, Profiles, profiles_vector
from rdpjax.data.stays.hour_values import Values, values_sensitivity, values_vector
from rdpjax.data.stays.patient_table import Label, encode_patients, patient_schema
from rdpjax.data.stays.patients import Patients

Access = Callable[[str, Callable[[Any], np.ndarray]], tuple[np.ndarray, float]]
"""`access(name, vector)`: the named measurement's vector with its noise, and the noise's standard
deviation. `vector` is given the records once the ledger's entry is open."""


class Form(Protocol):
    """How one data set's records become a table.

    Attributes:
      schema: the table's public columns.
      accesses: what is measured before the table, in order: L2 sensitivity of each by name.
    """

    @property
    def schema(self) -> Schema: ...
    @property
    def accesses(self) -> Mapping[str, float]: ...

    def measure(self, access: Access) -> Filling | None:
        """Make the accesses; what becomes of a row of the table, where that is not a record."""
        ...

    def cells(self, records: Any, filling: Filling | None) -> np.ndarray:
        """The table's cells, `[records, columns]`."""
        ...


@dataclass(frozen=True)
class TableForm:
    """Records that are rows of the table already: a frame of the schema's columns."""

    schema: Schema

    @property
    def accesses(self) -> Mapping[str, float]:
        return {}

    def measure(self, access: Access) -> None:
        return None

    def cells(self, records: pd.DataFrame, filling: Filling | None) -> np.ndarray:
        return encode_cells(self.schema, records)


PATIENT_ACCESSES = {"values": values_sensitivity(), "profiles": BOUND}


@dataclass(frozen=True)
class PatientForm:
    """Patients with their hours, of which the first are modelled.

    Attributes:
      hours: how many hours of a record are modelled, 1 to 336.
      label: what makes a patient positive.

    Raises:
      UserError: hours out of range.
    """

    hours: int = 24
    label: Label = "window"

    def __post_init__(self) -> None:
        assert self.schema  # built now, so that what is wrong is said now

    @cached_property
    def schema(self) -> Schema:
        return patient_schema(self.hours, self.label)

    @property
    def accesses(self) -> Mapping[str, float]:
        return PATIENT_ACCESSES

    def measure(self, access: Access) -> Filling:
        """Histograms of the readings first, then what hours are like under them."""
        noisy, _ = access("values", lambda patients: values_vector(patients, self.hours))
        values = Values.of(noisy)
        noisy, deviation = access(
            "profiles", lambda patients: profiles_vector(patients, self.hours, values)
        )
        profiles = Profiles.of(noisy, deviation, values.lengths, self.hours)
        return Filling(self.hours, values, profiles)

    def cells(self, records: Patients, filling: Filling | None) -> np.ndarray:
        assert filling is not None
        return encode_patients(records, self.hours, filling.values)
