"""A data set outside the package: a file of diaries, one a line."""

import hashlib
import json

import numpy as np
from own_parts.diary_codec import DiaryCodec

from rdpjax.datasets.dataset import Dataset, Evaluation, Source
from rdpjax.io.atomic import write_file


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def text(diaries):
    return "".join(f"{json.dumps(diary)}\n" for diary in diaries)


def open_diaries(path, environ, reading, cache=None, progress=None):
    records = read(path)
    return Source(
        records=records,
        keys=[f"{i}" for i in range(len(records))],
        format={"lines": "JSON"},
        origin="file",
        notes=(),
        fingerprint=hashlib.sha256(path.read_bytes()).hexdigest(),
        keep=lambda mask, folder: write_file(folder / "holdout.jsonl", text(take(records, mask))),
    )


def take(records, chosen):
    return [records[i] for i in np.arange(len(records))[chosen]]


def write(path, blocks, output):
    write_file(path, "".join(text(block) for block in blocks))


def score(synthetic, real, train, say):
    return {"days": [float(np.mean([len(diary) for diary in each])) for each in (synthetic, real)]}


DIARIES = Dataset(
    codec=lambda settings: DiaryCodec(),
    open=open_diaries,
    take=take,
    join=lambda first, second: [*first, *second],
    write=write,
    crafted=lambda count, random: [[20] * random.integers(1, 11) for _ in range(count)],
    extremes=lambda base, records, codec: {"extreme": [[20] * 10], "out of range": [[9e9] * 999]},
    positive=lambda records, codec: np.array([len(diary) > 5 for diary in records]),
    evaluation=lambda: Evaluation(
        read=lambda path, folder_ids: read(path),
        rest=lambda path, held_out, folder_ids: read(path),
        score=score,
        show=lambda scores: "mean days {:.2f}, real {:.2f}".format(*scores["days"]),
        draw=lambda *anything: None,
        shown=1000,
    ),
    released="synthetic.jsonl",
    held_out="holdout.jsonl",
    noun="diaries",
    shares={"lengths": 0.1, "marginals": 0.2},
)
