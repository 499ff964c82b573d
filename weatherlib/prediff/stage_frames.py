"""Datasets as the frames that PreDiff's networks see, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from weatherlib import stacking
from weatherlib.data_utils import check_call
from weatherlib.prediff.stage_config import LatentConfig, StageConfig
from weatherlib.task import TaskConfig

__all__ = [
    "check",
    "check_grid",
    "from_unit",
    "read",
    "to_unit",
    "write",
]

Range = tuple[float, float] | None


def to_unit(values: Any, value_range: Range) -> Any:
    """Returns values on the scale of the networks, float32.

    Pixels of SEVIR are multiplied by 1 / 255 in float32, as in the published loader.

    Args:
      values: Arrays of any kind.
      value_range: As in `StageConfig`.
    """
    values = values.astype(np.float32)
    if value_range is None:
        return values
    low, high = value_range
    shifted = values - np.float32(low) if low else values
    return shifted * np.float32(1 / (high - low))


def from_unit(values: Any, value_range: Range, *, clip: bool = False) -> Any:
    """Returns values of networks in the units of the data, float32.

    Args:
      values: Arrays of any kind.
      value_range: As in `StageConfig`.
      clip: Whether to keep them inside the range.
    """
    values = values.astype(np.float32)
    if value_range is None:
        return values
    low, high = value_range
    scaled = values / np.float32(1 / (high - low))
    shifted = scaled + np.float32(low) if low else scaled
    return shifted.clip(np.float32(low), np.float32(high)) if clip else shifted


def check(
    inputs: xr.Dataset,
    targets: xr.Dataset,
    forcings: xr.Dataset,
    task: TaskConfig | None,
    config: StageConfig,
    *,
    frames: int,
    channels: int,
    input_length: int | None = None,
) -> None:
    """Makes sure that a stage is called with what it works on.

    Args:
      inputs: Past frames.
      targets: Frames that follow, or a template of them.
      forcings: Known variables, of which there may be none.
      task: What is read and predicted, if that is to be checked.
      config: Of the stage.
      frames: Target frames.
      channels: Of a frame.
      input_length: Past frames that are read; None for any number.

    Raises:
      ValueError: It is called with something else.
    """
    check_call.check_call(
        inputs, targets, forcings, task, config.resolution, frames=frames
    )
    others = [str(name) for name in forcings]
    others += [str(name) for name in inputs if name not in targets]
    if others:
        raise ValueError(
            f"{', '.join(sorted(others))}: PreDiff reads past frames of what it "
            "predicts and nothing else; take it out of the task"
        )
    missing = sorted(str(name) for name in targets if name not in inputs)
    if missing:
        raise ValueError(
            f"inputs lack {', '.join(missing)}: PreDiff goes on from past frames of "
            "what it predicts; add it to the input_variables of the task"
        )
    found = sum(stacking.level_count(targets[name]) for name in targets)
    if found != channels:
        raise ValueError(
            f"the data have {found} channel(s), {', '.join(map(str, targets))} with "
            f"all levels, and the autoencoder {channels} (in_channels)"
        )
    if input_length is None:
        return
    for name in targets:
        past = inputs[name].sizes.get("time", 0)
        if past != input_length:
            raise ValueError(
                f"inputs: {name} has {past} frame(s), and the model reads "
                f"{input_length}; give as many (input_duration of the task) or set "
                "the first number of denoiser.input_shape"
            )


def check_grid(rows: int, columns: int, config: LatentConfig) -> None:
    """Makes sure that frames have the size that a stage works on.

    Raises:
      ValueError: They have another.
    """
    if (rows, columns) != config.grid:
        wanted = "x".join(map(str, config.grid))
        raise ValueError(
            f"frames have {rows}x{columns} points, and the model works on {wanted}: "
            f"latent fields of {config.target_shape[1]}x{config.target_shape[2]}, "
            f"{config.sizes.reduction} times smaller than frames; cut such tiles, or "
            "train with other shapes"
        )


def read(
    dataset: xr.Dataset, value_range: Range
) -> Float[Array, "batch time lat lon channel"]:
    """Returns the variables of a dataset, sorted by name, as frames of the networks."""
    names = sorted(dataset, key=str)
    frames = stacking.variables_to_frames(dataset, names, dataset.sizes)
    return to_unit(frames, value_range)


def write(
    frames: Float[Array, "*sample batch time lat lon channel"],
    template: xr.Dataset,
    value_range: Range,
    *,
    clip: bool,
) -> Any:
    """Returns frames of the networks as a template's variables, in its dtypes.

    Args:
      frames: With a leading axis `sample`, or without.
      template: Gives names, dimensions and coordinates.
      value_range: As in `StageConfig`.
      clip: Whether to keep values inside the range.
    """
    values = from_unit(frames, value_range, clip=clip)
    return stacking.members_to_variables(values, template)
