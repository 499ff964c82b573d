"""Direct forecasts: past frames through a vision encoder, tokens to future frames.

Plain classes, to be called inside the function given to `hk.transform`: they add
nothing to parameter names, so that published encoders keep theirs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.latent import decoder, encoder, published
from weatherlib.latent.config import EncoderConfig
from weatherlib.latent.direct_config import RAEConfig
from weatherlib.latent.layers import Pointwise
from weatherlib.nn import resampling

__all__ = [
    "IN_ADAPTER",
    "DirectNetwork",
    "ExternalRepEncoder",
    "RAEDecoder",
    "RAEDiffusionWeather",
]

IN_ADAPTER = "in_adapter"
"""Haiku path of the layer from past frames to colours."""


class ExternalRepEncoder:
    """Encodes past frames by a vision transformer that is kept.

    A 1x1 convolution makes colours of all channels; the image is resized to what the
    backbone was trained on.
    """

    def __init__(  # noqa: PLR0913 (published names, and settings with defaults)
        self,
        backbone: EncoderConfig | str = "vit_giant_patch14_dinov2",
        token_dim: int | None = None,
        patch_size: int | None = None,
        in_chans: int | None = None,
        remove_cls: bool = True,
        freeze: bool = True,
        target_hw: tuple[int, int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        *,
        train_in_adapter: bool = True,
        remat: bool = False,
    ) -> None:
        """Takes the sizes.

        Args:
          backbone: Sizes of the encoder, or its published name.
          token_dim: Channels of a token, to be checked.
          patch_size: Points along a side of a patch, to be checked.
          in_chans: Channels of all past frames, to be checked.
          remove_cls: Whether only tokens of patches are returned.
          freeze: Whether gradients of the backbone are zero. They pass through it.
          target_hw: Rows and columns of the image that the backbone is given; by
            default those that it was trained on.
          mean: Of each colour, subtracted from the image; None does not normalise.
          std: What it is divided by, given with `mean`.
          train_in_adapter: Whether the 1x1 convolution is trained.
          remat: Whether the backward pass computes blocks again to save memory.

        Raises:
          ValueError: A name is unknown, or sizes do not fit the backbone.
        """
        if isinstance(backbone, str):
            backbone = published.encoder_sizes(backbone)
        for name, given, held in (
            ("token_dim", token_dim, backbone.hidden_size),
            ("patch_size", patch_size, backbone.patch_size),
        ):
            if given is not None and given != held:
                raise ValueError(f"{name} is {given}, but the backbone has {held}")
        side = backbone.position_grid * backbone.patch_size
        self.target_hw = target_hw or (side, side)
        try:
            self.grid = backbone.grid(*self.target_hw)
        except ValueError as error:
            raise ValueError(f"target_hw: {error}") from error
        if (mean is None) != (std is None):
            raise ValueError("mean and std are given together or not at all")
        for name, values in (("mean", mean), ("std", std)):
            if values is not None and len(values) != backbone.num_channels:
                raise ValueError(
                    f"{name} needs {backbone.num_channels} numbers, found {len(values)}"
                )
        self.config = backbone
        self._in_chans = in_chans
        self._remove_cls = remove_cls
        self._freeze = freeze
        self._normal = None if mean is None or std is None else (mean, std)
        self._train_in_adapter = train_in_adapter
        self._remat = remat

    def __call__(
        self, x: Float[Array, "batch channel lat lon"]
    ) -> tuple[Float[Array, "batch token latent"], int, int]:
        """Returns tokens, and the rows and columns of the grid of patches.

        Args:
          x: Past frames side by side: channel `t * C + c` is variable `c` of frame `t`.

        Raises:
          ValueError: The channels are not `in_chans`.
        """
        if self._in_chans is not None and x.shape[1] != self._in_chans:
            raise ValueError(
                f"past frames have {x.shape[1]} channels side by side, but in_chans is "
                f"{self._in_chans}"
            )
        with _kept(not self._train_in_adapter):
            image = Pointwise(self.config.num_channels, name=IN_ADAPTER)(x)
        image = resampling.resize(image, *self.target_hw, "bicubic")
        if self._normal is not None:
            mean, std = (
                jnp.asarray(values, x.dtype).reshape(1, -1, 1, 1)
                for values in self._normal
            )
            image = (image - mean) / std
        with _kept(self._freeze):
            found = encoder.Encoder(self.config, remat=self._remat)(image)
        first = self.config.prefix_tokens if self._remove_cls else 0
        return found.tokens[:, first:], *self.grid


class RAEDecoder:
    """Decodes tokens of past frames to the frames that follow."""

    def __init__(self, config: RAEConfig, *, remat: bool = False) -> None:
        """Takes the sizes, and whether the backward pass computes blocks again."""
        self._config = config
        self._remat = remat

    def __call__(
        self,
        z: Float[Array, "batch token latent"],
        grid: tuple[int, int],
        size: tuple[int, int],
    ) -> Float[Array, "batch step channel lat lon"]:
        """Returns frames.

        Args:
          z: Tokens of patches, row by row.
          grid: Rows and columns of them.
          size: Rows and columns of a frame.

        Raises:
          ValueError: Tokens do not fit the grid, or have other channels.
        """
        config = self._config
        if z.shape[1] != grid[0] * grid[1]:
            raise ValueError(
                f"{z.shape[1]} tokens do not fill a grid of {grid[0]}x{grid[1]}"
            )
        sizes = config.decoder(grid)
        pixels = decoder.Decoder(sizes, remat=self._remat)(z)
        images = decoder.to_images(pixels, sizes)
        images = resampling.resize(images, *size, "bilinear")
        shape = (len(z), config.output_length, config.out_channels_future, *size)
        return images.reshape(shape)


class RAEDiffusionWeather:
    """Decodes latent fields of past frames, under the name that it is published by."""

    def __init__(self, config: RAEConfig) -> None:
        """Takes the sizes."""
        self._decoder = RAEDecoder(config)

    def decode(
        self,
        z: Float[Array, "batch token latent"],
        Hp: int,
        Wp: int,
        H: int,
        W: int,
    ) -> Float[Array, "batch step channel lat lon"]:
        """Returns the frames that follow.

        Args:
          z: Tokens of patches, row by row.
          Hp: Rows of patches.
          Wp: Columns of patches.
          H: Rows of a frame.
          W: Columns of a frame.

        Raises:
          ValueError: Tokens do not fit the grid, or have other channels.
        """
        return self._decoder(z, (Hp, Wp), (H, W))


class DirectNetwork:
    """Past frames in, future frames out, for `baselines.GridPredictor`.

    Forcings at the times to predict and static fields are more channels for the first
    layer.
    """

    def __init__(
        self, backbone: ExternalRepEncoder, config: RAEConfig, *, remat: bool = False
    ) -> None:
        """Takes the parts.

        Args:
          backbone: Encodes past frames.
          config: Sizes of the decoder. `out_channels_future` and the channels of past
            frames follow from the data.
          remat: Whether the backward pass computes blocks again to save memory.

        Raises:
          ValueError: The tokens of the backbone are not those of the decoder.
        """
        if backbone.config.hidden_size != config.token_dim:
            raise ValueError(
                f"token_dim is {config.token_dim}, but the backbone has "
                f"{backbone.config.hidden_size}"
            )
        self._backbone = backbone
        self._config = config
        self._remat = remat

    def __call__(
        self, fields: Any, edges: Any, output_size: int, is_training: bool = False
    ) -> Float[Array, "batch step lat lon output"]:
        """Returns the frames that follow.

        Args:
          fields: Past `frames`, `known` forcings and `static` fields, as predictors of
            frames hand them over.
          edges: Not used.
          output_size: Channels of a predicted frame.
          is_training: Not used: nothing is dropped.

        Raises:
          ValueError: The number of frames is another than that of the configuration.
        """
        del edges, is_training
        config = self._config
        if fields.frames.shape[1] != config.input_length:
            raise ValueError(
                f"the network reads {config.input_length} past frames (input_length), "
                f"found {fields.frames.shape[1]}"
            )
        parts = [_side_by_side(fields.frames), _side_by_side(fields.known)]
        parts.append(jnp.moveaxis(fields.static, -1, 1))
        x = jnp.concatenate(parts, axis=1)
        tokens, *grid = self._backbone(x)
        sizes = config.replace(out_channels_future=output_size)
        size = (x.shape[2], x.shape[3])
        made = RAEDecoder(sizes, remat=self._remat)(tokens, (grid[0], grid[1]), size)
        return jnp.moveaxis(made, 2, -1)


def _side_by_side(x: Array) -> Array:
    """Returns frames as channels, the earliest first."""
    batch, _, lat, lon, _ = x.shape
    return jnp.moveaxis(x, -1, 2).reshape(batch, -1, lat, lon)


@contextlib.contextmanager
def _kept(frozen: bool) -> Iterator[None]:
    """Lets no gradients reach parameters that are looked up inside, if `frozen`."""
    if not frozen:
        yield
        return

    def stopped(getter: Any, value: Any, context: Any) -> Any:
        del context
        return jax.lax.stop_gradient(getter(value))

    with hk.custom_getter(stopped):
        yield
