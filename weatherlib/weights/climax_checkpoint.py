"""ClimaX weights as checkpoints of this package."""

from __future__ import annotations

from typing import Any

from weatherlib import checkpoint, task
from weatherlib.climax import config as climax_config
from weatherlib.typing import PathLike
from weatherlib.weights import variable_names

__all__ = ["CONSTANTS", "open_checkpoint", "published_task", "save"]

CONSTANTS = ("land_sea_mask", "orography", "lattitude")
"""What never changes, and is not predicted."""


def published_task(sizes: climax_config.ClimaXConfig) -> task.TaskConfig:
    """Returns the task of a model that reads and predicts all variables it knows.

    Args:
      sizes: The model. A level is part of a name there, such as `geopotential_500`.

    Raises:
      ValueError: The variables lie on different levels.
    """
    names, found = variable_names.split_levels(sizes.default_vars)
    levels = variable_names.shared_levels(
        found, "keep the weights as npz or safetensors"
    )
    targets = [name for name in names if name not in CONSTANTS]
    if sizes.head == "projection":
        targets = list(sizes.out_variables)
    # A frame a year, and years of ClimateBench have no leap days.
    past = f"{365 * sizes.time_history}D" if sizes.head == "projection" else "6h"
    return task.TaskConfig(
        input_variables=names,
        target_variables=tuple(targets),
        forcing_variables=(),
        pressure_levels=levels,
        input_duration=past,
    )


def save(
    path: PathLike,
    params: Any,
    sizes: climax_config.ClimaXConfig,
    *,
    description: str = "",
    license: str = "",
) -> None:
    """Writes weights as a checkpoint of this package, complete or not at all.

    Args:
      path: Where to. An existing file is replaced.
      params: Haiku module path to parameter name to array.
      sizes: The model.
      description: Free text.
      license: Terms under which the weights may be used.

    Raises:
      ValueError: The variables lie on different levels.
      OSError: The file cannot be written. What was there before stays.
    """
    value = climax_config.CheckPoint(
        architecture=climax_config.CLIMAX,
        params=params,
        model_config=sizes,
        task_config=published_task(sizes),
        description=description,
        license=license,
    )
    checkpoint.save(path, value)


def open_checkpoint(path: PathLike) -> climax_config.CheckPoint | None:
    """Returns a ClimaX checkpoint of this package; None for a file of another kind.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It cannot be read.
      ValueError: It is damaged.
    """
    if not checkpoint.holds(path, "model_config:embed_dim"):
        return None
    return checkpoint.open_checkpoint(path, climax_config.CheckPoint)
