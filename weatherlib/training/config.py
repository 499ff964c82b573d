"""Settings of a training run. Nothing here imports JAX or xarray."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

from weatherlib import config
from weatherlib.data_utils import harmonics
from weatherlib.training.data_config import (
    DataConfig,
    Period,
    SourceConfig,
    require_from_zero,
    require_positive,
)
from weatherlib.training.distributed_config import DistributedConfig
from weatherlib.training.forcing_config import TeacherForcing
from weatherlib.training.init_config import AdapterConfig, InitConfig
from weatherlib.training.lead_config import Lead, LeadRange, check_lead
from weatherlib.training.radar_config import RadarConfig
from weatherlib.training.sharding_config import ShardingConfig

__all__ = [
    "AdapterConfig",
    "DataConfig",
    "DistributedConfig",
    "InitConfig",
    "LeadRange",
    "LossConfig",
    "OptimizerConfig",
    "Period",
    "RadarConfig",
    "Schedule",
    "ShardingConfig",
    "SourceConfig",
    "StageConfig",
    "TeacherForcing",
    "TrainConfig",
    "ValidationConfig",
    "WrapperConfig",
]

# optax counts updates in 32 bits.
_MOST_UPDATES = 2**31 - 1

# Learned tables and positions; biases and scales are told by their rank.
_NO_DECAY = (
    "*var_embed*",
    "*pos_embed*",
    "*time_embed*",
    "*token_embed*",
    "*/embeddings",
    "*/positions",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule(config.Mapping):
    """How the learning rate changes, counted in updates of the optimiser.

    Attributes:
      kind: "warmup_cosine" rises from `start` to `peak` and falls as half a cosine to
        `end`. "climax" is the same in the counting of ClimaX, whose warm-up reaches
        the peak one update earlier. "graphcast" falls to zero and then stays at `end`.
        "polynomial" falls with `power`. "constant" stays at `peak` after the warm-up.
      peak: Largest rate.
      start: Rate of the first update.
      end: Last rate; `eta_min` of ClimaX.
      warmup: Updates of linear rise.
      warmup_epochs: The same in passes over the data; comes before `warmup`.
      decay: Updates of the fall after the warm-up; None takes the rest.
      power: Of the polynomial; 1 is linear.
    """

    kind: Literal["warmup_cosine", "climax", "graphcast", "polynomial", "constant"] = (
        "warmup_cosine"
    )
    peak: float = 1e-3
    start: float = 0.0
    end: float = 0.0
    warmup: int = 0
    warmup_epochs: float | None = None
    decay: int | None = None
    power: float = 1.0

    def __post_init__(self) -> None:
        rates = ("peak", "start", "end")
        require_from_zero(self, *rates, "warmup", "warmup_epochs")
        if self.decay is not None:
            require_positive(self, "decay")
        require_positive(self, "power")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageConfig(config.Mapping):
    """A part of training with one length of rollout, or one set of lead times.

    Attributes:
      steps: Updates of the optimiser.
      epochs: The same in passes over the training period; give one of the two.
      rollout: Forecast steps in the loss; a list repeats the stage for each.
      lead: Lead times that are predicted in one step: "72h", several as in
        ["24h", "72h"], or a range such as {shortest: 6h, longest: 162h}. Each sample
        has one of them. For models that take a lead time; None trains single steps of
        the data, or rollouts.
      batch_size: Samples in an update, over all processes and accumulated parts.
      schedule: Learning rate of this stage; None continues the schedule of the run.
      reset_optimizer: Whether moments of earlier stages are forgotten.
      teacher_forcing: How likely a model that decodes frame by frame reads true frames
        in place of its own, such as {start: 1.0, end: 0.0}; anew for each rollout of a
        list. None never does.
    """

    steps: int | None = None
    epochs: float | None = None
    rollout: int | tuple[int, ...] = 1
    lead: Lead | None = None
    batch_size: int = 1
    schedule: Schedule | None = None
    reset_optimizer: bool = False
    teacher_forcing: TeacherForcing | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give one of steps and epochs")
        require_positive(
            self, "batch_size", "steps" if self.epochs is None else "epochs"
        )
        if not self.rollouts or min(self.rollouts) < 1:
            raise ValueError(f"rollout must be at least 1, found {self.rollout!r}")
        if self.steps is not None and self.steps > _MOST_UPDATES:
            raise ValueError(f"steps can be {_MOST_UPDATES} at most")
        check_lead(self.lead)
        if self.lead is not None and self.rollouts != (1,):
            raise ValueError(
                f"lead {self.lead!r} is one step, rollout {self.rollout!r} several; to "
                "iterate longer steps set data.time_step in place of lead"
            )

    @property
    def rollouts(self) -> tuple[int, ...]:
        """The rollout lengths, one after the other."""
        return (self.rollout,) if isinstance(self.rollout, int) else self.rollout

    @property
    def lead_text(self) -> str:
        """The lead times in words; empty without."""
        if isinstance(self.lead, LeadRange):
            return f"{self.lead.shortest} to {self.lead.longest}"
        return self.lead if isinstance(self.lead, str) else ", ".join(self.lead or ())


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig(config.Mapping):
    """The optimiser. Patterns are those of a shell, on `module/name`.

    Attributes:
      kind: "adamw", or "muon": changes of matrices and of kernels are made orthogonal,
        so that all directions learn alike, and are as large as those of AdamW at the
        same rate. The rest, and what `no_decay` names, is left to AdamW. It needs far
        fewer updates where networks are small; source: Jordan 2024, Liu et al. 2025,
        arXiv 2502.16982.
      momentum: Decay of the running average of gradients of "muon".
      b1: Decay of the first moment.
      b2: Decay of the second moment.
      eps: Added to the root of the second moment.
      weight_decay: Strength of the decay of weights.
      no_decay: Patterns of parameters without decay, beside all vectors and numbers,
        which are biases, offsets and scales.
      decay_vectors: Whether vectors and numbers decay as well, as in the training of
        the published ClimaX.
      clip: Largest norm of the gradient of all trained parameters; None does not clip.
      accumulate: Parts into which a batch is cut, whose gradients are averaged.
      frozen: Patterns of parameters that stay as they are.
      trained: Patterns of parameters that are trained although `frozen` names them.
      layers: Patterns from input to output for `layer_decay`.
      layer_decay: Factor of the rate from each layer to the one before it.
      scales: Pattern to factor of the learning rate; the first that fits counts.
      ema: Decay of the running average of the weights; 0 keeps none.
    """

    kind: Literal["adamw", "muon"] = "adamw"
    momentum: float = 0.95
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    no_decay: tuple[str, ...] = _NO_DECAY
    decay_vectors: bool = False
    clip: float | None = 1.0
    accumulate: int = 1
    frozen: tuple[str, ...] = ()
    trained: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    layer_decay: float = 1.0
    scales: dict[str, float] = dataclasses.field(default_factory=dict)
    ema: float = 0.999

    def __post_init__(self) -> None:
        for name in ("momentum", "b1", "b2", "ema"):
            if not 0 <= self[name] < 1:
                raise ValueError(f"{name} must be in [0, 1), found {self[name]!r}")
        require_positive(self, "eps", "accumulate", "layer_decay")
        require_from_zero(self, "weight_decay")
        _check_weights("scales", self.scales)
        if self.clip is not None:
            require_positive(self, "clip")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig(config.Mapping):
    """Weights of the loss. With nothing set, the loss is the model's own.

    Attributes:
      kind: "mse", "mae" or "huber"; "gaussian" is the likelihood by the errors that the
        model expects, see `losses.gaussian_error`; None keeps the model's own.
      variables: Weight of each variable that does not count as 1. A variable on
        levels counts as their mean.
      levels: "pressure" weights by pressure as GraphCast, "uniform" equally; or the
        weight of each level in hPa, 1 where not named. They are scaled to mean 1.
      latitude: Whether rows are weighted by their area.
      huber_delta: Where the Huber loss becomes linear, in normalised units.
      skip_missing: Whether missing values of targets are left out, and each sample
        counts by what is left of it.
      differences: Weight of the errors of differences between neighbours, which are
        added to those of values. With few data less is learned by heart.

    Raises:
      ValueError: A weight is negative, or two settings exclude each other.
    """

    kind: Literal["mse", "mae", "huber", "gaussian"] | None = None
    variables: dict[str, float] | None = None
    levels: Literal["pressure", "uniform"] | dict[int, float] = "pressure"
    latitude: bool = True
    huber_delta: float = 1.0
    skip_missing: bool = False
    differences: float = 0.0

    def __post_init__(self) -> None:
        require_positive(self, "huber_delta")
        require_from_zero(self, "differences")
        if self.differences and self.skip_missing:
            raise ValueError(
                "differences between neighbours need all values, and skip_missing "
                "leaves some out; use one of the two"
            )
        if self.kind == "gaussian" and self.skip_missing:
            raise ValueError(
                "kind: gaussian needs all values, and skip_missing leaves some out; "
                "use another kind"
            )
        levels = self.levels if isinstance(self.levels, dict) else {}
        _check_weights("variables", self.variables or {})
        _check_weights("levels", levels)

    @property
    def is_own(self) -> bool:
        """Whether the model's own loss is used."""
        return self == LossConfig()


@dataclasses.dataclass(frozen=True, kw_only=True)
class WrapperConfig(config.Mapping):
    """What is put around the network.

    Attributes:
      residuals: Whether `InputsAndResiduals` normalises.
      nan_cleaning: Variables whose missing values are filled with their means.
      noise_level: Standard deviation of the noise on the first inputs of rollouts.
      climatology: Waves of year and day that are fitted to the training period at each
        grid point and taken away before the network; None takes nothing away. The
        task must read the forcings that hold the dates, `year_progress_sin` and so on.
      mirror: Whether samples of training are mirrored at the equator by chance, for
        global grids and little data.
    """

    residuals: bool = True
    nan_cleaning: tuple[str, ...] = ()
    noise_level: float | None = None
    climatology: harmonics.HarmonicsConfig | None = None
    mirror: bool = False

    def __post_init__(self) -> None:
        require_from_zero(self, "noise_level")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValidationConfig(config.Mapping):
    """How progress is judged.

    Attributes:
      every: Updates between validations.
      samples: Forecasts judged, spread evenly over the validation period.
      batch_size: Forecasts at a time.
      rollout: Steps of the loss that decides which weights are best.
      leads: Predicted frames whose errors are given beside those of persistence,
        counted from 1; none if empty.
      lead: Lead times judged in one step each, in place of `rollout` and `leads`, such
        as ["6h", "24h", "72h"]. None takes those of the last stage that has any: of a
        range the shortest, the middle and the longest.
      levels: Levels of these errors in hPa; the nearest there are.
      metric: "loss", or "rmse": the mean over targets and leads of the error as a
        share of that of persistence.
      patience: Validations without a better result after which training ends; None
        never ends early.
      min_change: How much better a result must be.
    """

    every: int = 500
    samples: int = 16
    batch_size: int = 1
    rollout: int = 1
    leads: tuple[int, ...] = (1, 4)
    lead: str | tuple[str, ...] | None = None
    levels: tuple[int, ...] = (500, 850)
    metric: Literal["loss", "rmse"] = "loss"
    patience: int | None = None
    min_change: float = 0.0

    def __post_init__(self) -> None:
        require_positive(self, "every", "samples", "batch_size", "rollout")
        require_from_zero(self, "min_change")
        if self.patience is not None:
            require_positive(self, "patience")
        if self.leads and min(self.leads) < 1:
            raise ValueError(f"leads count from 1, found {self.leads}")
        check_lead(self.lead)
        if self.metric == "rmse" and not self.leads:
            raise ValueError("metric rmse needs leads")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(config.Mapping):
    """A training run.

    Attributes:
      output: Folder of the results.
      data: What is learnt from.
      model: `family` and the fields of that family's configuration.
      stages: One after the other. Models that have a solution in closed form need none.
      schedule: Learning rate over all stages that have none of their own.
      optimizer: How weights change.
      loss: Weights of the loss.
      wrappers: What is put around the network.
      validation: How progress is judged.
      init_from: Weights to start from, or the path of a checkpoint to take whole.
      adapters: Low-rank changes that are trained in place of matrices; None for none.
      precision: "bfloat16" computes in it with float32 parameters; "auto" does so on
        accelerators.
      remat: Whether the backward pass computes activations again to save memory.
      checkpoint_every: Updates between checkpoints.
      keep: Checkpoints kept of the last ones.
      log_every: Updates that one line of the log averages.
      seed: Of the first weights, the order of samples and all noise.
      sharding: How work is spread over devices; None shares batches between as many as
        divide them.
      distributed: How several processes find each other.
      description: Goes into the exported file.
      license: Terms of the weights, which go into the exported file and the forecasts
        made with it; left empty, these say that it is not stated.
    """

    output: pathlib.Path
    data: DataConfig
    model: dict[str, Any]
    stages: tuple[StageConfig, ...] = ()
    schedule: Schedule | None = None
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    wrappers: WrapperConfig = dataclasses.field(default_factory=WrapperConfig)
    validation: ValidationConfig = dataclasses.field(default_factory=ValidationConfig)
    init_from: InitConfig | str | None = None
    adapters: AdapterConfig | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    remat: bool = False
    checkpoint_every: int = 500
    keep: int = 2
    log_every: int = 50
    seed: int = 0
    sharding: ShardingConfig | None = None
    distributed: DistributedConfig = dataclasses.field(
        default_factory=DistributedConfig
    )
    description: str = ""
    license: str = ""

    def __post_init__(self) -> None:
        require_positive(self, "checkpoint_every", "keep", "log_every")
        config.require_seed(self.seed)
        self._check_names()
        if self.schedule is None and any(s.schedule is None for s in self.stages):
            raise ValueError(
                "schedule: missing for the run, and for at least one stage"
            )
        for index, stage in enumerate(self.stages):
            if stage.batch_size % self.optimizer.accumulate:
                raise ValueError(
                    f"stages[{index}].batch_size {stage.batch_size} is not a multiple "
                    f"of optimizer.accumulate {self.optimizer.accumulate}"
                )
        if self.init_from == "":
            raise ValueError("init_from is empty; name a file of weights")
        if isinstance(self.init_from, str):
            init = InitConfig(path=pathlib.Path(self.init_from))
            object.__setattr__(self, "init_from", init)

    def _check_names(self) -> None:
        """Raises a ValueError where `nan_allowed` names no variable of the task."""
        if self.data.task is None:
            return
        task = self.data.task_config()
        names = {
            *task.input_variables, *task.target_variables, *task.forcing_variables
        }  # fmt: skip
        common = DataConfig.nan_allowed
        for name in self.data.nan_allowed:
            if name not in names and name not in common:
                hint = config.closest_hint(name, sorted(names))
                raise ValueError(
                    f"data.nan_allowed: {name!r} is no variable of the task{hint}"
                )


def _check_weights(label: str, weights: Mapping[Any, float]) -> None:
    """Raises a ValueError where a weight is negative or not finite."""
    wrong = {
        name: value for name, value in weights.items() if not 0 <= value < math.inf
    }
    if wrong:
        raise ValueError(f"{label}: expected numbers from 0 on, found {wrong}")
