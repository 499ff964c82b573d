"""A representation autoencoder of published parts, by the names people know."""

from __future__ import annotations

import functools
import importlib
import logging
import pathlib
from collections.abc import Collection
from typing import Any

import jax
from jaxtyping import Array, Float

from weatherlib.latent import published
from weatherlib.latent.config import RepresentationConfig
from weatherlib.latent.representation import (
    LatentStatistics,
    RepresentationAutoencoder,
)
from weatherlib.typing import PathLike, PyTree

__all__ = ["RAEWrapper", "representation_config"]

_LOG = logging.getLogger(__name__)


class RAEWrapper:
    """Encodes fields in [-1, 1] by a published encoder, and decodes them.

    Attributes:
      autoencoder: The functions, for training.
      config: Their sizes.
    """

    def __init__(  # noqa: PLR0913 (published names, and settings with defaults)
        self,
        encoder_cls: str = "SigLIP2wNorm",
        encoder_config_path: PathLike | None = None,
        encoder_input_size: int | tuple[int, int] | None = None,
        decoder_config_path: PathLike = "vit_mae-base",
        decoder_patch_size: int = 16,
        device: str | None = None,
        freeze_encoder: bool = True,
        freeze_decoder: bool = False,
        *,
        channels: int = 3,
        pretrained_decoder_path: PathLike | None = None,
        latent_statistics: LatentStatistics | PathLike | None = None,
        noise_tau: float = 0.0,
        batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        """Reads sizes; weights are read when they are first used.

        Args:
          encoder_cls: "Dinov2withNorm", "SigLIP2wNorm" or "MAEwNorm".
          encoder_config_path: A folder with `config.json` and weights, or the name of a
            published encoder, of which the sizes are known; by default the one that
            the class is known for.
          encoder_input_size: Pixels along the sides of the images that the encoder is
            given; by default 224, or 256 for SigLIP2.
          decoder_config_path: A folder with the `config.json` of a masked autoencoder,
            or a name of `DECODERS`. It gives sizes, not weights.
          decoder_patch_size: Pixels along a side of what becomes of a token.
          device: Ignored; JAX places arrays.
          freeze_encoder: Whether gradients of the encoder are zero.
          freeze_decoder: Whether those of the decoder are.
          channels: Channels of a field; see `RepresentationConfig`.
          pretrained_decoder_path: A file or a folder with weights of the decoder; by
            default they are drawn at random.
          latent_statistics: What latent fields are normalised with, or a file with
            `mean` and `var` as published.
          noise_tau: Size of the noise that `encode` adds where it is given a key.
          batch_size: Fields that are worked on at once; None takes all.
          seed: Of what is drawn at random.

        Raises:
          FileNotFoundError: A file of a folder is missing.
          ValueError: A name is unknown, parts do not fit together, or the patches of
            the encoder do not divide its images.
        """
        kind = published.encoder_class(encoder_cls)
        path = encoder_config_path or kind.default
        self._encoder_path = pathlib.Path(path) if _is_folder(path) else None
        self._encoder_name = str(path)
        self._decoder_path = pretrained_decoder_path
        self._seed = seed
        if device is not None:
            _LOG.debug("device %r is ignored: JAX places arrays", device)
        sizes = representation_config(
            encoder_cls,
            path,
            encoder_input_size,
            decoder_config_path,
            decoder_patch_size,
        )
        self.config = sizes.replace(
            channels=channels,
            freeze_encoder=freeze_encoder,
            freeze_decoder=freeze_decoder,
            noise_tau=noise_tau,
        )
        statistics = latent_statistics
        if statistics is not None and not isinstance(statistics, LatentStatistics):
            statistics = LatentStatistics(**_reader().load_statistics(statistics))
        self.autoencoder = RepresentationAutoencoder(
            config=self.config, statistics=statistics, batch_size=batch_size
        )
        self._encode = jax.jit(self.autoencoder.encode)
        self._decode = jax.jit(self.autoencoder.decode, static_argnames=("size",))

    @functools.cached_property
    def params(self) -> PyTree:
        """Weights of the encoder as published, and of all else as given or drawn.

        Raises:
          FileNotFoundError: There is no folder with weights of the encoder.
          OSError: A file cannot be read.
          ValueError: A file is damaged or is for other sizes.
        """
        if self._encoder_path is None:
            raise FileNotFoundError(
                f"encoder_config_path: there is no folder {self._encoder_name!r} with "
                "weights; give one (weatherlib weights fetch gets published ones), or "
                "give params, such as random ones of init"
            )
        params = dict(_reader().load_encoder(self._encoder_path).params)
        if self._decoder_path is not None:
            sizes = self.config.decoder
            found = _reader().load_decoder(self._decoder_path, sizes)
            if found.config != sizes:
                raise ValueError(
                    f"{self._decoder_path}: holds the decoder of a masked autoencoder, "
                    "which has no class token of its own"
                )
            params |= found.params
        key = jax.random.key(self._seed)
        names = jax.eval_shape(self.init, key)
        if missing := [module for module in names if module not in params]:
            # Only what no file holds is drawn, however large the encoder is.
            params |= jax.jit(lambda key: _chosen(self.init(key), missing))(key)
        return params

    def init(self, key: Array) -> PyTree:
        """Returns random parameters of all parts, the encoder among them."""
        return self.autoencoder.init(key)

    def encode(
        self,
        images: Float[Array, "batch channel lat lon"],
        params: PyTree | None = None,
        key: Array | None = None,
    ) -> Float[Array, "batch latent rows columns"]:
        """Returns latent fields, such as [batch, 768, 16, 16].

        Args:
          images: Fields in [-1, 1].
          params: By default those of `params`.
          key: Draws the noise of size `noise_tau`; without one, there is none.

        Raises:
          ValueError: Fields have the wrong channels.
        """
        params = self.params if params is None else params
        return self._encode(params, images, key)

    def decode(
        self,
        latent: Float[Array, "batch latent rows columns"],
        params: PyTree | None = None,
        size: tuple[int, int] | None = None,
    ) -> Float[Array, "batch channel lat lon"]:
        """Returns fields in about [-1, 1].

        Args:
          latent: As `encode` gives them.
          params: By default those of `params`.
          size: Rows and columns wanted; by default those of the decoder's images.

        Raises:
          ValueError: Latent fields have the wrong channels.
        """
        params = self.params if params is None else params
        return self._decode(params, latent, size=None if size is None else tuple(size))

    def __call__(
        self,
        images: Float[Array, "batch channel lat lon"],
        params: PyTree | None = None,
        key: Array | None = None,
    ) -> Float[Array, "batch channel lat lon"]:
        """Returns fields after encoding and decoding, of the size they had."""
        params = self.params if params is None else params
        latent = self._encode(params, images, key)
        return self._decode(params, latent, size=images.shape[-2:])


def representation_config(
    encoder_cls: str = "SigLIP2wNorm",
    encoder_config_path: PathLike | None = None,
    encoder_input_size: int | tuple[int, int] | None = None,
    decoder_config_path: PathLike = "vit_mae-base",
    decoder_patch_size: int = 16,
) -> RepresentationConfig:
    """Returns the sizes of a representation autoencoder of published parts.

    Arguments and errors are those of `RAEWrapper`. No weights are read.
    """
    kind = published.encoder_class(encoder_cls)
    path = encoder_config_path or kind.default
    sizes = _sizes_of(path)
    if sizes.layout not in kind.layouts:
        fits = [
            n for n, k in published.ENCODER_CLASSES.items() if sizes.layout in k.layouts
        ]
        raise ValueError(
            f"encoder_cls {encoder_cls} does not go with {path}, which has the "
            f"layout {sizes.layout}; {' or '.join(fits)} does"
        )
    side = encoder_input_size or kind.input_size
    rows, columns = (side, side) if isinstance(side, int) else side
    size = (rows, columns)
    try:
        grid = sizes.grid(*size)
    except ValueError as error:
        raise ValueError(f"encoder_input_size: {error}") from error
    inner = _decoder_sizes_of(decoder_config_path).replace(
        hidden_size=sizes.hidden_size,
        patch_size=decoder_patch_size,
        grid=grid,
        class_source="trainable",
        num_channels=sizes.num_channels,
    )
    return RepresentationConfig(
        encoder=sizes, decoder=inner, input_size=size, mean=kind.mean, std=kind.std
    )


def _chosen(params: PyTree, modules: Collection[str]) -> PyTree:
    return {module: params[module] for module in modules}


def _is_folder(path: PathLike) -> bool:
    return pathlib.Path(path).is_dir()


def _sizes_of(path: PathLike) -> Any:
    if not _is_folder(path):
        try:
            return published.encoder_sizes(str(path))
        except ValueError as error:
            raise ValueError(f"encoder_config_path: {error}") from error
    return _reader().encoder_sizes_of_folder(path)


def _decoder_sizes_of(path: PathLike) -> Any:
    if not _is_folder(path):
        try:
            return published.decoder_sizes(str(path))
        except ValueError as error:
            raise ValueError(f"decoder_config_path: {error}") from error
    return _reader().decoder_sizes_of_folder(path)


def _reader() -> Any:
    # Readers of files lie in a ring further out, so they are found at run time, when
    # somebody gives a path; the networks work without them.
    return importlib.import_module("weatherlib.weights.vision")
