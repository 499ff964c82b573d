"""The alignment network of PreDiff on arrays, and the energy that guides by it.

The network reads a few numbers, such as the mean intensity of each frame, from noisy
latents. A sampler is guided by the gradient of how far they are from what is wanted.
Source: Gao et al. (2023), arXiv 2307.10422.
"""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from weatherlib.nn import projections, time_blocks
from weatherlib.prediff import levels
from weatherlib.prediff.config import ALIGNMENT, AlignmentConfig

__all__ = ["AlignmentNetwork", "frame_intensity", "intensity_energy"]


class AlignmentNetwork(hk.Module):
    """Reads numbers from noisy latents: the way down of a U-Net, and a pool.

    Where frames are read out one by one and there are global vectors, the published
    code joins to frame t of batch member n, which is row n T + t of all, the vectors of
    the batch member of that row in the order t N + n. With `published_quirks` it does
    so here, and results depend on the batch; without, each frame gets its own.
    """

    def __init__(
        self, config: AlignmentConfig, *, remat: bool = False, name: str = ALIGNMENT
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
        noisy: Float[Array, "batch time lat lon channel"],
        t: Num[Array, " batch"],
        is_training: bool = False,
    ) -> Float[Array, "batch *frame number"]:
        """Returns the numbers of each frame, or with `readout_seq` off of all together.

        Args:
          noisy: Latents at diffusion step `t`.
          t: Number of the step, each batch member for itself.
          is_training: Whether dropout is on, which draws from the Haiku key stream.

        Raises:
          ValueError: The latents are not as many, or not of the size, that the
            configuration says.
        """
        config = self._config
        levels.require(noisy.shape[1:], config.input_shape, "latents (input_shape)")
        x = levels.start(config, noisy, is_training)
        step = levels.step_vector(config, t, x)
        vectors = levels.global_vectors(config, x)
        for i in range(len(config.depth)):
            if i > 0:
                x = levels.coarser(config, x, i)
                vectors = levels.projected(config, vectors, i, f"down_global_{i - 1}")
            level = levels.Level(config, i, self._remat, f"down_{i}")
            x, vectors = level(x, vectors, step, is_training)
        return self._read(x, vectors)

    @hk.transparent
    def _read(self, x: Array, vectors: Array | None) -> Array:
        config = self._config
        batch, width = x.shape[0], x.shape[-1]
        if not config.readout_seq:
            return self._pooled(x.reshape(batch, -1, width), vectors)
        if config.out_len is not None:
            x = x[:, -config.out_len :]
        frames = x.shape[1]
        if vectors is not None and config.published_quirks:
            vectors = jnp.tile(vectors, (frames, 1, 1))
        elif vectors is not None:
            vectors = jnp.repeat(vectors, frames, axis=0)
        found = self._pooled(x.reshape(batch * frames, -1, width), vectors)
        return found.reshape(batch, frames, -1)

    @hk.transparent
    def _pooled(self, x: Array, vectors: Array | None) -> Array:
        """Returns numbers for each row of points, which vectors follow."""
        if vectors is not None:
            x = jnp.concatenate([x, vectors], axis=1)
        norm = projections.GroupNorm(min(x.shape[-1], 32), "out_norm")
        config = self._config
        pool = time_blocks.AttentionPool(config.out_channels, config.num_heads, "pool")
        return pool(jax.nn.silu(norm(x)))


def frame_intensity(
    frames: Float[Array, "batch time lat lon channel"],
) -> Float[Array, "batch time 1"]:
    """Returns the mean of each frame, which the published network learns to read."""
    return frames.mean((2, 3, 4))[..., jnp.newaxis]


def intensity_energy(
    predicted: Float[Array, "batch time number"],
    wanted: Float[Array, "#batch #number"],
) -> Float[Array, ""]:
    """Returns how far the mean over time of what is predicted is from what is wanted.

    That is one number for the whole batch, the length of all differences as one vector,
    as in the published code; so the gradient of a batch member depends on the others.
    Where nothing differs, the gradient is 0.

    Args:
      predicted: What the network reads from each frame.
      wanted: Mean over time that the forecast shall have.
    """
    difference = predicted.mean(1) - wanted
    square = jnp.square(difference).sum()
    apart = square > 0
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1.0)), 0.0)
