"""The usual weather as waves of the year and of the day at each grid point.

What is stored is the departure of this climatology from the mean of the series, so that
taking it away leaves the mean where it is. Dates enter as sines and cosines of the
progress of year and day, which any dataset with dates has or can be given: the same
function evaluates the departure from NumPy, dask and JAX arrays.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray

from weatherlib import config, writing
from weatherlib.data_utils import progress

__all__ = [
    "DIMS",
    "FILE",
    "HarmonicsConfig",
    "departure",
    "fit_departures",
    "progress_names",
    "read",
    "remove",
    "save",
    "settings_of",
]

FILE = "climatology_harmonics.nc"

DIMS = _YEAR, _DAY = "year_wave", "day_wave"
"""Dimensions of amplitudes that number the waves."""

# Frames whose values are held at a time while waves are fitted.
_FRAMES = 256
# Waves that the frames cannot tell apart, such as both phases of a half-daily wave in
# six-hourly data, share what they explain.
_INDISTINCT = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class HarmonicsConfig(config.Mapping):
    """Which waves make up the usual weather.

    Attributes:
      years: Waves a year; 0 for none, as suits a record shorter than a year.
      days: Waves a day; 0 for none, as suits daily data. Two hold the tides of
        pressure.

    Raises:
      ValueError: A number is out of range.
    """

    years: int = 3
    days: int = 0

    def __post_init__(self) -> None:
        for name in ("years", "days"):
            if not 0 <= self[name] <= 20:
                raise ValueError(f"{name} must be 0 to 20, found {self[name]!r}")


def progress_names(settings: HarmonicsConfig) -> tuple[str, ...]:
    """Returns the variables that the waves are computed from."""
    names = []
    if settings.years:
        names += [f"{progress.YEAR_PROGRESS}_sin", f"{progress.YEAR_PROGRESS}_cos"]
    if settings.days:
        names += [f"{progress.DAY_PROGRESS}_sin", f"{progress.DAY_PROGRESS}_cos"]
    return tuple(names)


def settings_of(amplitudes: xarray.Dataset) -> HarmonicsConfig:
    """Returns which waves amplitudes are of.

    Args:
      amplitudes: From `fit_departures`.
    """
    return HarmonicsConfig(
        years=int(amplitudes.attrs["years"]), days=int(amplitudes.attrs["days"])
    )


def fit_departures(
    dataset: xarray.Dataset, names: Iterable[str], settings: HarmonicsConfig
) -> xarray.Dataset:
    """Returns the departure of the climatology from the mean, as amplitudes of waves.

    Least squares at each grid point; frames are read in blocks. Where waves cannot be
    told apart, the smallest amplitudes are taken.

    Args:
      dataset: Variables with dimensions (time, [level,] lat, lon), and those of
        `progress_names` with dimensions time or (time, lon).
      names: Variables to describe.
      settings: Which waves.

    Returns:
      Variables (year_wave, day_wave, [level,] lat, lon) in the units of the data.

    Raises:
      ValueError: A variable is missing, lacks a dimension or has missing values.
    """
    missing = [n for n in (*names, *progress_names(settings)) if n not in dataset]
    if missing:
        raise ValueError(
            f"{', '.join(missing)}: needed for the climatology, and not in the data"
        )
    waves = _design(dataset, settings)
    gram = np.einsum("tlij,tlmn->lijmn", waves, waves)
    count = waves.shape[2] * waves.shape[3]
    gram = gram.reshape(len(gram), count, count)
    inverse = np.linalg.pinv(gram, rcond=_INDISTINCT, hermitian=True)
    found = {}
    for name in names:
        found[name] = _fit(dataset[name], waves, inverse)
    coords = {k: dataset[k] for k in ("level", "lat", "lon") if k in dataset.coords}
    attrs = {"years": settings.years, "days": settings.days}
    return xarray.Dataset(found, coords=coords, attrs=attrs)


def _fit(
    field: xarray.DataArray, waves: np.ndarray, inverse: np.ndarray
) -> xarray.Variable:
    """Returns the amplitudes of one variable, without its mean."""
    inner = ("level",) if "level" in field.dims else ()
    order = ("time", *inner, "lat", "lon")
    if set(field.dims) != set(order):
        raise ValueError(
            f"{field.name}: the climatology needs the dimensions time, lat and lon, "
            f"found {', '.join(map(str, field.dims))}"
        )
    field = field.transpose(*order)
    total, products = 0.0, 0.0
    for begin in range(0, field.sizes["time"], _FRAMES):
        part = slice(begin, begin + _FRAMES)
        values = np.asarray(field.isel(time=part).values, np.float64)
        if not np.isfinite(values).all():
            raise ValueError(
                f"{field.name}: has missing values, and a climatology cannot be taken "
                "away from it; name only variables without"
            )
        total = total + values.sum(axis=(0, -2, -1))
        flat = waves[part].reshape(len(values), waves.shape[1], -1)
        if flat.shape[1] == 1:
            products = products + np.einsum("tk,t...yx->k...yx", flat[:, 0], values)
        else:
            products = products + np.einsum("txk,t...yx->k...yx", flat, values)
    points = field.sizes["time"] * field.sizes["lat"] * field.sizes["lon"]
    if len(inverse) == 1:
        amplitudes = np.einsum("kj,j...yx->k...yx", inverse[0], products)
    else:
        amplitudes = np.einsum("xkj,j...yx->k...yx", inverse, products)
    amplitudes[0] -= (np.asarray(total) / points)[..., np.newaxis, np.newaxis]
    shape = (*waves.shape[2:], *amplitudes.shape[1:])
    return xarray.Variable(
        (_YEAR, _DAY, *order[1:]), amplitudes.reshape(shape).astype(np.float32)
    )


def _design(dataset: xarray.Dataset, settings: HarmonicsConfig) -> np.ndarray:
    """Returns the waves at the frames, shape [time, lon or 1, year_wave, day_wave]."""
    frames = dataset.sizes["time"]
    years = [np.asarray(w).reshape(-1, 1) for w in _waves(dataset, settings, "year")]
    days = [_by_longitude(w) for w in _waves(dataset, settings, "day")]
    columns = max(wave.shape[1] for wave in days)
    design = [
        [np.broadcast_to(year * day, (frames, columns)) for day in days]
        for year in years
    ]
    return np.moveaxis(np.asarray(design, np.float64), (0, 1), (2, 3))


def _by_longitude(wave: Any) -> np.ndarray:
    if isinstance(wave, xarray.DataArray) and "lon" in wave.dims:
        return np.asarray(wave.transpose("time", "lon").values)
    return np.asarray(wave).reshape(-1, 1)


def departure(
    amplitudes: xarray.Dataset, name: str, when: Mapping[Any, xarray.DataArray]
) -> xarray.DataArray:
    """Returns how far the usual weather lies from the mean of the series.

    Args:
      amplitudes: From `fit_departures`.
      name: The variable.
      when: Variables of `progress_names`, of any kind of array and with any
        dimensions, such as (batch, time) and (batch, time, lon).

    Returns:
      The dimensions of `when` and those of the variable, without coordinates.
    """
    settings = settings_of(amplitudes)
    field = amplitudes[name].reset_coords(drop=True)
    field = field.drop_vars([c for c in field.coords if c in field.dims])
    total: Any = 0.0
    for i, year in enumerate(_waves(when, settings, "year")):
        daily: Any = 0.0
        for j, day in enumerate(_waves(when, settings, "day")):
            daily = daily + field.isel({_YEAR: i, _DAY: j}) * day
        total = total + daily * year
    return total


def remove(
    dataset: xarray.Dataset, amplitudes: xarray.Dataset, sign: int = -1
) -> xarray.Dataset:
    """Returns the dataset without the departures of its climatology.

    Args:
      dataset: With the variables of `progress_names`.
      amplitudes: From `fit_departures`; its other variables are passed over.
      sign: 1 to put the departures back.
    """
    changed = {}
    for name in amplitudes.data_vars:
        if name in dataset:
            field = dataset[name]
            apart = departure(amplitudes, str(name), dataset)
            changed[name] = (field + sign * apart).transpose(*field.dims)
    return dataset.assign(changed)


def save(amplitudes: xarray.Dataset, folder: str | os.PathLike[str]) -> pathlib.Path:
    """Writes the amplitudes as `FILE` into a folder.

    Raises:
      OSError: The file cannot be written.
    """
    path = pathlib.Path(folder) / FILE
    with writing.replacing(path) as partial:
        amplitudes.to_netcdf(partial)
    return path


def read(path: str | os.PathLike[str]) -> xarray.Dataset:
    """Returns the amplitudes in a file.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It is damaged.
      ValueError: It holds something else.
    """
    with xarray.open_dataset(path) as opened:
        amplitudes = opened.load()
    if not {"years", "days"} <= set(amplitudes.attrs) or _YEAR not in amplitudes.dims:
        raise ValueError(f"{path}: not a file of climatology harmonics")
    return amplitudes


def _waves(when: Any, settings: HarmonicsConfig, kind: str) -> list[Any]:
    """Returns one, and sine and cosine of each wave of the year or the day."""
    count = settings.years if kind == "year" else settings.days
    waves: list[Any] = [1.0]
    if count:
        sine, cosine = (when[f"{kind}_progress_{part}"] for part in ("sin", "cos"))
        # Coordinates would have to agree with those of the fields, and say nothing.
        sine, cosine = (_bare(wave) for wave in (sine, cosine))
        s, c = sine, cosine
        for _ in range(count):
            waves += [s, c]
            s, c = s * cosine + c * sine, c * cosine - s * sine
    return waves


def _bare(wave: xarray.DataArray) -> xarray.DataArray:
    return wave.drop_vars(list(wave.coords))
