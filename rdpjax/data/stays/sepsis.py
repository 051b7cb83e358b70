"""PhysioNet/CinC Challenge 2019 (sepsis): public description of its files and variables.

Reyna et al. 2020, Early Prediction of Sepsis From Clinical Data, Crit Care Med 48(2):210-217.
Bounds, usual values, steps and panels are clinical knowledge; none is derived from the files. Most
are those of the MIMIC-III benchmarks' table of variable ranges (Harutyunyan et al. 2019, Multitask
learning and benchmarking with clinical time series data, Sci Data 6:96), narrowed to the range of
adults in intensive care.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

LONGEST = 336
"""Longest stay in hours: the challenge cut its records at two weeks."""

Kind = Literal["vital", "laboratory"]
Panel = Literal[
    "monitor", "temperature", "capnography", "gas", "chemistry", "liver", "blood", "clotting",
    "lactate", "troponin", "glucose",
]  # fmt: skip


@dataclass(frozen=True)
class Variable:
    """Hourly variable and its public grid of histogram bins.

    Bins are centred on the steps that readings are rounded to. Near the usual value they are `cell`
    wide; further away their width is proportional to the distance, since readings there are fewer
    and their relative size matters.

    Attributes:
      name: the column's name in the files.
      unit: unit of measurement.
      low: public lower bound.
      usual: a public ordinary value, where bins are narrowest.
      high: public upper bound.
      step: rounding step of readings.
      cell: least width of a bin, a multiple of `step`.
      growth: width of a bin over its distance from `usual`, where that is more than `cell`.
      kind: vital sign or laboratory value.
      panel: group of variables measured at the same time, by one monitor or from one blood sample.
      daily: readings a day beyond which a patient's histogram weight does not grow.
      source: where bounds and usual value come from.
    """

    name: str
    unit: str
    low: float
    usual: float
    high: float
    step: float
    cell: float
    growth: float
    kind: Kind
    panel: Panel
    daily: int
    source: str

    @cached_property
    def edges(self) -> np.ndarray:
        """Edges of the bins, `[cells + 1]`, in the variable's unit, half a step off the steps.

        Examples:
          >>> Variable("x", "", 0, 1, 9, 1, 1, 1, "vital", "gas", 1, "").edges.tolist()
          [-0.5, 0.5, 1.5, 2.5, 4.5, 8.5, 9.5]
        """
        low, usual, high = (round(v / self.step) for v in (self.low, self.usual, self.high))

        def borders(room: int) -> list[int]:
            """List the steps from the usual value to each edge on one side of it."""
            found, reach = [], 0
            while reach < room:
                width = max(self.cell, self.growth * reach * self.step)
                reach = min(room, reach + max(1, round(width / self.step)))
                found.append(reach)
            return found

        steps = [usual - n for n in reversed(borders(usual - low))]
        steps += [usual, *(usual + n for n in borders(high + 1 - usual))]
        return (np.array(steps) - 0.5) * self.step

    @property
    def cells(self) -> int:
        return len(self.edges) - 1

    @property
    def decimals(self) -> int:
        """Decimals of a reading in the output."""
        return max(0, -int(np.floor(np.log10(self.step) + 1e-9)))


_RANGES = "MIMIC-III benchmarks, variable ranges"
_NARROWED = f"{_RANGES}, narrowed"
_LAB = "usual analytical range of hospital analysers"
_CALCIUM = "total calcium in mg/dL, or ionised in mmol/L, which hospitals file under one name"
_CAPNOGRAPH = "range of capnographs, narrowed; usual value by physiology"
_TROPONIN = f"{_RANGES}; usual value: the upper limit of healthy people"
_CLOT = "clotting analysers give up at 150 to 250 s"


def _vital(
    name: str, unit: str, bounds: tuple[float, float, float], cell: float, panel: Panel,
    daily: int, growth: float = 0.05, step: float = 1, source: str = _NARROWED,
) -> Variable:  # fmt: skip
    return Variable(name, unit, *bounds, step, cell, growth, "vital", panel, daily, source)


def _lab(
    name: str, unit: str, bounds: tuple[float, float, float], step: float, cell: float,
    panel: Panel, growth: float = 0.2, daily: int = 2, source: str = _NARROWED,
) -> Variable:  # fmt: skip
    return Variable(name, unit, *bounds, step, cell, growth, "laboratory", panel, daily, source)


VARIABLES = (
    _vital("HR", "beats per minute", (20, 86, 220), 2, "monitor", 24),
    _vital("O2Sat", "%", (60, 98, 100), 1, "monitor", 24),
    _vital("Temp", "degrees Celsius", (32, 37, 42), 0.1, "temperature", 10, step=0.1),
    _vital("SBP", "mmHg", (50, 118, 240), 2, "monitor", 24),
    _vital("MAP", "mmHg", (30, 77, 180), 2, "monitor", 24),
    _vital("DBP", "mmHg", (20, 59, 150), 2, "monitor", 24),
    _vital("Resp", "breaths per minute", (4, 19, 60), 1, "monitor", 24),
    _vital("EtCO2", "mmHg", (5, 35, 80), 1, "capnography", 12, 0.1, source=_CAPNOGRAPH),
    _lab("BaseExcess", "mmol/L", (-30, 0, 30), 0.1, 1, "gas", source=_LAB),
    _lab("HCO3", "mmol/L", (5, 25, 50), 0.1, 1, "gas"),
    _lab("FiO2", "fraction", (0.21, 0.4, 1), 0.01, 0.01, "gas", 0, source=_RANGES),
    _lab("pH", "", (6.8, 7.4, 7.8), 0.01, 0.02, "gas"),
    _lab("PaCO2", "mmHg", (10, 40, 130), 1, 2, "gas"),
    _lab("SaO2", "%", (30, 98, 100), 0.1, 0.5, "gas"),
    _lab("AST", "U/L", (5, 40, 10_000), 1, 4, "liver"),
    _lab("BUN", "mg/dL", (1, 23, 200), 1, 2, "chemistry"),
    _lab("Alkalinephos", "U/L", (10, 106, 2000), 1, 10, "liver"),
    _lab("Calcium", "mg/dL", (0.5, 8.5, 16), 0.1, 0.2, "chemistry", 0.03, source=_CALCIUM),
    _lab("Chloride", "mmol/L", (70, 104, 140), 1, 1, "chemistry"),
    _lab("Creatinine", "mg/dL", (0.1, 1, 20), 0.01, 0.1, "chemistry"),
    _lab("Bilirubin_direct", "mg/dL", (0.1, 0.3, 30), 0.1, 0.1, "liver", source=_LAB),
    _lab("Glucose", "mg/dL", (20, 128, 1000), 1, 5, "glucose", 0.1, 8),
    _lab("Lactate", "mmol/L", (0.2, 1.8, 25), 0.1, 0.2, "lactate"),
    _lab("Magnesium", "mg/dL", (0.5, 2, 8), 0.1, 0.1, "chemistry"),
    _lab("Phosphate", "mg/dL", (0.5, 3.4, 15), 0.1, 0.2, "chemistry"),
    _lab("Potassium", "mmol/L", (1.5, 4.1, 10), 0.1, 0.1, "chemistry"),
    _lab("Bilirubin_total", "mg/dL", (0.1, 0.9, 50), 0.1, 0.1, "liver", source=_RANGES),
    _lab("TroponinI", "ng/mL", (0.01, 0.04, 50), 0.01, 0.01, "troponin", 0.3, source=_TROPONIN),
    _lab("Hct", "%", (10, 30.2, 65), 0.1, 1, "blood", 0.1),
    _lab("Hgb", "g/dL", (3, 10.2, 22), 0.1, 0.4, "blood", 0.1),
    _lab("PTT", "s", (15, 34.4, 250), 0.1, 2, "clotting", source=_CLOT),
    _lab("WBC", "10^3/uL", (0.1, 9.9, 100), 0.1, 0.5, "blood", 0.1),
    _lab("Fibrinogen", "mg/dL", (35, 300, 1000), 1, 20, "clotting", source=_LAB),
    _lab("Platelets", "10^3/uL", (5, 208, 1200), 1, 10, "blood", 0.1),
)

STATICS = ("Age", "Gender", "Unit1", "Unit2", "HospAdmTime")
"""Columns that are constant within a stay: years; 0 woman, 1 man; medical and surgical unit (0 or
1; both or neither known); hours from hospital admission to intensive care, negative."""

COLUMNS = (*(variable.name for variable in VARIABLES), *STATICS, "ICULOS", "SepsisLabel")
"""All 41 columns, in the files' order."""

SEPARATOR = "|"
MISSING = "NaN"


def readable(values: np.ndarray) -> np.ndarray:
    """Prepare readings for a histogram: clip to the bounds; absurd values become NaN.

    A reading further outside its bounds than the bounds are apart is a typing error (FiO2 of 4000)
    and counts as not measured; a nearer one is clipped.

    Args:
      values: float `[..., 34]` in the order of `VARIABLES`.

    Guarantees:
      Each reading's result depends on that reading and public bounds alone. NaN stays NaN, +-inf
      becomes NaN.

    Examples:
      >>> row = np.full(34, np.nan); row[0], row[10] = 300, 4000
      >>> readable(row)[[0, 1, 10]].tolist()
      [220.0, nan, nan]
    """
    low, high = BOUNDS[:, 0], BOUNDS[:, 1]
    slip = (values < low - (high - low)) | (values > high + (high - low))
    return np.where(slip, np.nan, np.clip(values, low, high))


BOUNDS = np.array([(variable.low, variable.high) for variable in VARIABLES])
"""`[34, 2]`: lower and upper bound of each variable."""
