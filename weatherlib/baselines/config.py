"""What checkpoints of grid models hold. Nothing here imports JAX or xarray."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

from weatherlib import config, task

__all__ = ["RESIDUAL_CNN", "CheckPoint", "ResidualCnnConfig"]

RESIDUAL_CNN = "residual_cnn"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResidualCnnConfig(config.Mapping):
    """Sizes of a convolutional network with residual blocks.

    Attributes:
      resolution: Grid spacing the weights were trained for, degrees. 0 accepts any.
      width: Channels between the blocks.
      dilations: One block for each: the distance between the points that its
        convolution looks at, in grid points.
      kernel: Points along a side of each convolution, an odd number.
      dropout: Share of channels that training silences at each point.
      normalization: "layer" scales the channels of each point to mean 0 and variance 1
        before each block; "none" leaves them.
      positions: Whether sine and cosine of latitude and longitude are inputs.
      differences: Above 0, the differences between the neighbours of a point along row
        and column, times this, and the sum of the four less four times the point, times
        twice this, are inputs too. In smooth fields they are small, and a network that
        has to find them there learns them late.
      carriers: Input variables whose contours the wind follows, such as geopotential.
        How fast the wind of each carries the fields that are predicted, and their
        curvatures, are inputs too, see `baselines.advection`. Each has a learned mean
        field, so that the weights belong to one grid. Best computed in float32.
      local_channels: Learned inputs of each grid point. Above 0 the weights belong to
        one grid.
      edges: How a field goes on beyond its edges. "global": around the Earth in
        longitude and over the poles in latitude. "regional": the outermost values are
        repeated. "auto": global where the longitudes go round.
      mirror: Whether each hemisphere is predicted as the northern one, the southern
        turned upside down, by the same weights: they see twice as many storms. It needs
        a global grid whose rows mirror each other.
      estimates_error: Whether it also estimates how large its error is at each point,
        which a Gaussian loss needs. What cannot be foreseen, such as a storm that
        enters a region, then disturbs less what can be learned.
      members: Networks of this kind whose mean is the prediction. In training each
        sees its own share of a batch, so that they stay as different as networks that
        were trained apart, and training takes no longer than with one.

    Raises:
      ValueError: A size is out of range.
    """

    resolution: float = 0.0
    width: int = 64
    dilations: tuple[int, ...] = (1, 2, 4, 1)
    kernel: int = 3
    dropout: float = 0.0
    normalization: Literal["layer", "none"] = "layer"
    positions: bool = True
    differences: float = 0.0
    carriers: tuple[str, ...] = ()
    local_channels: int = 0
    edges: Literal["auto", "global", "regional"] = "auto"
    mirror: bool = False
    estimates_error: bool = False
    members: int = 1

    def __post_init__(self) -> None:
        # A tuple by type, and a list in a YAML file.
        object.__setattr__(self, "carriers", tuple(self.carriers))
        if not self.resolution >= 0:
            raise ValueError(
                f"resolution must not be negative, found {self.resolution!r}"
            )
        for name in ("width", "members"):
            if self[name] < 1:
                raise ValueError(f"{name} must be at least 1, found {self[name]!r}")
        if not self.dilations or min(self.dilations) < 1:
            raise ValueError(
                f"dilations must be at least one number from 1 on, found "
                f"{self.dilations!r}"
            )
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel must be an odd number, found {self.kernel!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), found {self.dropout!r}")
        if self.mirror and self.edges == "regional":
            raise ValueError("mirror needs the whole globe, found edges regional")
        if not 0 <= self.differences < math.inf:
            raise ValueError(
                f"differences must be a number from 0 on, found {self.differences!r}"
            )
        if self.local_channels < 0:
            raise ValueError(
                f"local_channels must not be negative, found {self.local_channels!r}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckPoint(config.Mapping):
    """A trained grid model as `weatherlib.checkpoint` reads and writes it.

    Attributes:
      architecture: Name of the kind of network.
      params: Haiku module path to parameter name to array.
      model_config: Its sizes.
      task_config: What the model reads and predicts.
      description: Free text.
      license: Terms under which the weights may be used.
    """

    architecture: str
    params: dict[str, Any]
    model_config: ResidualCnnConfig
    task_config: task.TaskConfig
    description: str
    license: str
