"""A codec outside the package: diaries, lists of daily counts, as rows of two columns."""

import dataclasses

import numpy as np

from rdpjax.data.schema import Categorical, Numeric, Schema
from rdpjax.mechanisms.measurement import Measurement

MOST_DAYS, MOST_COUNT = 10, 20
SCHEMA = Schema(
    "diaries",
    (Numeric("mean", "a day", 0, MOST_COUNT), Categorical("often", (0, 1))),
    label="often",
    unit_of_privacy="one diary = one person",
)


@dataclasses.dataclass(frozen=True)
class DiaryEncoding:
    """The share of diaries of each length is all that is kept beside the table."""

    lengths: np.ndarray

    def cells(self, records):
        means = [np.mean(diary[:MOST_DAYS]) if len(diary) else 0.0 for diary in records]
        often = [len(diary) > MOST_DAYS // 2 for diary in records]
        means = np.clip(np.nan_to_num(means), 0, MOST_COUNT).round()
        return np.stack([means, often], axis=1).astype(np.int32).reshape(len(records), 2)

    def fitted(self, codes, random):
        return self

    def records(self, tokenizer, values, randoms):
        frame, random = tokenizer.frame(values), randoms(0)
        days = random.choice(MOST_DAYS + 1, len(frame), p=self.lengths)
        pairs = zip(frame["mean"], days, strict=True)
        yield [[int(mean)] * int(count) for mean, count in pairs]

    def head(self, records, count):
        return records[:count]

    def to_arrays(self):
        return {"lengths": self.lengths}


class DiaryCodec:
    """Lengths are measured first."""

    schema = SCHEMA

    @property
    def measurements(self):
        def lengths(records, answers):
            days = [min(len(diary), MOST_DAYS) for diary in records]
            return np.bincount(days, minlength=MOST_DAYS + 1).astype(float)

        return (Measurement("lengths", 1.0, MOST_DAYS + 1, lengths),)

    def fit(self, answers):
        counts = np.maximum(answers["lengths"].vector, 0) + 1e-9
        return DiaryEncoding(counts / counts.sum())

    def restored(self, arrays):
        return DiaryEncoding(arrays["lengths"])
