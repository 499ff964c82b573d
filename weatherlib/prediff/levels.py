"""What the denoiser and the alignment network are built of."""

from __future__ import annotations

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from weatherlib.nn import (
    cuboid_attention,
    cuboid_blocks,
    projections,
    time_blocks,
)
from weatherlib.prediff.config import CuboidNetworkConfig

__all__ = [
    "Level",
    "attention_settings",
    "coarser",
    "global_vectors",
    "placed",
    "projected",
    "require",
    "start",
    "step_vector",
]


class Level(hk.Module):
    """Blocks of one level: each a residual block with the step, and attention.

    All blocks share the weights of the residual block.
    """

    def __init__(
        self, config: CuboidNetworkConfig, index: int, remat: bool, name: str
    ) -> None:
        """Takes the sizes, which level it is, and whether to save memory."""
        super().__init__(name=name)
        self._config = config
        self._index = index
        self._remat = remat or config.checkpoint_level > 0

    def __call__(
        self,
        x: Float[Array, "batch time lat lon channel"],
        vectors: Float[Array, "batch vector width"] | None,
        step: Float[Array, "batch step_channel"],
        is_training: bool,
    ) -> tuple[
        Float[Array, "batch time lat lon channel"],
        Float[Array, "batch vector width"] | None,
    ]:
        """Returns points and global vectors after all blocks."""
        config = self._config
        residual = time_blocks.TimeResidual(
            x.shape[-1],
            "time",
            scale_shift=config.time_embed_use_scale_shift_norm,
            drop_rate=config.time_embed_dropout,
        )

        def mixed(x: Array, step: Array) -> Array:
            return residual(x, step, is_training)

        for i in range(config.depth[self._index]):
            x = (hk.remat(mixed) if self._remat else mixed)(x, step)
            stack = cuboid_blocks.CuboidStack(
                config.cuboids(self._index),
                attention_settings(config),
                _feed_forward(config),
                inner=config.use_inter_ffn,
                of_vectors=config.use_global_vector_ffn,
                remat=self._remat,
                name=f"block_{i}",
            )
            x, vectors = stack(x, vectors, is_training)
        return x, vectors


def attention_settings(config: CuboidNetworkConfig) -> cuboid_attention.Settings:
    """Returns the settings of attention that a network's configuration says."""
    vectors = None
    if config.num_global_vectors:
        vectors = cuboid_attention.GlobalSettings(
            self_attention=config.use_global_self_attn,
            separate=config.separate_global_qkv,
            ratio=config.global_dim_ratio,
            published_order=config.published_quirks,
        )
    return cuboid_attention.Settings(
        heads=config.num_heads,
        padding=config.padding_type,
        relative_positions=config.use_relative_pos,
        final_projection=config.self_attn_use_final_proj,
        drop_rate=config.attn_drop,
        projection_drop_rate=config.proj_drop,
        init=config.attn_linear_init_mode,
        projection_init=config.attn_proj_linear_init_mode,
        global_vectors=vectors,
    )


def _feed_forward(config: CuboidNetworkConfig) -> cuboid_blocks.FeedForwardSettings:
    return cuboid_blocks.FeedForwardSettings(
        activation=config.ffn_activation,
        gated=config.gated_ffn,
        drop_rate=config.ffn_drop,
        init=config.ffn_linear_init_mode,
        last_init=config.ffn2_linear_init_mode,
    )


def start(
    config: CuboidNetworkConfig,
    x: Float[Array, "batch time lat lon channel"],
    is_training: bool,
) -> Float[Array, "batch time lat lon unit"]:
    """Returns data with the channels of the first level, and positions."""
    first = time_blocks.TimeResidual(
        config.units[0], "first_proj", embedded=False, drop_rate=config.proj_drop
    )
    shape, kind = config.levels[0], config.pos_embed_type
    x = first(x, None, is_training)
    return cuboid_blocks.PositionEmbed(shape, kind, "positions")(x)


def step_vector(
    config: CuboidNetworkConfig, t: Num[Array, " batch"], like: Array
) -> Float[Array, "batch channel"]:
    """Returns the vector of each diffusion step, of the type of `like`."""
    embedded = time_blocks.step_embedding(t, config.units[0]).astype(like.dtype)
    return time_blocks.TimeEmbed(config.time_channels, "time_embed")(embedded)


def global_vectors(
    config: CuboidNetworkConfig, x: Float[Array, "batch time lat lon channel"]
) -> Float[Array, "batch vector width"] | None:
    """Returns the first global vectors of each batch member, if there are any."""
    if not config.num_global_vectors:
        return None
    width = config.global_dim_ratio * config.units[0]
    init = hk.initializers.RandomNormal(0.02)
    shape = (config.num_global_vectors, width)
    table = hk.get_parameter("global_vectors", shape, x.dtype, init=init)
    return jnp.broadcast_to(table, (x.shape[0], *shape))


def projected(
    config: CuboidNetworkConfig,
    vectors: Float[Array, "batch vector width"] | None,
    level: int,
    name: str,
) -> Float[Array, "batch vector new_width"] | None:
    """Returns global vectors with the channels of another level."""
    if vectors is None:
        return None
    width = config.global_dim_ratio * config.units[level]
    return projections.Projection(width, name, init="torch")(vectors)


def coarser(
    config: CuboidNetworkConfig,
    x: Float[Array, "batch time lat lon channel"],
    level: int,
) -> Float[Array, "batch times rows columns new_channel"]:
    """Returns data at a level, given that of the level before."""
    merge = cuboid_blocks.PatchMerge(
        config.units[level],
        config.factor,
        config.padding_type,
        f"down_merge_{level - 1}",
        init=config.down_linear_init_mode,
    )
    return placed(config, merge(x), level - 1, f"down_positions_{level - 1}")


def placed(
    config: CuboidNetworkConfig,
    x: Float[Array, "batch time lat lon channel"],
    finer: int,
    name: str,
) -> Float[Array, "batch time lat lon channel"]:
    """Returns data with positions added, where every level has its own.

    Args:
      config: The sizes.
      x: The data.
      finer: The finer of the two levels that the data is between, which tells how large
        the published tables are, on the way up as on the way down.
      name: Of the module.
    """
    if not config.hierarchical_pos_embed:
        return x
    shape, kind = config.levels[finer], config.pos_embed_type
    return cuboid_blocks.PositionEmbed(shape, kind, name)(x)


def require(found: tuple[int, ...], wanted: tuple[int, ...], what: str) -> None:
    """Makes sure that data has the shape of the configuration.

    Args:
      found: Frames, rows, columns and channels of the data.
      wanted: Those of the configuration.
      what: The data and the field that says how it has to be.

    Raises:
      ValueError: They differ.
    """
    if tuple(found) != tuple(wanted):
        raise ValueError(
            f"{what}: the network works on {_shown(wanted)}, found {_shown(found)}"
        )


def _shown(shape: tuple[int, ...]) -> str:
    frames, rows, columns, channels = shape
    return f"{frames} frames of {rows}x{columns} points and {channels} channels"
