"""Recipe of a generator: its stages in order, defaults and checks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rdpjax.data.schema import Schema
from rdpjax.errors import UserError
from rdpjax.stages.requirements import need_two_levels
from rdpjax.stages.stage import TrainingStage

LabelSource = Literal["labeler", "generator"]


@dataclass(frozen=True)
class Recipe:
    """Recipe: training stages that together make a generator.

    Attributes:
      stages: settings of the stages, by name, in training order. The last one with a method `emit`
        generates the records.
      label_source: whether labels are drawn by the stage with a method `logits`, or come with the
        records.
      shares: default budget shares of each stage and of `marginals`.
    """

    stages: Mapping[str, Any]
    label_source: LabelSource = "generator"
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def sampler(self) -> tuple[str, Any]:
        """Name and settings of the stage that generates the records."""
        return [(name, stage) for name, stage in self.stages.items() if hasattr(stage, "emit")][-1]

    @property
    def labeler(self) -> tuple[str, Any] | None:
        """Name and settings of the stage that draws the labels; None if there is none."""
        if self.label_source == "generator":
            return None
        return next((n, stage) for n, stage in self.stages.items() if hasattr(stage, "logits"))

    def settings(self, measured: Mapping[str, float] | None = None) -> dict[str, Any]:
        """Return the recipe's part of a configuration.

        Args:
          measured: shares of the data set's own measurements; the stages divide the remainder.

        Examples:
          >>> recipe = Recipe({"a": None}, shares={"marginals": 0.2, "a": 0.8})
          >>> recipe.settings({"m": 0.4})["shares"]
          {'m': 0.4, 'a': 0.6}
        """
        shares = dict(self.shares)
        if measured:
            part = (1 - sum(measured.values())) / sum(shares[name] for name in self.stages)
            trained = {name: round(part * shares[name], 6) for name in self.stages}
            shares = {**measured, **trained}
        return {"stages": dict(self.stages), "shares": shares, "label_source": self.label_source}

    def check(self) -> None:
        """Refuse stages that do not form a generator, or settings out of range.

        Raises:
          UserError: names the stage, and the setting.
        """
        for name, stage in self.stages.items():
            if not isinstance(stage, TrainingStage):
                raise UserError(f"stages: {name!r} is no stage")
        if not any(hasattr(stage, "emit") for stage in self.stages.values()):
            raise UserError("stages: none of them generates records; keep vae")
        drawn = any(hasattr(stage, "logits") for stage in self.stages.values())
        for name, stage in self.stages.items():
            _check_settings(name, stage)
            if hasattr(stage, "check_stages"):
                stage.check_stages(self.stages)
        if self.label_source == "labeler" and not drawn:
            raise UserError("stages: no labeler; keep it or use label_source = 'generator'")

    def check_schema(self, schema: Schema) -> None:
        """Raise UserError where a stage, or the source of the labels, needs another label.

        A stage with further requirements on the schema has a method `check(schema)`.
        """
        if self.label_source == "labeler":
            need_two_levels(schema, "label_source = 'labeler'")
        for stage in self.stages.values():
            if hasattr(stage, "check"):
                stage.check(schema)


def _check_settings(name: str, stage: Any) -> None:
    """Check that counts are 1 or more, and all other numbers finite and not negative."""
    for key, value in dataclasses.asdict(stage).items():
        if isinstance(value, int) and value < 1:
            raise UserError(f"{name}.{key} is {value}; it must be 1 or more")
        if isinstance(value, float) and not (math.isfinite(value) and value >= 0):
            raise UserError(f"{name}.{key} is {value:g}; it must be finite and not negative")
