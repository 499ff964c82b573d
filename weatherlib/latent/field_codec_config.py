"""Autoencoders of fields in their own units. Nothing here imports JAX."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from weatherlib.latent.codec_config import CodecConfig

__all__ = ["FieldCodecConfig"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FieldCodecConfig(CodecConfig):
    """An autoencoder, and how fields reach the range of images.

    Attributes:
      resolution: Grid spacing the weights were trained for, degrees. 0 accepts any.
      normalization: "minmax", for the autoencoder of Stable Diffusion and
        reconstruction: the lowest and highest values of the training period, by
        variable and level, become -1 and 1. "standard": fields with mean 0 and standard
        deviation 1 are taken as they are.
      lowest: These lowest values, in standard deviations from the mean, which training
        finds: variables by name, with their levels.
      highest: The highest ones, likewise.
      range_margin: How far beyond -1 and 1 the fields that a forecast starts from may
        lie; further ones are an error, and none are clipped.

    Raises:
      ValueError: A value is out of range.
    """

    resolution: float = 0.0
    normalization: Literal["minmax", "standard"] = "minmax"
    lowest: tuple[float, ...] = ()
    highest: tuple[float, ...] = ()
    range_margin: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("resolution", "range_margin"):
            if not self[name] >= 0:
                raise ValueError(f"{name} must not be negative, found {self[name]!r}")
        if self.normalization not in ("minmax", "standard"):
            raise ValueError(
                f"normalization {self.normalization!r} is neither minmax nor standard"
            )
        self._check_range()

    def _check_range(self) -> None:
        low, high = self.lowest, self.highest
        if len(low) != len(high) or (low and len(low) != self.channels):
            raise ValueError(
                "lowest and highest need a number for each of the "
                f"{self.channels} channels, found {len(low)} and {len(high)}"
            )
        for first, last in zip(low, high):
            if not (math.isfinite(first) and math.isfinite(last) and first <= last):
                raise ValueError(
                    f"lowest and highest must be finite and in order, found {first!r} "
                    f"and {last!r}"
                )
