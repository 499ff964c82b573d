"""Frames as plain vectors, for networks that know no grid."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.baselines.fields import Fields

__all__ = ["flatten", "require_frames", "seen_frames", "unflatten", "weights_of_grid"]


def flatten(
    frames: Float[Array, "*batch lat lon channel"],
) -> Float[Array, "*batch feature"]:
    """Returns frames as vectors of channel, latitude, longitude, the last fastest."""
    moved = jnp.moveaxis(frames, -1, -3)
    return moved.reshape(*moved.shape[:-3], math.prod(moved.shape[-3:]))


def unflatten(
    vectors: Float[Array, "*batch feature"], rows: int, columns: int
) -> Float[Array, "*batch lat lon channel"]:
    """Returns the frames that `flatten` made vectors of."""
    split = vectors.reshape(*vectors.shape[:-1], -1, rows, columns)
    return jnp.moveaxis(split, -3, -1)


def seen_frames(fields: Fields) -> Float[Array, "batch time lat lon channel"]:
    """Returns the past frames, each followed by the static fields as more channels."""
    if not fields.static.shape[-1]:
        return fields.frames
    static = fields.static[:, jnp.newaxis]
    shape = (*fields.frames.shape[:-1], fields.static.shape[-1])
    return jnp.concatenate([fields.frames, jnp.broadcast_to(static, shape)], axis=-1)


def require_frames(
    fields: Fields, input_length: int, output_length: int, output_size: int
) -> None:
    """Compares what a network is called with and what it was made for.

    Args:
      fields: What it sees.
      input_length: Past frames it reads.
      output_length: Frames it predicts.
      output_size: Channels of a predicted frame.

    Raises:
      ValueError: The number of frames, or of channels, is another.
    """
    count, channels = fields.frames.shape[1], fields.frames.shape[-1]
    if count != input_length:
        raise ValueError(
            f"the network reads {input_length} past frames (input_length), found "
            f"{count}"
        )
    if fields.known.shape[1] != output_length:
        raise ValueError(
            f"the network predicts {output_length} frames (output_length), found "
            f"forcings of {fields.known.shape[1]}"
        )
    if not 1 <= output_size <= channels:
        raise ValueError(
            f"the network predicts channels that it reads, found {output_size} to "
            f"predict and {channels} in past frames"
        )


@contextlib.contextmanager
def weights_of_grid(rows: int, columns: int) -> Iterator[None]:
    """Says of weights that do not fit that they belong to one grid.

    Args:
      rows: Of the grid that the weights are looked up for.
      columns: Likewise.

    Raises:
      ValueError: Weights have another shape than is asked for inside the context.
    """
    try:
        yield
    except ValueError as error:
        if "does not match shape" not in str(error):
            raise
        raise ValueError(
            f"these weights are for one grid and its variables, and others than the "
            f"{rows}x{columns} grid found: {error}"
        ) from error
