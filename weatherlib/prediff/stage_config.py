"""What the three stages of PreDiff's training are made of, and their files.

First an autoencoder is trained, then the denoiser on its latent fields, and, where
forecasts are to be guided by knowledge, an alignment network on the same. Nothing here
imports JAX or xarray.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any, Literal

from weatherlib import config
from weatherlib.diffusion.config import PREDIFF, DiffusionConfig
from weatherlib.diffusion.sampler_config import SamplerConfig
from weatherlib.nn.autoencoder_config import (
    PREDIFF_VAE,
    AutoencoderConfig,
    AutoencoderLossConfig,
)
from weatherlib.prediff.config import AlignmentConfig, EarthformerUNetConfig
from weatherlib.task import TaskConfig

__all__ = [
    "PREDIFF_ALIGNMENT",
    "PREDIFF_AUTOENCODER",
    "PREDIFF_DENOISER",
    "AlignmentCheckPoint",
    "AutoencoderCheckPoint",
    "DiscriminatorConfig",
    "LatentConfig",
    "PreDiffAlignmentConfig",
    "PreDiffAutoencoderConfig",
    "PreDiffCheckPoint",
    "PreDiffConfig",
    "StageConfig",
]

PREDIFF_AUTOENCODER = "prediff_autoencoder"
PREDIFF_DENOISER = "prediff"
PREDIFF_ALIGNMENT = "prediff_alignment"

Quantity = Literal["avg_x", "max_x"]

_SEVIR_RANGE = (0.0, 255.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageConfig(config.Mapping, abc.ABC):
    """What all stages have in common.

    Attributes:
      resolution: Grid spacing the weights were trained for, degrees. 0 accepts any.
      value_range: The values that become 0 and 1 for the networks, by default those of
        SEVIR's pixels, whose data are divided by 255 as published. Statistics are not
        used then. None: the networks see data normalised by statistics.

    Raises:
      ValueError: A size is out of range or does not fit another.
    """

    resolution: float = 0.0
    value_range: tuple[float, float] | None = _SEVIR_RANGE

    def __post_init__(self) -> None:
        if not self.resolution >= 0:
            raise ValueError(
                f"resolution must not be negative, found {self.resolution!r}"
            )
        if self.value_range is not None:
            low, high = self.value_range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(
                    "value_range must be two numbers, the lower one first, found "
                    f"{self.value_range}"
                )

    @property
    def normalizes_itself(self) -> bool:
        """Whether data come in their own units."""
        return self.value_range is not None


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig(config.Mapping):
    """Sizes of the network that tells decoded fields from real ones.

    Attributes:
      width: Channels of the first layer.
      layers: Times that fields are halved.
      groups: Groups of channels that are normalised together.
    """

    width: int = 64
    layers: int = 3
    groups: int = 8

    def __post_init__(self) -> None:
        if min(self.width, self.layers, self.groups) < 1 or self.width % self.groups:
            raise ValueError(
                "width, layers and groups must be positive, and groups divide the "
                f"width, found {self.width}, {self.layers} and {self.groups}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreDiffAutoencoderConfig(StageConfig):
    """The first stage: frames to latent fields and back, one by one.

    Attributes:
      autoencoder: Sizes of encoder and decoder; the published ones by default.
      loss: What counts. With `adversarial_weight` a discriminator is trained along by
        the same optimiser; its parameters are not published.
      discriminator: Its sizes.
      output_length: Target frames of a sample, which are encoded like its inputs.
      frames_at_once: Frames that are worked on together; None takes all of a batch.
    """

    autoencoder: AutoencoderConfig = PREDIFF_VAE
    loss: AutoencoderLossConfig = dataclasses.field(
        default_factory=AutoencoderLossConfig
    )
    discriminator: DiscriminatorConfig = dataclasses.field(
        default_factory=DiscriminatorConfig
    )
    output_length: int = 1
    frames_at_once: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = self.autoencoder
        if sizes.in_channels != sizes.out_channels:
            raise ValueError(
                f"autoencoder: as many channels must come out as go in, found "
                f"{sizes.in_channels} and {sizes.out_channels}"
            )
        for name in ("output_length", "frames_at_once"):
            if self[name] is not None and self[name] < 1:
                raise ValueError(f"{name} must be at least 1, found {self[name]!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentConfig(StageConfig):
    """What the two stages on latent fields have in common.

    Attributes:
      autoencoder: File of the trained autoencoder. Its weights stay as they are. Empty
        in published files, which need no other file.
      latent: Sizes of the autoencoder, which training finds in that file, as it does
        the `value_range`. Only published weights whose norms do not have 32 groups need
        them.
      digest: What tells autoencoders apart: parts that belong together have the same.
      scale_factor: What latent targets are multiplied by; 1 as published. None lets
        training find what makes their standard deviation 1, which suits autoencoders
        whose latent fields are larger or smaller than noise.
      diffusion: Noise, what is predicted about it, and how errors count.
      frames_at_once: Frames that are encoded or decoded together; None takes all.
    """

    autoencoder: str = ""
    latent: AutoencoderConfig | None = None
    digest: str = ""
    scale_factor: float | None = 1.0
    diffusion: DiffusionConfig = PREDIFF
    frames_at_once: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale_factor is not None and not self.scale_factor > 0:
            raise ValueError(
                f"scale_factor must be positive, found {self.scale_factor!r}"
            )
        if self.frames_at_once is not None and self.frames_at_once < 1:
            raise ValueError(
                f"frames_at_once must be at least 1, found {self.frames_at_once!r}"
            )
        if self.latent is not None:
            self._require_latent(self.latent)

    @property
    @abc.abstractmethod
    def target_shape(self) -> tuple[int, int, int, int]:
        """Frames, rows, columns and channels of latent targets."""

    @property
    def output_length(self) -> int:
        """Frames that one forecast step has."""
        return self.target_shape[0]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of frames."""
        reduction = self.sizes.reduction
        return self.target_shape[1] * reduction, self.target_shape[2] * reduction

    @property
    def sizes(self) -> AutoencoderConfig:
        """Sizes of the autoencoder.

        Raises:
          ValueError: They are not known yet.
        """
        if self.latent is None:
            raise ValueError(
                "the sizes of the autoencoder are not known; name the file of a "
                "trained one as autoencoder"
            )
        return self.latent

    def _require_latent(self, latent: AutoencoderConfig) -> None:
        if latent.latent_channels != self.target_shape[-1]:
            raise ValueError(
                f"the autoencoder has {latent.latent_channels} latent channels, and "
                f"the network works on {self.target_shape[-1]} (the last number of "
                "its shapes); they must agree"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreDiffConfig(LatentConfig):
    """The second stage, and the forecast model: the denoiser of latent fields.

    Attributes:
      denoiser: Its sizes, of latent fields: rows and columns are those of frames over
        the reduction of the autoencoder.
      sampler: How forecasts are drawn, if not asked otherwise.
      clip: Whether forecasts are kept inside `value_range`.
    """

    denoiser: EarthformerUNetConfig
    sampler: SamplerConfig = dataclasses.field(default_factory=SamplerConfig)
    clip: bool = True

    @property
    def target_shape(self) -> tuple[int, int, int, int]:
        """Frames, rows, columns and channels of latent targets."""
        return self.denoiser.target_shape

    @property
    def input_length(self) -> int:
        """Past frames that are read."""
        return self.denoiser.input_shape[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreDiffAlignmentConfig(LatentConfig):
    """The third stage: a network that reads a quantity from noisy latent targets.

    Attributes:
      network: Its sizes.
      quantity: What it reads from each frame: "avg_x", the mean, as published, or
        "max_x", the largest value.
    """

    network: AlignmentConfig
    quantity: Quantity = "avg_x"

    def __post_init__(self) -> None:
        super().__post_init__()
        frames = self.network.input_shape[0]
        if not self.network.readout_seq or self.network.out_len not in (None, frames):
            raise ValueError(
                "network: the quantity is known of each frame, so readout_seq must be "
                f"true and out_len {frames} or none"
            )
        left = self.network.levels[-1][0]
        if left != frames:
            raise ValueError(
                f"network: downsample {self.network.downsample} leaves {left} of "
                f"{frames} frames at the last level, and the quantity is read from "
                f"each; join rows and columns only, such as "
                f"(1, {', '.join(map(str, self.network.factor[1:]))})"
            )
        if self.network.out_channels != 1:
            raise ValueError(
                f"network: {self.quantity} is one number of each frame, so "
                f"out_channels must be 1, found {self.network.out_channels}"
            )

    @property
    def target_shape(self) -> tuple[int, int, int, int]:
        """Frames, rows, columns and channels of latent targets."""
        return self.network.input_shape


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderCheckPoint(config.Mapping):
    """A trained autoencoder as `weatherlib.checkpoint` reads and writes it.

    Attributes:
      architecture: `PREDIFF_AUTOENCODER`.
      params: Haiku module path to parameter name to array, of encoder and decoder.
      model_config: Its sizes.
      task_config: What it was trained on.
      description: Free text.
      license: Terms under which the weights may be used.
    """

    architecture: str
    params: dict[str, Any]
    model_config: PreDiffAutoencoderConfig
    task_config: TaskConfig
    description: str
    license: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreDiffCheckPoint(config.Mapping):
    """A forecast model: denoiser and autoencoder in one file.

    Attributes:
      architecture: `PREDIFF_DENOISER`.
      params: Haiku module path to parameter name to array, of both.
      model_config: Their sizes.
      task_config: What the model reads and predicts.
      description: Free text.
      license: Terms under which the weights may be used.
    """

    architecture: str
    params: dict[str, Any]
    model_config: PreDiffConfig
    task_config: TaskConfig
    description: str
    license: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignmentCheckPoint(config.Mapping):
    """An alignment network, without the autoencoder that it was trained on.

    Attributes:
      architecture: `PREDIFF_ALIGNMENT`.
      params: Haiku module path to parameter name to array.
      model_config: Its sizes.
      task_config: What it was trained on.
      description: Free text.
      license: Terms under which the weights may be used.
    """

    architecture: str
    params: dict[str, Any]
    model_config: PreDiffAlignmentConfig
    task_config: TaskConfig
    description: str
    license: str
