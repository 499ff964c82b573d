"""A KL autoencoder as pure functions of parameters and frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.nn import autoencoder_kl, blocks, gaussians, tiling
from weatherlib.nn.autoencoder_config import DECODER, ENCODER, AutoencoderConfig
from weatherlib.typing import PyTree

__all__ = ["Autoencoder", "part"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Autoencoder:
    """Encodes and decodes any number of frames, within a bounded memory.

    Frames have any number of axes before rows, columns and channels. Numbers are those
    of one frame after the other whatever `batch_size` is, up to rounding.

    Attributes:
      sizes: Of the networks.
      batch_size: Frames that are worked on at once; None takes all.
      tiles: How large frames are cut; None takes them whole. The points of a tile
        neither see beyond it nor attend to other tiles, so numbers differ a little.
      remat: Whether the backward pass computes blocks again to save memory, and whole
        batches or tiles where it goes from one to the next.

    Raises:
      ValueError: `batch_size` is not positive.
    """

    sizes: AutoencoderConfig
    batch_size: int | None = None
    tiles: tiling.Tiles | None = None
    remat: bool = False

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(
                f"batch_size must be at least 1, found {self.batch_size!r}"
            )

    def init(self, key: Array, dtype: Any = jnp.float32) -> PyTree:
        """Returns first parameters of both networks, drawn as PyTorch does."""
        sizes, side = self.sizes, self.sizes.reduction
        fields = jnp.zeros((1, side, side, sizes.in_channels), dtype)
        latents = jnp.zeros((1, 1, 1, sizes.latent_channels), dtype)
        for_encoder, for_decoder = jax.random.split(key)
        encoder = hk.transform(lambda x: self._encoder()(x))
        decoder = hk.transform(lambda x: self._decoder()(x))
        return {
            **encoder.init(for_encoder, fields),
            **decoder.init(for_decoder, latents),
        }

    def encode(
        self, params: PyTree, frames: Float[Array, "*frame lat lon channel"]
    ) -> gaussians.DiagonalGaussian:
        """Returns the distributions of the latent fields of frames.

        Raises:
          ValueError: Frames have the wrong channels, or rows or columns are no multiple
            of `sizes.reduction`.
        """
        autoencoder_kl.check_fields(frames.shape, self.sizes)
        run = hk.without_apply_rng(hk.transform(lambda x: tuple(self._encoder()(x))))

        def function(fields: Array) -> Array:
            return jnp.concatenate(run.apply(params, fields), axis=-1)

        moments = self._map(function, frames, self.sizes.reduction, 1)
        return gaussians.DiagonalGaussian(*jnp.split(moments, 2, axis=-1))

    def decode(
        self, params: PyTree, latents: Float[Array, "*frame lat lon channel"]
    ) -> Float[Array, "*frame rows columns output"]:
        """Returns frames of latent fields.

        Raises:
          ValueError: There are not `latent_channels` channels.
        """
        autoencoder_kl.check_latents(latents.shape, self.sizes)
        run = hk.without_apply_rng(hk.transform(lambda x: self._decoder()(x)))

        def function(latents: Array) -> Array:
            return run.apply(params, latents)

        return self._map(function, latents, 1, self.sizes.reduction)

    def to_latents(
        self,
        params: PyTree,
        frames: Float[Array, "*frame lat lon channel"],
        key: Array | None = None,
    ) -> Float[Array, "*frame rows columns latent"]:
        """Returns latent fields in the units of diffusion models.

        Args:
          params: Of the encoder; others are ignored.
          frames: Fields.
          key: Draws from the distributions; without one, their means are returned.

        Raises:
          ValueError: As for `encode`.
        """
        found = self.encode(params, frames)
        latents = found.mode() if key is None else found.draw(key)
        shift, scale = self.sizes.shift_factor, self.sizes.scaling_factor
        if shift:
            latents = latents - jnp.asarray(shift, latents.dtype)
        return latents * jnp.asarray(scale, latents.dtype)

    def from_latents(
        self, params: PyTree, latents: Float[Array, "*frame lat lon channel"]
    ) -> Float[Array, "*frame rows columns output"]:
        """Returns frames of latent fields in the units of diffusion models.

        Raises:
          ValueError: As for `decode`.
        """
        shift, scale = self.sizes.shift_factor, self.sizes.scaling_factor
        latents = latents / jnp.asarray(scale, latents.dtype)
        if shift:
            latents = latents + jnp.asarray(shift, latents.dtype)
        return self.decode(params, latents)

    def _encoder(self) -> autoencoder_kl.Encoder:
        return autoencoder_kl.Encoder(self.sizes, remat=self.remat)

    def _decoder(self) -> autoencoder_kl.Decoder:
        return autoencoder_kl.Decoder(self.sizes, remat=self.remat)

    def _map(
        self, function: Callable[[Array], Array], x: Array, shrink: int, grow: int
    ) -> Array:
        """Returns what a function of frames makes of all of them."""
        tiles = self.tiles
        inner = jax.checkpoint(function) if self.remat and tiles else function

        def single(fields: Array) -> Array:
            if tiles is None:
                return function(fields)
            return tiling.map_tiles(inner, fields, tiles, shrink=shrink, grow=grow)

        frames = x.reshape(-1, *x.shape[-3:])
        looped = self.batch_size is not None and len(frames) > self.batch_size
        found = blocks.map_rows(
            single, frames, block=self.batch_size, remat=self.remat and looped
        )
        return found.reshape(*x.shape[:-3], *found.shape[1:])


def part(params: PyTree, name: str) -> PyTree:
    """Returns the parameters of the "encoder" or of the "decoder".

    Together they are all, so that either can be trained and the other kept.

    Raises:
      ValueError: It is neither.
    """
    roots = {"encoder": ENCODER, "decoder": DECODER}
    if name not in roots:
        raise ValueError(f"part {name!r} is neither encoder nor decoder")
    root = roots[name]
    return {m: v for m, v in params.items() if m.split("/")[0] == root}
