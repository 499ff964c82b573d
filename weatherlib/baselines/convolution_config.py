"""Sizes of the convolutional networks. Nothing here imports JAX or xarray."""

from __future__ import annotations

import dataclasses

from weatherlib.baselines.common import FrameModelConfig

__all__ = ["CNNConfig", "DeepCNNConfig", "PixelUNetConfig"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CNNConfig(FrameModelConfig):
    """Sizes of a convolutional network that halves the grid once.

    Attributes:
      hidden_channels: Width h of the first layer; those after it have 2h, 2h and 4h,
        then 2h and h.

    Raises:
      ValueError: A size is out of range.
    """

    hidden_channels: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_positive("hidden_channels")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeepCNNConfig(FrameModelConfig):
    """Sizes of a convolutional network of residual blocks.

    Attributes:
      hidden_channels: Width of all blocks.
      n_residual_blocks: How many there are.

    Raises:
      ValueError: A size is out of range.
    """

    hidden_channels: int = 64
    n_residual_blocks: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_positive("hidden_channels", "n_residual_blocks")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PixelUNetConfig(FrameModelConfig):
    """Sizes of a U-Net on the grid itself.

    Attributes:
      base_channels: Width at full resolution; each halving doubles it.
      depth: How often the grid is halved.
      groups: Of channels that are normalised together.

    Raises:
      ValueError: A size is out of range.
    """

    base_channels: int = 64
    depth: int = 4
    groups: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_positive("base_channels", "depth", "groups")
        if self.base_channels % self.groups:
            raise ValueError(
                f"base_channels must be a multiple of the {self.groups} groups, found "
                f"{self.base_channels!r}"
            )
