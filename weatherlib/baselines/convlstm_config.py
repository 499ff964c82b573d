"""Sizes of convolutional LSTMs. Nothing here imports JAX or xarray."""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar, Literal

from weatherlib.baselines.common import FrameModelConfig

__all__ = ["ConvLSTMConfig", "ConvLSTMSeq2SeqConfig", "RecurrentConfig"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurrentConfig(FrameModelConfig, abc.ABC):
    """What both networks of convolutional LSTM cells have in common.

    The defaults are those of the published network.

    Attributes:
      hidden_channels: Channels of the memory of each layer; a list gives each layer
        its own.
      num_layers: Layers of cells.
      kernel_size: Points along a side of the cells' convolutions, an odd number.
      dilations: Distance between these points; a list gives each layer its own.
      normalization: "layer" scales the channels of each gate at each point to mean 0
        and variance 1 before the gate opens, with a learned scale and offset in place
        of the bias. "none", as published, does not.
      peepholes: Whether gates see the memory cell. "none": as published, no.
        "channel": through one weight for each channel. "point": through one for each
        channel and grid point, which ties the weights to one grid.
      patch_size: Rows and columns of cells that are one point of the recurrent layers.
        1, as published, keeps the grid. A field whose sides are no multiples is
        continued with its last row and column, and the result is cut off.
      dropout: Share of the channels between layers, and before the head, that training
        silences at each point.
      forget_bias: First value of the bias of the forget gate; above 0, memory lasts
        longer at the start of training.

    Raises:
      ValueError: A size is out of range, or lists do not have one entry for each layer.
    """

    hidden_channels: int | tuple[int, ...] = 64
    num_layers: int = 2
    kernel_size: int = 3
    dilations: int | tuple[int, ...] = 1
    normalization: Literal["none", "layer"] = "none"
    peepholes: Literal["none", "channel", "point"] = "none"
    patch_size: int | tuple[int, int] = 1
    dropout: float = 0.0
    forget_bias: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_positive("num_layers", "kernel_size")
        if self.kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size must be an odd number, found {self.kernel_size}"
            )
        for name in ("hidden_channels", "dilations"):
            found = self._by_layer(name)
            if len(found) != self.num_layers:
                raise ValueError(
                    f"{name} {list(found)} has {len(found)} entries for num_layers "
                    f"{self.num_layers}; give one for each layer, or a single number"
                )
            if min(found) < 1:
                raise ValueError(f"{name} must be at least 1, found {self[name]!r}")
        if min(self.patch) < 1:
            raise ValueError(f"patch_size must be at least 1, found {self.patch_size}")
        self._require_share("dropout")

    @property
    def widths(self) -> tuple[int, ...]:
        """The channels of each layer."""
        return self._by_layer("hidden_channels")

    @property
    def spacings(self) -> tuple[int, ...]:
        """The dilation of each layer."""
        return self._by_layer("dilations")

    @property
    def patch(self) -> tuple[int, int]:
        """Rows and columns of a patch."""
        size = self.patch_size
        return (size, size) if isinstance(size, int) else size

    def _by_layer(self, name: str) -> tuple[int, ...]:
        value = self[name]
        return (value,) * self.num_layers if isinstance(value, int) else value


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvLSTMConfig(RecurrentConfig):
    """A convolutional LSTM that reads all past frames and predicts all next ones.

    `RecurrentConfig` describes the fields.
    """


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvLSTMSeq2SeqConfig(RecurrentConfig):
    """A convolutional LSTM that predicts frame by frame, each from the one before.

    `RecurrentConfig` describes the fields; the decoder is one more cell, as wide as the
    last layer.

    Attributes:
      takes_teacher_forcing: Tells that in training it can read true frames.
    """

    takes_teacher_forcing: ClassVar[bool] = True
