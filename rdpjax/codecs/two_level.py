"""Two-level codec of patients: one table row each; hours decoded from noisy hourly profiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rdpjax.codecs.codec import Randoms
from rdpjax.data.schema import Schema
from rdpjax.data.stays.filling import Filling
from rdpjax.data.stays.hour_profiles import BOUND, PROFILE_NUMBERS, Profiles, profiles_vector
from rdpjax.data.stays.hour_values import (
    VALUE_NUMBERS,
    Values,
    values_sensitivity,
    values_vector,
)
from rdpjax.data.stays.patient_table import Label, encode_patients, patient_schema
from rdpjax.data.stays.patients import Patients
from rdpjax.data.tokenizer import Tokenizer
from rdpjax.mechanisms.measurement import Answers, Measurement

VALUES, PROFILES = "values", "profiles"
"""Names of the measurements: histograms of readings, and hourly profiles scored by them."""


@dataclass(frozen=True)
class PatientEncoding:
    """Encoding of patients as rows of the patient table, decoded by sampling their hours.

    Attributes:
      filling: the decoder, from noisy histograms and profiles.
    """

    filling: Filling

    def cells(self, records: Patients) -> np.ndarray:
        return encode_patients(records, self.filling.hours, self.filling.values)

    def fitted(self, codes: np.ndarray, random: np.random.Generator) -> PatientEncoding:
        return PatientEncoding(self.filling.fitted(codes, random))

    def records(
        self, tokenizer: Tokenizer, values: np.ndarray, randoms: Randoms
    ) -> Iterator[Patients]:
        codes = values.astype(np.uint8)  # every column is categorical
        # Decode whole parts, then cut: the random draws depend on the number of rows in a part.
        for i, part in enumerate(self.filling.parts(codes)):
            yield self.filling.patients(part, randoms(i))

    def head(self, records: Patients, count: int) -> Patients:
        return records.take(np.arange(min(count, len(records))))

    def to_arrays(self) -> dict[str, np.ndarray]:
        return self.filling.to_arrays()


@dataclass(frozen=True)
class TwoLevelCodec:
    """Codec of patients whose first hours are modelled.

    Attributes:
      hours: number of hours of a record that are modelled, 1 to 336.
      label: what makes a patient positive.

    Raises:
      UserError: hours out of range.
    """

    hours: int = 24
    label: Label = "window"

    def __post_init__(self) -> None:
        assert self.schema  # built eagerly, so that a UserError is raised here

    @cached_property
    def schema(self) -> Schema:
        return patient_schema(self.hours, self.label)

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        def values(patients: Patients, answers: Answers) -> np.ndarray:
            return values_vector(patients, self.hours)

        def profiles(patients: Patients, answers: Answers) -> np.ndarray:
            return profiles_vector(patients, self.hours, Values.of(answers[VALUES].vector))

        return (
            Measurement(VALUES, values_sensitivity(), VALUE_NUMBERS, values),
            Measurement(PROFILES, BOUND, PROFILE_NUMBERS, profiles),
        )

    def fit(self, answers: Answers) -> PatientEncoding:
        values = Values.of(answers[VALUES].vector)
        profiles = Profiles.of(*answers[PROFILES], values.lengths, self.hours)
        return PatientEncoding(Filling(self.hours, values, profiles))

    def restored(self, arrays: Mapping[str, np.ndarray]) -> PatientEncoding:
        return PatientEncoding(Filling.from_arrays(arrays))
