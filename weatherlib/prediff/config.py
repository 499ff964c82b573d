"""Sizes of PreDiff's networks. Nothing here imports JAX or xarray."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, get_args

from weatherlib import config
from weatherlib.geometry import cuboid_patterns, cuboids

__all__ = [
    "ALIGNMENT",
    "EARTHFORMER_UNET",
    "Activation",
    "AlignmentConfig",
    "CuboidNetworkConfig",
    "EarthformerUNetConfig",
]

EARTHFORMER_UNET = "earthformer_unet"
ALIGNMENT = "alignment"

Shape = tuple[int, int, int, int]
Sizes = tuple[int, int, int]
Letters = tuple[str, str, str]
InitMode = Literal["0", "1", "2"]
Activation = Literal[
    "gelu", "leaky", "relu", "elu", "sigmoid", "tanh", "softplus", "softrelu",
    "softsign", "identity",
]  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class CuboidNetworkConfig(config.Mapping):
    """What the networks have in common. Names and defaults are the published ones.

    Attributes:
      input_shape: Frames, rows, columns and channels that are given.
      base_units: Channels of the first level.
      block_units: Channels of every level; None for `base_units` times the coarsening
        to the power of `scale_alpha`.
      scale_alpha: See `block_units`.
      depth: Blocks of attention of each level, which are as many as there are numbers.
      downsample: Points that become one from one level to the next, in rows and columns
        or, as three numbers, in time, rows and columns.
      downsample_type: "patch_merge" joins them.
      block_attn_patterns: Name of the pattern of cuboids, for all levels or for each;
        see `weatherlib.geometry.cuboid_patterns`. None for lists of one's own:
      block_cuboid_size: Cuboids of each layer of a block, for all levels or for each.
      block_cuboid_strategy: Their letters, "l" for local and "d" for dilated.
      block_cuboid_shift_size: How far they are moved.
      num_heads: Attention heads.
      attn_drop: Dropout of attention weights in training.
      proj_drop: Dropout of what attention finds, and of the first block.
      ffn_drop: Dropout of perceptrons.
      ffn_activation: Their activation; "gelu" is the exact one.
      gated_ffn: Whether they have a gate.
      norm_layer: The norm of attention and perceptrons.
      use_inter_ffn: Whether a perceptron follows each layer of attention, or the last.
      hierarchical_pos_embed: Whether every level has positions of its own.
      pos_embed_type: Tables of positions: for time, rows and columns ("t+h+w"), or for
        time and places ("t+hw").
      padding_type: What fills the last cuboids, and merges at the edge.
      checkpoint_level: From 1 on, the backward pass computes the inside of blocks
        again instead of keeping it.
      use_relative_pos: Whether attention knows how points lie to each other.
      self_attn_use_final_proj: Whether a layer mixes the heads.
      num_global_vectors: Vectors that attend to all points; 0 for none.
      use_global_vector_ffn: Whether they have perceptrons.
      use_global_self_attn: Whether they attend to each other.
      separate_global_qkv: Whether points and vectors have layers of their own for
        finding each other.
      global_dim_ratio: Channels of vectors per channel of points.
      attn_linear_init_mode: How queries, keys and values begin: "0" normal by inputs,
        "1" normal by outputs, "2" zero. So do the following, of first and second layers
        of perceptrons, final projections of attention, upsampling and merging.
      ffn_linear_init_mode: See above.
      ffn2_linear_init_mode: See above.
      attn_proj_linear_init_mode: See above.
      conv_init_mode: See above; "0" is the uniform draw of PyTorch's convolutions.
      down_linear_init_mode: See above.
      global_proj_linear_init_mode: Without effect, as in the published code.
      norm_init_mode: Norms begin with scale 1 and offset 0.
      time_embed_channels_mult: Channels of a diffusion step's vector per `base_units`.
      time_embed_use_scale_shift_norm: Whether it scales and moves, or is added; see
        `is_blind_to_steps`.
      time_embed_dropout: Dropout of residual blocks.
      published_quirks: Whether global vectors act as in the published code, also where
        it confuses points or batch members; see `GlobalSettings.published_order` of
        `weatherlib.nn.cuboid_attention` and `weatherlib.prediff.alignment`.

    Raises:
      ValueError: A size is out of range or does not fit another.
    """

    input_shape: Shape
    base_units: int = 128
    block_units: tuple[int, ...] | None = None
    scale_alpha: float = 1.0
    depth: tuple[int, ...] = (4, 4, 4)
    downsample: int | Sizes = 2
    downsample_type: Literal["patch_merge"] = "patch_merge"
    block_attn_patterns: str | tuple[str, ...] | None = None
    block_cuboid_size: tuple[Sizes, ...] | tuple[tuple[Sizes, ...], ...] = (
        (4, 4, 4),
        (4, 4, 4),
    )
    block_cuboid_strategy: tuple[Letters, ...] | tuple[tuple[Letters, ...], ...] = (
        ("l", "l", "l"),
        ("d", "d", "d"),
    )
    block_cuboid_shift_size: tuple[Sizes, ...] | tuple[tuple[Sizes, ...], ...] = (
        (0, 0, 0),
        (0, 0, 0),
    )
    num_heads: int = 4
    attn_drop: float = 0.0
    proj_drop: float = 0.0
    ffn_drop: float = 0.0
    ffn_activation: Activation = "gelu"
    gated_ffn: bool = False
    norm_layer: Literal["layer_norm"] = "layer_norm"
    use_inter_ffn: bool = True
    hierarchical_pos_embed: bool = False
    pos_embed_type: Literal["t+h+w", "t+hw"] = "t+h+w"
    padding_type: cuboids.Padding = "zeros"
    checkpoint_level: int = 0
    use_relative_pos: bool = True
    self_attn_use_final_proj: bool = True
    num_global_vectors: int = 0
    use_global_vector_ffn: bool = True
    use_global_self_attn: bool = False
    separate_global_qkv: bool = False
    global_dim_ratio: int = 1
    attn_linear_init_mode: InitMode = "0"
    ffn_linear_init_mode: InitMode = "0"
    ffn2_linear_init_mode: InitMode = "2"
    attn_proj_linear_init_mode: InitMode = "2"
    conv_init_mode: InitMode = "0"
    down_linear_init_mode: InitMode = "0"
    global_proj_linear_init_mode: InitMode = "2"
    norm_init_mode: Literal["0"] = "0"
    time_embed_channels_mult: int = 4
    time_embed_use_scale_shift_norm: bool = False
    time_embed_dropout: float = 0.0
    published_quirks: bool = True

    def __post_init__(self) -> None:
        _check_numbers(self)
        _check_levels(self)
        if self.global_dim_ratio != 1 and not self.separate_global_qkv:
            raise ValueError(
                f"global_dim_ratio {self.global_dim_ratio} needs separate_global_qkv"
            )
        for level in range(len(self.depth)):
            self.cuboids(level)

    @property
    def frames(self) -> int:
        """Frames that the network works on."""
        return self.input_shape[0]

    @property
    def factor(self) -> Sizes:
        """Points that become one from level to level, in time, rows and columns."""
        step = self.downsample
        return (1, step, step) if isinstance(step, int) else step

    @property
    def units(self) -> tuple[int, ...]:
        """Channels of every level."""
        if self.block_units is not None:
            return self.block_units
        growth = max(self.factor) ** self.scale_alpha
        return tuple(self.base_units * int(growth**i) for i in range(len(self.depth)))

    @property
    def levels(self) -> tuple[Sizes, ...]:
        """Points of every level in time, rows and columns."""
        found: list[Sizes] = [(self.frames, *self.input_shape[1:3])]
        for _ in self.depth[1:]:
            times, rows, columns = (-(-n // k) for n, k in zip(found[-1], self.factor))
            found.append((times, rows, columns))
        return tuple(found)

    @property
    def time_channels(self) -> int:
        """Channels of the vector of a diffusion step."""
        return self.units[0] * self.time_embed_channels_mult

    @property
    def is_blind_to_steps(self) -> bool:
        """Whether nothing tells the network how noisy its input is.

        The vector of a step is added to channels before a norm, which removes what is
        added to all of a group alike; and unless channels are 64, 96, 128, ..., each
        is a group of its own. Such a network runs as published, and cannot be trained
        to denoise well; with `time_embed_use_scale_shift_norm` any channels will do.
        """
        if self.time_embed_use_scale_shift_norm:
            return False
        return all(width % 32 or width == 32 for width in self.units)

    def cuboids(self, level: int) -> tuple[cuboid_patterns.Cuboid, ...]:
        """Returns the cuboids of the layers of a block at a level.

        Raises:
          ValueError: The pattern or the lists are bad.
        """
        names = self.block_attn_patterns
        if names is not None:
            name = names if isinstance(names, str) else names[level]
            return cuboid_patterns.pattern(name, self.levels[level])
        return cuboid_patterns.cuboids_from_lists(
            _of_level(self.block_cuboid_size, level),
            _of_level(self.block_cuboid_strategy, level),
            _of_level(self.block_cuboid_shift_size, level),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EarthformerUNetConfig(CuboidNetworkConfig):
    """The denoiser: a U-Net of cuboid attention over context and target frames.

    Attributes:
      target_shape: Frames, rows, columns and channels that are denoised; the last three
        are those of `input_shape`, which is that of the context.
      upsample_type: "upsample" takes the nearest point and convolves.
      upsample_kernel_size: Points along a side of that convolution.
      up_linear_init_mode: Without effect, as in the published code.
      unet_res_connect: Whether the way down is added to the way up at each level.
    """

    target_shape: Shape
    upsample_type: Literal["upsample"] = "upsample"
    upsample_kernel_size: int = 3
    up_linear_init_mode: InitMode = "0"
    unet_res_connect: bool = True

    def __post_init__(self) -> None:
        if self.input_shape[1:] != self.target_shape[1:]:
            raise ValueError(
                "context and target need the same rows, columns and channels, found "
                f"input_shape {self.input_shape} and target_shape {self.target_shape}"
            )
        if min(self.target_shape) < 1:
            raise ValueError(
                f"target_shape must be positive, found {self.target_shape}"
            )
        if self.upsample_kernel_size % 2 == 0 or self.upsample_kernel_size < 1:
            raise ValueError(
                "upsample_kernel_size must be an odd number, found "
                f"{self.upsample_kernel_size}"
            )
        super().__post_init__()

    @property
    def frames(self) -> int:
        """Frames of context and target together."""
        return self.input_shape[0] + self.target_shape[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignmentConfig(CuboidNetworkConfig):
    """The network that reads knowledge from noisy latents: half a U-Net and a pool.

    Attributes:
      out_channels: Numbers that are read out.
      pool: "attention" reads out by attention.
      readout_seq: Whether every frame is read out, or all frames together.
      out_len: Last frames that are read out; None for all.
    """

    out_channels: int = 1
    pool: Literal["attention"] = "attention"
    readout_seq: bool = True
    out_len: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        last = self.units[-1]
        if self.out_channels < 1:
            raise ValueError(
                f"out_channels must be positive, found {self.out_channels}"
            )
        if last % min(last, 32):
            raise ValueError(
                f"the {last} channels of the last level must be fewer than 32 or a "
                "multiple of 32, for the norm before the pool"
            )
        if self.num_global_vectors and self.global_dim_ratio != 1:
            raise ValueError(
                "global vectors are read out beside points, so global_dim_ratio must "
                f"be 1, found {self.global_dim_ratio}"
            )
        frames = self.levels[-1][0]
        if self.out_len is not None and not 1 <= self.out_len <= frames:
            raise ValueError(
                f"out_len must be between 1 and the {frames} frames of the last level, "
                f"found {self.out_len}"
            )


def _check_numbers(sizes: CuboidNetworkConfig) -> None:
    names = ("base_units", "num_heads", "time_embed_channels_mult", "global_dim_ratio")
    for name in names:
        if sizes[name] < 1:
            raise ValueError(f"{name} must be at least 1, found {sizes[name]!r}")
    for name in ("num_global_vectors", "checkpoint_level"):
        if sizes[name] < 0:
            raise ValueError(f"{name} must not be negative, found {sizes[name]!r}")
    for name in ("attn_drop", "proj_drop", "ffn_drop", "time_embed_dropout"):
        if not 0 <= sizes[name] < 1:
            raise ValueError(f"{name} must be in [0, 1), found {sizes[name]!r}")
    for name, allowed in (
        ("ffn_activation", get_args(Activation)),
        ("padding_type", cuboids.PADDINGS),
        ("pos_embed_type", ("t+h+w", "t+hw")),
    ):
        if sizes[name] not in allowed:
            raise ValueError(
                f"{name}: expected one of {', '.join(allowed)}, found {sizes[name]!r}"
            )
    for name in ("input_shape", "factor"):
        found = getattr(sizes, name)
        if min(found) < 1:
            name = "downsample" if name == "factor" else name
            raise ValueError(f"{name} must be positive, found {found}")


def _check_levels(sizes: CuboidNetworkConfig) -> None:
    if not sizes.depth or min(sizes.depth) < 1:
        raise ValueError(
            f"depth needs at least one block at each level, found {sizes.depth}"
        )
    units, count = sizes.units, len(sizes.depth)
    if len(units) != count or units[0] != sizes.base_units:
        raise ValueError(
            f"block_units must be {count} numbers, as depth, and begin with base_units "
            f"{sizes.base_units}, found {units}"
        )
    for width in units:
        if width < 1 or width % sizes.num_heads:
            raise ValueError(
                f"num_heads {sizes.num_heads} must divide the channels of every level, "
                f"found {units}"
            )
    names = sizes.block_attn_patterns
    if names is not None and not isinstance(names, str) and len(names) != count:
        raise ValueError(
            f"block_attn_patterns must be one name or {count}, as depth, found "
            f"{len(names)}"
        )
    for name in ("size", "strategy", "shift_size"):
        given: Sequence[Any] = sizes[f"block_cuboid_{name}"]
        if names is None and _is_by_level(given) and len(given) != count:
            raise ValueError(
                f"block_cuboid_{name} must be for all levels or for {count}, as depth, "
                f"found {len(given)}"
            )


def _is_by_level(given: Sequence[Any]) -> bool:
    return bool(given and given[0]) and not isinstance(given[0][0], int | str)


def _of_level(given: Sequence[Any], level: int) -> Sequence[Any]:
    return given[level] if _is_by_level(given) else given
