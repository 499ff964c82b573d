"""What the configurations of all models of several frames have in common."""

from __future__ import annotations

import dataclasses
from typing import Literal, Protocol

from weatherlib import config

__all__ = ["FrameModelConfig", "FrameSettings"]


class FrameSettings(Protocol):
    """What `GridPredictor` asks of a configuration, of this package or of others."""

    @property
    def resolution(self) -> float:
        """Grid spacing the weights were trained for, degrees. 0 accepts any."""
        ...

    @property
    def input_length(self) -> int:
        """Past frames that are read."""
        ...

    @property
    def output_length(self) -> int:
        """Frames that one call predicts."""
        ...

    @property
    def edges(self) -> str:
        """As for `nn.edges.find_edges`."""
        ...

    @property
    def predicts(self) -> str:
        """Either "state" or "change"."""
        ...

    @property
    def area_weighted_loss(self) -> bool:
        """Whether the loss counts rows by their area, and levels by their pressure."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameModelConfig(config.Mapping):
    """Frames in, frames out.

    Attributes:
      resolution: Grid spacing the weights were trained for, degrees. 0 accepts any.
      input_length: Past frames that are read.
      output_length: Frames that one call predicts.
      edges: How convolutions see a field go on beyond its edges. "zero", as published:
        with zeros. "global": around the Earth in longitude and over the poles in
        latitude. "regional": the outermost values are repeated. "auto": global where
        the longitudes go round, otherwise regional.
      predicts: "state", as published: the network's output is the normalised state.
        "change": it is the normalised change from the last past frame.
      area_weighted_loss: Whether the loss counts rows by their area, and levels by
        their pressure. If not, as published, it is the mean square over everything.

    Raises:
      ValueError: A size is out of range.
    """

    resolution: float = 0.0
    input_length: int = 12
    output_length: int = 4
    edges: Literal["zero", "global", "regional", "auto"] = "zero"
    predicts: Literal["state", "change"] = "state"
    area_weighted_loss: bool = False

    def __post_init__(self) -> None:
        if not self.resolution >= 0:
            raise ValueError(
                f"resolution must not be negative, found {self.resolution!r}"
            )
        self._require_positive("input_length", "output_length")

    def _require_positive(self, *names: str) -> None:
        for name in names:
            if self[name] < 1:
                raise ValueError(f"{name} must be at least 1, found {self[name]!r}")

    def _require_share(self, *names: str) -> None:
        for name in names:
            if not 0 <= self[name] < 1:
                raise ValueError(f"{name} must be in [0, 1), found {self[name]!r}")
