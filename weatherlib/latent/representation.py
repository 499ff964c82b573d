"""A representation autoencoder as pure functions of parameters and fields."""

from __future__ import annotations

import dataclasses
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.latent import decoder, encoder, layers
from weatherlib.latent.config import ADAPTER, DECODER, ENCODER, RepresentationConfig
from weatherlib.nn import blocks, resampling
from weatherlib.typing import PyTree

__all__ = ["LatentStatistics", "RepresentationAutoencoder", "part"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentStatistics:
    """What latent fields are normalised with: `(z - mean) / scale`.

    Attributes:
      mean: Subtracted; of the shape of a latent field or broadcast to it.
      scale: Divided by, likewise. Published files hold variances: it is
        `sqrt(variance + 1e-5)`.
    """

    mean: Any
    scale: Any


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RepresentationAutoencoder:
    """Encodes fields in [-1, 1] to latent fields, and decodes them.

    Attributes:
      config: Sizes, and what is trained. Gradients of parts that are not are exactly
        zero.
      statistics: Of latent fields; None leaves them as they are.
      batch_size: Fields that are worked on at once; None takes all.
      remat: Whether the backward pass computes blocks again to save memory.

    Raises:
      ValueError: `batch_size` is not positive.
    """

    config: RepresentationConfig
    statistics: LatentStatistics | None = None
    batch_size: int | None = None
    remat: bool = False

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(
                f"batch_size must be at least 1, found {self.batch_size!r}"
            )

    def init(self, key: Array, dtype: Any = jnp.float32) -> PyTree:
        """Returns first parameters of all parts, drawn at random."""
        config = self.config
        colours = config.encoder.num_channels
        images = jnp.zeros((1, colours, *config.input_size), dtype)
        tokens = jnp.zeros(
            (1, config.decoder.tokens, config.decoder.hidden_size), dtype
        )
        keys = jax.random.split(key, 3)
        params = {
            **hk.transform(self._tokens).init(keys[0], images),
            **hk.transform(self._pixels).init(keys[1], tokens),
        }
        if self._has_adapter:
            inward, outward = jax.random.split(keys[2])
            fields = jnp.zeros((1, config.channels, 1, 1), dtype)
            image = jnp.zeros((1, colours, 1, 1), dtype)
            params |= hk.transform(self._to_colours).init(inward, fields)
            params |= hk.transform(self._from_colours).init(outward, image)
        return params

    def encode(
        self,
        params: PyTree,
        images: Float[Array, "batch channel lat lon"],
        key: Array | None = None,
    ) -> Float[Array, "batch latent rows columns"]:
        """Returns latent fields.

        Args:
          params: Of the encoder and of the adapter; others are ignored.
          images: Fields in [-1, 1], of any size.
          key: Draws the noise of size `noise_tau`; without one, there is none.

        Raises:
          ValueError: Fields have the wrong channels.
        """
        config = self.config
        if images.ndim != 4 or images.shape[1] != config.channels:
            raise ValueError(
                f"fields have shape {images.shape}; wanted [batch, {config.channels}, "
                "lat, lon]"
            )
        params = self._trained(params)
        run = hk.without_apply_rng(hk.transform(self._tokens))
        adapt = hk.without_apply_rng(hk.transform(self._to_colours))

        def function(fields: Array) -> Array:
            colours = adapt.apply(params, fields) if self._has_adapter else fields
            if fields.shape[1] == 1 and not self._has_adapter:
                shape = (len(fields), config.encoder.num_channels, *fields.shape[2:])
                colours = jnp.broadcast_to(fields, shape)
            return run.apply(params, self.prepare(colours))

        tokens = blocks.map_rows(
            function, images, block=self.batch_size, remat=self._looped(images)
        )
        tokens = self._noisy(tokens, key)
        width, *grid = config.latent_shape
        latents = tokens.swapaxes(1, 2).reshape(-1, width, *grid)
        if self.statistics is not None:
            mean, scale = self._statistics(latents)
            latents = (latents - mean) / scale
        return latents

    def prepare(
        self, images: Float[Array, "batch colour lat lon"]
    ) -> Float[Array, "batch colour rows columns"]:
        """Returns images in [-1, 1] as the encoder is given them."""
        half = jnp.asarray(0.5, images.dtype)
        resized = resampling.resize(
            images * half + half, *self.config.input_size, "bicubic"
        )
        return (resized - self._colour(self.config.mean, images)) / self._colour(
            self.config.std, images
        )

    def decode(
        self,
        params: PyTree,
        latents: Float[Array, "batch latent rows columns"],
        size: tuple[int, int] | None = None,
    ) -> Float[Array, "batch channel lat lon"]:
        """Returns fields in about [-1, 1].

        Args:
          params: Of the decoder and of the adapter; others are ignored.
          latents: As `encode` gives them, or on another grid.
          size: Rows and columns wanted; by default those of the decoder's images.

        Raises:
          ValueError: Latent fields have the wrong channels.
        """
        config = self.config
        width = config.latent_shape[0]
        if latents.ndim != 4 or latents.shape[1] != width:
            raise ValueError(
                f"latent fields have shape {latents.shape}; wanted [batch, {width}, "
                "rows, columns]"
            )
        params = self._trained(params)
        if self.statistics is not None:
            mean, scale = self._statistics(latents)
            latents = latents * scale + mean
        grid = (latents.shape[2], latents.shape[3])
        run = hk.without_apply_rng(
            hk.transform(
                lambda x: self._pixels(x, None if grid == config.decoder.grid else grid)
            )
        )
        adapt = hk.without_apply_rng(hk.transform(self._from_colours))
        rows, columns = size or config.decoder.image_size

        def function(fields: Array) -> Array:
            tokens = fields.reshape(*fields.shape[:2], -1).swapaxes(1, 2)
            pixels = run.apply(params, tokens)
            images = self.finish(decoder.to_images(pixels, config.decoder))
            images = resampling.resize(images, rows, columns, config.output_method)
            if self._has_adapter:
                return adapt.apply(params, images)
            if config.channels == 1:
                return images.mean(1, keepdims=True)
            return images

        return blocks.map_rows(
            function, latents, block=self.batch_size, remat=self._looped(latents)
        )

    def finish(
        self, images: Float[Array, "batch colour lat lon"]
    ) -> Float[Array, "batch colour lat lon"]:
        """Returns images in [-1, 1] of what the decoder gives."""
        config = self.config
        images = images * self._colour(config.std, images)
        images = images + self._colour(config.mean, images)
        return images * jnp.asarray(2, images.dtype) - jnp.ones((), images.dtype)

    def reconstruct(
        self,
        params: PyTree,
        images: Float[Array, "batch channel lat lon"],
        key: Array | None = None,
    ) -> Float[Array, "batch channel lat lon"]:
        """Returns fields after encoding and decoding, of the size they had.

        Raises:
          ValueError: As for `encode`.
        """
        latents = self.encode(params, images, key)
        return self.decode(params, latents, (images.shape[-2], images.shape[-1]))

    @property
    def _has_adapter(self) -> bool:
        return self.config.channels not in (1, self.config.encoder.num_channels)

    def _looped(self, x: Array) -> bool:
        many = self.batch_size is not None and len(x) > self.batch_size
        return self.remat and many

    def _tokens(self, images: Array) -> Array:
        return encoder.Encoder(self.config.encoder, remat=self.remat)(images).patches

    def _pixels(self, tokens: Array, grid: tuple[int, int] | None = None) -> Array:
        module = decoder.Decoder(self.config.decoder, remat=self.remat)
        return module(tokens, grid=grid)

    def _to_colours(self, fields: Array) -> Array:
        return layers.Adapter(self.config.encoder.num_channels, "to_colours")(fields)

    def _from_colours(self, images: Array) -> Array:
        return layers.Adapter(self.config.channels, "from_colours")(images)

    def _trained(self, params: PyTree) -> PyTree:
        """Returns parameters through which no gradients of kept parts pass."""
        kept = {
            root
            for root, frozen in (
                (ENCODER, self.config.freeze_encoder),
                (DECODER, self.config.freeze_decoder),
            )
            if frozen
        }
        return {
            module: jax.lax.stop_gradient(held) if _root(module) in kept else held
            for module, held in params.items()
        }

    def _noisy(self, tokens: Array, key: Array | None) -> Array:
        """Returns tokens with noise of a size that is drawn for each batch member."""
        if key is None or not self.config.noise_tau:
            return tokens
        for_size, for_noise = jax.random.split(key)
        size = jax.random.uniform(for_size, (len(tokens), 1, 1), tokens.dtype)
        noise = jax.random.normal(for_noise, tokens.shape, tokens.dtype)
        return tokens + jnp.asarray(self.config.noise_tau, tokens.dtype) * size * noise

    def _statistics(self, latents: Array) -> tuple[Array, Array]:
        assert self.statistics is not None
        held = (self.statistics.mean, self.statistics.scale)
        first, second = (jnp.asarray(x, latents.dtype) for x in held)
        shape = latents.shape[1:]
        return (
            jnp.broadcast_to(_of_rank_3(first), shape)[jnp.newaxis],
            jnp.broadcast_to(_of_rank_3(second), shape)[jnp.newaxis],
        )

    def _colour(self, values: tuple[float, ...], like: Array) -> Array:
        return jnp.asarray(values, like.dtype).reshape(1, -1, 1, 1)


def part(params: PyTree, name: str) -> PyTree:
    """Returns the parameters of the "encoder", of the "decoder" or of the "adapter".

    Together they are all, so that each can be trained, kept and saved alone.

    Raises:
      ValueError: It is none of them.
    """
    roots = {"encoder": ENCODER, "decoder": DECODER, "adapter": ADAPTER}
    if name not in roots:
        raise ValueError(f"part {name!r} is not one of {', '.join(roots)}")
    return {m: v for m, v in params.items() if _root(m) == roots[name]}


def _root(module: str) -> str:
    return module.split("/")[0]


def _of_rank_3(x: Array) -> Array:
    """Returns statistics as [channel, rows, columns], axes of 1 among them."""
    if x.ndim == 1 and x.size > 1:
        return x.reshape(-1, 1, 1)
    if x.ndim == 4:
        return x[0]
    return x.reshape((1,) * (3 - x.ndim) + x.shape)
