"""Vision transformers that encode images: DINOv2, SigLIP, SigLIP2 and MAE.

One network has the parts of all of them; an `EncoderConfig` says which are used. The
numbers are those of the published models, with images of any size that the patches
divide.
"""

from __future__ import annotations

from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from weatherlib.latent import layers
from weatherlib.latent.config import ENCODER, EncoderConfig
from weatherlib.nn import attention, embedding, resampling, vit

__all__ = ["Encoded", "Encoder", "PackedEncoder", "pack"]


class Encoded(NamedTuple):
    """What an encoder makes of images.

    Attributes:
      tokens: After the last norm: class token, registers, patches row by row. Shape
        [batch, token, channel].
      pooled: One token for the whole image: the class token, or what the pooling head
        finds; None where there is neither. Shape [batch, channel].
      patches: Tokens of patches after a last norm without scale and offset, which
        representation autoencoders work on. Shape [batch, patch, channel].
      hidden: What each block is given, first to last.
      positions: What was added, [position, channel] or [batch, position, channel].
    """

    tokens: Array
    pooled: Array | None
    patches: Array
    hidden: tuple[Array, ...]
    positions: Array


class Encoder(hk.Module):
    """Encodes images of one size."""

    def __init__(
        self, config: EncoderConfig, *, remat: bool = False, name: str = ENCODER
    ) -> None:
        """Takes the sizes.

        Args:
          config: Sizes.
          remat: Whether the backward pass computes blocks again to save memory.
          name: Of the module.
        """
        super().__init__(name=name)
        self._config = config
        self._remat = remat

    def __call__(
        self,
        images: Float[Array, "batch channel lat lon"],
        *,
        masked: Bool[Array, "batch patch"] | None = None,
        keep: Int[Array, "batch kept"] | None = None,
    ) -> Encoded:
        """Returns the tokens of images.

        Args:
          images: Normalised as the model wants it.
          masked: Patches that the mask token stands for, with `use_mask_token`.
          keep: Patches that are encoded, counted row by row, in the order wanted; None
            encodes all.

        Raises:
          ValueError: The patches do not divide the images, the channels are wrong, or
            `masked` is given to a model without a mask token.
        """
        config = self._config
        x = _embed(config, cut(images, config))
        if config.use_mask_token:
            x = _hidden(x, masked)
        elif masked is not None:
            raise ValueError(f"an encoder of layout {config.layout} has no mask token")
        grid = config.grid(*images.shape[-2:])
        positions = _positions(config, grid, x.dtype)
        first = positions.shape[0] - x.shape[1]
        x = x + positions[jnp.newaxis, first:]
        if keep is not None:
            x = jnp.take_along_axis(x, keep[..., jnp.newaxis], axis=1)
        before = []
        if config.has_class_token:
            one = layers.token("class_token", 0, x)
            before.append(one + positions[jnp.newaxis, :1] if first else one)
        if config.num_register_tokens:
            count = config.num_register_tokens
            before.append(layers.token("register_tokens", count, x))
        x = jnp.concatenate([*before, x], axis=1)
        return _transform(config, x, positions, None, self._remat)


class PackedEncoder(hk.Module):
    """Encodes patches of images of several sizes in one batch, as NaFlex does."""

    def __init__(
        self, config: EncoderConfig, *, remat: bool = False, name: str = ENCODER
    ) -> None:
        """Takes the sizes; the layout is "siglip2".

        Args:
          config: Sizes.
          remat: Whether the backward pass computes blocks again to save memory.
          name: Of the module.

        Raises:
          ValueError: The layout is another one.
        """
        super().__init__(name=name)
        if config.layout != "siglip2":
            raise ValueError(
                f"layout {config.layout} has images of one size, not packed patches; "
                "siglip2 has"
            )
        self._config = config
        self._remat = remat

    def __call__(
        self,
        patches: Float[Array, "batch patch pixel"],
        mask: Bool[Array, "batch patch"],
        shapes: Int[Array, "batch 2"],
    ) -> Encoded:
        """Returns the tokens of patches.

        Args:
          patches: Of each image row by row, then whatever fills the batch; the pixels
            of each row by row, their channels last.
          mask: Which are patches of the image.
          shapes: Rows and columns of patches of each image.
        """
        config = self._config
        x = _embed(config, patches)
        table = hk.get_parameter(
            "positions",
            (config.position_grid**2, config.hidden_size),
            x.dtype,
            init=layers.INIT,
        )
        positions = packed_positions(table, shapes, patches.shape[1])
        return _transform(config, x + positions, positions, mask, self._remat)


def cut(
    images: Float[Array, "batch channel lat lon"], config: EncoderConfig
) -> Float[Array, "batch patch pixel"]:
    """Returns the patches of images, laid out as the model wants it.

    Raises:
      ValueError: The patches do not divide the images, or the channels are wrong.
    """
    batch, channels, rows, columns = images.shape
    if channels != config.num_channels:
        raise ValueError(
            f"images have {channels} channels, but the encoder takes "
            f"{config.num_channels}"
        )
    config.grid(rows, columns)
    patches = vit.patches(images, config.patch_size)
    if config.layout == "siglip2":
        patches = patches.swapaxes(2, 3)
    return patches.reshape(batch, -1, config.patch_channels)


def pack(
    images: Float[Array, "batch channel lat lon"], config: EncoderConfig, length: int
) -> tuple[Array, Array, Array]:
    """Returns patches, mask and shapes of images of one size for `PackedEncoder`.

    Batches of several sizes are these, put together along the first axis.

    Args:
      images: Normalised as the model wants it.
      config: Sizes of the encoder.
      length: Patches of each, the empty ones at the end among them.

    Raises:
      ValueError: As for `cut`, or there are more than `length` patches.
    """
    patches = cut(images, config)
    batch, count, _ = patches.shape
    if count > length:
        raise ValueError(f"an image of {count} patches does not fit into {length}")
    rows, columns = config.grid(*images.shape[-2:])
    mask = np.arange(length) < count
    shapes = np.asarray([rows, columns], np.int32)
    return (
        jnp.pad(patches, ((0, 0), (0, length - count), (0, 0))),
        jnp.broadcast_to(mask, (batch, length)),
        jnp.broadcast_to(shapes, (batch, 2)),
    )


def packed_positions(
    table: Float[Array, "place channel"], shapes: Int[Array, "batch 2"], length: int
) -> Float[Array, "batch patch channel"]:
    """Returns a table of positions brought to the grid of each image.

    As `bilinear_antialias` does, but for grids that may be traced. Empty places have
    the position of the first patch.

    Args:
      table: Positions of a square grid, row by row.
      shapes: Rows and columns of patches of each image.
      length: Patches of each, the empty ones among them.
    """
    side = round(table.shape[0] ** 0.5)
    rows, columns = shapes[:, :1], shapes[:, 1:]
    number = jnp.arange(length, dtype=shapes.dtype)[jnp.newaxis]
    number = jnp.where(number < rows * columns, number, jnp.zeros_like(number))
    by_row = _triangles(number // columns, rows, side)
    by_column = _triangles(number % columns, columns, side)
    grid = table.astype(jnp.float32).reshape(side, side, -1)
    highest = jax.lax.Precision.HIGHEST
    found = jnp.einsum("blc,rcd->blrd", by_column, grid, precision=highest)
    found = jnp.einsum("blr,blrd->bld", by_row, found, precision=highest)
    return found.astype(table.dtype)


def _triangles(
    place: Int[Array, "batch patch"], count: Int[Array, "batch 1"], side: int
) -> Float[Array, "batch patch side"]:
    """Returns the share of each of `side` old pixels in a place among `count` new."""
    scale = jnp.float32(side) / count.astype(jnp.float32)
    width = jnp.maximum(scale, jnp.float32(1))[..., jnp.newaxis]
    centre = (place.astype(jnp.float32) + jnp.float32(0.5)) * scale
    pixel = jnp.arange(side, dtype=jnp.float32) + jnp.float32(0.5)
    distance = pixel[jnp.newaxis, jnp.newaxis] - centre[..., jnp.newaxis]
    weights = jnp.maximum(jnp.float32(1) - jnp.abs(distance) / width, jnp.float32(0))
    return weights / weights.sum(-1, keepdims=True)


def _embed(config: EncoderConfig, patches: Array) -> Array:
    return layers.Linear(config.hidden_size, name="patch_embed")(patches)


def _hidden(x: Array, masked: Array | None) -> Array:
    """Returns patches with the mask token in place of some."""
    stand_in = layers.token("mask_token", 0, x)
    if masked is None:
        return x
    return jnp.where(masked[..., jnp.newaxis], stand_in, x)


def _positions(config: EncoderConfig, grid: tuple[int, int], dtype: jnp.dtype) -> Array:
    """Returns the table of positions for a grid, that of the class token first."""
    side, width = config.position_grid, config.hidden_size
    first = int(config.has_class_token and config.class_position)
    init = layers.INIT
    if config.layout == "mae":
        table = np.zeros((side**2 + first, width), np.float32)
        table[first:] = embedding.sincos_2d(width, side, side)
        init = hk.initializers.Constant(table)
    held = hk.get_parameter("positions", (side**2 + first, width), dtype, init=init)
    if config.layout == "mae":
        # Those of masked autoencoders are fixed.
        held = jax.lax.stop_gradient(held)
    moved = resampling.resize_tokens(
        held[first:], (side, side), grid, config.position_method
    )
    return jnp.concatenate([held[:first], moved])


def _transform(
    config: EncoderConfig,
    x: Array,
    positions: Array,
    mask: Array | None,
    remat: bool,
) -> Encoded:
    """Returns the tokens after all blocks and the last norm."""
    hidden = []
    epsilon = config.layer_norm_eps
    for i in range(config.num_hidden_layers):
        block = layers.Block(
            config.num_attention_heads,
            config.intermediate_size,
            activation="swiglu" if config.use_swiglu_ffn else config.activation,
            epsilon=epsilon,
            layer_scale=config.has_layer_scale,
            name=f"block_{i}",
        )
        hidden.append(x)
        x = (hk.remat(block) if remat else block)(x, mask)
    tokens = layers.Norm(epsilon, name="norm")(x)
    pooled = tokens[:, 0] if config.has_class_token else None
    if config.pooling_head:
        pooled = _Head(config, name="head")(tokens, mask)
    return Encoded(
        tokens=tokens,
        pooled=pooled,
        patches=layers.standardize(x[:, config.prefix_tokens :], epsilon),
        hidden=tuple(hidden),
        positions=positions,
    )


class _Head(hk.Module):
    """Sums up the tokens by attention, as SigLIP does."""

    def __init__(self, config: EncoderConfig, name: str) -> None:
        super().__init__(name=name)
        self._config = config

    def __call__(self, x: Array, mask: Array | None) -> Array:
        """Returns shape [batch, channel]."""
        config = self._config
        probe = layers.token("probe", 1, x)
        heads = config.num_attention_heads
        found = attention.QueryAttention(heads, name="attn")(probe, x, mask)
        y = layers.Norm(config.layer_norm_eps, name="norm")(found)
        y = layers.Mlp(config.intermediate_size, config.activation)(y)
        return (found + y)[:, 0]
