"""Published settings of PreDiff's networks, under the names of the published YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weatherlib import config
from weatherlib.prediff.config import AlignmentConfig, EarthformerUNetConfig

__all__ = [
    "PUBLISHED_ALIGNMENT",
    "PUBLISHED_UNET",
    "UNUSED",
    "alignment_from_published",
    "unet_from_published",
]

UNUSED = (
    "use_dec_self_global",
    "dec_self_update_global",
    "use_dec_cross_global",
    "pretrained_ckpt_path",
    "model_ckpt_path",
)
"""Keys of the published files that say nothing of a network's sizes.

They are of other networks, or name files.
"""

# The published constructors begin with these where a configuration does not say.
_UNET_DEFAULTS = {"ffn_activation": "leaky", "padding_type": "ignore"}

PUBLISHED_UNET = EarthformerUNetConfig(
    input_shape=(7, 16, 16, 64),
    target_shape=(6, 16, 16, 64),
    base_units=256,
    depth=(4, 4),
    block_attn_patterns="axial",
    attn_drop=0.1,
    proj_drop=0.1,
    ffn_drop=0.1,
    use_global_vector_ffn=False,
    use_global_self_attn=True,
    separate_global_qkv=True,
)
"""The denoiser of SEVIR-LR: 136,817,538 parameters."""

PUBLISHED_ALIGNMENT = AlignmentConfig(
    input_shape=(6, 16, 16, 64),
    base_units=128,
    depth=(1, 1),
    block_attn_patterns="axial",
    attn_drop=0.1,
    proj_drop=0.1,
    ffn_drop=0.1,
    out_len=6,
)
"""The network that reads mean intensity from latents: 8,937,033 parameters."""


def unet_from_published(settings: Mapping[str, Any]) -> EarthformerUNetConfig:
    """Returns the sizes of a denoiser from published settings.

    Args:
      settings: Arguments of the published constructor, or the model part of a
        published YAML file, which has other names for a few. What is not given is as
        in the published constructor.

    Raises:
      ValueError: A name is unknown, or a value is out of range.
    """
    found = _renamed(_UNET_DEFAULTS | dict(settings))
    return config.from_dict(EarthformerUNetConfig, found)


def alignment_from_published(settings: Mapping[str, Any]) -> AlignmentConfig:
    """Returns the sizes of an alignment network from published settings.

    Args:
      settings: Arguments of the published constructor, or the alignment part of a
        published YAML file, which holds them as `model_args`.

    Raises:
      ValueError: A name is unknown, or a value is out of range; or the network is of
        another kind than "cuboid".
    """
    if "model_args" in settings:
        kind = settings.get("model_type", "cuboid")
        if kind != "cuboid":
            raise ValueError(f"model_type: there is cuboid, found {kind!r}")
        settings = settings["model_args"]
    return config.from_dict(AlignmentConfig, _renamed(dict(settings)))


def _renamed(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns settings under the names of the constructors, and with their types."""
    for name in UNUSED:
        settings.pop(name, None)
    if "self_pattern" in settings:
        settings["block_attn_patterns"] = settings.pop("self_pattern")
    if "down_up_linear_init_mode" in settings:
        mode = settings.pop("down_up_linear_init_mode")
        settings |= {"down_linear_init_mode": mode, "up_linear_init_mode": mode}
    for name in ("num_global_vectors", "checkpoint_level"):
        # The published defaults are False and True.
        if isinstance(settings.get(name), bool):
            settings[name] = int(settings[name])
    return settings
