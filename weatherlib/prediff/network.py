"""The denoiser of PreDiff on arrays: a U-Net of cuboid attention.

Context and noisy target frames are one after the other in time, told apart by a
channel. Source: Gao et al. (2023), arXiv 2307.10422.
"""

from __future__ import annotations

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from weatherlib.nn import cuboid_blocks, projections
from weatherlib.prediff import levels
from weatherlib.prediff.config import EARTHFORMER_UNET, EarthformerUNetConfig

__all__ = ["EarthformerUNet"]


class EarthformerUNet(hk.Module):
    """Predicts what was added to frames, given the frames before them."""

    def __init__(
        self,
        config: EarthformerUNetConfig,
        *,
        remat: bool = False,
        name: str = EARTHFORMER_UNET,
    ) -> None:
        """Takes the sizes.

        Args:
          config: Sizes.
          remat: Whether the backward pass computes the inside of blocks again instead
            of keeping it.
          name: Of the module.
        """
        super().__init__(name=name)
        self._config = config
        self._remat = remat

    def __call__(
        self,
        noisy: Float[Array, "batch target lat lon channel"],
        t: Num[Array, " batch"],
        context: Float[Array, "batch past lat lon channel"],
        is_training: bool = False,
    ) -> Float[Array, "batch target lat lon channel"]:
        """Returns the prediction for each target frame; zero before any training.

        Args:
          noisy: Target frames at diffusion step `t`.
          t: Number of the step, each batch member for itself.
          context: Frames before them.
          is_training: Whether dropout is on, which draws from the Haiku key stream.

        Raises:
          ValueError: The frames are not as many, or not of the size, that the
            configuration says.
        """
        config = self._config
        levels.require(context.shape[1:], config.input_shape, "context (input_shape)")
        levels.require(noisy.shape[1:], config.target_shape, "target (target_shape)")
        x = jnp.concatenate([context, noisy], axis=1)
        given = jnp.arange(x.shape[1]) < context.shape[1]
        mark = jnp.broadcast_to(
            given.astype(x.dtype).reshape(1, -1, 1, 1, 1), (*x.shape[:-1], 1)
        )
        x = levels.start(config, jnp.concatenate([x, mark], axis=-1), is_training)
        step = levels.step_vector(config, t, x)
        vectors = levels.global_vectors(config, x)
        x, vectors, passed = self._down(x, vectors, step, is_training)
        x = self._up(x, vectors, step, passed, is_training)
        last = projections.Projection(noisy.shape[-1], "final_proj", init="2")
        return last(x[:, context.shape[1] :])

    @hk.transparent
    def _down(
        self, x: Array, vectors: Array | None, step: Array, is_training: bool
    ) -> tuple[Array, Array | None, list[Array]]:
        """Returns points, vectors and, of all levels but the last, their results."""
        config = self._config
        passed = []
        for i in range(len(config.depth)):
            if i > 0:
                passed.append(x)
                x = levels.coarser(config, x, i)
                vectors = levels.projected(config, vectors, i, f"down_global_{i - 1}")
            level = levels.Level(config, i, self._remat, f"down_{i}")
            x, vectors = level(x, vectors, step, is_training)
        return x, vectors, passed

    @hk.transparent
    def _up(
        self,
        x: Array,
        vectors: Array | None,
        step: Array,
        passed: list[Array],
        is_training: bool,
    ) -> Array:
        """Returns points of the first level."""
        config = self._config
        last = len(config.depth) - 1
        for i in range(last, -1, -1):
            if i < last:
                x = self._finer(x, i)
                vectors = levels.projected(config, vectors, i, f"up_global_{i}")
                if config.unet_res_connect:
                    x = x + passed[i]
            level = levels.Level(config, i, self._remat, f"up_{i}")
            x, vectors = level(x, vectors, step, is_training)
        return x

    @hk.transparent
    def _finer(self, x: Array, level: int) -> Array:
        """Returns data at a level, given that of the level after."""
        config = self._config
        upsample = cuboid_blocks.Upsample(
            config.units[level],
            config.levels[level],
            f"up_sample_{level}",
            size=config.upsample_kernel_size,
            init="torch" if config.conv_init_mode == "0" else config.conv_init_mode,
        )
        return levels.placed(config, upsample(x), level, f"up_positions_{level}")
