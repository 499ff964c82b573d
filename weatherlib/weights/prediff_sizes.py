"""Sizes of PreDiff's networks, told by the shapes of their published arrays."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from weatherlib.geometry import cuboid_patterns, cuboids
from weatherlib.prediff import config as prediff_config
from weatherlib.prediff import published
from weatherlib.weights.prediff_names import Config

__all__ = ["FIRST_LAYER", "infer_config", "kind_of"]

FIRST_LAYER = "first_proj.in_layers.0.weight"
"""An array that all of these networks have."""

Arrays = Mapping[str, np.ndarray]

# The numbers that published patterns come with.
_SIDES = (1, 2, 4, 8, 16, 32)
_PERIODS = (1, 2, 4, 8, 10)
_PATTERNS = (
    "axial",
    "divided_st",
    "full",
    *(f"axial_space_dilate_{k}" for k in (2, 4, 8)),
    "spatial_lg_v1",
    *(f"spatial_lg_{m}" for m in _SIDES),
    *(f"video_swin_{p}x{m}" for p in _PERIODS for m in _SIDES),
)


def kind_of(arrays: Arrays) -> str | None:
    """Returns the name of the network that published arrays belong to, if any."""
    if FIRST_LAYER not in arrays or "time_embed.layer.0.weight" not in arrays:
        return None
    if "final_proj.weight" in arrays:
        return prediff_config.EARTHFORMER_UNET
    return prediff_config.ALIGNMENT if "out.2.qkv_proj.weight" in arrays else None


def infer_config(arrays: Arrays, **given: Any) -> Config:
    """Returns the sizes of the network that published arrays belong to.

    What does not follow from shapes (dropout, padding, activation, shifts, and without
    relative positions the heads) is as in the published network of the same kind, if it
    is not given.

    Args:
      arrays: By published name.
      given: Fields of the configuration that are known, such as `input_shape`, which
        tells how many of the frames are context.

    Raises:
      ValueError: Something has to be given that was not; the arrays are of no such
        network, or some are lacking.
    """
    kind = kind_of(arrays)
    if kind is None:
        raise ValueError(
            "no network of PreDiff: there is neither final_proj nor out.2 beside "
            f"{FIRST_LAYER}"
        )
    is_unet = kind == prediff_config.EARTHFORMER_UNET
    base = published.PUBLISHED_UNET if is_unet else published.PUBLISHED_ALIGNMENT
    try:
        found = _common(arrays, is_unet)
        found |= _vectors(arrays, found)
        found |= _shapes(arrays, is_unet, found.pop("channels"), given)
        if not is_unet:
            found |= {"out_channels": arrays["out.2.c_proj.weight"].shape[0]}
            found |= {"out_len": None}
        found |= {"block_attn_patterns": None} | given
        _add_pattern(base, found, given, arrays)
        sizes = base.replace(**found)
        if not is_unet:
            told: dict[str, Any] = {"readout_seq": _reads_frames(sizes, arrays)}
            told["out_len"] = sizes.levels[-1][0]
            sizes = sizes.replace(**told | given)
    except KeyError as error:
        raise ValueError(f"the arrays of {kind} are incomplete: {error}") from error
    return sizes


def _common(arrays: Arrays, is_unet: bool) -> dict[str, Any]:
    """Returns fields that shapes tell directly."""
    channels, base = (
        arrays[f"first_proj.{name}.weight"].shape[0]
        for name in ("in_layers.0", "out_layers.0")
    )
    levels = _count(arrays, r"down_self_blocks\.(\d+)\.")
    units = [
        arrays[f"down_time_embed_blocks.{i}.in_layers.0.weight"].shape[0]
        for i in range(levels)
    ]
    block = "down_self_blocks.0.0"
    attention = f"{block}.attn_l.0"
    layers = _count(arrays, rf"{re.escape(block)}\.attn_l\.(\d+)\.")
    perceptrons = _count(arrays, rf"{re.escape(block)}\.ffn_l\.(\d+)\.")
    step = arrays["down_time_embed_blocks.0.emb_layers.1.weight"].shape[0]
    found: dict[str, Any] = {
        "channels": channels - is_unet,
        "base_units": base,
        "depth": tuple(
            _count(arrays, rf"down_self_blocks\.{i}\.(\d+)\.") for i in range(levels)
        ),
        "gated_ffn": f"{block}.ffn_l.0.ffn_1_gate.weight" in arrays,
        "use_inter_ffn": perceptrons == layers,
        "use_relative_pos": f"{attention}.relative_position_bias_table" in arrays,
        "self_attn_use_final_proj": f"{attention}.proj.weight" in arrays,
        "time_embed_channels_mult": arrays["time_embed.layer.0.bias"].shape[0] // base,
        "time_embed_use_scale_shift_norm": step == 2 * base,
        "pos_embed_type": "t+hw" if "pos_embed.HW_embed.weight" in arrays else "t+h+w",
        "hierarchical_pos_embed": any("hierarchical_pos_embed" in n for n in arrays),
    }
    if found["use_relative_pos"]:
        table = arrays[f"{attention}.relative_position_bias_table"]
        found["num_heads"] = table.shape[1]
    if levels > 1:
        joined = arrays["downsample_layers.0.reduction.weight"].shape[1]
        growth = math.isqrt(joined // base)
        found["downsample"] = growth
        if units != [base * growth**i for i in range(levels)]:
            found["block_units"] = tuple(units)
    if is_unet and levels > 1:
        found["upsample_kernel_size"] = arrays["upsample_layers.0.conv.weight"].shape[
            -1
        ]
    return found


def _vectors(arrays: Arrays, found: Mapping[str, Any]) -> dict[str, Any]:
    """Returns fields of global vectors."""
    table = arrays.get("init_global_vectors")
    if table is None:
        return {"num_global_vectors": 0}
    block = "down_self_blocks.0.0"
    separate = f"{block}.attn_l.0.l2g_q_net.weight" in arrays
    fields: dict[str, Any] = {
        "num_global_vectors": table.shape[0],
        "global_dim_ratio": table.shape[1] // found["base_units"],
        "separate_global_qkv": separate,
        "use_global_vector_ffn": f"{block}.global_ffn_l.0.ffn_1.weight" in arrays,
    }
    if separate:
        name = f"{block}.attn_l.0.g2g_global_qkv_net.weight"
        fields["use_global_self_attn"] = name in arrays
    return fields


def _shapes(
    arrays: Arrays, is_unet: bool, channels: int, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the shapes of what is given to the network."""
    frames = arrays["pos_embed.T_embed.weight"].shape[0]
    known = given.get("input_shape") or given.get("target_shape")
    if "pos_embed.HW_embed.weight" in arrays:
        places = arrays["pos_embed.HW_embed.weight"].shape[0]
        rows = known[1] if known else math.isqrt(places)
        columns = places // rows
        if rows * columns != places:
            raise ValueError(f"{places} positions fill no grid; give input_shape")
    else:
        rows, columns = (
            arrays[f"pos_embed.{axis}_embed.weight"].shape[0] for axis in "HW"
        )
    if not is_unet:
        return {"input_shape": (frames, rows, columns, channels)}
    if "input_shape" in given:
        past = given["input_shape"][0]
    elif "target_shape" in given:
        past = frames - given["target_shape"][0]
    elif frames == 13:
        past = published.PUBLISHED_UNET.input_shape[0]
    else:
        raise ValueError(
            f"the network works on {frames} frames; give input_shape, which says how "
            "many of them are context"
        )
    return {
        "input_shape": (past, rows, columns, channels),
        "target_shape": (frames - past, rows, columns, channels),
    }


def _add_pattern(
    base: Config, found: dict[str, Any], given: Mapping[str, Any], arrays: Arrays
) -> None:
    """Finds the pattern of cuboids whose tables have the sizes of the arrays.

    Raises:
      ValueError: There is none.
    """
    if "block_attn_patterns" in given or "block_cuboid_size" in given:
        return
    if not found["use_relative_pos"]:
        raise ValueError(
            "without relative positions the arrays do not tell the cuboids; give "
            "block_attn_patterns"
        )
    shapes = base.replace(**found | {"block_attn_patterns": "axial"}).levels
    names = [_pattern_of(shape, i, arrays) for i, shape in enumerate(shapes)]
    for name in _PATTERNS:
        if all(name in fitting for fitting in names):
            found["block_attn_patterns"] = name
            return
    if not all(names):
        raise ValueError(
            "no published pattern has cuboids of these sizes; give "
            "block_attn_patterns, or block_cuboid_size, block_cuboid_strategy and "
            "block_cuboid_shift_size"
        )
    found["block_attn_patterns"] = tuple(fitting[0] for fitting in names)


def _pattern_of(shape: Sequence[int], level: int, arrays: Arrays) -> list[str]:
    """Returns the patterns whose cuboids have the sizes of a level's arrays."""
    layer = f"down_self_blocks.{level}.0.attn_l."
    count = _count(arrays, rf"{re.escape(layer)}(\d+)\.")
    place = (shape[0], shape[1], shape[2])
    return [
        name
        for name in _PATTERNS
        if len(made := cuboid_patterns.pattern(name, place)) == count
        and all(_fits(arrays, f"{layer}{k}", c.size) for k, c in enumerate(made))
    ]


def _fits(arrays: Arrays, layer: str, size: cuboid_patterns.Triple) -> bool:
    rows = math.prod(2 * n - 1 for n in size)
    if arrays[f"{layer}.relative_position_bias_table"].shape[0] != rows:
        return False
    index = arrays.get(f"{layer}.relative_position_index")
    if index is None:
        return True
    return np.array_equal(index, cuboids.relative_position_index(size))


def _reads_frames(sizes: Config, arrays: Arrays) -> bool:
    places = arrays["out.2.positional_embedding"].shape[1] - 1
    return places - sizes.num_global_vectors == math.prod(sizes.levels[-1][1:])


def _numbers(arrays: Arrays, expression: str) -> Iterator[int]:
    for name in arrays:
        match = re.match(expression, name)
        if match is not None:
            yield int(match[1])


def _count(arrays: Arrays, expression: str) -> int:
    """Returns how many numbers, from 0 on, names have at a place."""
    return 1 + max(_numbers(arrays, expression), default=-1)
