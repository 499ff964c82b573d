"""Datasets as frames in the range of images, and back."""

from __future__ import annotations

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from weatherlib import stacking
from weatherlib.data_utils import check_call
from weatherlib.latent import ranges
from weatherlib.latent.field_codec_config import FieldCodecConfig
from weatherlib.latent.forecast_config import LatentForecastConfig
from weatherlib.task import TaskConfig

__all__ = ["check", "read", "write"]


def check(
    inputs: xr.Dataset,
    targets: xr.Dataset,
    forcings: xr.Dataset,
    task: TaskConfig | None,
    config: LatentForecastConfig,
) -> None:
    """Makes sure that a model is called with what it works on.

    Args:
      inputs: Past frames.
      targets: Frames that follow, or a template of them.
      forcings: Known variables, of which there may be none.
      task: What is read and predicted, if that is to be checked.
      config: Of the model.

    Raises:
      ValueError: It is called with something else.
    """
    check_call.check_call(
        inputs, targets, forcings, task, config.resolution, frames=config.output_length
    )
    others = [str(name) for name in forcings]
    others += [str(name) for name in inputs if name not in targets]
    if others:
        raise ValueError(
            f"{', '.join(sorted(others))}: the autoencoder sees past frames of what is "
            "predicted and nothing else; take it out of the task"
        )
    missing = sorted(str(name) for name in targets if name not in inputs)
    if missing:
        raise ValueError(
            f"inputs lack {', '.join(missing)}: the model goes on from past frames of "
            "what it predicts; add it to the input_variables of the task"
        )
    for name in targets:
        past = inputs[name].sizes.get("time", 0)
        if past != config.input_length:
            raise ValueError(
                f"inputs: {name} has {past} frame(s), and the model reads "
                f"{config.input_length}; give as many (input_duration of the task) or "
                "set input_length"
            )
    found = sum(stacking.level_count(targets[name]) for name in targets)
    if found != config.channels:
        raise ValueError(
            f"the data have {found} channel(s), {', '.join(map(str, targets))} with "
            f"all levels, and the model {config.channels} (channels)"
        )


def read(
    dataset: xr.Dataset, config: FieldCodecConfig, *, is_start: bool = False
) -> Float[Array, "batch time channel lat lon"]:
    """Returns the variables of a dataset, sorted by name, in the range of images.

    Args:
      dataset: Normalised to mean 0 and standard deviation 1.
      config: Says which values become -1 and 1.
      is_start: Whether values are an error that lie too far outside, where they can be
        looked at: not inside of a compiled function.

    Raises:
      ValueError: Such values are found.
    """
    names = sorted(dataset, key=str)
    frames = stacking.variables_to_frames(dataset, names, dataset.sizes)
    scaled = frames
    if config.normalization == "minmax":
        middle, half = ranges.middle_and_half(config)
        wide = frames.astype(jnp.float32)
        scaled = ((wide - _row(middle, 5)) / _row(half, 5)).astype(frames.dtype)
        if is_start and not isinstance(scaled, jax.core.Tracer):
            labels = [
                f"{name}" if count == 1 else f"{name} (level {number + 1})"
                for name in names
                for count in [stacking.level_count(dataset[name])]
                for number in range(count)
            ]
            ranges.require_near(np.asarray(scaled, np.float32), labels, config)
    return jnp.moveaxis(scaled, -1, 2)


def write(
    frames: Float[Array, "*sample batch time channel lat lon"],
    template: xr.Dataset,
    config: FieldCodecConfig,
) -> Any:
    """Returns frames in the range of images as a template's variables, in its dtypes.

    Args:
      frames: With a leading axis `sample`, or without.
      template: Gives names, dimensions and coordinates.
      config: As for `read`.
    """
    values = jnp.moveaxis(frames, -3, -1).astype(jnp.float32)
    if config.normalization == "minmax":
        middle, half = ranges.middle_and_half(config)
        values = values * _row(half, values.ndim) + _row(middle, values.ndim)
    return stacking.members_to_variables(values, template)


def _row(values: np.ndarray, rank: int) -> Array:
    return jnp.asarray(values, jnp.float32).reshape((1,) * (rank - 1) + (-1,))
