"""Autoencoders of fields as models that are trained: stage A. Nothing imports JAX."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

from weatherlib import config
from weatherlib.latent.field_codec_config import FieldCodecConfig
from weatherlib.task import TaskConfig

__all__ = [
    "LATENT_AUTOENCODER",
    "LatentAutoencoderCheckPoint",
    "LatentAutoencoderConfig",
]

LATENT_AUTOENCODER = "latent_autoencoder"
"""Name of the family."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentAutoencoderConfig(FieldCodecConfig):
    """Fields to latent fields and back, frame by frame.

    Attributes:
      output_length: Target frames of a sample, which are reconstructed like its inputs.
      loss: What counts of the difference between frames in [-1, 1]: "mse", its square,
        or "l1", its size.
      l1_weight: Of the size of the difference, added to "mse".
      kl_weight: Of how far the distributions that "sd" encodes to are from white noise,
        mean over latent numbers. Where it is positive, latent fields are drawn from
        them.
      sample_latents: Whether latent fields of "sd" are drawn in any case.
      noise_tau: Size of the noise added to latent fields in training, multiplied by a
        number between 0 and 1 for each frame, so that decoders forgive errors of what
        predicts latent fields. Published RAEs have 0.8.

    Raises:
      ValueError: A value is out of range.
    """

    output_length: int = 1
    loss: Literal["mse", "l1"] = "mse"
    l1_weight: float = 0.0
    kl_weight: float = 0.0
    sample_latents: bool = False
    noise_tau: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output_length < 1:
            raise ValueError(
                f"output_length must be at least 1, found {self.output_length!r}"
            )
        if self.loss not in ("mse", "l1"):
            raise ValueError(f"loss {self.loss!r} is neither mse nor l1")
        for name in ("l1_weight", "kl_weight", "noise_tau"):
            if not (math.isfinite(self[name]) and self[name] >= 0):
                raise ValueError(f"{name} must not be negative, found {self[name]!r}")
        if self.vae_type == "rae" and (self.kl_weight or self.sample_latents):
            raise ValueError(
                "kl_weight and sample_latents: only sd encodes to distributions; leave "
                "them out, or set noise_tau"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentAutoencoderCheckPoint(config.Mapping):
    """An autoencoder in one file.

    Attributes:
      architecture: `LATENT_AUTOENCODER`.
      params: Haiku module path to parameter name to array.
      model_config: Its sizes, and how fields reach the range of images.
      task_config: Which fields it is for.
      description: Free text.
      license: Terms under which the weights may be used.
    """

    architecture: str
    params: dict[str, Any]
    model_config: LatentAutoencoderConfig
    task_config: TaskConfig
    description: str
    license: str
