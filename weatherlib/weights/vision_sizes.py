"""What `config.json` of vision encoders and decoders says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from weatherlib import config as config_lib
from weatherlib.latent import published
from weatherlib.latent.config import DecoderConfig, EncoderConfig, Layout

__all__ = [
    "is_representation",
    "read_decoder_config",
    "read_encoder_config",
    "to_config",
]

_TYPES: dict[str, Layout] = {
    "dinov2": "dinov2",
    "dinov2_with_registers": "dinov2",
    "siglip_vision_model": "siglip",
    "siglip2_vision_model": "siglip2",
    "vit_mae": "mae",
}
# A whole model holds its vision tower here.
_WHOLE = {"siglip": "siglip_vision_model", "siglip2": "siglip2_vision_model"}

# What published files leave out because it is the default of their type.
_COMMON = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 16,
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "dinov2": {"patch_size": 14, "mlp_ratio": 4, "use_mask_token": True},
    "dinov2_with_registers": {"num_register_tokens": 4, "mlp_ratio": 4},
    "siglip_vision_model": {"hidden_act": "gelu_pytorch_tanh"},
    "siglip2_vision_model": {"hidden_act": "gelu_pytorch_tanh", "num_patches": 256},
    "vit_mae": {
        "layer_norm_eps": 1e-12,
        "decoder_hidden_size": 512,
        "decoder_num_hidden_layers": 8,
        "decoder_num_attention_heads": 16,
        "decoder_intermediate_size": 2048,
    },
}
_DECODER = (
    "decoder_hidden_size",
    "decoder_num_hidden_layers",
    "decoder_num_attention_heads",
    "decoder_intermediate_size",
)


# Encoders that whole representation autoencoders of diffusers are made with.
_REPRESENTATIONS: dict[str, dict[str, Any]] = {
    "dinov2": {"model_type": "dinov2_with_registers", "image_size": 518},
    "siglip2": {"model_type": "siglip_vision_model", "image_size": 256},
    "mae": {"model_type": "vit_mae", "image_size": 224},
}


def is_representation(held: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is of a whole representation autoencoder of diffusers."""
    return held.get("_class_name") == "AutoencoderRAE"


def read_encoder_config(
    held: Mapping[str, Any], where: str = "config.json"
) -> EncoderConfig:
    """Returns the encoder that a `config.json` describes.

    Those of transformers and timm are read, and of representation autoencoders of
    diffusers.

    Args:
      held: What it says.
      where: The file, for messages.

    Raises:
      ValueError: It describes another model, or one that is not made here.
    """
    if is_representation(held):
        held = _encoder_of_representation(held, where)
    if "model_type" not in held and "architecture" in held:
        return _timm(held, where)
    kind, found = _of_type(held, where)
    layout = _TYPES[kind]
    tanh = layout in ("siglip", "siglip2")
    wanted = "gelu_pytorch_tanh" if tanh else "gelu"
    if found.get("hidden_act", wanted) != wanted:
        raise ValueError(
            f"{where}: hidden_act is {found['hidden_act']!r}, of which only {wanted!r} "
            f"is made here for {kind}"
        )
    if not found["qkv_bias"]:
        raise ValueError(f"{where}: qkv_bias is false, which is not made here")
    width = _number(found, "hidden_size", where)
    chosen: dict[str, Any] = {
        name: found[name]
        for name in _COMMON
        if name not in ("qkv_bias", "intermediate_size", "image_size")
    }
    chosen |= {"layout": layout, "image_size": _side(found, layout, where)}
    if layout == "dinov2":
        gated = bool(found.get("use_swiglu_ffn", False))
        hidden = int(width * found["mlp_ratio"])
        chosen |= {
            "use_swiglu_ffn": gated,
            "intermediate_size": _gated_width(hidden) if gated else hidden,
            "num_register_tokens": found.get("num_register_tokens", 0)
            if kind == "dinov2_with_registers"
            else 0,
            # The types with registers always have one.
            "use_mask_token": bool(found.get("use_mask_token", True)),
        }
    else:
        chosen["intermediate_size"] = found["intermediate_size"]
    if tanh:
        chosen["pooling_head"] = bool(found.get("vision_use_head", True))
    return _made(EncoderConfig, chosen, where)


def read_decoder_config(
    held: Mapping[str, Any], where: str = "config.json"
) -> DecoderConfig:
    """Returns the decoder that a `config.json` describes.

    That is of a masked autoencoder, or of a representation autoencoder of diffusers.
    The tokens that come in have its `hidden_size`, and lie on the grid of its images.

    Args:
      held: What it says.
      where: The file, for messages.

    Raises:
      ValueError: It describes another model, or one that is not made here.
    """
    if is_representation(held):
        held = _decoder_of_representation(held, where)
    if "model_type" not in held and all(name in held for name in _DECODER):
        held = {**held, "model_type": "vit_mae"}
    kind, found = _of_type(held, where)
    if kind != "vit_mae":
        raise ValueError(f"{where}: a {kind} has no decoder; a vit_mae has")
    if found.get("hidden_act", "gelu") != "gelu":
        raise ValueError(
            f"{where}: hidden_act is {found['hidden_act']!r}, of which only 'gelu' is "
            "made here"
        )
    side = max(_side(found, "mae", where) // _number(found, "patch_size", where), 1)
    names = (*_DECODER, "hidden_size", "patch_size", "num_channels", "layer_norm_eps")
    chosen = {name: found[name] for name in names}
    return _made(DecoderConfig, {**chosen, "grid": (side, side)}, where)


def to_config(sizes: EncoderConfig) -> dict[str, Any]:
    """Returns what a `config.json` says about an encoder.

    Raises:
      ValueError: No published type has such an encoder.
    """
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_channels")
    if sizes.layout == "timm":
        return _to_timm(sizes)
    found = {n: sizes[n] for n in (*names, "patch_size", "layer_norm_eps")}
    if sizes.layout == "siglip2":
        found["num_patches"] = sizes.position_grid**2
    else:
        found["image_size"] = sizes.image_size
    if sizes.layout == "dinov2":
        registers = sizes.num_register_tokens
        kind = "dinov2_with_registers" if registers else "dinov2"
        found |= {"model_type": kind, "hidden_act": "gelu", "qkv_bias": True}
        found |= {"use_swiglu_ffn": sizes.use_swiglu_ffn}
        found["mlp_ratio"] = _ratio(sizes)
        if registers:
            found["num_register_tokens"] = registers
        found["use_mask_token"] = sizes.use_mask_token
        return found
    found["intermediate_size"] = sizes.intermediate_size
    if sizes.layout == "mae":
        return {**found, "model_type": "vit_mae", "hidden_act": "gelu"}
    kind = "siglip_vision_model" if sizes.layout == "siglip" else "siglip2_vision_model"
    return {
        **found,
        "model_type": kind,
        "hidden_act": "gelu_pytorch_tanh",
        "vision_use_head": sizes.pooling_head,
    }


_RAE_DEFAULTS = {
    "encoder_type": "dinov2",
    "encoder_hidden_size": 768,
    "encoder_patch_size": 14,
    "encoder_num_hidden_layers": 12,
    "encoder_input_size": 224,
    "patch_size": 16,
}


def _encoder_of_representation(held: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns what the encoder's own `config.json` would say."""
    found = {**_RAE_DEFAULTS, **held}
    kind = found["encoder_type"]
    if kind not in _REPRESENTATIONS:
        raise ValueError(
            f"{where}: encoder_type is {kind!r}, not one of "
            f"{', '.join(_REPRESENTATIONS)}"
        )
    width = _number(found, "encoder_hidden_size", where)
    return {
        **_REPRESENTATIONS[kind],
        "hidden_size": width,
        # All have heads of 64 channels.
        "num_attention_heads": max(width // 64, 1),
        "num_hidden_layers": found["encoder_num_hidden_layers"],
        "patch_size": found["encoder_patch_size"],
    }


def _decoder_of_representation(held: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns what the decoder's own `config.json` would say."""
    found = {**_RAE_DEFAULTS, **held}
    size = _number(found, "patch_size", where)
    step = max(_number(found, "encoder_patch_size", where), 1)
    side = _number(found, "encoder_input_size", where) // step
    own = {name: held[name] for name in _DECODER if name in held}
    return {
        **own,
        "model_type": "vit_mae",
        "hidden_size": found["encoder_hidden_size"],
        "patch_size": size,
        "image_size": side * size,
        "num_channels": found.get("num_channels", 3),
    }


def _of_type(held: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """Returns the type of a model, and what its file says with defaults filled in."""
    kind = held.get("model_type")
    if kind in _WHOLE:
        inner = held.get("vision_config", {})
        if not isinstance(inner, Mapping):
            raise ValueError(f"{where}: vision_config is no mapping")
        kind, held = _WHOLE[kind], inner
    if not isinstance(kind, str) or kind not in _TYPES:
        raise ValueError(
            f"{where}: describes a {kind!r}, which is no encoder made here; those are "
            f"{', '.join(_TYPES)} and models of timm"
        )
    given = {name: value for name, value in held.items() if value is not None}
    return kind, {**_COMMON, **_DEFAULTS[kind], **given}


def _side(found: Mapping[str, Any], layout: Layout, where: str) -> int:
    """Returns the pixels along a side of the images a model was made for."""
    if layout == "siglip2":
        count = _number(found, "num_patches", where)
        side = math.isqrt(count)
        if side**2 != count:
            raise ValueError(f"{where}: num_patches {count} is no square")
        return side * _number(found, "patch_size", where)
    side = found["image_size"]
    if isinstance(side, list) and len(set(map(str, side))) == 1:
        side = side[0]
    return _number({"image_size": side}, "image_size", where)


def _number(found: Mapping[str, Any], name: str, where: str) -> int:
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{where}: {name} is {value!r}, not a whole number")
    return value


def _gated_width(hidden: int) -> int:
    """Returns the width of each half of a gated perceptron, as published."""
    return (int(hidden * 2 / 3) + 7) // 8 * 8


def _ratio(sizes: EncoderConfig) -> float:
    """Returns the published `mlp_ratio` that leads to the width of the perceptron."""
    width, hidden = sizes.hidden_size, sizes.intermediate_size
    ratio = hidden * 1.5 / width if sizes.use_swiglu_ffn else hidden / width
    for guess in (round(ratio), ratio, (hidden * 1.5 - 4) / width):
        made = int(width * guess)
        if hidden == (_gated_width(made) if sizes.use_swiglu_ffn else made):
            return guess
    raise ValueError(
        f"no mlp_ratio leads from hidden_size {width} to intermediate_size {hidden}"
    )


def _timm(held: Mapping[str, Any], where: str) -> EncoderConfig:
    """Returns the encoder that a `config.json` of timm describes.

    Published ones name the architecture and hold arguments in `model_args`.
    """
    name = str(held["architecture"]).split()[0]
    try:
        sizes = published.encoder_sizes(name)
    except ValueError as error:
        raise ValueError(f"{where}: architecture: {error}") from error
    if sizes.layout != "timm":
        raise ValueError(f"{where}: {name} is no model of timm")
    arguments = held.get("model_args") or {}
    if not isinstance(arguments, Mapping):
        raise ValueError(f"{where}: model_args is no mapping")
    given = {**arguments, **{n: v for n, v in held.items() if v is not None}}
    chosen = {
        ours: given[theirs]
        for ours, theirs in (
            ("hidden_size", "embed_dim"),
            ("num_hidden_layers", "depth"),
            ("num_attention_heads", "num_heads"),
            ("patch_size", "patch_size"),
            ("image_size", "img_size"),
            ("num_channels", "in_chans"),
            ("num_register_tokens", "reg_tokens"),
            ("layer_norm_eps", "layer_norm_eps"),
        )
        if theirs in given
    }
    side = chosen.get("image_size")
    if isinstance(side, (list, tuple)) and len(set(map(str, side))) == 1:
        chosen["image_size"] = side[0]
    if "mlp_layer" in given:
        chosen["use_swiglu_ffn"] = given["mlp_layer"] == "SwiGLUPacked"
    if "mlp_ratio" in given:
        width = chosen.get("hidden_size", sizes.hidden_size)
        hidden = int(width * given["mlp_ratio"])
        gated = chosen.get("use_swiglu_ffn", sizes.use_swiglu_ffn)
        chosen["intermediate_size"] = hidden // 2 if gated else hidden
    if "no_embed_class" in given:
        chosen["class_position"] = not given["no_embed_class"]
    merged = {**sizes, **chosen}
    if merged["num_register_tokens"] and merged["class_position"]:
        raise ValueError(f"{where}: registers with positions are not made here")
    return _made(EncoderConfig, merged, where)


def _to_timm(sizes: EncoderConfig) -> dict[str, Any]:
    kind = "giant" if sizes.use_swiglu_ffn else "base"
    registers = "_reg4" if sizes.num_register_tokens else ""
    width, gate = sizes.hidden_size, 1 + sizes.use_swiglu_ffn
    return {
        "architecture": f"vit_{kind}_patch14{registers}_dinov2",
        "num_classes": 0,
        "global_pool": "token",
        "model_args": {
            "embed_dim": width,
            "depth": sizes.num_hidden_layers,
            "num_heads": sizes.num_attention_heads,
            "patch_size": sizes.patch_size,
            "img_size": sizes.image_size,
            "in_chans": sizes.num_channels,
            # Half a channel more, that rounding down finds the number again.
            "mlp_ratio": (gate * sizes.intermediate_size + 0.5) / width,
            "reg_tokens": sizes.num_register_tokens,
            "no_embed_class": not sizes.class_position,
            "layer_norm_eps": sizes.layer_norm_eps,
        },
    }


def _made(cls: type, chosen: Mapping[str, Any], where: str) -> Any:
    try:
        return config_lib.from_dict(cls, chosen)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
