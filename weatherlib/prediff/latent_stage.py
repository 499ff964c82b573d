"""What both stages on latent fields do with the autoencoder, which stays as it is."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from weatherlib.nn import autoencoder, lifting
from weatherlib.nn.autoencoder_config import DECODER, ENCODER
from weatherlib.prediff import latent_diffusion, latent_space
from weatherlib.prediff.stage_config import LatentConfig, PreDiffConfig
from weatherlib.typing import PyTree

__all__ = [
    "HELD",
    "autoencoder_of",
    "blank",
    "cast",
    "computing_dtype",
    "forecast_model",
    "lifted",
    "part",
    "space_of",
]

lifted = lifting.lifted
part = lifting.part

HELD = (ENCODER, DECODER)
"""First parts of the paths of parameters that are not trained."""


def autoencoder_of(config: LatentConfig) -> autoencoder.Autoencoder:
    """Returns the autoencoder of a stage.

    Raises:
      ValueError: Its sizes are not known.
    """
    return autoencoder.Autoencoder(sizes=config.sizes, batch_size=config.frames_at_once)


def forecast_model(
    config: PreDiffConfig, *, dtype: Any = None, remat: bool = False
) -> latent_diffusion.LatentDiffusion:
    """Returns the functions of a forecast model.

    Args:
      config: Of the model.
      dtype: In which the networks compute; None is float32.
      remat: Whether the backward pass computes blocks of the denoiser again.

    Raises:
      ValueError: The sizes of the autoencoder are not known, or its channels do not fit
        the denoiser.
    """
    return latent_diffusion.make(
        config.diffusion,
        autoencoder_of(config),
        config.denoiser,
        scale_factor=_scale(config),
        dtype=dtype,
        autoencoder_dtype=dtype,
        remat=remat,
    )


def space_of(config: LatentConfig, *, dtype: Any = None) -> latent_space.LatentSpace:
    """Returns the latent fields that a stage works on.

    Args:
      config: Of the stage.
      dtype: In which the autoencoder computes; None is float32.

    Raises:
      ValueError: The sizes of the autoencoder or the scale are not known.
    """
    return latent_space.make(
        autoencoder_of(config), scale_factor=_scale(config), dtype=dtype
    )


def blank(config: LatentConfig) -> PyTree:
    """Returns zeros in place of the parameters of the autoencoder, by path.

    They are to be replaced by trained ones, so none are drawn.
    """
    shapes = jax.eval_shape(autoencoder_of(config).init, jax.random.PRNGKey(0))
    return jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), dict(shapes))


def computing_dtype(given: Any) -> Any:
    """Returns the type that networks compute in: bfloat16 where data are cast to it."""
    return jnp.bfloat16 if given == jnp.bfloat16 else None


def cast(tree: PyTree, dtype: Any) -> PyTree:
    """Returns arrays in a type; None leaves them."""
    if dtype is None:
        return tree
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


def _scale(config: LatentConfig) -> float:
    if config.scale_factor is None:
        raise ValueError(
            "scale_factor is not known; training finds it, or give a number"
        )
    return config.scale_factor
