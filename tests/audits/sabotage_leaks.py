"""Ways for records to get round every mechanism, into what is trained or released."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from rdpjax.audits.subject import Subject
from rdpjax.codecs import table
from rdpjax.data.tokenizer import Tokenizer
from rdpjax.fitting import fit as pipeline
from rdpjax.fitting import generator
from rdpjax.fitting import plans as planning
from rdpjax.fitting import stage_run as training
from rdpjax.stages.stage import Context, Training

Patch = pytest.MonkeyPatch


def noted(patch: Patch, owner: Any, name: str) -> list[Any]:
    """What a function of records gave the last time, in a list of one."""
    true, box = getattr(owner, name), [np.zeros((1, 1))]

    def note(*args: Any) -> Any:
        box[0] = found = true(*args)
        return found

    patch.setattr(owner, name, note)
    return box


def leak_a_mean(
    patch: Patch, subject: Subject, change: Callable[[Training, Callable[[Any], Any]], Training]
) -> None:
    """`change(training, add)` of the first stage; `add` adds the cells' mean to a tree."""
    box = noted(patch, table.TableEncoding, "cells")
    stage = type(next(iter(subject.config.stages.values())))
    true = stage.training

    def add(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf + 1e-3 * float(box[0].mean()), tree)

    def leaky(self: Any, context: Context) -> Training:
        return change(true(self, context), add)

    patch.setattr(stage, "training", leaky)


def real_records_in_the_generators_update(patch: Patch, subject: Subject) -> None:
    """A stage's update closes over the mean of the records' cells."""

    def change(own: Training, add: Callable[[Any], Any]) -> Training:
        def update(state: Any, given: Any, key: Any) -> Any:
            state, metrics = own.update(state, given, key)
            return add(state), metrics

        return own._replace(update=update)

    leak_a_mean(patch, subject, change)


def state_starts_from_a_mean_of_the_records(patch: Patch, subject: Subject) -> None:
    leak_a_mean(patch, subject, lambda own, add: own._replace(init=lambda key: add(own.init(key))))


def mean_added_to_released_parameters(patch: Patch, subject: Subject) -> None:
    leak_a_mean(
        patch, subject, lambda own, add: own._replace(release=lambda state: add(own.release(state)))
    )


def free_mean_in_the_codec(patch: Patch, subject: Subject) -> None:
    """Numbers are centred on their own mean."""
    true = table.encode_cells

    def centred(schema: Any, frame: Any) -> np.ndarray:
        low = frame["low"].astype(float)
        shifted = low - low[np.isfinite(low)].mean() + 10
        return true(schema, frame.assign(low=shifted))

    patch.setattr(table, "encode_cells", centred)


def bounds_from_the_data(patch: Patch, subject: Subject) -> None:
    true = table.encode_cells

    def scaled(schema: Any, frame: Any) -> np.ndarray:
        high = frame["high"].clip(0, 1e4)
        return true(schema, frame.assign(high=90 * high / high.max()))

    patch.setattr(table, "encode_cells", scaled)


def codec_from_the_exact_histogram(patch: Patch, subject: Subject) -> None:
    """The noisy one has its entry, and is not used."""
    exact, true = noted(patch, planning, "histogram"), pipeline.marginals_from
    patch.setattr(
        pipeline,
        "marginals_from",
        lambda schema, counts, deviation: true(schema, exact[0].astype(float), deviation),
    )


def exact_count_as_divisor(patch: Patch, subject: Subject) -> None:
    true = training.StageRun.train

    def train(self: Any, context: Any, examples: Any, records: float, progress: Any) -> Any:
        exact = jax.tree.leaves(examples.shapes)[0].shape[0]
        return true(self, context, examples, exact, progress)

    patch.setattr(training.StageRun, "train", train)


def tilt_fitted_on_real_records(patch: Patch, subject: Subject) -> None:
    codes, true = noted(patch, Tokenizer, "encode"), generator.fit_tilt
    patch.setattr(generator, "fit_tilt", lambda pool, shares: true(codes[0], shares))


def labels_offset_from_the_real_share_in_two_stages(patch: Patch, subject: Subject) -> None:
    cells, true = noted(patch, table.TableEncoding, "cells"), generator._offset
    patch.setattr(
        generator,
        "_offset",
        lambda logits, share: true(logits, float((cells[0][:, -1] > 0).mean())),
    )
