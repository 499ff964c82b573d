"""Means and spreads that bring latent fields to the size of noise.

They are parameters that are never trained, so that a checkpoint holds them.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from weatherlib.typing import PyTree

__all__ = [
    "STATISTICS",
    "as_params",
    "first_params",
    "kind_of",
    "moments",
    "normalise",
    "restore",
    "to_published",
]

STATISTICS = "latent_statistics"
"""Haiku path of mean and scale."""

Kind = Literal["channel", "position"]
Shape = tuple[int, int, int]
_LEAST_VARIANCE = 1e-5  # As published representation autoencoders have it.


def first_params(kind: Kind, shape: Shape) -> PyTree:
    """Returns a mean and a scale that change nothing.

    Args:
      kind: "channel", or "position" for numbers of their own at each place.
      shape: Channels, rows and columns of latent fields; of "channel" only the channels
        count.
    """
    around = (1, 1) if kind == "channel" else shape[1:]
    held = (shape[0], *around)
    return {STATISTICS: {"mean": jnp.zeros(held), "scale": jnp.ones(held)}}


def normalise(
    params: PyTree, latents: Float[Array, "batch latent rows columns"]
) -> Float[Array, "batch latent rows columns"]:
    """Returns `(latents - mean) / scale`, computed in float32."""
    mean, scale = _held(params)
    wide = latents.astype(jnp.float32)
    return ((wide - mean) / scale).astype(latents.dtype)


def restore(
    params: PyTree, latents: Float[Array, "batch latent rows columns"]
) -> Float[Array, "batch latent rows columns"]:
    """Returns latent fields as they were before `normalise`."""
    mean, scale = _held(params)
    wide = latents.astype(jnp.float32)
    return (wide * scale + mean).astype(latents.dtype)


def _held(params: PyTree) -> tuple[Array, Array]:
    held = jax.lax.stop_gradient(params[STATISTICS])
    mean, scale = (held[n].astype(jnp.float32) for n in ("mean", "scale"))
    return mean[jnp.newaxis], scale[jnp.newaxis]


def kind_of(mean: Any) -> Kind:
    """Returns whether a mean is of each channel, or of each channel at each place."""
    shape = np.shape(mean)
    wide = shape[1:] if len(shape) < 4 else shape[2:]
    return "position" if any(size > 1 for size in wide) else "channel"


def moments(latents: Any, kind: Kind) -> dict[str, np.ndarray]:
    """Returns mean and scale of latent fields, `sqrt(variance + 1e-5)`.

    Args:
      latents: Shape [sample, channel, rows, columns].
      kind: As for `first_params`.

    Raises:
      ValueError: Values are missing or infinite.
    """
    wide = np.asarray(latents, np.float64)
    if not np.isfinite(wide).all():
        raise ValueError("latent fields are not finite")
    axes = (0, 2, 3) if kind == "channel" else (0,)
    mean = wide.mean(axes, keepdims=True)[0]
    variance = wide.var(axes, keepdims=True)[0]
    scale = np.sqrt(variance + _LEAST_VARIANCE)
    return {"mean": mean.astype(np.float32), "scale": scale.astype(np.float32)}


def as_params(
    statistics: dict[str, np.ndarray], kind: Kind, shape: Shape, where: str
) -> PyTree:
    """Returns statistics as parameters.

    Args:
      statistics: `mean` and `scale`, of a whole latent field, of each channel, or one
        number.
      kind: What is wanted.
      shape: Channels, rows and columns of latent fields.
      where: Where they are from, for messages.

    Raises:
      ValueError: They do not fit the latent fields, or a scale is not positive.
    """
    found = {}
    wanted = (shape[0], 1, 1) if kind == "channel" else shape
    for name in ("mean", "scale"):
        values = np.asarray(statistics[name], np.float32)
        if values.ndim == 4 and values.shape[0] == 1:
            values = values[0]
        if values.ndim == 1 and values.size > 1:
            values = values[:, np.newaxis, np.newaxis]
        try:
            found[name] = np.broadcast_to(values, wanted).copy()
        except ValueError:
            raise ValueError(
                f"{where}: {name} of latent fields has the shape "
                f"{np.shape(statistics[name])}, which does not fit {wanted}: {shape[0]}"
                f" channels on {shape[1]}x{shape[2]} places, by {kind}"
            ) from None
    if not (np.isfinite(found["scale"]).all() and found["scale"].min() > 0):
        raise ValueError(f"{where}: scales of latent fields have to be positive")
    return {STATISTICS: found}


def to_published(held: PyTree) -> dict[str, np.ndarray]:
    """Returns parameters as published files have them: `mean` and `var`."""
    mean, scale = (np.asarray(held[name], np.float32) for name in ("mean", "scale"))
    variance = np.maximum(np.square(scale) - np.float32(_LEAST_VARIANCE), 0)
    return {"mean": mean, "var": variance}
