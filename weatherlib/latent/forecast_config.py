"""Forecast models in the latent space of an autoencoder. Nothing here imports JAX."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

from weatherlib import config
from weatherlib.diffusion.config import DiffusionConfig
from weatherlib.diffusion.sampler_config import SamplerConfig
from weatherlib.latent.dit_config import DiTConfig
from weatherlib.latent.field_codec_config import FieldCodecConfig
from weatherlib.task import TaskConfig

__all__ = [
    "LATENT_DIFFUSION",
    "LATENT_UNET",
    "LatentDiffusionCheckPoint",
    "LatentDiffusionConfig",
    "LatentForecastConfig",
    "LatentUNetCheckPoint",
    "LatentUNetConfig",
]

LATENT_UNET = "latent_unet"
LATENT_DIFFUSION = "latent_diffusion"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentForecastConfig(FieldCodecConfig):
    """What forecast models of several frames in a latent space have in common.

    Attributes:
      input_length: Past frames that are read.
      output_length: Frames that one call predicts.
      base_channels: Channels of the U-Net at the full latent resolution; each halving
        doubles them.
      depth: Its halvings. Latent fields are filled up with their last row and column
        to a multiple of `2**depth`, and the result is cut off.
      groups: Of channels that are normalised together.

    Raises:
      ValueError: A size is out of range.
    """

    input_length: int = 12
    output_length: int = 4
    base_channels: int = 128
    depth: int = 3
    groups: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in (
            "input_length",
            "output_length",
            "base_channels",
            "depth",
            "groups",
        ):
            if self[name] < 1:
                raise ValueError(f"{name} must be at least 1, found {self[name]!r}")
        if self.base_channels % self.groups:
            raise ValueError(
                f"base_channels must be a multiple of the {self.groups} groups, found "
                f"{self.base_channels!r}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentUNetConfig(LatentForecastConfig):
    """A U-Net that predicts latent fields of future frames from those of past ones.

    Attributes:
      loss_on: What errors are measured of: "fields" in [-1, 1], after decoding, which
        also trains what is not frozen of the autoencoder; or "latents", which is
        faster and needs an autoencoder of which nothing is trained.
      reconstruction_weight: Of the mean squared error of target frames that are only
        encoded and decoded, where a part of the autoencoder is trained. It keeps
        latent fields such that a diffusion model can be trained on them.
    """

    loss_on: Literal["fields", "latents"] = "fields"
    reconstruction_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_weight(self.reconstruction_weight)
        if self.loss_on not in ("fields", "latents"):
            raise ValueError(f"loss_on {self.loss_on!r} is neither fields nor latents")
        if self.loss_on == "latents" and not (
            self.is_encoder_frozen and self.freeze_decoder
        ):
            raise ValueError(
                "loss_on latents trains no autoencoder; set freeze_encoder and "
                "freeze_decoder to true, or loss_on to fields"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentDiffusionConfig(LatentForecastConfig):
    """A diffusion model of latent fields of future frames, given past ones.

    The autoencoder is frozen by default. Whatever of it is not, adapters of channels
    among it, learns to reconstruct the target frames; the noise teaches it nothing.

    Attributes:
      freeze_encoder: See above.
      freeze_decoder: See above.
      denoiser: The network; "unet" is one that is told the step of noise in each block,
        "dit" a transformer likewise, "dh_dit" one with a wide head, for latent fields
        of many channels.
      dit: Sizes of these transformers; `latent.DIT_SIZES` has published ones.
      diffusion: Noise, what is predicted about it, and how errors count.
      sampler: How forecasts are drawn, if not asked otherwise.
      reconstruction_weight: Of the mean squared error of reconstructed target frames,
        where a part of the autoencoder is trained.
      members_at_once: Futures that are denoised and decoded together.
    """

    freeze_encoder: bool | None = True
    freeze_decoder: bool = True
    denoiser: Literal["unet", "dit", "dh_dit"] = "unet"
    dit: DiTConfig = dataclasses.field(default_factory=DiTConfig)
    diffusion: DiffusionConfig = dataclasses.field(default_factory=DiffusionConfig)
    sampler: SamplerConfig = dataclasses.field(
        default_factory=lambda: SamplerConfig(kind="ddim")
    )
    reconstruction_weight: float = 1.0
    members_at_once: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.diffusion.learn_log_variance:
            raise ValueError(
                "diffusion.learn_log_variance: this model learns no expected errors; "
                "leave it out"
            )
        _check_weight(self.reconstruction_weight)
        if self.members_at_once < 1:
            raise ValueError(
                f"members_at_once must be at least 1, found {self.members_at_once!r}"
            )


def _check_weight(weight: float) -> None:
    if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(
            f"reconstruction_weight must not be negative, found {weight!r}"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentUNetCheckPoint(config.Mapping):
    """A latent U-Net and its autoencoder in one file.

    Attributes:
      architecture: `LATENT_UNET`.
      params: Haiku module path to parameter name to array, of both.
      model_config: Their sizes.
      task_config: What the model reads and predicts.
      description: Free text.
      license: Terms under which the weights may be used.
    """

    architecture: str
    params: dict[str, Any]
    model_config: LatentUNetConfig
    task_config: TaskConfig
    description: str
    license: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentDiffusionCheckPoint(config.Mapping):
    """A latent diffusion model and its autoencoder in one file.

    Attributes:
      architecture: `LATENT_DIFFUSION`.
      params: Haiku module path to parameter name to array, of both.
      model_config: Their sizes.
      task_config: What the model reads and predicts.
      description: Free text.
      license: Terms under which the weights may be used.
    """

    architecture: str
    params: dict[str, Any]
    model_config: LatentDiffusionConfig
    task_config: TaskConfig
    description: str
    license: str
