"""Checks of variables and their values against a task."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import pandas as pd
import xarray

from weatherlib import variables
from weatherlib.data_utils import accumulation, lexicon, progress, units
from weatherlib.data_utils.problems import Problem, listed
from weatherlib.task import TaskConfig

__all__ = [
    "DIMS",
    "Scan",
    "check_dims",
    "check_missing",
    "check_units",
    "check_values",
    "guess_conversion",
    "scan",
]

# Dimensions in the order of models.
DIMS = ("batch", "time", "level", "lat", "lon")

# Below this height, geopotential and its height in metres can be told apart.
_HIGH_ENOUGH_HPA = 860.0
# The highest ground of a globe, in metres: less on coarse grids than at the summits.
_SUMMITS = (500.0, 9000.0)
# One hour of the strongest sunlight is 4.95e6 J m-2.
_MOST_HOURLY_RADIATION = 5.2e6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scan:
    """What the values of a variable are like.

    Attributes:
      low: Smallest finite value, NaN without one.
      high: Largest finite value.
      mean: Mean of the finite values, by level where there are levels.
      nans: How many are NaN.
      infinities: How many are infinite.
      first_bad: Index of the first value that is not finite, by dimension.
      size: How many values there are.
    """

    low: float
    high: float
    mean: np.ndarray
    nans: int
    infinities: int
    first_bad: Mapping[str, int]
    size: int


def scan(array: xarray.DataArray) -> Scan:
    """Returns what the values are like, read one frame at a time."""
    frames = range(array.sizes["time"]) if "time" in array.dims else [None]
    low, high, nans, infinities = np.inf, -np.inf, 0, 0
    first_bad: dict[str, int] = {}
    sums: list[np.ndarray] = []
    for frame in frames:
        part = array if frame is None else array.isel(time=frame)
        if "level" in part.dims:
            part = part.transpose("level", ...)
        values = np.asarray(part.values)
        finite = np.isfinite(values)
        if not finite.all():
            nans += int(np.isnan(values).sum())
            infinities += int(np.isinf(values).sum())
            if not first_bad:
                place = np.unravel_index(np.argmin(finite), values.shape)
                first_bad = dict(zip(map(str, part.dims), map(int, place), strict=True))
                first_bad |= {} if frame is None else {"time": frame}
            values = np.where(finite, values, np.nan)
        if not finite.any():
            continue
        low = min(low, float(np.nanmin(values)))
        high = max(high, float(np.nanmax(values)))
        others = tuple(range(1 if "level" in part.dims else 0, values.ndim))
        counts = np.maximum(finite.sum(axis=others), 1)
        sums.append(np.nansum(values, axis=others, dtype=np.float64) / counts)
    empty = not sums
    return Scan(
        low=np.nan if empty else low,
        high=np.nan if empty else high,
        mean=np.full((), np.nan) if empty else np.mean(sums, axis=0),
        nans=nans,
        infinities=infinities,
        first_bad=first_bad,
        size=array.size,
    )


def check_missing(
    dataset: xarray.Dataset, task: TaskConfig, *, truth: bool
) -> Iterator[Problem]:
    """Yields a problem for each variable that is neither there nor computable."""
    names = dict.fromkeys((*task.input_variables, *task.forcing_variables))
    for name in names:
        if name not in dataset and name not in progress.COMPUTABLE:
            yield _missing(name, dataset, "error")
    for name in task.target_variables:
        if name not in dataset and name not in names:
            yield _missing(name, dataset, "error" if truth else "note")


def _missing(name: str, dataset: xarray.Dataset, severity: str) -> Problem:
    """Returns the problem of a variable that is not there, with the likeliest fix."""
    held = [str(v) for v in dataset.data_vars]
    wanted = accumulation.hours_of_name(name)
    periods = {} if wanted is None else accumulation.periods(dataset)
    if wanted is not None and periods:
        return _other_period(name, wanted, periods, severity)
    similar = lexicon.closest(name, [v for v in held if _may_be(name, dataset[v])])
    guess = f"; is it `{similar}`?" if similar else ""
    return Problem(
        kind="missing",
        variable=name,
        found=f"missing{guess}",
        fix=f"add it; the data has {listed(held) or 'no variables'}",
        severity="note" if severity == "note" else "error",
    )


def _may_be(name: str, array: xarray.DataArray) -> bool:
    """Tells whether a variable under another name can be the quantity of a name."""
    known, other = variables.VARIABLES.get(name), variables.find(str(array.name))
    if known is None or other is None:
        on_one = known is not None and known.kind in ("surface", "static")
        return not (on_one and array.sizes.get("level", 1) > 1)
    # It is another one: that of the name would have been found by it.
    return False


def _other_period(
    name: str, wanted: int, periods: Mapping[str, int | None], severity: str
) -> Problem:
    """Returns the problem of precipitation that is there for other periods.

    Args:
      name: Of the precipitation wanted.
      wanted: Its period in hours.
      periods: Those of the data, as `accumulation.periods` returns them.
      severity: Of the problem.
    """
    known = [hours for hours in periods.values() if hours is not None]
    parts = [hours for hours in known if not wanted % hours]
    fix = f"data.accumulate_precipitation(dataset, {wanted})"
    if parts:
        found = f"summed over another period, {max(parts)} h"
    elif known:
        found = f"summed over another period, {min(known)} h"
        reason = "longer sum cannot be split" if min(known) > wanted else (
            f"sum over {min(known)} h cannot be added up to it"
        )  # fmt: skip
        fix = f"get it for {wanted} h; a {reason}"
    else:
        found, fix = "summed from the start", f"data.deaccumulate, then {fix}"
    return Problem(
        kind="missing",
        variable=name,
        found=f"missing, but the data has {listed(periods)}, {found}; expected "
        f"{wanted} h up to each time",
        fix=fix,
        severity="note" if severity == "note" else "error",
    )


def check_dims(
    name: str, array: xarray.DataArray, *, on_levels: bool = True
) -> Iterator[Problem]:
    """Yields what is wrong with the dimensions of a variable, `batch` left aside.

    Args:
      name: Of the variable.
      array: Its values.
      on_levels: Whether the task has pressure levels; without, an atmospheric variable
        lies on one that need not be named.
    """
    known = variables.VARIABLES.get(name)
    found = [str(dim) for dim in array.dims]
    for dim in sorted(set(found) - set(DIMS)):
        single = array.sizes[dim] == 1
        yield Problem(
            kind="dims",
            variable=name,
            found=f"has the dimension {dim} of length {array.sizes[dim]}",
            fix="drop it" if single else f"select one entry along {dim}",
            lossless=single,
        )
    if known is None:
        return
    kind = known.kind
    if kind == "atmospheric" and not on_levels:
        kind = "surface"
    wanted = {
        "static": {"lat", "lon"},
        "surface": {"time", "lat", "lon"},
        "atmospheric": {"time", "level", "lat", "lon"},
        "forcing": {"time"},
    }[kind]
    missing = sorted(wanted - set(found))
    if missing:
        yield Problem(
            kind="dims",
            variable=name,
            found=f"has the dimensions ({', '.join(found)}), {', '.join(missing)} "
            "missing",
            fix=f"give it the dimensions ({', '.join(d for d in DIMS if d in wanted)})",
            lossless=missing == ["level"],
        )
    if kind in ("static", "surface") and "level" in found:
        yield Problem(
            kind="dims",
            variable=name,
            found=f"has {array.sizes['level']} level(s), but is "
            + ("on one level in the task" if kind != known.kind else known.kind),
            fix="drop the levels",
            lossless=array.sizes["level"] == 1,
        )
    if known.kind == "static" and "time" in found:
        yield Problem(
            kind="dims",
            variable=name,
            found=f"has {array.sizes['time']} frame(s), but does not change in time",
            fix="keep the first frame",
            lossless=True,
        )


def check_units(
    name: str, array: xarray.DataArray, found: Scan | None
) -> Iterator[Problem]:
    """Yields a problem where the unit is not that of the vocabulary.

    The attribute `units` decides where there is one; the range of the values tells
    where there is none, or where the two contradict each other.
    """
    known = variables.VARIABLES.get(name)
    if known is None:
        return
    stated = str(array.attrs.get("units", "")).strip()
    change = units.conversion(stated, known.units) if stated else None
    if stated and change is None:
        yield Problem(
            kind="units",
            variable=name,
            found=f"units {stated!r}, expected {known.units!r}",
            fix=f"convert to {known.units}",
        )
    elif change is not None and (change.scale, change.offset) != (1.0, 0.0):
        yield _unit_problem(known, f"units {stated!r}", change, lossless=True)
    elif found is not None and np.isfinite(found.low):
        yield from _check_range(known, array, found, stated=stated)
    yield from _check_accumulation(known, array)


def guess_conversion(
    known: variables.Variable, array: xarray.DataArray, found: Scan
) -> units.Conversion | None:
    """Returns the change of unit that the values ask for, None where they are fine.

    Args:
      known: The quantity.
      array: Its values, axes under our names.
      found: What the values are like.
    """
    guesses = units.plausible_conversions(found.low, found.high, known)
    if guesses:
        return guesses[0]
    if known.name == "geopotential":
        return _height_conversion(array, found)
    if known.name == "geopotential_at_surface" and _is_whole_globe(array):
        low, high = _SUMMITS
        if low < found.high < high:
            return units.Conversion("m", variables.GRAVITY)
    if known.name == "relative_humidity" and 0 < found.high <= 2:
        return units.Conversion("1", 100.0)
    return None


def _check_range(
    known: variables.Variable, array: xarray.DataArray, found: Scan, *, stated: str
) -> Iterator[Problem]:
    """Yields a problem where values are of another unit, or of no unit at all."""
    span = f"values from {found.low:.6g} to {found.high:.6g}"
    guess = guess_conversion(known, array, found)
    if guess is not None:
        contradicted = f" although the attribute says {stated!r}" if stated else ""
        is_height = known.name in ("geopotential", "geopotential_at_surface")
        height = " of geopotential height" if is_height else ""
        quantity = f"{span} look like {guess.found}{height}{contradicted}"
        yield _unit_problem(known, quantity, guess, lossless=not stated)
        return
    low, high = known.bounds
    if found.low < low or found.high > high:
        yield Problem(
            kind="range",
            variable=known.name,
            found=f"{span} {known.units}, plausible are {low:g} to {high:g}",
            fix="repair the values, or convert them from their unit",
        )
    elif known.name == progress.TISR and found.high > _MOST_HOURLY_RADIATION:
        yield Problem(
            kind="units",
            variable=known.name,
            found=f"{span} J m-2 are summed over more than one hour",
            fix="leave the variable out; it is then computed",
        )
    elif known.name == progress.TISR and 0 < found.high < 2000 and _is_global(array):
        yield Problem(
            kind="units",
            variable=known.name,
            found=f"{span} look like W m-2, expected the sum over one hour in J m-2",
            fix="leave the variable out; it is then computed",
        )


def _height_conversion(array: xarray.DataArray, found: Scan) -> units.Conversion | None:
    """Returns the change of unit where geopotential values are heights.

    The standard atmosphere gives the height of each level; the mean is near that in
    metres or tens of metres, or near 9.8 times that in m2 s-2.
    """
    if "level" not in array.coords or found.mean.size != array["level"].size:
        return None
    levels = np.asarray(lexicon.stored_levels(array["level"])[0])
    highest = int(np.argmin(levels))
    if not 0 < levels[highest] <= _HIGH_ENOUGH_HPA:
        return None
    # Source: barometric formula of the troposphere, scale height 7.4 km above 100 hPa.
    pressure = max(levels[highest], 100.0)
    metres = 44331.0 * (1 - (pressure / 1013.25) ** 0.19026)
    metres += 7400.0 * np.log(pressure / levels[highest])
    for unit, length in (("m", 1.0), ("dam", 10.0)):
        if 0.4 < float(np.ravel(found.mean)[highest]) * length / metres < 2.5:
            return units.Conversion(unit, length * variables.GRAVITY)
    return None


def _is_global(array: xarray.DataArray) -> bool:
    """Tells whether the longitudes go around the globe."""
    if "lon" not in array.coords or array["lon"].size < 4:
        return False
    return bool(np.ptp(array["lon"].values) > 260)


def _is_whole_globe(array: xarray.DataArray) -> bool:
    """Tells whether the grid goes around the globe and nearly to both poles."""
    if "lat" not in array.coords or array["lat"].size < 2:
        return False
    return _is_global(array) and bool(np.ptp(array["lat"].values) > 120)


def _check_accumulation(
    known: variables.Variable, array: xarray.DataArray
) -> Iterator[Problem]:
    """Yields a problem where attributes tell of a sum over another period."""
    if known.accumulation_hours is None:
        return
    if accumulation.grows(array):
        yield Problem(
            kind="units",
            variable=known.name,
            found="summed from the start of the forecast, expected "
            f"{known.accumulation_hours} h",
            fix=f"data.deaccumulate(dataset, {known.name!r})",
        )
        return
    hours = accumulation.stated_hours(array)
    if hours is not None and hours != known.accumulation_hours:
        wanted = known.accumulation_hours
        yield Problem(
            kind="units",
            variable=known.name,
            found=f"summed over {hours} h, expected {wanted} h",
            fix=f"get it for {wanted} h; a longer sum cannot be split"
            if hours > wanted
            else f"sum over the {wanted} h before each time: "
            f"data.accumulate_precipitation(dataset, {wanted})",
        )


def _unit_problem(
    known: variables.Variable,
    quantity: str,
    change: units.Conversion,
    *,
    lossless: bool,
) -> Problem:
    """Returns the problem of a unit that can be converted."""
    sum_part = f", add {change.offset:g}" if change.offset else ""
    factor = f"multiply by {change.scale:g}" if change.scale != 1 else ""
    return Problem(
        kind="units",
        variable=known.name,
        found=f"{quantity}, expected {known.units}",
        fix=(factor + sum_part).removeprefix(", "),
        lossless=lossless,
    )


def check_values(
    name: str,
    array: xarray.DataArray,
    found: Scan,
    *,
    nan_allowed: Collection[str],
    is_input: bool,
) -> Iterator[Problem]:
    """Yields a problem where values are not finite, though the model needs them so."""
    where = ", ".join(f"{dim} {index}" for dim, index in found.first_bad.items())
    where += _date_of(array, found.first_bad)
    if found.infinities:
        yield Problem(
            kind="infinite",
            variable=name,
            found=f"{found.infinities} of {found.size} values are infinite, the first "
            f"bad one at index {where}",
            fix="repair the values",
        )
    if found.nans and name not in nan_allowed:
        yield Problem(
            kind="nan",
            variable=name,
            found=f"{found.nans} of {found.size} values are NaN, the first bad one at "
            f"index {where}",
            fix="fill them; the model cannot take them"
            if is_input
            else "nothing, unless it is compared with the forecast",
            severity="error" if is_input else "note",
        )


def _date_of(array: xarray.DataArray, place: Mapping[str, int]) -> str:
    """Returns the date of a value in brackets, empty where it is not known.

    Args:
      array: May have dates, in `datetime` or as `time`.
      place: Index of the value, by dimension.
    """
    for name in ("datetime", "time"):
        if name in array.coords and array[name].dtype.kind == "M":
            dates = array[name]
            date = dates.isel({d: i for d, i in place.items() if d in dates.dims})
            if date.size == 1:
                return f" ({pd.Timestamp(date.item()):%Y-%m-%d %H:%M})"
    return ""
