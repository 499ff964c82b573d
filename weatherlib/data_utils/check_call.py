"""Whether a predictor of one step is called with what it was made for; no values."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

import numpy as np
import xarray as xr

from weatherlib.task import TaskConfig

__all__ = ["check_call"]

_HORIZONTAL = ("batch", "lat", "lon")
# Coordinates are often float32, and spacings such as 5.625 are written as 5.6.
_RESOLUTION_TOLERANCE = 0.02


def check_call(
    inputs: xr.Dataset,
    targets_template: xr.Dataset | Mapping[Hashable, xr.DataArray],
    forcings: xr.Dataset,
    task: TaskConfig | None,
    resolution: float,
    *,
    frames: int = 1,
) -> None:
    """Checks what a predictor of one step is called with.

    Args:
      inputs: Past frames and static fields.
      targets_template: What to predict.
      forcings: What is known at the predicted times.
      task: Names variables and levels; None accepts any.
      resolution: Grid spacing the model was made for, degrees; 0 accepts any.
      frames: How many target times one step fills.

    Raises:
      ValueError: Variables, levels, times or the grid are not those of the task and of
        the architecture; the message names them and what would fit.
    """
    if task is not None:
        _check_variables("inputs", inputs, task.input_variables)
        _check_variables("targets_template", targets_template, task.target_variables)
        _check_variables("forcings", forcings, task.forcing_variables)
    _check_grid(inputs, resolution)
    sizes = {dim: inputs.sizes[dim] for dim in _HORIZONTAL}
    for label, dataset in (
        ("inputs", inputs),
        ("targets_template", targets_template),
        ("forcings", forcings),
    ):
        for name in dataset:
            _check_sizes(label, dataset[name], sizes)
            if task is not None:
                _check_levels(label, dataset[name], task.pressure_levels)
    for label, dataset in (
        ("targets_template", targets_template),
        ("forcings", forcings),
    ):
        for name in dataset:
            _check_times(label, dataset[name], frames)


def _check_variables(
    label: str, dataset: Iterable[Hashable], expected: Iterable[str]
) -> None:
    found, wanted = set(dataset), set(expected)
    problems = []
    if wanted - found:
        problems.append(f"lacks {_listed(wanted - found)}")
    if found - wanted:
        problems.append(f"has {_listed(found - wanted)} beside what the task names")
    if problems:
        raise ValueError(
            f"{label} {' and '.join(problems)}; data_utils."
            "extract_inputs_targets_forcings selects the variables of a task"
        )


def _check_grid(inputs: xr.Dataset, resolution: float) -> None:
    for dim in _HORIZONTAL:
        if dim not in inputs.sizes:
            raise ValueError(
                f"inputs need the dimension {dim!r}, found {_listed(inputs.sizes)}"
            )
    for dim in ("lat", "lon"):
        if dim not in inputs.coords:
            raise ValueError(f"inputs need the coordinate {dim!r}, in degrees")
        values = np.asarray(inputs.coords[dim].values, np.float64)
        if not resolution or len(values) < 2:
            continue
        spacing = float(np.median(np.abs(np.diff(values))))
        if abs(spacing - resolution) > _RESOLUTION_TOLERANCE * resolution:
            raise ValueError(
                f"the model was made for a grid of {resolution:g} degrees, found "
                f"{spacing:g} degrees between values of {dim!r}; use other data or "
                "weights, or resolution=0 in the ModelConfig to allow any grid"
            )


def _check_sizes(label: str, array: xr.DataArray, sizes: Mapping[str, int]) -> None:
    for dim, size in sizes.items():
        if array.sizes.get(dim, size) != size:
            raise ValueError(
                f"{label}: {array.name} has {array.sizes[dim]} values along {dim!r} "
                f"where the inputs have {size}"
            )


def _check_levels(label: str, array: xr.DataArray, expected: tuple[int, ...]) -> None:
    if "level" not in array.dims:
        return
    if "level" not in array.coords:
        if array.sizes["level"] == len(expected):
            return
        found = f"{array.sizes['level']} levels without coordinate"
    else:
        levels = tuple(np.asarray(array.coords["level"].values).tolist())
        if levels == tuple(expected):
            return
        found = f"{levels}"
    raise ValueError(
        f"{label}: {array.name} must be on the levels {tuple(expected)} hPa of the "
        f"task, in this order, found {found}; select them with .sel(level=...)"
    )


def _check_times(label: str, array: xr.DataArray, frames: int) -> None:
    times = array.sizes.get("time", frames)
    if times != frames:
        step = "one step at a time" if frames == 1 else f"{frames} frames in one step"
        raise ValueError(
            f"{label}: {array.name} has {times} times, but the model predicts {step}; "
            "wrap it in autoregressive.Predictor for more"
        )


def _listed(names: Iterable[Hashable]) -> str:
    return ", ".join(sorted(map(str, names))) or "nothing"
