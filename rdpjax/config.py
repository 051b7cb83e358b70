"""Configuration of one run: frozen dataclasses, written to TOML; `rdpjax.config_file` reads it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import tomli_w
import tyro

from rdpjax.codecs.codec import Codec
from rdpjax.datasets.dataset import Settings
from rdpjax.datasets.registry import dataset_of, datasets
from rdpjax.datasets.table import TableSettings
from rdpjax.errors import UserError, nearest
from rdpjax.flags import Switch, optional
from rdpjax.generators.recipe import LabelSource, Recipe
from rdpjax.generators.vaegan import VAEGAN
from rdpjax.privacy.budget import Budget, total_epsilon
from rdpjax.sections import sectioned

VERSION = 2
MARGINALS = "marginals"
SIZES = ("chunk_steps", "block_rows", "pool_rows")
"""Settings that files hold only where they are not the defaults."""


@dataclass(frozen=True)
class Config:
    """Settings of one run: privacy budget, data set and training. All of them are public.

    Attributes:
      version: version of this format.
      dataset: name of the data set.
      data: the data set's own settings.
      epsilon: total epsilon of the run, everything included; no unit, above 0; 5 by default. None
        with epsilons, from which it follows.
      delta: delta of (epsilon, delta)-DP, in (0, 1 / records).
      records: number of records, if public; otherwise it is kept private, and measured.
      batch_size: expected records in a batch, in every stage; the number of records must be public.
      holdout: share of the records held out of measurements and training, in [0, 1).
      rows: number of synthetic rows to release.
      label_source: whether released labels come from the labeler or from the generator.
      max_codes: largest number of tokens of a numeric column, 2 to 255.
      hardened: clip to integer units and add discrete Gaussian noise, so that the claim holds for
        finite-precision arithmetic, not only for real numbers; slower.
      private: whether to clip and add noise; without, the run is for comparisons only.
      clipping: how per-example gradients are clipped: ghost without materialising them, vmap
        with; auto takes ghost where every layer has a rule. The results agree.
      precision: type of parameters and activations in training; norms, sums and noise are float32.
      microbatch: records whose gradients are computed at once; changes speed, not results.
      chunk_steps: training steps between two looks at metrics, clock and checkpoint.
      block_rows: rows generated at a time.
      pool_rows: generated rows, rounded up to blocks, that raking multipliers are fitted on.
      shares: each stage's share of the budget (of total mu squared), in (0, 1); they sum to 1.
      epsilons: the epsilon of each stage by itself, instead of shares and of a total.
      stages: settings of the stages that are trained, in order.
    """

    version: Annotated[int, tyro.conf.Fixed, tyro.conf.Suppress] = VERSION
    dataset: str = "cardio"
    data: Annotated[Settings, tyro.conf.OmitArgPrefixes] = field(default_factory=Settings)
    epsilon: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    delta: float = 1e-5
    records: Annotated[int | None, optional("INT", "kept private")] = None
    batch_size: Annotated[int | None, optional("INT", "each stage's sampling rate")] = None
    holdout: float = 0.2
    rows: Annotated[int, tyro.conf.arg(aliases=("--n-synth",))] = 50_000
    label_source: LabelSource = "labeler"
    max_codes: int = 32
    hardened: Switch = False
    private: Annotated[
        bool,
        tyro.conf.arg(
            help="train without clipping and noise, for comparisons only: nothing is private then.",
            help_behavior_hint="(default: private)",
        ),
    ] = True
    clipping: Literal["auto", "vmap", "ghost"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    microbatch: Annotated[int | None, optional("INT", "by device and batch")] = None
    chunk_steps: int = 50
    block_rows: int = 8192
    pool_rows: int = 150_000
    shares: dict[str, float] = field(default_factory=lambda: dict(VAEGAN.shares))
    epsilons: Annotated[
        dict[str, float], optional("[STAGE EPSILON ...]", "by shares, of the total")
    ] = field(default_factory=dict)
    stages: Annotated[dict[str, Any], tyro.conf.arg(name="")] = field(
        default_factory=lambda: dict(VAEGAN.stages)
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon", total_epsilon(self.epsilon, self.epsilons))
        Budget(Budget.epsilon if self.epsilon is None else self.epsilon, self.delta)
        if not 0 <= self.holdout < 1:
            raise UserError(f"holdout is {self.holdout:g}; it must lie in [0, 1)")
        if self.rows < 1:
            raise UserError(f"rows is {self.rows}; ask for 1 or more")
        if not 2 <= self.max_codes <= 255:
            raise UserError(f"max_codes is {self.max_codes}; it must lie between 2 and 255")
        if self.records is not None and self.records < 1:
            raise UserError(f"records is {self.records}; it must be 1 or more")
        if self.records is not None and self.records > 2**53:
            raise UserError("records is too large a number; it must be at most 2**53")
        if self.records is not None and self.delta * self.records >= 1:
            raise UserError(
                f"delta is {self.delta:g}; it must be below 1 / records = {1 / self.records:.3g}"
            )
        self._check_data()
        if self.hardened and not self.private:
            raise UserError(
                "hardened: without noise there is nothing to harden; drop one of the two"
            )
        if self.hardened and self.clipping != "auto":
            raise UserError(
                f"clipping is {self.clipping!r}; hardened clips integer units, leave it at 'auto'"
            )
        for name in ("microbatch", *SIZES):
            if (size := getattr(self, name)) is not None and size < 1:
                raise UserError(f"{name} is {size}; it must be 1 or more")
        self._check_batch()
        self._check_stages()

    def _check_data(self) -> None:
        known = datasets()  # does not hold a user's own table
        wanted = known[self.dataset].settings if self.dataset in known else TableSettings
        if type(self.data) is Settings:
            object.__setattr__(self, "data", wanted())
        if type(self.data) is not wanted:
            raise UserError(
                f"data: {type(self.data).__name__} are no settings of the data set {self.dataset!r}"
            )

    def _check_batch(self) -> None:
        if self.batch_size is None:
            return
        if self.records is None:
            raise UserError("batch_size needs the public number of records: give records too")
        if not 1 <= self.batch_size <= self.records:
            raise UserError(
                f"batch_size is {self.batch_size}; it must lie between 1 and "
                f"records = {self.records}"
            )

    def _check_stages(self) -> None:
        self.recipe.check()
        if (codec := self._codec) is not None:
            self.recipe.check_schema(codec.schema)
        spent, key = (self.epsilons, "epsilons") if self.epsilons else (self.shares, "shares")
        measured = [*self.measurements, MARGINALS]
        for name in spent:
            if name not in (*measured, *self.stages):
                raise UserError(f"{key}: no stage {name!r}{nearest(name, list(self.stages))}")
        for name in (*self.measurements, *self.stages):
            if name not in spent:
                raise UserError(f"{key}: none for stage {name!r}; give one to each stage")
        if MARGINALS not in spent and self.records is None:
            raise UserError(f"{key}: without {MARGINALS} the number of records must be public")

    @property
    def recipe(self) -> Recipe:
        """The recipe of the stages: the generator that they make up, and its checks."""
        return Recipe(self.stages, self.label_source)

    @property
    def measurements(self) -> tuple[str, ...]:
        """Names of the measurements before the table's histograms, in order."""
        codec = self._codec
        return () if codec is None else tuple(each.name for each in codec.measurements)

    @property
    def _codec(self) -> Codec | None:
        """Codec of the data set; None for a user's own table whose schema is not known yet."""
        if isinstance(self.data, TableSettings) and self.data.schema is None:
            return None
        return dataset_of(self.dataset, self.data).codec(self.data)

    @property
    def budget(self) -> Budget:
        """Total (epsilon, delta) that the shares divide; undefined with epsilons."""
        assert self.epsilon is not None
        return Budget(self.epsilon, self.delta)

    def sampling_rate(self, stage: str) -> float:
        """Return a stage's sampling rate: batch_size / records if both given, else its setting."""
        if self.batch_size is not None and self.records is not None:
            return self.batch_size / self.records
        rate: float = self.stages[stage].sampling_rate
        return rate

    def values(self) -> dict[str, Any]:
        """Return plain values by key, stages as tables; no None, no settings of the data set."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del fields["data"], fields["epsilons" if not self.epsilons else "shares"]
        tables = {name: dataclasses.asdict(stage) for name, stage in self.stages.items()}
        values = fields | {"stages": list(self.stages)} | tables
        for name in SIZES:
            if values[name] == getattr(Config, name):
                del values[name]
        return {key: value for key, value in values.items() if value is not None}

    def to_toml(self, spent: float | None = None) -> str:
        """Format as TOML; with epsilons of the stages, `spent` is their composition.

        It is stated in a comment: as a setting, the text could not be read back (a total beside
        epsilons of the stages is refused), or would be read as another budget.
        """
        text = tomli_w.dumps(sectioned(self.values(), self.data.values()))
        if isinstance(self.data, TableSettings) and self.data.schema is not None:
            text += "\n" + tomli_w.dumps({"schema": self.data.schema.to_dict()})
        if not self.epsilons or spent is None:
            return text
        cost = f"epsilon = {spent} at delta = {self.delta:g}"
        return f"# The stages' epsilons cost together, by RDP: {cost}\n{text}"
