"""Sizes of vision encoders and decoders. Nothing here imports JAX or xarray."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from weatherlib import config
from weatherlib.geometry.resampling import Method

__all__ = [
    "ADAPTER",
    "DECODER",
    "ENCODER",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "DecoderConfig",
    "EncoderConfig",
    "Layout",
    "RepresentationConfig",
]

Layout = Literal["dinov2", "timm", "siglip", "siglip2", "mae"]

ENCODER = "vision_encoder"
"""First part of the Haiku paths of encoders."""

DECODER = "vision_decoder"
"""First part of the Haiku paths of decoders."""

ADAPTER = "channel_adapter"
"""First part of the Haiku paths of the layers between fields and colours."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of each colour that DINOv2 and MAE were trained with, in units of [0, 1]."""

IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of each colour, likewise."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig(config.Mapping):
    """A published vision transformer; fields carry the names of its `config.json`.

    Attributes:
      layout: Whose names and habits it has: "dinov2" (with registers or without),
        "timm" (DINOv2 in the layout of timm), "siglip" (of fixed resolution, SigLIP2
        among them), "siglip2" (NaFlex, of any resolution) or "mae".
      hidden_size: Channels of a token.
      num_hidden_layers: Transformer blocks.
      num_attention_heads: Attention heads.
      intermediate_size: Channels inside of the perceptron; with SwiGLU, of each of the
        two halves that are multiplied.
      patch_size: Pixels along a side of a patch.
      image_size: Pixels along a side of the images that the table of positions is for.
      num_channels: Channels of an image.
      num_register_tokens: Tokens without a place, after the class token.
      use_swiglu_ffn: Whether the perceptron is a gated one.
      use_mask_token: Whether there is a token that stands for hidden patches, which
        DINOv2 has.
      class_position: Whether the class token has a position. In the layout of timm,
        models with registers have none.
      pooling_head: Whether attention sums up the tokens, as SigLIP does.
      layer_norm_eps: Added to variances.

    Raises:
      ValueError: A size is out of range or does not fit another.
    """

    layout: Layout = "dinov2"
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    patch_size: int = 14
    image_size: int = 518
    num_channels: int = 3
    num_register_tokens: int = 0
    use_swiglu_ffn: bool = False
    use_mask_token: bool = False
    class_position: bool = True
    pooling_head: bool = False
    layer_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        _check_positive(
            self,
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "patch_size",
            "image_size",
            "num_channels",
        )
        _check_heads(self.hidden_size, self.num_attention_heads)
        if self.image_size < self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is less than a patch of "
                f"{self.patch_size}"
            )
        if self.num_register_tokens < 0 or (
            self.num_register_tokens and self.layout not in ("dinov2", "timm")
        ):
            raise ValueError(
                f"num_register_tokens {self.num_register_tokens} does not go with "
                f"layout {self.layout}"
            )
        if self.pooling_head and self.has_class_token:
            raise ValueError(f"layout {self.layout} has no pooling_head")
        _check_epsilon(self.layer_norm_eps)

    @property
    def has_class_token(self) -> bool:
        """Whether a token of no place comes first."""
        return self.layout in ("dinov2", "timm", "mae")

    @property
    def has_layer_scale(self) -> bool:
        """Whether each branch has a factor for each channel."""
        return self.layout in ("dinov2", "timm")

    @property
    def prefix_tokens(self) -> int:
        """Tokens before those of patches."""
        return self.has_class_token + self.num_register_tokens

    @property
    def activation(self) -> Literal["gelu", "gelu_tanh"]:
        """What lies inside of the perceptron, unless that is a gated one."""
        return "gelu_tanh" if self.layout in ("siglip", "siglip2") else "gelu"

    @property
    def position_grid(self) -> int:
        """Rows, and columns, of the table of positions."""
        return self.image_size // self.patch_size

    @property
    def position_method(self) -> Method:
        """How the table of positions is brought to another grid."""
        if self.layout == "siglip2":
            return "bilinear_antialias"
        if self.layout == "timm" or self.num_register_tokens:
            return "bicubic_antialias"
        return "bicubic"

    @property
    def patch_channels(self) -> int:
        """Numbers in a patch."""
        return self.num_channels * self.patch_size**2

    def grid(self, rows: int, columns: int) -> tuple[int, int]:
        """Returns how many patches lie along the rows and columns of an image.

        Raises:
          ValueError: The patches do not divide the image.
        """
        size = self.patch_size
        if rows < size or columns < size or rows % size or columns % size:
            near = [max(round(n / size), 1) * size for n in (rows, columns)]
            raise ValueError(
                f"patch size {size} does not divide an image of {rows}x{columns}; "
                f"{near[0]}x{near[1]} would work"
            )
        return rows // size, columns // size


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig(config.Mapping):
    """A decoder of tokens to images, as masked autoencoders have it.

    Attributes:
      hidden_size: Channels of a token that comes in.
      decoder_hidden_size: Channels of a token inside.
      decoder_num_hidden_layers: Transformer blocks.
      decoder_num_attention_heads: Attention heads.
      decoder_intermediate_size: Channels inside of the perceptron.
      patch_size: Pixels along a side of what becomes of a token.
      grid: Rows and columns of tokens.
      num_channels: Channels of the image.
      class_source: Of the class token: "trainable", as in representation autoencoders,
        or "encoded": it comes first among the tokens, as in masked autoencoders, and a
        mask token stands for those that are not given.
      layer_norm_eps: Added to variances.

    Raises:
      ValueError: A size is out of range or does not fit another.
    """

    hidden_size: int = 768
    decoder_hidden_size: int = 512
    decoder_num_hidden_layers: int = 8
    decoder_num_attention_heads: int = 16
    decoder_intermediate_size: int = 2048
    patch_size: int = 16
    grid: tuple[int, int] = (16, 16)
    num_channels: int = 3
    class_source: Literal["trainable", "encoded"] = "trainable"
    layer_norm_eps: float = 1e-12

    def __post_init__(self) -> None:
        _check_positive(
            self,
            "hidden_size",
            "decoder_hidden_size",
            "decoder_num_hidden_layers",
            "decoder_num_attention_heads",
            "decoder_intermediate_size",
            "patch_size",
            "num_channels",
        )
        _check_heads(
            self.decoder_hidden_size, self.decoder_num_attention_heads, "decoder_"
        )
        if self.decoder_hidden_size % 4:
            raise ValueError(
                "decoder_hidden_size must be a multiple of 4 for the table of "
                f"positions, found {self.decoder_hidden_size}"
            )
        if min(self.grid) < 1:
            raise ValueError(
                f"grid needs rows and columns of tokens, found {self.grid}"
            )
        _check_epsilon(self.layer_norm_eps)

    @property
    def tokens(self) -> int:
        """Tokens of an image."""
        return self.grid[0] * self.grid[1]

    @property
    def image_size(self) -> tuple[int, int]:
        """Rows and columns of the image."""
        return self.grid[0] * self.patch_size, self.grid[1] * self.patch_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepresentationConfig(config.Mapping):
    """A representation autoencoder: an encoder that is kept, and a decoder.

    Attributes:
      encoder: Of images in [0, 1], resized and normalised.
      decoder: Of the encoder's tokens.
      input_size: Rows and columns that images are resized to for the encoder.
      channels: Channels of a field. One is repeated as three colours, and averaged
        after the decoder; three are taken for colours; otherwise trainable layers lie
        between.
      mean: Of each colour, in units of [0, 1].
      std: Of each colour, likewise.
      freeze_encoder: Whether the encoder is never trained. Gradients pass through it.
      freeze_decoder: Whether the decoder is never trained.
      noise_tau: Size of the noise that is added to tokens where a key is given.
      output_method: How images of the decoder are resized to fields.

    Raises:
      ValueError: A size is out of range or does not fit another.

    Source: Zheng et al. (2025), arXiv 2510.11690.
    """

    encoder: EncoderConfig
    decoder: DecoderConfig
    input_size: tuple[int, int] = (224, 224)
    channels: int = 3
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    freeze_encoder: bool = True
    freeze_decoder: bool = False
    noise_tau: float = 0.0
    output_method: Method = "bilinear"

    def __post_init__(self) -> None:
        _check_positive(self, "channels")
        colours = self.encoder.num_channels
        if not colours == self.decoder.num_channels == len(self.mean) == len(self.std):
            raise ValueError(
                f"an encoder of {colours} channels needs as many of the decoder, of "
                f"mean and of std; found {self.decoder.num_channels}, {len(self.mean)} "
                f"and {len(self.std)}"
            )
        if self.decoder.hidden_size != self.encoder.hidden_size:
            raise ValueError(
                f"the decoder takes tokens of {self.decoder.hidden_size} channels, but "
                f"the encoder gives {self.encoder.hidden_size}"
            )
        if self.decoder.class_source != "trainable":
            raise ValueError("the decoder of a masked autoencoder has no class token")
        if not all(math.isfinite(s) and s > 0 for s in self.std):
            raise ValueError(f"std must be positive, found {self.std!r}")
        if not self.noise_tau >= 0:
            raise ValueError(f"noise_tau must not be negative, found {self.noise_tau}")
        try:
            self.encoder.grid(*self.input_size)
        except ValueError as error:
            raise ValueError(f"encoder input size: {error}") from error

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of a latent field."""
        return self.encoder.hidden_size, *self.encoder.grid(*self.input_size)


def _check_positive(sizes: config.Mapping, *names: str) -> None:
    for name in names:
        if sizes[name] < 1:
            raise ValueError(f"{name} must be at least 1, found {sizes[name]!r}")


def _check_heads(width: int, heads: int, prefix: str = "") -> None:
    if width % heads:
        raise ValueError(
            f"{prefix}hidden_size {width} must be a multiple of "
            f"{prefix}num_attention_heads {heads}"
        )


def _check_epsilon(epsilon: float) -> None:
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise ValueError(f"layer_norm_eps must be positive, found {epsilon!r}")
