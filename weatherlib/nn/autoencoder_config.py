"""Sizes of KL autoencoders. Nothing here imports JAX."""

from __future__ import annotations

import dataclasses
import math

from weatherlib import config

__all__ = [
    "DECODER",
    "ENCODER",
    "PREDIFF_VAE",
    "SD_VAE",
    "AutoencoderConfig",
    "AutoencoderLossConfig",
    "parameter_shapes",
]

Shapes = dict[str, dict[str, tuple[int, ...]]]

ENCODER = "vae_encoder"
"""First part of the Haiku paths of the encoder."""

DECODER = "vae_decoder"
"""First part of the Haiku paths of the decoder."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(config.Mapping):
    """An `AutoencoderKL` of the diffusers package; fields carry its names.

    Attributes:
      in_channels: Channels of a field.
      out_channels: Channels of a decoded field.
      latent_channels: Channels of a latent field.
      block_out_channels: Channels of each level. Between levels fields are halved.
      layers_per_block: Residual blocks of a level of the encoder; the decoder has one
        more.
      norm_num_groups: Groups of channels that are normalised together.
      act_fn: "silu", "relu", "gelu" or "mish".
      mid_block_add_attention: Whether the points of the coarsest level attend to each
        other.
      use_quant_conv: Whether a 1x1 convolution follows the encoder.
      use_post_quant_conv: Whether one comes before the decoder.
      scaling_factor: What latent fields are multiplied by for a diffusion model, and
        divided by before they are decoded. The autoencoder itself does neither.
      shift_factor: Subtracted before that, and added after it.
      sample_size: Rows and columns of the fields that it was trained on.

    Raises:
      ValueError: A size is out of range or does not fit another.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    act_fn: str = "silu"
    mid_block_add_attention: bool = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    scaling_factor: float = 0.18215
    shift_factor: float = 0.0
    sample_size: int = 512

    def __post_init__(self) -> None:
        for name in (
            "in_channels",
            "out_channels",
            "latent_channels",
            "layers_per_block",
            "norm_num_groups",
            "sample_size",
        ):
            if self[name] < 1:
                raise ValueError(f"{name} must be at least 1, found {self[name]!r}")
        if not self.block_out_channels:
            raise ValueError("block_out_channels needs the channels of a level or more")
        for width in self.block_out_channels:
            if width < 1 or width % self.norm_num_groups:
                raise ValueError(
                    f"norm_num_groups {self.norm_num_groups} does not divide the "
                    f"{width} channels of block_out_channels {self.block_out_channels}"
                )
        if self.act_fn not in ("silu", "relu", "gelu", "mish"):
            raise ValueError(
                f"act_fn {self.act_fn!r} is not one of silu, relu, gelu and mish"
            )
        if not (math.isfinite(self.scaling_factor) and self.scaling_factor > 0):
            raise ValueError(
                f"scaling_factor must be positive, found {self.scaling_factor!r}"
            )

    @property
    def reduction(self) -> int:
        """Rows, and columns, of a field for each of a latent field."""
        return 2 ** (len(self.block_out_channels) - 1)


SD_VAE = AutoencoderConfig()
"""The autoencoder of Stable Diffusion 1.5: 83,653,863 parameters."""

PREDIFF_VAE = AutoencoderConfig(
    in_channels=1,
    out_channels=1,
    latent_channels=64,
    scaling_factor=1.0,
    sample_size=128,
)
"""The autoencoder of PreDiff for SEVIR-LR: 84,499,393 parameters."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderLossConfig(config.Mapping):
    """What counts when an autoencoder is trained. Weights of 0 leave a part out.

    Errors are summed over the points of a field, as published, which the weights of
    the other parts go by.

    Attributes:
      reconstruction: "l1" or "l2", the error at a point.
      learn_log_variance: Whether the expected error at a point is trained, by which
        errors are divided.
      kl_weight: Of the divergence of the latent distributions from the standard one.
      gradient_weight: Of the difference of slopes, per unit of error at a point.
      spectral_weight: Of the difference of log-spectra, per unit of error at a point.
      scales: Resolutions at which slopes are compared.
      adversarial_weight: Of the discriminator, beside the weight that makes its
        gradient as long as that of the error.
      adversarial_start: Steps before it begins to count and to learn.

    Raises:
      ValueError: A weight is negative or a name is unknown.
    """

    reconstruction: str = "l1"
    learn_log_variance: bool = True
    kl_weight: float = 1e-6
    gradient_weight: float = 0.0
    spectral_weight: float = 0.0
    scales: int = 3
    adversarial_weight: float = 0.0
    adversarial_start: int = 50001

    def __post_init__(self) -> None:
        if self.reconstruction not in ("l1", "l2"):
            raise ValueError(
                f"reconstruction {self.reconstruction!r} is neither l1 nor l2"
            )
        for name in (
            "kl_weight",
            "gradient_weight",
            "spectral_weight",
            "adversarial_weight",
            "adversarial_start",
        ):
            if not self[name] >= 0:
                raise ValueError(f"{name} must not be negative, found {self[name]!r}")
        if self.scales < 1:
            raise ValueError(f"scales must be at least 1, found {self.scales!r}")


def parameter_shapes(sizes: AutoencoderConfig) -> Shapes:
    """Returns Haiku module path to parameter name to shape.

    With C the channels of a level, `vae_encoder` holds `conv_in`, `down_I/resnet_J`,
    `down_I/downsample`, `mid`, `norm_out`, `conv_out` and `quant_conv`; `vae_decoder`
    holds `post_quant_conv`, `conv_in`, `mid`, `up_I/resnet_J`, `up_I/upsample`,
    `norm_out` and `conv_out`. A `resnet_J` holds `norm1`, `conv1`, `norm2`, `conv2`
    and, where channels change, `shortcut`. A `mid` holds `resnet_0`, `attention/norm`,
    `query`, `key`, `value`, `output` and `resnet_1`. Convolutions have `w` [row,
    column, input, output], linear layers `w` [input, output], norms `scale` and
    `offset`.
    """
    widths, layers = sizes.block_out_channels, sizes.layers_per_block
    latent, deepest = sizes.latent_channels, widths[-1]
    shapes: Shapes = {f"{ENCODER}/conv_in": _conv(sizes.in_channels, widths[0])}
    width = widths[0]
    for i, wanted in enumerate(widths):
        for j in range(layers):
            shapes |= _resnet(f"{ENCODER}/down_{i}/resnet_{j}", width, wanted)
            width = wanted
        if i < len(widths) - 1:
            shapes[f"{ENCODER}/down_{i}/downsample"] = _conv(width, width)
    shapes |= _middle(f"{ENCODER}/mid", deepest, sizes.mid_block_add_attention)
    shapes[f"{ENCODER}/norm_out"] = _norm(deepest)
    shapes[f"{ENCODER}/conv_out"] = _conv(deepest, 2 * latent)
    if sizes.use_quant_conv:
        shapes[f"{ENCODER}/quant_conv"] = _conv(2 * latent, 2 * latent, 1)
    if sizes.use_post_quant_conv:
        shapes[f"{DECODER}/post_quant_conv"] = _conv(latent, latent, 1)
    shapes[f"{DECODER}/conv_in"] = _conv(latent, deepest)
    shapes |= _middle(f"{DECODER}/mid", deepest, sizes.mid_block_add_attention)
    width = deepest
    for i, wanted in enumerate(reversed(widths)):
        for j in range(layers + 1):
            shapes |= _resnet(f"{DECODER}/up_{i}/resnet_{j}", width, wanted)
            width = wanted
        if i < len(widths) - 1:
            shapes[f"{DECODER}/up_{i}/upsample"] = _conv(width, width)
    shapes[f"{DECODER}/norm_out"] = _norm(widths[0])
    shapes[f"{DECODER}/conv_out"] = _conv(widths[0], sizes.out_channels)
    return shapes


def _conv(inputs: int, outputs: int, side: int = 3) -> dict[str, tuple[int, ...]]:
    return {"w": (side, side, inputs, outputs), "b": (outputs,)}


def _norm(width: int) -> dict[str, tuple[int, ...]]:
    return {"scale": (width,), "offset": (width,)}


def _resnet(module: str, inputs: int, outputs: int) -> Shapes:
    shapes = {
        f"{module}/norm1": _norm(inputs),
        f"{module}/conv1": _conv(inputs, outputs),
        f"{module}/norm2": _norm(outputs),
        f"{module}/conv2": _conv(outputs, outputs),
    }
    if inputs != outputs:
        shapes[f"{module}/shortcut"] = _conv(inputs, outputs, 1)
    return shapes


def _middle(module: str, width: int, attends: bool) -> Shapes:
    shapes = _resnet(f"{module}/resnet_0", width, width)
    if attends:
        shapes[f"{module}/attention/norm"] = _norm(width)
        for part in ("query", "key", "value", "output"):
            layer = {"w": (width, width), "b": (width,)}
            shapes[f"{module}/attention/{part}"] = layer
    return shapes | _resnet(f"{module}/resnet_1", width, width)
