"""Settings of forecasts without weights."""

from __future__ import annotations

import dataclasses

from weatherlib.baselines.common import FrameModelConfig

__all__ = ["ClimatologyConfig", "PersistenceConfig"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PersistenceConfig(FrameModelConfig):
    """Nothing changes: every predicted frame is the last past one.

    Where a climatology is taken away before, what stays is the departure from it.

    Attributes:
      input_length: Past frames that are read; one is enough.
    """

    input_length: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClimatologyConfig(FrameModelConfig):
    """Everything is as usual: the mean, and the climatology that was taken away before.

    Attributes:
      input_length: Past frames that are read; one is enough.

    Raises:
      ValueError: It is to predict changes, which need a past.
    """

    input_length: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.predicts != "state":
            raise ValueError(
                f"predicts: a climatology is a state, found {self.predicts!r}"
            )
