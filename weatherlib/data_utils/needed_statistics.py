"""Whether statistics hold what normalising the data of a task needs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray

from weatherlib.task import TaskConfig

__all__ = ["check"]


def check(task: TaskConfig, statistics: Mapping[str, xarray.Dataset]) -> None:
    """Checks statistics, and warns of variables that do not vary.

    A deviation of 0 is taken for 1 when the data are normalised.

    Args:
      task: Names variables and levels.
      statistics: `stddev_by_level`, `mean_by_level` and `diffs_stddev_by_level`.

    Raises:
      ValueError: Something is missing, or a value cannot normalise anything. The
        message lists every such problem.
    """
    problems, still = [], []
    for kind, names in _needed(task).items():
        for name in names:
            if name not in statistics[kind]:
                problems.append(f"{kind}: {name} is missing")
                continue
            values, lacking = _on_levels(statistics[kind][name], task.pressure_levels)
            if lacking:
                problems.append(f"{kind}: {name} lacks the levels {lacking}")
            is_scale = "mean" not in kind
            problems += [f"{kind}: {name} {what}" for what in _wrong(values, is_scale)]
            if is_scale and (values.values == 0).any():
                still.append(f"{kind}: {name}{_where(values)}")
    if problems:
        raise ValueError(
            "the statistics do not fit the task; are they those of another model?\n  "
            + "\n  ".join(problems)
        )
    for variable in still:
        warnings.warn(
            f"{variable} did not vary in the period of the statistics (deviation 0); "
            "it is scaled by 1",
            stacklevel=3,
        )


def _needed(task: TaskConfig) -> dict[str, list[str]]:
    """Returns which variables each kind of statistics must have."""
    inputs = task.input_variables
    direct = [v for v in task.target_variables if v not in inputs]
    values = list(dict.fromkeys([*inputs, *task.forcing_variables, *direct]))
    return {
        "stddev_by_level": values,
        "mean_by_level": values,
        "diffs_stddev_by_level": [v for v in task.target_variables if v in inputs],
    }


def _on_levels(
    values: xarray.DataArray, levels: tuple[int, ...]
) -> tuple[xarray.DataArray, list[Any]]:
    """Returns a statistic on the levels of the task, and those that it lacks."""
    if "level" not in values.dims or "level" not in values.coords:
        return values, []
    lacking = sorted(set(levels) - set(values["level"].values.tolist()))
    return values.isel(level=np.isin(values["level"].values, levels)), lacking


def _wrong(values: xarray.DataArray, is_scale: bool) -> Iterator[str]:
    """Yields what is wrong with the values of a statistic."""
    numbers = np.atleast_1d(np.asarray(values.values, np.float64))
    if not is_scale:
        if not np.isfinite(numbers).all():
            yield "is not finite"
        return
    useless = numbers[~((numbers >= 0) & np.isfinite(numbers))].tolist()
    if useless:
        yield f"must be finite and not negative, found {useless}"


def _where(values: xarray.DataArray) -> str:
    """Returns on which levels a deviation is 0, as words."""
    if "level" not in values.dims or "level" not in values.coords:
        return ""
    found = values["level"].values[values.values == 0].tolist()
    return f" at {', '.join(map(str, found))} hPa"
