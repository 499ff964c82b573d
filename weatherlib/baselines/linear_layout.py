"""The one order of features and outputs of linear models, for NumPy and JAX alike.

Per frame first variable, then row, then column, the last one fastest; frames one after
the other, then the known fields likewise, then the static ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

__all__ = ["Channels", "FieldArrays", "HostFields", "Shape", "features", "outputs"]


class FieldArrays(Protocol):
    """Arrays of any kind in the form of `baselines.fields.Fields`."""

    @property
    def frames(self) -> Any:
        """Past frames, shape [batch, time, lat, lon, channel]."""
        ...

    @property
    def known(self) -> Any:
        """Forcings at the times to predict, shape [batch, step, lat, lon, forcing]."""
        ...

    @property
    def static(self) -> Any:
        """Fields without time, shape [batch, lat, lon, static]."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class HostFields:
    """`FieldArrays` of NumPy, for a fit without JAX.

    Attributes:
      frames: Shape [batch, time, lat, lon, channel].
      known: Shape [batch, step, lat, lon, forcing].
      static: Shape [batch, lat, lon, static].
    """

    frames: np.ndarray
    known: np.ndarray
    static: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Channels:
    """Names of what lies in the channels of `FieldArrays`, repeated for levels.

    Attributes:
      frames: Of the past frames.
      known: Of the forcings at the times to predict.
      static: Of the fields without time.
    """

    frames: tuple[str, ...]
    known: tuple[str, ...] = ()
    static: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a linear model.

    Attributes:
      features: Numbers that it reads.
      outputs: Numbers that it predicts.
    """

    features: int
    outputs: int

    @classmethod
    def of(
        cls, fields: FieldArrays, input_length: int, steps: int, channels: int
    ) -> Shape:
        """Returns the sizes for given fields.

        Args:
          fields: Of any batch.
          input_length: Frames that are read.
          steps: Frames that are predicted.
          channels: Predicted channels of each.

        Raises:
          ValueError: The number of frames is another, or the forcings have other steps.
        """
        _, frames, rows, columns, width = fields.frames.shape
        if frames != input_length:
            raise ValueError(
                f"the model reads {input_length} frames, found {frames}; set "
                f"input_length to {frames}, or give it {input_length}"
            )
        if channels > width:
            raise ValueError(
                f"the frames have {width} channels, of which the first {channels} "
                "would be the predicted ones; every predicted variable must be read too"
            )
        known, static = fields.known.shape, fields.static.shape
        if known[-1] and known[1] != steps:
            raise ValueError(
                f"the model predicts {steps} frames, and the forcings have {known[1]}; "
                "they must be those of the predicted times"
            )
        points = rows * columns
        per_point = frames * width + steps * known[-1] + static[-1]
        return cls(features=per_point * points, outputs=steps * channels * points)


def features(fields: FieldArrays, concatenate: Callable[..., Any]) -> Any:
    """Returns all that a model reads as rows.

    Args:
      fields: Arrays with the methods of those of NumPy.
      concatenate: Joins arrays along `axis`; that of the library of the arrays.

    Returns:
      Shape [batch, feature].
    """
    parts = [outputs(fields.frames)]
    if fields.known.shape[-1]:
        parts.append(outputs(fields.known))
    if fields.static.shape[-1]:
        static = fields.static.transpose(0, 3, 1, 2)
        parts.append(static.reshape(static.shape[0], -1))
    return concatenate(parts, axis=1) if len(parts) > 1 else parts[0]


def outputs(frames: Any) -> Any:
    """Returns frames [batch, step, lat, lon, channel] as rows [batch, output]."""
    moved = frames.transpose(0, 1, 4, 2, 3)
    return moved.reshape(moved.shape[0], -1)
