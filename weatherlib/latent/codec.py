"""Autoencoders of frames behind one interface: Stable Diffusion's, and RAEs.

Frames are [batch, channel, lat, lon] in [-1, 1], latent fields [batch, channel, rows,
columns] in the units of the networks that work on them. All are pure functions of
parameters by Haiku path.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.latent import config as vision
from weatherlib.latent import latent_statistics as statistics
from weatherlib.latent import layers, representation, wrapper
from weatherlib.latent.codec_config import CodecConfig
from weatherlib.nn import autoencoder, gaussians, lifting, tiling
from weatherlib.nn import autoencoder_config as convolutional
from weatherlib.typing import PyTree

__all__ = ["Codec", "ConvolutionCodec", "RepresentationCodec", "make"]

Size = tuple[int, int]


class Codec(abc.ABC):
    """Encodes frames in [-1, 1] to latent fields, and decodes them.

    Gradients of frozen parts are exactly zero; they pass through to what lies before.

    Attributes:
      channels: Of a frame.
      latent_channels: Of a latent field.
      roots: First parts of the Haiku paths of encoder and decoder.
    """

    channels: int
    latent_channels: int
    roots: tuple[str, str]

    @abc.abstractmethod
    def init(self, key: Array) -> PyTree:
        """Returns first parameters of all parts, drawn at random."""

    @abc.abstractmethod
    def latent_size(self, size: Size) -> Size:
        """Returns rows and columns of the latent fields of frames of a size.

        Raises:
          ValueError: Frames cannot have that size.
        """

    @abc.abstractmethod
    def frozen(self, module: str) -> bool:
        """Whether the parameters of a module, by Haiku path, are never trained."""

    @abc.abstractmethod
    def encode(
        self,
        params: PyTree,
        images: Float[Array, "batch channel lat lon"],
        key: Array | None = None,
    ) -> Float[Array, "batch latent rows columns"]:
        """Returns latent fields in the dtype of the frames.

        Args:
          params: Of all parts; others are ignored.
          images: Frames.
          key: Draws from the distributions that "sd" encodes to, or the noise of "rae";
            without one, the likeliest latent fields are returned.

        Raises:
          ValueError: Frames have the wrong size or channels.
        """

    @abc.abstractmethod
    def decode(
        self,
        params: PyTree,
        latents: Float[Array, "batch latent rows columns"],
        size: Size | None = None,
    ) -> Float[Array, "batch channel lat lon"]:
        """Returns frames in about [-1, 1], in the dtype of the latent fields.

        Args:
          params: As for `encode`.
          latents: As `encode` returns them.
          size: Rows and columns of the frames; by default what the decoder gives.

        Raises:
          ValueError: Latent fields have the wrong channels, or do not become frames of
            that size.
        """

    @property
    @abc.abstractmethod
    def adapts_channels(self) -> bool:
        """Whether trained 1x1 convolutions lie between frames and the network."""

    @property
    def trains(self) -> bool:
        """Whether any part is trained."""
        return self.adapts_channels or not all(map(self.frozen, self.roots))


def make(config: CodecConfig, *, remat: bool = False) -> Codec:
    """Returns the autoencoder of a configuration.

    Args:
      config: Its settings; `channels` has to be known.
      remat: Whether the backward pass computes blocks again to save memory.

    Raises:
      FileNotFoundError: A folder lacks its `config.json`.
      ValueError: `channels` is not known, or names and sizes do not fit each other.
    """
    if config.channels is None:
        raise ValueError("channels: not known; training finds it, or give a number")
    if config.vae_type == "sd":
        return ConvolutionCodec(config, remat=remat)
    return RepresentationCodec(config, remat=remat)


class ConvolutionCodec(Codec):
    """The autoencoder of Stable Diffusion, of any sizes.

    Its factor 0.18215 is applied here, outside of the network. Of published sizes,
    frames of 512x512 become latent fields of 4 channels and 64x64.
    """

    def __init__(self, config: CodecConfig, *, remat: bool = False) -> None:
        """Takes the settings; see `make`."""
        assert config.channels is not None
        self.config = config
        self.sizes = config.autoencoder or convolutional.SD_VAE
        self.channels = config.channels
        self.latent_channels = self.sizes.latent_channels
        tiles = None
        if config.tile_size is not None:
            tiles = tiling.Tiles(size=config.tile_size, overlap=config.tile_overlap)
        self._network = autoencoder.Autoencoder(
            sizes=self.sizes,
            batch_size=config.vae_batch_size,
            tiles=tiles,
            remat=remat,
        )
        self.roots = (convolutional.ENCODER, convolutional.DECODER)
        kept = (config.is_encoder_frozen, config.freeze_decoder)
        self._frozen = {root for root, held in zip(self.roots, kept) if held}
        self._measured = config.latent_statistics != "none"
        default = 1.0 if self._measured else self.sizes.scaling_factor
        self._scale = config.scale_factor or default

    @property
    def adapts_channels(self) -> bool:
        """Whether trained 1x1 convolutions lie between frames and the network."""
        return self.channels not in (1, self.sizes.in_channels)

    def init(self, key: Array) -> PyTree:
        """Returns first parameters of all parts, drawn at random."""
        of_network, of_adapter = jax.random.split(key)
        params = dict(self._network.init(of_network))
        if self.adapts_channels:
            params |= layers.adapters(self.channels, self.sizes.in_channels, of_adapter)
        return params | _first_statistics(self.config, (self.latent_channels, 1, 1))

    def latent_size(self, size: Size) -> Size:
        """Returns rows and columns of the latent fields of frames of a size.

        Raises:
          ValueError: A side is no multiple of 8, or what the levels ask for, and is not
            to be filled up.
        """
        step = self.sizes.reduction
        rows, columns = (-(-side // step) for side in size)
        if (rows * step, columns * step) != size and not self.config.fill_up:
            raise ValueError(
                f"the autoencoder needs rows and columns that are multiples of {step}, "
                f"found {size[0]}x{size[1]}; regrid to {rows * step}x{columns * step}, "
                "or set fill_up to true"
            )
        return rows, columns

    def frozen(self, module: str) -> bool:
        """Whether the parameters of a module, by Haiku path, are never trained."""
        return _is_kept(module, self._frozen)

    def encode(
        self,
        params: PyTree,
        images: Float[Array, "batch channel lat lon"],
        key: Array | None = None,
    ) -> Float[Array, "batch latent rows columns"]:
        """Returns latent fields; see `Codec.encode`."""
        return self.scaled(params, self.distribution(params, images), key)

    def distribution(
        self, params: PyTree, images: Float[Array, "batch channel lat lon"]
    ) -> gaussians.DiagonalGaussian:
        """Returns what frames are encoded to, channels last and not scaled.

        Raises:
          ValueError: As for `encode`.
        """
        _check_channels(images, self.channels, "frames")
        self.latent_size((images.shape[2], images.shape[3]))
        params = self._used(params, images.dtype)
        colours = images
        if self.adapts_channels:
            colours = layers.to_colours(params, images, self.sizes.in_channels)
        elif self.channels == 1:
            shape = (len(images), self.sizes.in_channels, *images.shape[2:])
            colours = jnp.broadcast_to(images, shape)
        last = jnp.moveaxis(colours, 1, -1)
        last = tiling.pad_to_multiple(last, self.sizes.reduction)
        return self._network.encode(params, last)

    def scaled(
        self,
        params: PyTree,
        distribution: gaussians.DiagonalGaussian,
        key: Array | None = None,
    ) -> Float[Array, "batch latent rows columns"]:
        """Returns latent fields of a distribution: drawn, or without a key its mode."""
        latents = distribution.mode() if key is None else distribution.draw(key)
        shift = jnp.asarray(self.sizes.shift_factor, latents.dtype)
        scaled = (latents - shift) * jnp.asarray(self._scale, latents.dtype)
        found = jnp.moveaxis(scaled, -1, 1)
        return statistics.normalise(params, found) if self._measured else found

    def decode(
        self,
        params: PyTree,
        latents: Float[Array, "batch latent rows columns"],
        size: Size | None = None,
    ) -> Float[Array, "batch channel lat lon"]:
        """Returns frames; see `Codec.decode`."""
        _check_channels(latents, self.latent_channels, "latent fields")
        step = self.sizes.reduction
        given = (latents.shape[2], latents.shape[3])
        size = size or (given[0] * step, given[1] * step)
        if self.latent_size(size) != given:
            raise ValueError(
                f"latent fields of {given[0]}x{given[1]} do not become frames of "
                f"{size[0]}x{size[1]}, but of {given[0] * step}x{given[1] * step}"
            )
        if self._measured:
            latents = statistics.restore(params, latents)
        params = self._used(params, latents.dtype)
        last = jnp.moveaxis(latents, 1, -1)
        last = last / jnp.asarray(self._scale, last.dtype)
        last = last + jnp.asarray(self.sizes.shift_factor, last.dtype)
        colours = tiling.crop(self._network.decode(params, last), *size)
        images = jnp.moveaxis(colours, -1, 1)
        if self.adapts_channels:
            return layers.from_colours(params, images, self.channels)
        return images.mean(1, keepdims=True) if self.channels == 1 else images

    def _used(self, params: PyTree, dtype: Any) -> PyTree:
        """Returns parameters in a dtype, through which frozen parts get no gradient."""
        stopped = {
            module: jax.lax.stop_gradient(held) if self.frozen(module) else held
            for module, held in params.items()
        }
        return lifting.cast(stopped, dtype)


class RepresentationCodec(Codec):
    """A representation autoencoder, whose latent fields are the tokens of a ViT."""

    def __init__(self, config: CodecConfig, *, remat: bool = False) -> None:
        """Takes the settings; see `make`."""
        assert config.channels is not None
        self.config = config
        self.sizes = _representation(config)
        self._network = representation.RepresentationAutoencoder(
            config=self.sizes, batch_size=config.vae_batch_size, remat=remat
        )
        self.channels = config.channels
        self.latent_channels = self.sizes.latent_shape[0]
        self.roots = (vision.ENCODER, vision.DECODER)
        kept = (config.is_encoder_frozen, config.freeze_decoder)
        self._frozen = {root for root, held in zip(self.roots, kept) if held}
        self._measured = config.latent_statistics != "none"
        self._scale = config.scale_factor or 1.0

    @property
    def adapts_channels(self) -> bool:
        """Whether trained 1x1 convolutions lie between frames and the network."""
        return self.channels not in (1, self.sizes.encoder.num_channels)

    def init(self, key: Array) -> PyTree:
        """Returns first parameters of all parts, drawn at random."""
        params = self._network.init(key)
        return params | _first_statistics(self.config, self.sizes.latent_shape)

    def latent_size(self, size: Size) -> Size:
        """Returns rows and columns of latent fields, whatever size frames have."""
        del size
        _, rows, columns = self.sizes.latent_shape
        return rows, columns

    def frozen(self, module: str) -> bool:
        """Whether the parameters of a module, by Haiku path, are never trained."""
        return _is_kept(module, self._frozen)

    def encode(
        self,
        params: PyTree,
        images: Float[Array, "batch channel lat lon"],
        key: Array | None = None,
    ) -> Float[Array, "batch latent rows columns"]:
        """Returns latent fields; see `Codec.encode`."""
        latents = self._network.encode(lifting.cast(params, images.dtype), images, key)
        if self._measured:
            return statistics.normalise(params, latents)
        return latents * jnp.asarray(self._scale, latents.dtype)

    def decode(
        self,
        params: PyTree,
        latents: Float[Array, "batch latent rows columns"],
        size: Size | None = None,
    ) -> Float[Array, "batch channel lat lon"]:
        """Returns frames; see `Codec.decode`."""
        plain = latents / jnp.asarray(self._scale, latents.dtype)
        if self._measured:
            plain = statistics.restore(params, latents)
        return self._network.decode(lifting.cast(params, latents.dtype), plain, size)


def _is_kept(module: str, frozen: set[str]) -> bool:
    """Whether a module is never trained, as statistics never are."""
    root = module.split("/")[0]
    return root == statistics.STATISTICS or root in frozen


def _first_statistics(config: CodecConfig, shape: tuple[int, int, int]) -> PyTree:
    """Returns statistics that change nothing, where there are to be some."""
    kind = config.latent_statistics
    return {} if kind == "none" else statistics.first_params(kind, shape)


def _representation(config: CodecConfig) -> vision.RepresentationConfig:
    """Returns the sizes of a representation autoencoder, given or by names."""
    kept = {
        "channels": config.channels,
        "freeze_encoder": config.is_encoder_frozen,
        "freeze_decoder": config.freeze_decoder,
    }
    if config.representation is not None:
        return config.representation.replace(**kept)
    sizes = wrapper.representation_config(
        config.rae_encoder_cls,
        config.rae_encoder_config_path or None,
        config.rae_encoder_input_size,
        config.rae_decoder_config_path,
        config.rae_decoder_patch_size,
    )
    return dataclasses.replace(sizes, **kept)


def _check_channels(x: Array, channels: int, what: str) -> None:
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(
            f"{what} have shape {x.shape}; wanted [batch, {channels}, rows, columns]"
        )
