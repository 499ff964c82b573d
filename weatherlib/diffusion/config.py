"""What a diffusion model is trained for. Nothing here imports JAX or xarray."""

from __future__ import annotations

import dataclasses
from typing import Literal

from weatherlib import config
from weatherlib.diffusion import schedules

__all__ = ["PREDIFF", "DiffusionConfig"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionConfig(config.Mapping):
    """Noise, what the denoiser predicts about it, and how errors count.

    Attributes:
      schedule: How much noise each step adds.
      prediction: What the denoiser predicts: the noise ("epsilon"), the field ("x0") or
        "v", between the two.
      loss: "l2", the squared error, or "l1", its magnitude.
      learn_log_variance: Whether an expected error is trained for each step of noise,
        by which errors at that step are divided.
      log_variance_start: Its logarithm in the beginning, and for good if not trained.
      simple_weight: Of the error as it is.
      bound_weight: Of the error weighted as in the variational bound.

    Raises:
      ValueError: A name is unknown or a weight is negative.
    """

    schedule: schedules.ScheduleConfig = dataclasses.field(
        default_factory=schedules.ScheduleConfig
    )
    prediction: schedules.Prediction = "epsilon"
    loss: Literal["l1", "l2"] = "l2"
    learn_log_variance: bool = False
    log_variance_start: float = 0.0
    simple_weight: float = 1.0
    bound_weight: float = 0.0

    def __post_init__(self) -> None:
        schedules.check_prediction(self.prediction)
        if self.loss not in ("l1", "l2"):
            raise ValueError(f"loss {self.loss!r} is neither l1 nor l2")
        for name in ("simple_weight", "bound_weight"):
            if not self[name] >= 0:
                raise ValueError(f"{name} must not be negative, found {self[name]!r}")


PREDIFF = DiffusionConfig(
    schedule=schedules.ScheduleConfig(kind="scaled_linear"), learn_log_variance=True
)
"""The published settings of PreDiff."""
