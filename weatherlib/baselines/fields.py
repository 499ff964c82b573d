"""What a network of several frames is called with: arrays, channels last."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["Fields", "flat_channels", "frames_of"]


@dataclasses.dataclass(frozen=True)
class Fields:
    """Everything a network sees, normalised.

    Attributes:
      frames: Past frames. Their first channels are the predicted variables, in the
        order of the outputs; then come other variables with time, such as forcings.
      known: Forcings at the times to predict. May have no channel.
      static: Fields without time. May have no channel.
    """

    frames: Float[Array, "batch time lat lon channel"]
    known: Float[Array, "batch step lat lon forcing"]
    static: Float[Array, "batch lat lon static"]


def flat_channels(fields: Fields) -> Float[Array, "batch lat lon channel"]:
    """Returns all of it as channels: frames, earliest first, then known, then static.

    Channel `t * C + c` is variable `c` of frame `t`.
    """

    def merged(x: Array) -> Array:
        moved = jnp.moveaxis(x, 1, 3)
        return moved.reshape(*moved.shape[:3], -1)

    return jnp.concatenate(
        [merged(fields.frames), merged(fields.known), fields.static], axis=-1
    )


def frames_of(
    channels: Float[Array, "batch lat lon channel"], steps: int
) -> Float[Array, "batch step lat lon output"]:
    """Returns the frames whose channels lie side by side, the earliest first."""
    split = channels.reshape(*channels.shape[:3], steps, -1)
    return jnp.moveaxis(split, 3, 1)
