"""What the names of files say about their contents, as published files are called.

The examples and checkpoints of GraphCast tell their source, grid and levels in their
names: source-era5_date-2022-01-01_res-1.0_levels-13_steps-04.nc.
"""

from __future__ import annotations

import math
import pathlib

import numpy as np
import xarray

from weatherlib.cli import models

__all__ = ["data_notes", "describe", "model_notes", "parse_file_parts"]

_SUFFIXES = (".nc", ".npz", ".zarr", ".ckpt")
_PRECIPITATION = "total_precipitation_6hr"


def parse_file_parts(file_name: str) -> dict[str, str]:
    """Returns what a file name says about its data.

    Args:
      file_name: `key-value` parts joined by `_`, such as
        "source-era5_date-2022-01-01_res-1.0_levels-13_steps-04.nc". Only the first
        hyphen of a part splits it, and parts without one are skipped.
    """
    parts = file_name.removesuffix(".nc").split("_")
    return dict(part.split("-", 1) for part in parts if "-" in part)


def describe(path: str | pathlib.Path) -> str:
    """Returns the parts of the name of a file in one line, empty without any."""
    return ", ".join(f"{key} {value}" for key, value in _parts(path).items())


def data_notes(
    path: str | pathlib.Path, dataset: xarray.Dataset, model: models.Model
) -> list[str]:
    """Returns where the name of a weather file contradicts its data or the model.

    Args:
      path: Of the file.
      dataset: Its data.
      model: Made for them.
    """
    parts = _parts(path)
    found = []
    if "lon" in dataset.coords and dataset["lon"].size > 1:
        spacing = float(np.abs(np.diff(dataset["lon"].values[:2]))[0])
        found += _differs(parts, "res", spacing, "the data have {:g} degrees")
    if "level" in dataset.coords:
        count = dataset["level"].size
        found += _differs(parts, "levels", count, "the data have {:g}")
    reads = _PRECIPITATION in model.task_config.input_variables
    if parts.get("source") == "hres" and reads:
        found.append(f"source hres, but the model reads {_PRECIPITATION}")
    return found


def model_notes(model: models.Model) -> list[str]:
    """Returns where the name of a checkpoint contradicts what it holds."""
    parts = _parts(model.path or "")
    resolution = model.model_config.resolution
    found = []
    if resolution:
        found += _differs(parts, "res", resolution, "the model has {:g} degrees")
    levels = len(model.task_config.pressure_levels)
    found += _differs(parts, "levels", levels, "the model has {:g}")
    mesh = getattr(model.model_config, "mesh_size", None)
    if mesh is not None:
        found += _differs(parts, "mesh", mesh, "the model has {:g}")
    return found


def _parts(path: str | pathlib.Path) -> dict[str, str]:
    """Returns the parts of the name of a file of any kind that are one word each."""
    path = pathlib.Path(path)
    name = path.stem if path.suffix in _SUFFIXES else path.name
    found = parse_file_parts(name)
    return {key: value for key, value in found.items() if key.isidentifier()}


def _differs(parts: dict[str, str], key: str, held: float, but: str) -> list[str]:
    """Returns a note where the number of a part is another than that held."""
    try:
        said = float(parts[key])
    except (KeyError, ValueError):
        return []
    if math.isclose(said, held, rel_tol=1e-3):
        return []
    return [f"{key} {parts[key]}, but {but.format(held)}"]
