"""Direct forecasts as a model that is trained, and its files. No JAX and no xarray."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

from weatherlib import config
from weatherlib.latent.config import EncoderConfig
from weatherlib.latent.direct_config import RAEConfig
from weatherlib.task import TaskConfig

__all__ = ["STAGE1_DIRECT", "Stage1DirectCheckPoint", "Stage1DirectConfig"]

STAGE1_DIRECT = "stage1_direct"
"""Name of the family."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage1DirectConfig(config.Mapping):
    """Past frames through a vision encoder that is kept, tokens to future frames.

    Fields are normalised by their means and standard deviations.

    Attributes:
      resolution: Grid spacing the weights were trained for, degrees. 0 accepts any.
      input_length: Past frames that are read.
      output_length: Frames that one call predicts.
      predicts: "state", as published: what comes out is the normalised state. "change":
        it is the normalised change from the last past frame.
      area_weighted_loss: Whether the loss counts rows by their area, and levels by
        their pressure. If not, as published, it is the mean square over everything.
      backbone: Weights of the encoder: a folder with `config.json`, or the name of
        published weights that were fetched. With `random_backbone`, the name of an
        encoder whose sizes are known, or nothing. In a published file it is the folder
        of a backbone that the file does not hold, and otherwise empty.
      random_backbone: Whether the encoder is drawn at random, to try things.
      encoder: Sizes of the encoder, which training finds in that folder. To be given
        for a random one without a name.
      digest: Of the weights of a kept encoder, which training finds.
      backbone_inside: Whether the published file holds a kept encoder as well. None
        keeps one of more than 100 million parameters out, and refers to its folder.
      input_size: Rows and columns of the image that the encoder is given; None takes
        those that it was trained on.
      image_mean: Of each colour, subtracted from the image; None normalises nothing.
      image_std: What it is divided by, given with `image_mean`.
      freeze_backbone: Whether the encoder is kept. Gradients pass through it.
      train_in_adapter: Whether the layer from fields to colours is trained.
      decoder_patch_size: Points of the decoder's image along a side of what becomes of
        a token; None takes the size of the encoder's patches.
      decoder_hidden_size: Channels of a token inside of the decoder.
      decoder_num_hidden_layers: Its transformer blocks.
      decoder_num_attention_heads: Its attention heads.
      decoder_intermediate_size: Channels inside of its perceptron.

    Raises:
      ValueError: A size is out of range or does not fit another.
    """

    resolution: float = 0.0
    input_length: int = 12
    output_length: int = 4
    predicts: Literal["state", "change"] = "state"
    area_weighted_loss: bool = False
    backbone: str = ""
    random_backbone: bool = False
    encoder: EncoderConfig | None = None
    digest: str = ""
    backbone_inside: bool | None = None
    input_size: tuple[int, int] | None = None
    image_mean: tuple[float, ...] | None = None
    image_std: tuple[float, ...] | None = None
    freeze_backbone: bool = True
    train_in_adapter: bool = True
    decoder_patch_size: int | None = None
    decoder_hidden_size: int = 512
    decoder_num_hidden_layers: int = 8
    decoder_num_attention_heads: int = 16
    decoder_intermediate_size: int = 2048

    def __post_init__(self) -> None:
        if not self.resolution >= 0:
            raise ValueError(
                f"resolution must not be negative, found {self.resolution!r}"
            )
        if (self.image_mean is None) != (self.image_std is None):
            raise ValueError("image_mean and image_std are given together or not")
        if any(not (math.isfinite(s) and s > 0) for s in self.image_std or ()):
            raise ValueError(f"image_std must be positive, found {self.image_std}")
        if self.backbone_inside is False and not self.freeze_backbone:
            raise ValueError(
                "backbone_inside: an encoder that is trained belongs into the file; "
                "leave it out, or set freeze_backbone"
            )
        self._decoder(1, self.encoder or EncoderConfig())
        if self.encoder is not None:
            self.image_size(self.encoder)

    @property
    def edges(self) -> Literal["zero"]:
        """How fields go on beyond their edges: nothing here asks."""
        return "zero"

    @property
    def sizes(self) -> EncoderConfig:
        """Sizes of the encoder.

        Raises:
          ValueError: They are not known yet.
        """
        if self.encoder is None:
            raise ValueError(
                "encoder: its sizes are not known; name a folder in backbone, or set "
                "random_backbone and give the name or the sizes of an encoder"
            )
        return self.encoder

    def image_size(self, encoder: EncoderConfig) -> tuple[int, int]:
        """Returns rows and columns of the image that an encoder is given.

        Raises:
          ValueError: Its patches do not divide them.
        """
        side = encoder.position_grid * encoder.patch_size
        size = self.input_size or (side, side)
        try:
            encoder.grid(*size)
        except ValueError as error:
            raise ValueError(f"input_size: {error}") from error
        return size

    def decoder(self, outputs: int) -> RAEConfig:
        """Returns the sizes of the decoder to frames of `outputs` channels.

        Raises:
          ValueError: The sizes of the encoder are not known yet.
        """
        return self._decoder(outputs, self.sizes)

    def _decoder(self, outputs: int, encoder: EncoderConfig) -> RAEConfig:
        patch = self.decoder_patch_size
        return RAEConfig(
            input_length=self.input_length,
            output_length=self.output_length,
            out_channels_future=outputs,
            token_dim=encoder.hidden_size,
            patch_size=encoder.patch_size if patch is None else patch,
            decoder_hidden_size=self.decoder_hidden_size,
            decoder_num_hidden_layers=self.decoder_num_hidden_layers,
            decoder_num_attention_heads=self.decoder_num_attention_heads,
            decoder_intermediate_size=self.decoder_intermediate_size,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage1DirectCheckPoint(config.Mapping):
    """What a file of this family holds.

    Attributes:
      architecture: Name of the family.
      params: Haiku parameters, of which those of a backbone may lie elsewhere.
      model_config: Sizes.
      task_config: What is read and predicted.
      description: Free text.
      license: Terms of the weights.
    """

    architecture: str
    params: dict[str, Any]
    model_config: Stage1DirectConfig
    task_config: TaskConfig
    description: str
    license: str
