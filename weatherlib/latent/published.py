"""Sizes of published vision encoders and decoders. Nothing here imports JAX."""

from __future__ import annotations

import dataclasses
from typing import Any

from weatherlib import config
from weatherlib.latent.config import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    DecoderConfig,
    EncoderConfig,
    Layout,
)

__all__ = [
    "DECODERS",
    "ENCODERS",
    "ENCODER_CLASSES",
    "EncoderClass",
    "decoder_sizes",
    "encoder_class",
    "encoder_sizes",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderClass:
    """A kind of encoder of representation autoencoders.

    Attributes:
      layouts: Layouts that belong to it.
      default: Published encoder that it is known for.
      input_size: Pixels along a side of the images that it is given by default.
      mean: Of each colour, in units of [0, 1], subtracted from images.
      std: What they are divided by.
    """

    layouts: tuple[Layout, ...]
    default: str
    input_size: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


ENCODER_CLASSES = {
    "Dinov2withNorm": EncoderClass(
        layouts=("dinov2", "timm"), default="facebook/dinov2-base", input_size=224
    ),
    "SigLIP2wNorm": EncoderClass(
        layouts=("siglip", "siglip2"),
        default="google/siglip2-base-patch16-256",
        input_size=256,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
    "MAEwNorm": EncoderClass(
        layouts=("mae",), default="facebook/vit-mae-base", input_size=224
    ),
}
"""By the names that configurations use."""

# Channels, blocks, heads.
_SMALL, _BASE, _LARGE = (384, 12, 6), (768, 12, 12), (1024, 24, 16)
_GIANT, _HUGE = (1536, 40, 24), (1280, 32, 16)


def _sizes(size: tuple[int, int, int], hidden: int = 0, **others: Any) -> EncoderConfig:
    width, depth, heads = size
    return EncoderConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=hidden or 4 * width,
        **others,
    )


def _dinov2(
    size: tuple[int, int, int], registers: int, layout: Layout
) -> EncoderConfig:
    giant = size == _GIANT
    return _sizes(
        size,
        4096 if giant else 0,
        layout=layout,
        use_swiglu_ffn=giant,
        num_register_tokens=registers,
        use_mask_token=layout == "dinov2",
        class_position=layout == "dinov2" or not registers,
    )


def _siglip(
    size: tuple[int, int, int],
    side: int,
    *,
    patch: int = 16,
    hidden: int = 0,
    layout: Layout = "siglip",
) -> EncoderConfig:
    return _sizes(
        size,
        hidden,
        layout=layout,
        patch_size=patch,
        image_size=side,
        pooling_head=True,
    )


def _encoders() -> dict[str, EncoderConfig]:
    found: dict[str, EncoderConfig] = {}
    dinov2 = {"small": _SMALL, "base": _BASE, "large": _LARGE, "giant": _GIANT}
    for name, size in dinov2.items():
        found[f"facebook/dinov2-{name}"] = _dinov2(size, 0, "dinov2")
        registers = _dinov2(size, 4, "dinov2")
        found[f"facebook/dinov2-with-registers-{name}"] = registers
        found[f"vit_{name}_patch14_dinov2"] = _dinov2(size, 0, "timm")
        found[f"vit_{name}_patch14_reg4_dinov2"] = _dinov2(size, 4, "timm")
    optimal = (1152, 27, 16)
    for side in (224, 256, 384, 512):
        found[f"google/siglip2-base-patch16-{side}"] = _siglip(_BASE, side)
    for side in (256, 384, 512):
        found[f"google/siglip2-large-patch16-{side}"] = _siglip(_LARGE, side)
        found[f"google/siglip2-so400m-patch16-{side}"] = _siglip(
            optimal, side, hidden=4304
        )
    for side in (224, 384):
        found[f"google/siglip2-so400m-patch14-{side}"] = _siglip(
            optimal, side, patch=14, hidden=4304
        )
    found["google/siglip2-base-patch16-naflex"] = _siglip(_BASE, 256, layout="siglip2")
    found["google/siglip2-so400m-patch16-naflex"] = _siglip(
        optimal, 256, hidden=4304, layout="siglip2"
    )
    for name, size in {"base": _BASE, "large": _LARGE, "huge": _HUGE}.items():
        found[f"facebook/vit-mae-{name}"] = _sizes(
            size,
            layout="mae",
            patch_size=14 if name == "huge" else 16,
            image_size=224,
            layer_norm_eps=1e-12,
        )
    return found


ENCODERS = _encoders()
"""Published encoders by name; those of timm have no owner before theirs."""

_MAE_DECODER = DecoderConfig()
DECODERS = {
    "vit_mae-base": _MAE_DECODER,
    "facebook/vit-mae-base": _MAE_DECODER,
    "ViTB": _MAE_DECODER.replace(
        decoder_hidden_size=768,
        decoder_num_hidden_layers=12,
        decoder_num_attention_heads=12,
        decoder_intermediate_size=3072,
    ),
    "ViTL": _MAE_DECODER.replace(
        decoder_hidden_size=1024,
        decoder_num_hidden_layers=24,
        decoder_num_attention_heads=16,
        decoder_intermediate_size=4096,
    ),
    "ViTXL": _MAE_DECODER.replace(
        decoder_hidden_size=1152,
        decoder_num_hidden_layers=28,
        decoder_num_attention_heads=16,
        decoder_intermediate_size=4096,
    ),
}
"""Decoders by name; those of published representation autoencoders are `ViTXL`."""


def encoder_class(name: str) -> EncoderClass:
    """Returns the kind of encoder of a name.

    Raises:
      ValueError: There is none.
    """
    if name not in ENCODER_CLASSES:
        raise ValueError(
            f"encoder_cls: there is no encoder {name!r}"
            f"{config.closest_hint(name, ENCODER_CLASSES)}; one of "
            f"{', '.join(ENCODER_CLASSES)}"
        )
    return ENCODER_CLASSES[name]


def encoder_sizes(name: str) -> EncoderConfig:
    """Returns the sizes of a published encoder.

    Args:
      name: As published; a part before `timm/` or after a dot does not count.

    Raises:
      ValueError: There is none.
    """
    short = name.removeprefix("timm/").split(".")[0] if "vit_" in name else name
    if short not in ENCODERS:
        raise ValueError(
            f"there is no folder and no published encoder {name!r}"
            f"{config.closest_hint(name, ENCODERS)}"
        )
    return ENCODERS[short]


def decoder_sizes(name: str) -> DecoderConfig:
    """Returns the sizes of a decoder of a name, for 16x16 tokens of 768 channels.

    Raises:
      ValueError: There is none.
    """
    short = name.rstrip("/").split("/")[-1]
    for known in (name, short):
        if known in DECODERS:
            return DECODERS[known]
    raise ValueError(
        f"there is no folder and no decoder {name!r}"
        f"{config.closest_hint(short, DECODERS)}"
    )
