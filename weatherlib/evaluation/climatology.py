"""What is normal for the date: from a file, or fitted to the truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import pandas as pd
import xarray

from weatherlib.evaluation import intake, periods, reading, regions

__all__ = [
    "Climatology",
    "HarmonicClimatology",
    "TableClimatology",
    "fit_climatology",
    "fit_quantiles",
    "open_climatology",
]

_YEAR = 365.25
_BLOCK_BYTES = 64 * 2**20
# With fewer days than this a year's cycle cannot be told from the weather.
_ENOUGH_DAYS = 700


class Climatology(Protocol):
    """What is normal for a date."""

    @property
    def description(self) -> str:
        """What it is, for the result."""
        ...

    def at(
        self, variable: str, moments: np.ndarray, levels: np.ndarray | None
    ) -> np.ndarray:
        """Returns what is normal, shape [*moments.shape, level, row, column], float64.

        Args:
          variable: Name.
          moments: datetime64[ns], any shape.
          levels: Pressure levels in hPa, None for a variable without; the level axis
            then has length 1.
        """
        ...


@dataclasses.dataclass(frozen=True)
class TableClimatology:
    """A climatology file, as WeatherBench 2 has them.

    Attributes:
      dataset: Variables with any of the dimensions `hour` (of the day), `dayofyear` (1
        to 366) and `level`, and lat and lon of the common grid.
      description: What it is, for the result.
    """

    dataset: xarray.Dataset
    description: str = "from a file"

    def at(
        self, variable: str, moments: np.ndarray, levels: np.ndarray | None
    ) -> np.ndarray:
        """Returns the mean for the hour and the day of the year of each moment.

        Arguments and shape are those of `Climatology.at`.

        Raises:
          ValueError: The file has no value for an hour, a day or a level.
        """
        if variable not in self.dataset:
            raise ValueError(
                f"{variable}: not in the climatology, which has "
                f"{', '.join(map(str, self.dataset.data_vars))}"
            )
        array = self.dataset[variable]
        if ("level" in array.dims) != (levels is not None):
            which = "levels" if levels is None else "no levels"
            others = "no levels" if levels is None else "levels"
            raise ValueError(
                f"{variable}: the climatology has {which}, the truth {others}"
            )
        if levels is None:
            array = array.expand_dims("level")
        else:
            held = array["level"].values
            missing = [level for level in levels if level not in held]
            if missing:
                raise ValueError(
                    f"{variable}: the climatology lacks the level {missing[0]:g} hPa"
                )
            array = array.sel(level=levels)
        wanted, inverse = np.unique(moments.ravel(), return_inverse=True)
        dates = pd.DatetimeIndex(wanted)
        places = {
            dim: xarray.DataArray(self._places(dim, of.to_numpy()), dims="moment")
            for dim, of in (("hour", dates.hour), ("dayofyear", dates.day_of_year))
            if dim in array.dims
        }
        chosen = array.isel(places)
        if "moment" not in chosen.dims:
            chosen = chosen.expand_dims(moment=len(wanted))
        chosen = chosen.transpose("moment", "level", "lat", "lon")
        if chosen.chunks is not None:
            chosen = chosen.compute(scheduler="synchronous")
        values = np.asarray(chosen.values, np.float64)
        return values[inverse.ravel()].reshape(*moments.shape, *values.shape[1:])

    def _places(self, dim: str, wanted: np.ndarray) -> np.ndarray:
        held = self.dataset[dim].values
        if dim == "hour" and len(held) == 1:
            return np.zeros(len(wanted), int)  # A mean of days serves every hour.
        missing = sorted(set(wanted.tolist()) - set(held.tolist()))
        if missing and dim == "dayofyear" and missing == [366] and 365 in held:
            wanted = np.minimum(wanted, 365)
        elif missing:
            raise ValueError(
                f"the climatology has no {dim} {missing[0]}, it has "
                f"{', '.join(map(str, held[:24]))}"
            )
        order = np.argsort(held)
        return order[np.searchsorted(held[order], wanted)]


@dataclasses.dataclass(frozen=True)
class HarmonicClimatology:
    """A mean and waves of the year at each point.

    Attributes:
      coefficients: For each variable the shape [hour, 1 + 2 harmonics, level, row,
        column].
      levels: Levels of variables that have them.
      hours: Hours of the day that have coefficients of their own; empty for one set.
      description: What it is, for the result.
    """

    coefficients: Mapping[str, np.ndarray]
    levels: np.ndarray | None
    hours: tuple[int, ...]
    description: str

    def at(
        self, variable: str, moments: np.ndarray, levels: np.ndarray | None
    ) -> np.ndarray:
        """Returns the value of the waves at each moment.

        Arguments and shape are those of `Climatology.at`.

        Raises:
          ValueError: An hour of the day was not fitted.
        """
        table = self.coefficients[variable]
        if levels is not None and self.levels is not None:
            table = table[:, :, [self.levels.tolist().index(x) for x in levels]]
        harmonics = (table.shape[1] - 1) // 2
        wanted, inverse = np.unique(moments.ravel(), return_inverse=True)
        design = _design(wanted, harmonics)
        groups = _groups(wanted, self.hours)
        found = np.empty((len(wanted), *table.shape[2:]))
        for group in np.unique(groups):
            chosen = groups == group
            found[chosen] = np.tensordot(design[chosen], table[group], axes=1)
        return found[inverse.ravel()].reshape(*moments.shape, *found.shape[1:])


def open_climatology(
    dataset: xarray.Dataset, grid: regions.Grid, name: str = "the climatology"
) -> TableClimatology:
    """Returns a climatology on the common grid.

    Args:
      dataset: As opened, in the form of WeatherBench 2.
      grid: Points wanted.
      name: For messages.

    Raises:
      ValueError: It is on another grid, or is no climatology.
    """
    if "day_of_year" in dataset.dims:
        dataset = dataset.rename(day_of_year="dayofyear")
    # A time axis would be a series, not a climatology.
    if "time" in dataset.dims:
        raise ValueError(
            f"{name}: it has a time axis; a climatology has the dimensions hour and "
            "dayofyear, as `weatherlib stats --climatology` writes it"
        )
    placed = intake.canonical(dataset, name)
    matched = intake.match_grid(placed, grid, name, "the forecast")
    return TableClimatology(matched, f"{name}")


def fit_climatology(
    truth: reading.TruthReader,
    names: Sequence[str],
    period: periods.Period | None = None,
    *,
    harmonics: int | None = None,
    by_hour: bool = False,
) -> HarmonicClimatology:
    """Returns the mean and the annual waves of the truth, fitted by least squares.

    The phase is 2 pi k (day of year) / 365.25. The truth is read once, in blocks.

    Args:
      truth: What happened.
      names: Variables.
      period: First and last time to use. Default: all.
      harmonics: Waves of the year; 0 is the mean. Default: 3 where the period has two
        years, else 0.
      by_hour: Whether each hour of the day gets its own.

    Raises:
      ValueError: No time lies in the period, or too few for the harmonics.
    """
    moments = periods.period_times(truth, period)
    days = (moments[-1] - moments[0]) / np.timedelta64(1, "D")
    if harmonics is None:
        harmonics = 3 if days >= _ENOUGH_DAYS else 0
    hours = tuple(sorted(set(pd.DatetimeIndex(moments).hour))) if by_hour else ()
    groups = _groups(moments, hours)
    if np.bincount(groups).min() < 2 * harmonics + 1:
        raise ValueError(
            f"{len(moments)} times are too few for {harmonics} harmonics of the year"
        )
    design = _design(moments, harmonics)
    found = {
        name: _fit(truth, name, moments, design, groups, max(1, len(hours)))
        for name in names
    }
    kind = f"{harmonics} annual harmonics" if harmonics else "mean"
    kind += " by hour of day" if by_hour else ""
    described = f"{kind} of {truth.name}, {periods.describe_times(moments)}"
    return HarmonicClimatology(found, levels_of(truth.dataset), hours, described)


def fit_quantiles(
    truth: reading.TruthReader,
    variable: str,
    quantiles: Sequence[float],
    levels: np.ndarray | None,
    period: periods.Period | None = None,
) -> np.ndarray:
    """Returns quantiles of the truth at each point, [quantile, level, row, column].

    Bands of rows are read one after the other, so that a long series need not fit into
    memory. Missing values are left out.

    Args:
      truth: What happened.
      variable: Name.
      quantiles: Between 0 and 1.
      levels: Levels wanted, None for a variable without.
      period: First and last time to use. Default: all.
    """
    moments = periods.period_times(truth, period)
    rows, columns = truth.dataset.sizes["lat"], truth.dataset.sizes["lon"]
    count = len(levels) if levels is not None else 1
    band = max(1, _BLOCK_BYTES // (8 * len(moments) * columns * count))
    bands = []
    for first in range(0, rows, band):
        part = truth.dataset[[variable]].isel(lat=slice(first, first + band))
        values = reading.TruthReader(part).at(variable, moments, levels)
        function = np.nanquantile if np.isnan(values).any() else np.quantile
        bands.append(function(values, list(quantiles), axis=0))
    return np.concatenate(bands, axis=-2)


def levels_of(dataset: xarray.Dataset) -> np.ndarray | None:
    """Returns the levels of a dataset in hPa, shape [level]; None where it has none."""
    return dataset["level"].values if "level" in dataset.dims else None


def blocks_of(moments: np.ndarray, bytes_each: int) -> list[np.ndarray]:
    """Returns the moments in blocks that are read at once.

    Args:
      moments: Shape [time].
      bytes_each: Size in memory of what is read of one moment.
    """
    size = max(1, _BLOCK_BYTES // max(1, bytes_each))
    return [moments[i : i + size] for i in range(0, len(moments), size)]


def _fit(
    truth: reading.TruthReader,
    name: str,
    moments: np.ndarray,
    design: np.ndarray,
    groups: np.ndarray,
    count: int,
) -> np.ndarray:
    """Returns the coefficients of one variable by the normal equations."""
    array = truth.dataset[name]
    levels = levels_of(truth.dataset) if "level" in array.dims else None
    each = 8 * array.isel(time=0).size
    total: np.ndarray | None = None
    weight: np.ndarray | None = None
    size = len(blocks_of(moments, each)[0])
    for first in range(0, len(moments), size):
        part = slice(first, first + size)
        values = truth.at(name, moments[part], levels)
        if total is None or weight is None:
            total = np.zeros((count, design.shape[1], *values.shape[1:]))
            weight = np.zeros((count, *values.shape[1:]))
        for group in range(count):
            chosen = groups[part] == group
            held = values[chosen]
            missing = np.isnan(held)
            weight[group] += (~missing).sum(0)
            columns = design[part][chosen].T
            total[group] += np.tensordot(columns, np.where(missing, 0.0, held), axes=1)
    assert total is not None and weight is not None
    with np.errstate(divide="ignore", invalid="ignore"):
        if design.shape[1] == 1:
            return total / weight[:, None]
        for group in range(count):
            chosen = design[groups == group]
            solved = np.linalg.solve(
                chosen.T @ chosen, total[group].reshape(chosen.shape[1], -1)
            )
            total[group] = solved.reshape(total[group].shape)
            # A gap in the series of a point would bend its waves.
            total[group][:, weight[group] < len(chosen)] = np.nan
    return total


def _design(moments: np.ndarray, harmonics: int) -> np.ndarray:
    """Returns the waves of the year at each moment, [moment, 1 + 2 harmonics]."""
    phase = 2 * np.pi * pd.DatetimeIndex(moments).day_of_year.to_numpy() / _YEAR
    columns = [np.ones(len(moments))]
    for order in range(1, harmonics + 1):
        columns += [np.sin(order * phase), np.cos(order * phase)]
    return np.stack(columns, axis=1)


def _groups(moments: np.ndarray, hours: tuple[int, ...]) -> np.ndarray:
    """Returns the place of each moment's hour among the hours."""
    if not hours:
        return np.zeros(len(moments), int)
    found = pd.DatetimeIndex(moments).hour.to_numpy()
    missing = sorted(set(found.tolist()) - set(hours))
    if missing:
        raise ValueError(
            f"the climatology has no hour {missing[0]} UTC; the truth it was fitted to "
            f"has {', '.join(map(str, hours))}"
        )
    return np.searchsorted(np.asarray(hours), found)
