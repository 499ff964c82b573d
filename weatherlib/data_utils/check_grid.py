"""Checks of the grid and the levels of a dataset against a task."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray

from weatherlib.data_utils import lexicon
from weatherlib.data_utils.problems import Problem, listed
from weatherlib.task import TaskConfig

__all__ = ["check_grid", "check_levels", "goes_around", "grid_spacing"]

# Relative difference below which two grid spacings are the same.
_SPACING_TOLERANCE = 0.01


def grid_spacing(values: np.ndarray) -> float | None:
    """Returns the distance between neighbours in degrees, None where it varies.

    Args:
      values: Rows or columns in degrees, shape [point].
    """
    if values.size < 2:
        return None
    steps = np.abs(np.diff(values.astype(np.float64)))
    middle = float(np.median(steps))
    even = middle > 0 and np.all(np.abs(steps - middle) < 0.02 * middle)
    return middle if even else None


def goes_around(longitude: np.ndarray) -> bool:
    """Returns whether columns lie around the whole globe, not in a part of it.

    Args:
      longitude: Degrees east, counted in any way, in any order. Shape [column].
    """
    if longitude.size < 2:
        return False
    step = np.median(np.abs(np.diff(longitude)))
    # Counted around the seam, which a part may lie across.
    turned = np.sort(longitude % 360)
    gap = np.max(np.diff(turned, append=turned[0] + 360))
    return bool(abs(gap - np.median(np.diff(turned))) < 0.5 * max(step, 1e-6))


def check_grid(dataset: xarray.Dataset, resolution: float | None) -> Iterator[Problem]:
    """Yields what is wrong with latitude and longitude.

    Args:
      dataset: Axes under our names.
      resolution: Grid spacing that the model was made for, in degrees; 0 or None for
        any.
    """
    for name, low, high in (("lat", -90.0, 90.0), ("lon", -180.0, 360.0)):
        if name not in dataset.coords:
            yield Problem(
                kind="missing",
                variable=name,
                found="the coordinate is missing",
                fix=f"add it in degrees; known names are {listed(lexicon.AXES[name])}",
            )
            continue
        values = np.asarray(dataset[name].values)
        if values.ndim != 1 or values.dtype.kind not in "iuf":
            yield Problem(
                kind="dims",
                variable=name,
                found=f"shape {values.shape} of {values.dtype}, expected one axis",
                fix="put the data on a regular latitude-longitude grid",
            )
            continue
        yield from _check_degrees(name, values.astype(np.float64), low, high)
        yield from _check_resolution(name, values, resolution)


def _check_degrees(
    name: str, values: np.ndarray, low: float, high: float
) -> Iterator[Problem]:
    """Yields what is wrong with the values of one axis in degrees."""
    kind = "latitude" if name == "lat" else "longitude"
    if not np.isfinite(values).all():
        yield Problem(
            kind=kind,
            variable=name,
            found=f"{np.sum(~np.isfinite(values))} of {values.size} values are not "
            "finite",
            fix="repair the coordinate",
        )
        return
    if values.size and (values.min() < low - 1e-4 or values.max() > high + 1e-4):
        yield Problem(
            kind=kind,
            variable=name,
            found=f"runs from {values.min():g} to {values.max():g}, expected degrees "
            f"in [{low:g}, {high:g}]",
            fix="convert the coordinate to degrees",
        )
        return
    steps = np.diff(values)
    if (steps == 0).any() or len(np.unique(values)) != values.size:
        yield Problem(
            kind=kind,
            variable=name,
            found="a value occurs more than once",
            fix="drop the repeated rows or columns",
        )
    elif values.size > 1 and not ((steps > 0).all() or (steps < 0).all()):
        yield Problem(
            kind=kind,
            variable=name,
            found=f"neither ascends nor descends: {listed(values[:4])}, ...",
            fix=f"sort the data along {name}",
            lossless=True,
        )
    elif values.size > 1 and grid_spacing(values) is None:
        yield Problem(
            kind=kind,
            variable=name,
            found=f"uneven spacing, {np.abs(steps).min():g} to {np.abs(steps).max():g} "
            "degrees",
            fix="put it on a regular grid with data.regrid if the model was trained on "
            "one",
            severity="note",
        )
    if name == "lat" and values.size > 1 and (steps < 0).all():
        yield Problem(
            kind=kind,
            variable=name,
            found="rows run from north to south, published models have south first",
            fix="reverse the rows",
            lossless=True,
            severity="note",
        )
    if name == "lon":
        yield from _check_longitude(values)


def _check_longitude(values: np.ndarray) -> Iterator[Problem]:
    """Yields what is wrong with the range of longitudes."""
    if values.size > 1 and values.max() - values.min() > 360 - 1e-4:
        yield Problem(
            kind="longitude",
            variable="lon",
            found=f"{values.min():g} and {values.max():g} are the same meridian",
            fix="drop the last column",
            lossless=True,
        )
    # A part of the globe may be counted in any way, as across Greenwich.
    if goes_around(values) and values.min() < 0:
        yield Problem(
            kind="longitude",
            variable="lon",
            found=f"runs from {values.min():g} to {values.max():g}, published models "
            "have 0 to 360",
            fix="count longitudes from 0 to 360",
            lossless=True,
            severity="note",
        )


def _check_resolution(
    name: str, values: np.ndarray, resolution: float | None
) -> Iterator[Problem]:
    """Yields a problem where the grid is not that of the model."""
    spacing = grid_spacing(values)
    if not resolution or spacing is None:
        return
    if abs(spacing - resolution) > _SPACING_TOLERANCE * resolution:
        yield Problem(
            kind="resolution",
            variable=name,
            found=f"{values.size} values {spacing:g} degrees apart, the checkpoint was "
            f"trained at {resolution:g} degrees",
            fix="use a checkpoint of this resolution, or put the data on its grid with "
            "data.regrid",
        )


def check_levels(dataset: xarray.Dataset, task: TaskConfig) -> Iterator[Problem]:
    """Yields what is wrong with the pressure levels."""
    if not task.pressure_levels:
        return
    if "level" not in dataset.coords:
        yield Problem(
            kind="level",
            variable="level",
            found="the coordinate is missing",
            fix=f"add the levels {listed(task.pressure_levels)} hPa",
        )
        return
    levels, in_pascal = lexicon.stored_levels(dataset["level"])
    if in_pascal:
        yield Problem(
            kind="units",
            variable="level",
            found=f"in Pa ({listed(dataset['level'].values.ravel()[:3])}, ...), "
            "expected hPa",
            fix="divide by 100",
            lossless=True,
        )
    yield from _compare_levels(levels, [float(x) for x in task.pressure_levels])
    if "level" not in dataset.dims:
        yield Problem(
            kind="dims",
            variable="level",
            found="a single level without an axis",
            fix="give it an axis of length 1",
            lossless=True,
        )


def _compare_levels(levels: list[float], wanted: list[float]) -> Iterator[Problem]:
    """Yields how the levels of the data differ from those of the model, in hPa."""
    missing = [level for level in wanted if level not in levels]
    extra = [level for level in levels if level not in wanted]
    has_repeated = len(set(levels)) != len(levels)
    if has_repeated:
        repeated = sorted({level for level in levels if levels.count(level) > 1})
        yield Problem(
            kind="level",
            variable="level",
            found=f"{listed(repeated)} hPa occur more than once",
            fix="drop the repeated levels",
        )
    if missing:
        outside = [x for x in missing if not min(levels) < x < max(levels)]
        fix = "get the data on these levels, or use a checkpoint of the levels there"
        if not outside:
            fix += "; data.interpolate_levels makes them, with the error of doing so"
        yield Problem(
            kind="level",
            variable="level",
            found=f"{listed(missing)} hPa missing, the data has {listed(levels)}",
            fix=fix,
        )
    if extra:
        yield Problem(
            kind="level",
            variable="level",
            found=f"{listed(extra)} hPa are not levels of the model",
            fix="leave them out",
            lossless=not missing,
        )
    if not missing and not extra and not has_repeated and levels != wanted:
        yield Problem(
            kind="level",
            variable="level",
            found=f"in the order {listed(levels)}, the model has {listed(wanted)}",
            fix="reorder the levels",
            lossless=True,
            severity="note",
        )
