"""Convolutional networks that see past frames as channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
from jaxtyping import Array, Float

from weatherlib.baselines.common import FrameModelConfig
from weatherlib.baselines.convolution_config import (
    CNNConfig,
    DeepCNNConfig,
    PixelUNetConfig,
)
from weatherlib.baselines.fields import Fields, flat_channels, frames_of
from weatherlib.nn import edges as edges_
from weatherlib.nn import unet
from weatherlib.nn.batch_norm import BatchNorm
from weatherlib.nn.convolutions import Conv2D, ConvTranspose2D
from weatherlib.nn.edges import Edges

__all__ = ["CNNNetwork", "DeepCNNNetwork", "PixelUNetNetwork"]


class CNNNetwork(hk.Module):
    """Convolutions on the grid, on half the grid, and back on the grid.

    Batch normalisation and ReLU follow each but the last.
    """

    def __init__(
        self, config: CNNConfig, *, remat: bool = False, name: str = "cnn"
    ) -> None:
        """Takes the sizes, and whether the backward pass computes layers again."""
        super().__init__(name=name)
        self._config = config
        self._remat = remat

    def __call__(
        self,
        fields: Fields,
        edges: Edges,
        output_size: int,
        is_training: bool = False,
    ) -> Float[Array, "batch step lat lon output"]:
        """Returns the frames to predict.

        Args:
          fields: What the network sees.
          edges: How fields go on beyond their edges.
          output_size: Channels of each frame.
          is_training: Whether a batch is normalised by its own statistics.

        Raises:
          ValueError: The number of past frames is another than that of the
            configuration, or the grid is too small for the edges.
        """
        config, width = self._config, self._config.hidden_channels
        x = _seen(fields, config, edges)
        rows, columns = x.shape[1:3]
        x = edges_.fill_up(x, 2)
        coarse = edges_.coarsened(edges)
        layers = [
            Conv2D(width, 3, edges=edges, name="encoder_0"),
            Conv2D(2 * width, 3, edges=edges, name="encoder_1"),
            Conv2D(2 * width, 3, stride=2, edges=edges, name="encoder_2"),
            Conv2D(4 * width, 3, edges=coarse, name="encoder_3"),
            ConvTranspose2D(2 * width, 4, 2, edges=coarse, name="decoder_0"),
            Conv2D(width, 3, edges=edges, name="decoder_1"),
        ]
        for layer in layers:
            x = _checkpointed(_Normed(layer, is_training), self._remat)(x)
        outputs = config.output_length * output_size
        x = Conv2D(outputs, 3, edges=edges, name="decoder_2")(x)
        return frames_of(x[:, :rows, :columns], config.output_length)


class DeepCNNNetwork(hk.Module):
    """Residual blocks of convolutions on the grid."""

    def __init__(
        self, config: DeepCNNConfig, *, remat: bool = False, name: str = "deep_cnn"
    ) -> None:
        """Takes the sizes, and whether the backward pass computes blocks again."""
        super().__init__(name=name)
        self._config = config
        self._remat = remat

    def __call__(
        self,
        fields: Fields,
        edges: Edges,
        output_size: int,
        is_training: bool = False,
    ) -> Float[Array, "batch step lat lon output"]:
        """Returns the frames to predict; arguments and errors as of `CNNNetwork`."""
        config, width = self._config, self._config.hidden_channels
        x = _seen(fields, config, edges)
        x = Conv2D(width, 3, edges=edges, name="input")(x)
        for i in range(config.n_residual_blocks):
            block = _ResidualBlock(width, edges, is_training, name=f"block_{i}")
            x = _checkpointed(block, self._remat)(x)
        outputs = config.output_length * output_size
        x = Conv2D(outputs, 3, edges=edges, name="output")(x)
        return frames_of(x, config.output_length)


class PixelUNetNetwork(hk.Module):
    """A U-Net on the grid itself."""

    def __init__(
        self, config: PixelUNetConfig, *, remat: bool = False, name: str = "pixel_unet"
    ) -> None:
        """Takes the sizes, and whether the backward pass computes blocks again."""
        super().__init__(name=name)
        self._config = config
        self._remat = remat

    def __call__(
        self,
        fields: Fields,
        edges: Edges,
        output_size: int,
        is_training: bool = False,
    ) -> Float[Array, "batch step lat lon output"]:
        """Returns the frames to predict.

        Args:
          fields: What the network sees.
          edges: How fields go on beyond their edges.
          output_size: Channels of each frame.
          is_training: Makes no difference.

        Raises:
          ValueError: The number of past frames is another than that of the
            configuration, or the grid is too small for the depth.
        """
        del is_training
        config = self._config
        net = unet.UNet(
            config.output_length * output_size,
            base_channels=config.base_channels,
            depth=config.depth,
            groups=config.groups,
            remat=self._remat,
        )
        return frames_of(net(_seen(fields, config, edges), edges), config.output_length)


class _Normed:
    """A layer, batch normalisation and ReLU."""

    def __init__(self, layer: hk.Module, training: bool) -> None:
        self._layer = layer
        self._norm = BatchNorm(name=f"{layer.name}_norm")
        self._training = training

    def __call__(self, x: Array) -> Array:
        layer: Any = self._layer
        return jax.nn.relu(self._norm(layer(x), self._training))


class _ResidualBlock(hk.Module):
    """Two convolutions whose result is added to what they have read."""

    def __init__(self, width: int, edges: Edges, training: bool, name: str) -> None:
        super().__init__(name=name)
        self._width = width
        self._edges = edges
        self._training = training

    def __call__(self, x: Array) -> Array:
        y = jax.nn.relu(self._layer(x, 0))
        return jax.nn.relu(x + self._layer(y, 1))

    @hk.transparent
    def _layer(self, x: Array, number: int) -> Array:
        x = Conv2D(self._width, 3, edges=self._edges, name=f"conv_{number}")(x)
        return BatchNorm(name=f"norm_{number}")(x, self._training)


def _checkpointed(block: Callable[[Array], Array], remat: bool) -> Any:
    return hk.remat(block) if remat else block


def _seen(fields: Fields, config: FrameModelConfig, edges: Edges) -> Array:
    """Returns all that is known as channels.

    Raises:
      ValueError: There are more or fewer past frames than the network reads, or the
        grid is too small to go on beyond its edges.
    """
    count, rows, columns = fields.frames.shape[1:4]
    if count != config.input_length:
        raise ValueError(
            f"found {count} frame(s), and the network reads {config.input_length}; "
            "give as many or set input_length"
        )
    edges_.check_reach(rows, columns, 1, edges)
    return flat_channels(fields)
