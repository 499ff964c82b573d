"""Networks on latent fields as channels: a U-Net, and one that is told the noise."""

from __future__ import annotations

from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from weatherlib.latent import dit
from weatherlib.latent.codec import Codec
from weatherlib.latent.forecast_config import (
    LatentDiffusionConfig,
    LatentForecastConfig,
)
from weatherlib.nn import edges, step_embedding, unet
from weatherlib.typing import PyTree

__all__ = [
    "Denoiser",
    "LatentUNetNetwork",
    "TimeUNet",
    "encode_frames",
    "make_denoiser",
    "reconstruction_error",
    "to_frames",
]

Denoiser = Callable[[Array, Array, Array], Array]
"""Takes noisy latent fields [batch, future * latent, rows, columns], those of past
frames [batch, past * latent, rows, columns] and steps of noise [batch]; returns what it
predicts, of the shape of the noisy fields. Called inside of a Haiku transformation."""


class LatentUNetNetwork(hk.Module):
    """Latent fields of past frames in, of future ones out, all of them as channels."""

    def __init__(
        self,
        config: LatentForecastConfig,
        *,
        remat: bool = False,
        name: str = "latent_unet",
    ) -> None:
        """Takes the sizes, and whether the backward pass computes blocks again."""
        super().__init__(name=name)
        self._config = config
        self._remat = remat

    def __call__(
        self,
        x: Float[Array, "batch channel rows columns"],
        outputs: int,
        embedding: Float[Array, "batch embedded"] | None = None,
    ) -> Float[Array, "batch output rows columns"]:
        """Returns so many channels; fields of any size are filled up and cut off.

        Args:
          x: The fields.
          outputs: Channels of the result.
          embedding: What else each block is told.
        """
        config = self._config
        rows, columns = x.shape[2:]
        last = edges.fill_up(jnp.moveaxis(x, 1, -1), 2**config.depth)
        net = unet.UNet(
            outputs,
            base_channels=config.base_channels,
            depth=config.depth,
            groups=config.groups,
            remat=self._remat,
        )
        found = net(last, embedding=embedding)[:, :rows, :columns]
        return jnp.moveaxis(found, -1, 1)


class TimeUNet(hk.Module):
    """A U-Net whose blocks are told the step of noise: a `Denoiser`.

    It sees the noisy fields first and those of past frames after them.
    """

    def __init__(
        self,
        config: LatentDiffusionConfig,
        *,
        remat: bool = False,
        name: str = "latent_denoiser",
    ) -> None:
        """Takes the sizes, and whether the backward pass computes blocks again."""
        super().__init__(name=name)
        self._config = config
        self._remat = remat

    def __call__(
        self,
        noisy: Float[Array, "batch target rows columns"],
        condition: Float[Array, "batch past rows columns"],
        timestep: Num[Array, " batch"],
    ) -> Float[Array, "batch target rows columns"]:
        """Returns what it predicts about the noise."""
        width = self._config.base_channels
        known = step_embedding.timestep_embedding(timestep, width).astype(noisy.dtype)
        known = hk.Linear(4 * width, name="time_0")(known)
        known = hk.Linear(4 * width, name="time_1")(jax.nn.silu(known))
        network = LatentUNetNetwork(self._config, remat=self._remat, name="network")
        seen = jnp.concatenate([noisy, condition], axis=1)
        return network(seen, noisy.shape[1], known)


def make_denoiser(config: LatentDiffusionConfig, *, remat: bool = False) -> Denoiser:
    """Returns the network that `config.denoiser` names, in a Haiku transformation."""
    if config.denoiser == "unet":
        return TimeUNet(config, remat=remat)
    kind = {"dit": dit.DiT, "dh_dit": dit.WideHeadDiT}[config.denoiser]
    return kind(config.dit, remat=remat)


def encode_frames(
    codec: Codec,
    params: PyTree,
    frames: Float[Array, "batch time channel lat lon"],
    key: Array | None = None,
) -> Float[Array, "batch merged rows columns"]:
    """Returns the latent fields of all frames side by side, the earliest first."""
    batch, steps = frames.shape[:2]
    latents = codec.encode(params, frames.reshape(-1, *frames.shape[2:]), key)
    return latents.reshape(batch, steps * latents.shape[1], *latents.shape[2:])


def to_frames(
    codec: Codec,
    params: PyTree,
    latents: Float[Array, "batch merged rows columns"],
    size: tuple[int, int],
) -> Float[Array, "batch time channel lat lon"]:
    """Returns the frames of latent fields that `encode_frames` would give.

    Args:
      codec: The autoencoder.
      params: Its parameters.
      latents: Latent fields of frames, side by side.
      size: Rows and columns of the frames.
    """
    apart = latents.reshape(-1, codec.latent_channels, *latents.shape[2:])
    frames = codec.decode(params, apart, size)
    return frames.reshape(len(latents), -1, *frames.shape[1:])


def reconstruction_error(
    codec: Codec,
    params: PyTree,
    frames: Float[Array, "batch time channel lat lon"],
) -> Float[Array, " batch"]:
    """Returns the mean squared error of frames that are encoded and decoded."""
    flat = frames.reshape(-1, *frames.shape[2:])
    latents = codec.encode(params, flat)
    found = codec.decode(params, latents, (flat.shape[2], flat.shape[3]))
    square = jnp.square(found.astype(jnp.float32) - flat.astype(jnp.float32))
    return square.reshape(len(frames), -1).mean(axis=1)
