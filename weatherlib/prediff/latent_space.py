"""The latent fields that PreDiff's networks work on: how frames become them, and back.

Context frames are encoded to the mode of their distribution and are not scaled; target
frames are drawn from theirs and multiplied by `scale_factor`, as published.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.nn import autoencoder, gaussians
from weatherlib.typing import PyTree

__all__ = ["LatentSpace", "cast_floating", "make"]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class LatentSpace:
    """The way from frames to the latent fields that a network works on, and back.

    Attributes:
      encode: Takes parameters and frames [batch, time, lat, lon, channel]; returns the
        distribution of their latent fields.
      decode: Takes parameters and latent fields, returns frames.
      scale_factor: Of target latents in the units of the denoiser.
    """

    encode: Callable[[PyTree, Array], gaussians.DiagonalGaussian]
    decode: Callable[[PyTree, Array], Array]
    scale_factor: float = 1.0

    def encode_context(
        self, params: PyTree, frames: Float[Array, "batch time lat lon channel"]
    ) -> Float[Array, "batch time rows columns latent"]:
        """Returns what the denoiser is told of frames: the likeliest latent fields."""
        return self.encode(params, frames).mode()

    def encode_target(
        self,
        params: PyTree,
        frames: Float[Array, "batch time lat lon channel"],
        key: Array | None = None,
    ) -> Float[Array, "batch time rows columns latent"]:
        """Returns latent fields that the denoiser is trained to restore.

        Args:
          params: Of the autoencoder.
          frames: Target frames.
          key: Draws from their distributions; the likeliest ones without.
        """
        found = self.encode(params, frames)
        latents = found.mode() if key is None else found.draw(key)
        return latents * jnp.asarray(self.scale_factor, latents.dtype)

    def decode_target(
        self, params: PyTree, latents: Float[Array, "batch time lat lon channel"]
    ) -> Float[Array, "batch time rows columns output"]:
        """Returns frames of latent fields in the units of the denoiser."""
        scale = jnp.asarray(self.scale_factor, latents.dtype)
        return self.decode(params, latents / scale)


def make(
    vae: autoencoder.Autoencoder, *, scale_factor: float = 1.0, dtype: Any = None
) -> LatentSpace:
    """Returns the latent fields of an autoencoder.

    Args:
      vae: The autoencoder.
      scale_factor: Of target latents.
      dtype: In which it computes, where results are float32; None is that of what it is
        given, as for its own methods.
    """
    if dtype is None:
        return LatentSpace(
            encode=vae.encode, decode=vae.decode, scale_factor=scale_factor
        )

    def encode(params: PyTree, frames: Array) -> gaussians.DiagonalGaussian:
        found = vae.encode(cast_floating(params, dtype), frames.astype(dtype))
        return gaussians.DiagonalGaussian(*cast_floating(tuple(found), jnp.float32))

    def decode(params: PyTree, latents: Array) -> Array:
        found = vae.decode(cast_floating(params, dtype), latents.astype(dtype))
        return found.astype(jnp.float32)

    return LatentSpace(encode=encode, decode=decode, scale_factor=scale_factor)


def cast_floating(tree: PyTree, dtype: Any) -> PyTree:
    """Returns floating-point arrays in a type, and others as they are."""

    def cast(x: Any) -> Any:
        floating = jnp.issubdtype(x.dtype, jnp.floating)
        return jnp.asarray(x, dtype) if floating else x

    return jax.tree.map(cast, tree)
