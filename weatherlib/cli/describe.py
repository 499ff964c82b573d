"""What a checkpoint, a dataset or a planned forecast is, as names and values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray

from weatherlib import variables as vocabulary
from weatherlib.data_utils import lexicon, times
from weatherlib.task import TaskConfig

if TYPE_CHECKING:
    # Describing data does without JAX, which these load.
    from weatherlib.cli import models, setups

__all__ = [
    "dataset_facts",
    "model_facts",
    "setup_facts",
    "statistics_table",
    "variables_table",
]

# Longer lists of a configuration are counted.
_MOST_LISTED = 8

Facts = list[tuple[str, str]]
Table = tuple[list[str], list[list[str]]]


def model_facts(model: models.Model, *, variables: bool = True) -> Facts:
    """Returns what a model is.

    Args:
      model: From a checkpoint, or random.
      variables: Whether to name all its variables and levels, not only count them.
    """
    task = model.task_config
    settings = ", ".join(
        f"{name} {_setting(value)}"
        for name, value in dataclasses.asdict(model.model_config).items()
        if value not in (None, (), {})
    )
    facts = [
        ("checkpoint", str(model.path) if model.path else "random parameters"),
        ("description", model.description),
        ("license", model.license),
        ("sha256", model.digest),
        ("family", model.family),
        ("time step", _hours(model.time_step)),
        ("architecture", settings),
        ("parameters", _parameter_count(model.params)),
    ]
    if variables:
        facts += _variable_facts(task)
    else:
        facts.append(("variables", _variable_counts(task)))
    return [(name, value) for name, value in facts if value]


def _variable_facts(task: TaskConfig) -> Facts:
    over = _hours(task.input_duration)
    return [
        ("inputs", f"{', '.join(task.input_variables)} over {over}"),
        ("targets", ", ".join(task.target_variables)),
        ("forcings", ", ".join(task.forcing_variables)),
        ("levels", _levels(task)),
    ]


def _levels(task: TaskConfig) -> str:
    levels = ", ".join(map(str, task.pressure_levels))
    return f"{levels} hPa" if levels else ""


def _variable_counts(task: TaskConfig) -> str:
    text = (
        f"reads {len(task.input_variables)} over {_hours(task.input_duration)}, "
        f"predicts {len(task.target_variables)}"
    )
    levels = task.pressure_levels
    if levels:
        text += f"; {len(levels)} levels, {min(levels)} to {max(levels)} hPa"
    return text


def setup_facts(setup: setups.Setup) -> Facts:
    """Returns what a forecast starts from and how far it goes."""
    known = setup.targets.sizes["time"] if setup.targets is not None else 0
    hours = setup.time_step.total_seconds() / 3600
    facts = [("grid", _grid(setup.inputs))]
    if "datetime" in setup.start.coords:
        dates = setup.start["datetime"].isel(time=-1).values
        start = np.ravel(dates)[0]
        facts.append(("starts", f"{_stamp(start)} UTC"))
    many = "step" if setup.steps == 1 else "steps"
    facts += [
        ("inputs", _sizes(setup.inputs)),
        ("targets", _sizes(setup.template)),
        ("forecast", f"{setup.steps} {many} of {hours:g} h, {known} with truth"),
    ]
    return facts


def dataset_facts(dataset: xarray.Dataset) -> Facts:
    """Returns grid, times and levels of a dataset."""
    facts = [("dimensions", _sizes(dataset))]
    dataset, _ = lexicon.rename(dataset, [])
    if {"lat", "lon"} <= set(dataset.coords):
        facts.append(("grid", _grid(dataset)))
    if "level" in dataset.coords:
        levels = np.atleast_1d(dataset["level"].values)
        facts.append(("levels", ", ".join(f"{p:g}" for p in levels) + " hPa"))
    for name in ("datetime", "valid_time", "time"):
        if name in dataset.coords and dataset[name].dtype.kind == "M":
            stamps = np.ravel(dataset[name].values)
            between = f"{_stamp(stamps[0])} to {_stamp(stamps[-1])} UTC"
            facts.append(("times", f"{between}, {len(stamps)} in all"))
            break
    for name in ("title", "source", "history", "license", "checkpoint_sha256"):
        if dataset.attrs.get(name):
            facts.append((name, str(dataset.attrs[name])))
    return facts


def variables_table(dataset: xarray.Dataset) -> Table:
    """Returns columns and rows: name, unit, dimensions and range of each variable.

    The range is that of the first time, so that large files are not read as a whole.
    """
    columns = ["variable", "unit", "dimensions", "range"]
    if "time" in dataset.dims:
        columns[-1] += " at the first time"
    rows = []
    for name, field in dataset.data_vars.items():
        first = field.isel(time=0, missing_dims="ignore").values
        span = "no values"
        if first.size and first.dtype.kind in "fiu" and np.isfinite(first).any():
            span = f"{np.nanmin(first):.4g} to {np.nanmax(first):.4g}"
            lost = int(np.isnan(first).sum()) if first.dtype.kind == "f" else 0
            span += f", {lost} NaN" if lost else ""
        dims = ", ".join(map(str, field.dims))
        rows.append([str(name), _unit(name, field), dims, span])
    return columns, rows


def statistics_table(found: Mapping[str, xarray.Dataset]) -> Table:
    """Returns columns and rows: one row for each variable, levels together.

    Args:
      found: Statistics by what they are called in the table, `mean` among them.
    """
    rows = []
    for name, mean in found["mean"].data_vars.items():
        row = [str(name), _unit(name, mean)]
        for values in found.values():
            if name not in values:
                row.append("")
                continue
            low, high = float(values[name].min()), float(values[name].max())
            row.append(f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}")
        missing, count = (mean.attrs.get(key, 0) for key in ("missing", "count"))
        rows.append([*row, f"{missing / (missing + count):.1%}" if missing else ""])
    return ["variable", "unit", *found, "missing"], rows


def _unit(name: object, field: xarray.DataArray) -> str:
    """Returns the unit that a field states, or else that of our vocabulary."""
    known = vocabulary.find(str(name))
    return str(field.attrs.get("units") or (known.units if known else ""))


def _grid(dataset: xarray.Dataset) -> str:
    lat, lon = dataset["lat"].values, dataset["lon"].values
    return (
        f"{len(lat)}x{len(lon)}, latitude {lat[0]:g} to {lat[-1]:g}, "
        f"longitude {lon[0]:g} to {lon[-1]:g}"
    )


def _sizes(dataset: xarray.Dataset) -> str:
    sizes = [f"{name} {size}" for name, size in dataset.sizes.items()]
    return ", ".join(sizes) or "none"


def _hours(step: str | None) -> str:
    if step is None:
        return ""
    return f"{times.as_timedelta(step).total_seconds() / 3600:g} h"


def _setting(value: object) -> str:
    if isinstance(value, dict):
        parts = [f"{n} {_setting(v)}" for n, v in value.items() if v not in (None, ())]
        return f"({', '.join(parts)})"
    if isinstance(value, tuple):
        if len(value) > _MOST_LISTED:
            return f"({len(value)} of them)"
        return " ".join(map(_setting, value))
    if isinstance(value, float) or type(value) is int:
        return f"{value:g}"
    return str(value)


def _stamp(time: np.datetime64) -> str:
    return np.datetime_as_string(time, unit="m").replace("T", " ")


def _parameter_count(params: object) -> str:
    """Returns the number of parameters, or nothing where there are none yet."""
    if not isinstance(params, dict):
        return ""
    arrays = [array for module in params.values() for array in module.values()]
    return f"{sum(np.size(array) for array in arrays):,} in {len(arrays)} arrays"
