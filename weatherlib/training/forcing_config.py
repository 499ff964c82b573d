"""Settings of teacher forcing. Nothing here imports JAX or xarray."""

from __future__ import annotations

import dataclasses
from typing import Literal

from weatherlib import config
from weatherlib.training.data_config import require_positive

__all__ = ["TEACHER_FORCING_RATIO", "TeacherForcing"]

TEACHER_FORCING_RATIO = "teacher_forcing_ratio"
"""The option by which the loss of a predictor is told how much truth to read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherForcing(config.Mapping):
    """How likely a model that decodes reads true frames while it is trained.

    With a probability that falls from `start` to `end`, a true frame takes the place of
    each prediction that the next step would read.

    Attributes:
      start: Probability at the first update of the stage.
      end: Probability at the last.
      kind: How it falls: "linear"; "exponential", by the same factor at each update, so
        that a hundredth of the way is left at the last; "inverse_sigmoid", slowly at
        first and at last, and half of the way in the middle.
      updates: Updates of the fall; None takes those of the stage.

    Raises:
      ValueError: A probability is none, or `updates` is not positive.
    """

    start: float = 1.0
    end: float = 0.0
    kind: Literal["linear", "exponential", "inverse_sigmoid"] = "linear"
    updates: int | None = None

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            if not 0 <= self[name] <= 1:
                raise ValueError(f"{name} must be in [0, 1], found {self[name]!r}")
        if self.updates is not None:
            require_positive(self, "updates")
