"""Which autoencoder makes latent fields of frames. Nothing here imports JAX."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from weatherlib import config
from weatherlib.latent.config import RepresentationConfig
from weatherlib.nn.autoencoder_config import AutoencoderConfig

__all__ = ["CodecConfig"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodecConfig(config.Mapping):
    """An autoencoder of frames in [-1, 1]: that of Stable Diffusion, or an RAE.

    Attributes:
      vae_type: "sd", the convolutional autoencoder of Stable Diffusion, or "rae", a
        vision transformer and a decoder of its tokens.
      vae_model_id: Published weights of "sd", where no path is given and they were
        fetched.
      vae_pretrained_path: A folder of the diffusers package, a file of weights, or the
        `checkpoint.npz` of a model here that has such an autoencoder. Empty in
        published files, which need no other file.
      vae_batch_size: Frames that are encoded or decoded at once. Numbers do not depend
        on it, up to rounding.
      freeze_encoder: Whether the encoder is never trained: its gradients are exactly
        zero. None is false of "sd" and true of "rae".
      freeze_decoder: Whether the decoder is never trained.
      rae_encoder_cls: "Dinov2withNorm", "SigLIP2wNorm" or "MAEwNorm".
      rae_encoder_config_path: A folder with `config.json` and weights, or the name of a
        published encoder; empty for the one that the class is known for.
      rae_encoder_input_size: Pixels along the sides of what the encoder is given.
      rae_decoder_config_path: A folder with the `config.json` of a masked autoencoder,
        or the name of a decoder. It gives sizes.
      rae_decoder_patch_size: Pixels along a side of what becomes of a token.
      channels: Of a frame, which training finds in the data. Those of the network go
        through as they are; one is repeated, and averaged after decoding; others pass
        trainable 1x1 convolutions, whatever is frozen.
      autoencoder: Sizes of "sd" in place of the published ones. Without weights from
        elsewhere, the network then begins at random.
      representation: Sizes of "rae", likewise, in place of what the names above say.
      scale_factor: What latent fields are multiplied by, and divided by before they are
        decoded. None is 0.18215, or what the sizes say, of "sd", and 1 of "rae".
      measure_scale: Whether training finds in place of that what makes the standard
        deviation of latent fields 1.
      latent_statistics: Whether latent fields are brought to mean 0 and standard
        deviation 1 by numbers of their own: of each "channel", or of each channel at
        each "position", which the fixed grid of "rae" allows. Training measures them,
        in place of `scale_factor`, or takes them from a file; they are kept with the
        weights. Files of whole published autoencoders bring theirs along.
      latent_statistics_path: A published file of them, with mean and variance.
      tile_size: Rows and columns of latent fields of "sd" that are worked on at once,
        so that large fields take a bounded memory; None works on whole fields.
      tile_overlap: Latent rows and columns that neighbouring tiles share.
      fill_up: Whether fields of "sd" with sides that are no multiples of 8 are filled
        up with their last row and column, which are cut off after decoding. They are an
        error else.

    Raises:
      ValueError: A name is unknown or a size is out of range.
    """

    vae_type: Literal["sd", "rae"] = "sd"
    vae_model_id: str = "stable-diffusion-v1-5"
    vae_pretrained_path: str = ""
    vae_batch_size: int = 4
    freeze_encoder: bool | None = None
    freeze_decoder: bool = False
    rae_encoder_cls: str = "SigLIP2wNorm"
    rae_encoder_config_path: str = ""
    rae_encoder_input_size: int = 256
    rae_decoder_config_path: str = "vit_mae-base"
    rae_decoder_patch_size: int = 16
    channels: int | None = None
    autoencoder: AutoencoderConfig | None = None
    representation: RepresentationConfig | None = None
    scale_factor: float | None = None
    measure_scale: bool = False
    latent_statistics: Literal["none", "channel", "position"] = "none"
    latent_statistics_path: str = ""
    tile_size: int | None = None
    tile_overlap: int = 16
    fill_up: bool = False

    def __post_init__(self) -> None:
        if self.vae_type not in ("sd", "rae"):
            raise ValueError(f"vae_type {self.vae_type!r} is neither sd nor rae")
        for name in (
            "vae_batch_size",
            "rae_encoder_input_size",
            "rae_decoder_patch_size",
            "channels",
            "tile_size",
        ):
            if self[name] is not None and self[name] < 1:
                raise ValueError(f"{name} must be at least 1, found {self[name]!r}")
        if self.tile_size is not None and not 0 <= self.tile_overlap < self.tile_size:
            raise ValueError(
                f"tile_overlap must be from 0 to less than tile_size {self.tile_size}, "
                f"found {self.tile_overlap!r}"
            )
        scale = self.scale_factor
        if scale is not None and not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"scale_factor must be positive, found {scale!r}")
        self._check_statistics()
        other = "representation" if self.vae_type == "sd" else "autoencoder"
        if self[other] is not None:
            raise ValueError(f"{other}: does not go with vae_type {self.vae_type}")
        sizes = self.autoencoder
        if sizes is not None and sizes.in_channels != sizes.out_channels:
            raise ValueError(
                "autoencoder: as many channels must come out as go in, found "
                f"{sizes.in_channels} and {sizes.out_channels}"
            )

    def _check_statistics(self) -> None:
        kind = self.latent_statistics
        if kind not in ("none", "channel", "position"):
            raise ValueError(
                f"latent_statistics {kind!r} is not one of none, channel and position"
            )
        if self.latent_statistics_path and kind == "none":
            raise ValueError(
                "latent_statistics_path: say by channel or by position in "
                "latent_statistics"
            )
        if kind == "none":
            return
        if self.scale_factor is not None or self.measure_scale:
            raise ValueError(
                "latent_statistics stand in place of scale_factor and measure_scale; "
                "leave those out"
            )
        if not self.is_encoder_frozen:
            raise ValueError(
                "latent_statistics are those of an encoder that is kept; set "
                "freeze_encoder to true"
            )
        if kind == "position" and self.vae_type == "sd":
            raise ValueError(
                "latent_statistics position: latent fields of sd have the size of the "
                "data, not one of their own; take channel"
            )

    @property
    def is_encoder_frozen(self) -> bool:
        """Whether the encoder is never trained."""
        if self.freeze_encoder is None:
            return self.vae_type == "rae"
        return self.freeze_encoder
