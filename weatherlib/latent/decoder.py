"""A vision transformer that decodes tokens to images, and masked autoencoding."""

from __future__ import annotations

from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from weatherlib.latent import encoder, layers
from weatherlib.latent.config import DECODER, DecoderConfig, EncoderConfig
from weatherlib.nn import embedding, resampling, vit

__all__ = ["Decoder", "Masked", "patch_targets", "reconstruct_masked", "to_images"]


class Decoder(hk.Module):
    """Predicts the pixels of each patch from tokens."""

    def __init__(
        self, config: DecoderConfig, *, remat: bool = False, name: str = DECODER
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
        tokens: Float[Array, "batch token channel"],
        *,
        grid: tuple[int, int] | None = None,
        restore: Int[Array, "batch patch"] | None = None,
    ) -> Float[Array, "batch patch pixel"]:
        """Returns the pixels of each patch, row by row, their channels last.

        Args:
          tokens: Row by row. With an "encoded" class token it comes first.
          grid: Rows and columns of the tokens, where they are others than those of the
            decoder, to which the tokens are then brought. By default they are square.
          restore: For each patch its place among the tokens, the first after the class
            token being 0; the mask token stands for places beyond their end.

        Raises:
          ValueError: Tokens have the wrong channels or do not fill the grid.
        """
        config = self._config
        if tokens.shape[-1] != config.hidden_size:
            raise ValueError(
                f"tokens have {tokens.shape[-1]} channels, but the decoder takes "
                f"{config.hidden_size}"
            )
        width = config.decoder_hidden_size
        x = layers.Linear(width, name="embed")(tokens)
        if config.class_source == "trainable":
            x = _on_grid(x, grid, config)
            x = jnp.concatenate([layers.token("class_token", 0, x), x], axis=1)
        else:
            x = _restored(x, restore)
        if x.shape[1] != config.tokens + 1:
            raise ValueError(
                f"{x.shape[1] - 1} tokens do not fill the {config.grid[0]}x"
                f"{config.grid[1]} grid of the decoder"
            )
        x = x + _positions(config, x.dtype)[jnp.newaxis]
        for i in range(config.decoder_num_hidden_layers):
            block = layers.Block(
                config.decoder_num_attention_heads,
                config.decoder_intermediate_size,
                epsilon=config.layer_norm_eps,
                name=f"block_{i}",
            )
            x = (hk.remat(block) if self._remat else block)(x)
        x = layers.Norm(config.layer_norm_eps, name="norm")(x[:, 1:])
        pixels = config.patch_size**2 * config.num_channels
        return layers.Linear(pixels, name="prediction")(x)


def to_images(
    pixels: Float[Array, "batch patch pixel"], config: DecoderConfig
) -> Float[Array, "batch channel lat lon"]:
    """Returns the images whose patches `Decoder` gives."""
    batch, patches, _ = pixels.shape
    cut = pixels.reshape(batch, patches, config.patch_size**2, config.num_channels)
    return vit.unpatch(cut, config.grid[0], config.patch_size)


def patch_targets(
    images: Float[Array, "batch channel lat lon"], size: int
) -> Float[Array, "batch patch pixel"]:
    """Returns the pixels of each patch as `Decoder` gives them.

    Args:
      images: Sides are multiples of `size`.
      size: Pixels along a side of a patch.
    """
    patches = vit.patches(images, size).swapaxes(2, 3)
    return patches.reshape(*patches.shape[:2], -1)


class Masked(NamedTuple):
    """What a masked autoencoder makes of images.

    Attributes:
      loss: Mean squared error over the hidden patches, a scalar.
      pixels: Predicted pixels of each patch, [batch, patch, pixel].
      mask: 1 where a patch was hidden, [batch, patch].
      restore: Place of each patch in the order of the noise, [batch, patch].
    """

    loss: Array
    pixels: Array
    mask: Array
    restore: Array


def reconstruct_masked(
    sizes: tuple[EncoderConfig, DecoderConfig],
    images: Float[Array, "batch channel lat lon"],
    noise: Float[Array, "batch patch"],
    mask_ratio: float = 0.75,
) -> Masked:
    """Returns what a masked autoencoder predicts, inside a Haiku transformation.

    Args:
      sizes: Of the encoder, and of the decoder with an "encoded" class token.
      images: Of the size that the decoder is for.
      noise: The patches with the least of it are seen.
      mask_ratio: Share of the patches that are hidden.

    Raises:
      ValueError: The sizes do not belong together, or `mask_ratio` is not in [0, 1) or
        hides all patches.

    Source: He et al. (2021), arXiv 2111.06377.
    """
    outer, inner = sizes
    shared = ("hidden_size", "patch_size", "num_channels")
    if (
        outer.layout != "mae"
        or inner.class_source != "encoded"
        or any(outer[name] != inner[name] for name in shared)
    ):
        raise ValueError(
            "a masked autoencoder has an encoder of layout mae, and a decoder of the "
            "same hidden_size, patch_size and num_channels with an encoded class token"
        )
    count = noise.shape[1]
    kept = int(count * (1 - mask_ratio))
    if not (0 <= mask_ratio < 1 and kept):
        raise ValueError(
            f"mask_ratio {mask_ratio!r} must leave some of the {count} patches"
        )
    shuffled = jnp.argsort(noise, axis=1)
    restore = jnp.argsort(shuffled, axis=1)
    found = encoder.Encoder(outer)(images, keep=shuffled[:, :kept])
    pixels = Decoder(inner)(found.tokens, restore=restore)
    mask = (restore >= kept).astype(pixels.dtype)
    errors = jnp.square(pixels - patch_targets(images, inner.patch_size)).mean(-1)
    total = jnp.maximum(mask.sum(), jnp.ones((), mask.dtype))
    return Masked((errors * mask).sum() / total, pixels, mask, restore)


def _on_grid(x: Array, grid: tuple[int, int] | None, config: DecoderConfig) -> Array:
    """Returns tokens brought to the grid of the decoder."""
    count = x.shape[1]
    if grid is None:
        if count == config.tokens:
            return x
        side = round(count**0.5)
        grid = (side, side)
    if grid[0] * grid[1] != count:
        raise ValueError(
            f"{count} tokens do not fill a grid of {grid[0]}x{grid[1]}; say which grid "
            "they lie on"
        )
    return resampling.resize_tokens(x, grid, config.grid, "bilinear")


def _restored(x: Array, restore: Array | None) -> Array:
    """Returns the class token and all patches, of which some are the mask token."""
    stand_in = layers.token("mask_token", 0, x)
    if restore is None:
        return x
    missing = restore.shape[1] + 1 - x.shape[1]
    batch, _, width = x.shape
    hidden = jnp.broadcast_to(stand_in, (batch, missing, width))
    patches = jnp.concatenate([x[:, 1:], hidden], axis=1)
    patches = jnp.take_along_axis(patches, restore[..., jnp.newaxis], axis=1)
    return jnp.concatenate([x[:, :1], patches], axis=1)


def _positions(config: DecoderConfig, dtype: jnp.dtype) -> Array:
    """Returns the positions of the class token and of the grid, which are fixed."""
    width = config.decoder_hidden_size
    table = np.zeros((config.tokens + 1, width), np.float32)
    table[1:] = embedding.sincos_2d(width, *config.grid)
    init = hk.initializers.Constant(table)
    held = hk.get_parameter("positions", table.shape, dtype, init=init)
    return jax.lax.stop_gradient(held)
