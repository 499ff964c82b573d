"""Checks of normalisation statistics against a task and the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import xarray

from weatherlib.data_utils.check_fields import Scan
from weatherlib.data_utils.problems import Problem, listed
from weatherlib.task import TaskConfig

__all__ = ["check_statistics"]

# Distance from the mean, in standard deviations, that only other data have.
_FAR_FROM_MEAN = 15.0


def check_statistics(
    statistics: Mapping[str, xarray.Dataset],
    task: TaskConfig,
    scans: Mapping[str, Scan],
) -> Iterator[Problem]:
    """Yields a problem where normalisation statistics are those of another model.

    Args:
      statistics: `mean_by_level`, `stddev_by_level` and `diffs_stddev_by_level`; other
        names are taken for a mean or deviation by what they contain.
      task: Names the variables and levels.
      scans: What the values of the data are like.
    """
    inputs = dict.fromkeys((*task.input_variables, *task.forcing_variables))
    both = [name for name in task.target_variables if name in inputs]
    new = [name for name in task.target_variables if name not in inputs]
    for label, stats in statistics.items():
        names = both if "diff" in label else [*inputs, *new]
        missing = [name for name in names if name not in stats]
        if missing:
            yield Problem(
                kind="statistics",
                variable=label,
                found=f"no values for {listed(missing)}",
                fix="use the statistics that came with the checkpoint",
            )
        for name in names:
            if name in stats:
                yield from _check_statistic(label, name, stats[name], task)
    means = [stats for label, stats in statistics.items() if "mean" in label]
    spreads = [
        stats
        for label, stats in statistics.items()
        if "std" in label and "diff" not in label
    ]
    if means and spreads:
        yield from _check_distance(means[0], spreads[0], scans)


def _check_statistic(
    label: str, name: str, stat: xarray.DataArray, task: TaskConfig
) -> Iterator[Problem]:
    """Yields what is wrong with one statistic."""
    variable = f"{label}/{name}"
    if "level" in stat.dims and "level" in stat.coords:
        held = {float(level) for level in stat["level"].values}
        lacking = [level for level in task.pressure_levels if level not in held]
        if lacking:
            yield Problem(
                kind="statistics",
                variable=variable,
                found=f"no values on {listed(lacking)} hPa",
                fix="use the statistics that came with the checkpoint",
            )
            return
    values = np.asarray(stat.values)
    if not np.isfinite(values).all() or ("std" in label and (values < 0).any()):
        yield Problem(
            kind="statistics",
            variable=variable,
            found="values that are not finite, or a negative deviation",
            fix="use the statistics that came with the checkpoint",
        )


def _check_distance(
    mean: xarray.Dataset, stddev: xarray.Dataset, scans: Mapping[str, Scan]
) -> Iterator[Problem]:
    """Yields a problem where the data lie far from what statistics describe."""
    for name, found in scans.items():
        if name not in mean or name not in stddev or not np.isfinite(found.low):
            continue
        spread = float(np.max(stddev[name].values))
        center = mean[name].values
        if not np.isfinite(spread) or spread <= 0 or not np.isfinite(center).all():
            continue
        low, high = float(np.min(center)), float(np.max(center))
        average = float(np.mean(found.mean))
        away = max(low - average, average - high) / spread
        if away > _FAR_FROM_MEAN:
            yield Problem(
                kind="statistics",
                variable=name,
                found=f"the data average {average:.5g}, {away:.0f} standard deviations "
                f"from the mean of the statistics ({low:.5g} to {high:.5g})",
                fix="use the statistics that came with the checkpoint, in its units",
            )
