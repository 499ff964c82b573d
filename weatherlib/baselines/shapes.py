"""Names and shapes of the parameters of models of several frames."""

from __future__ import annotations

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from weatherlib.baselines import common, fields, registry
from weatherlib.nn import edges

__all__ = ["parameter_shapes"]


@functools.lru_cache(maxsize=16)
def parameter_shapes(
    config: common.FrameModelConfig, channels: int, grid: tuple[int, int]
) -> dict[str, dict[str, tuple[int, ...]]]:
    """Returns the shapes of all parameters of a model by module and name.

    Nothing is computed. The model sees nothing but what it predicts.

    Args:
      config: Of the model.
      channels: Of a frame.
      grid: Rows and columns.
    """
    model = registry.find(registry.name_of(config))

    def run(frames: jax.Array) -> jax.Array:
        known = jnp.zeros((1, config.output_length, *grid, 0))
        seen = fields.Fields(frames=frames, known=known, static=known[:, 0])
        return model.make_network(config)(seen, edges.ZERO, channels)

    frames = jax.ShapeDtypeStruct((1, config.input_length, *grid, channels), np.float32)
    params = jax.eval_shape(hk.transform(run).init, jax.random.PRNGKey(0), frames)
    return {
        module: {name: tuple(array.shape) for name, array in held.items()}
        for module, held in params.items()
    }
