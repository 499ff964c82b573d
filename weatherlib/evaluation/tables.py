"""Scores as rows: for people, and for spreadsheets."""

from __future__ import annotations

import csv
import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import xarray

from weatherlib import writing
from weatherlib.evaluation import metrics, results

__all__ = ["open_results", "score_rows", "write_csv", "write_results"]

_COLUMNS = (
    "variable",
    "metric",
    "model",
    "region",
    "level",
    "lead_hours",
    "init_time",
    "threshold",
    "neighbourhood",
    "rank",
    "probability",
    "wavenumber",
)
# Dimensions of scores of events, whose entries have rows of their own.
_CASES = ("threshold", "neighbourhood")
_EXTRA = ("value", "lower", "upper", "difference", "difference_lower",
          "difference_upper", "p_value", "units")  # fmt: skip


def open_results(path: str | os.PathLike[str]) -> xarray.Dataset:
    """Returns the scores of a file of ours, of WeatherBench 2 or X, or ArchesWeather.

    Args:
      path: NetCDF.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It cannot be read.
      ValueError: It holds no scores by lead time.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file of scores")
    try:
        with xarray.open_dataset(path, decode_timedelta=False) as opened:
            dataset = opened.load()
    except (OSError, ValueError) as error:
        raise OSError(f"{path}: cannot be read as NetCDF ({error})") from error
    return results.canonical_results(dataset, path.stem)


def write_results(
    dataset: xarray.Dataset, path: str | os.PathLike[str]
) -> pathlib.Path:
    """Writes scores as NetCDF, under NAME.partial until they are complete.

    Raises:
      OSError: The file cannot be written.
    """
    path = pathlib.Path(path)
    encoding = {"lead_time": {"units": "hours", "dtype": "float64"}}
    if "init_time" in dataset.dims:
        units = "seconds since 1970-01-01"
        encoding["init_time"] = {"units": units, "dtype": "int64"}
    hours = dataset["lead_time"] / np.timedelta64(1, "h")
    if (hours == hours.round()).all():
        encoding["lead_time"]["dtype"] = "int64"
    else:
        encoding["lead_time"]["units"] = "seconds"
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}")
    with writing.replacing(path) as partial:
        dataset.to_netcdf(partial, engine="netcdf4", encoding=encoding)
    return path


def write_csv(dataset: xarray.Dataset, path: str | os.PathLike[str]) -> pathlib.Path:
    """Writes one line for each score, with its interval and comparison.

    Raises:
      OSError: The file cannot be written.
    """
    path = pathlib.Path(path)
    with (
        writing.replacing(path) as partial,
        partial.open("w", encoding="utf8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*_COLUMNS, *_EXTRA])
        for row in _lines(dataset):
            writer.writerow(row)
    return path


def score_rows(
    dataset: xarray.Dataset,
    metric: str,
    *,
    region: str | None = None,
    leads: int = 6,
    levels: Sequence[float] = (500, 850),
) -> tuple[list[str], list[list[str]]]:
    """Returns heading and rows of a table of one metric for people.

    One row for each variable, threshold, level and model. Of the levels, those asked
    for are shown where they are there, else the first two. A star marks a difference
    from the first model that the confidence interval does not explain.

    Args:
      dataset: Scores.
      metric: Which.
      region: Which; the first by default.
      leads: How many lead times to show at most.
      levels: Pressure levels in hPa.
    """
    hours = dataset["lead_time"].values / np.timedelta64(1, "h")
    shown = _shown(hours, leads)
    heading = ["variable", "unit", "model", *(f"+{hours[i]:g} h" for i in shown)]
    rows = []
    for name, variable in _by_lead(dataset, metric).items():
        array = dataset[name]
        units = str(array.attrs.get("units", ""))
        if "metric" in array.dims:
            array = array.sel(metric=metric)
            units = metrics.units_of(metric, units)
        for words, place, chosen in _parts(array, levels):
            if "region" in chosen.dims:
                place["region"] = region or chosen["region"].values[0]
                chosen = chosen.sel(region=place["region"])
            for model in dataset["model"].values:
                values = chosen.sel(model=model).values[shown]
                if np.isnan(values).all():
                    continue
                stars = _stars(dataset, name, {**place, "metric": metric}, model)
                cells = [
                    f"{v:.4g}{'*' if s else ''}" for v, s in zip(values, stars[shown])
                ]
                rows.append([f"{variable}{words}", units, str(model), *cells])
    return heading, rows


def _stars(
    dataset: xarray.Dataset, name: str, place: Mapping[str, object], model: str
) -> np.ndarray:
    """Returns at which lead times a model differs from the first beyond chance."""
    none = np.zeros(dataset.sizes["lead_time"], bool)
    if f"difference_lower.{name}" not in dataset:
        return none
    ends = []
    for end in ("lower", "upper"):
        array = dataset[f"difference_{end}.{name}"]
        if model not in array["model"].values:
            return none
        at = {dim: value for dim, value in place.items() if dim in array.dims}
        ends.append(array.sel({"model": model, **at}).values)
    return (ends[0] > 0) | (ends[1] < 0)


def _by_lead(dataset: xarray.Dataset, metric: str) -> dict[str, str]:
    """Returns the variable of each array that has single values of a metric."""
    known = {"metric", "model", "region", "lead_time", "level", *_CASES}
    found = {}
    for label, array in dataset.data_vars.items():
        head, dot, rest = str(label).partition(".")
        if not dot and "metric" in array.dims and metric in array["metric"].values:
            found[head] = head
        elif dot and head == metric and set(map(str, array.dims)) <= known:
            found[str(label)] = rest
    return found


def _parts(
    array: xarray.DataArray, levels: Sequence[float]
) -> Iterator[tuple[str, dict[str, object], xarray.DataArray]]:
    """Yields words, place and values of each threshold, neighbourhood and level."""
    dims = [dim for dim in _CASES if dim in array.dims]
    for values in itertools.product(*(array[dim].values.tolist() for dim in dims)):
        case = dict(zip(dims, values))
        words = "".join(f", {dim} {value}" for dim, value in case.items())
        for level, chosen in _by_level(array.sel(case), levels):
            at = {} if level is None else {"level": level}
            yield (
                f"{'' if level is None else f' {level:g}'}{words}",
                {**case, **at},
                chosen,
            )


def _by_level(
    array: xarray.DataArray, wanted: Sequence[float]
) -> Iterator[tuple[float | None, xarray.DataArray]]:
    if "level" not in array.dims:
        yield None, array
        return
    held = [
        level
        for level in array["level"].values.tolist()
        if not array.sel(level=level).isnull().all()
    ]
    for level in [level for level in wanted if level in held] or held[:2]:
        yield level, array.sel(level=level)


def _shown(hours: np.ndarray, most: int) -> list[int]:
    """Returns the places of at most so many leads: first, whole days, last."""
    if len(hours) <= most:
        return list(range(len(hours)))
    days = np.flatnonzero(hours % 24 == 0)
    pool = sorted({0, *days.tolist(), len(hours) - 1})
    pool = pool if len(pool) >= most else list(range(len(hours)))
    return [pool[i] for i in np.linspace(0, len(pool) - 1, most).round().astype(int)]


def _lines(dataset: xarray.Dataset) -> Iterator[list[str]]:
    """Yields the lines of a spreadsheet, scores that are not there left out."""
    for label in map(str, dataset.data_vars):
        kind, _, rest = label.partition(".")
        if rest and kind in results.KINDS and kind != "by_start":
            continue
        array = dataset[label]
        tied = {
            extra: dataset[f"{extra}.{label}"]
            for extra in _EXTRA
            if f"{extra}.{label}" in dataset
        }
        metric, variable = (None, label)
        if rest and kind != "by_start":
            metric, variable = kind, rest
        elif rest:
            metric, _, variable = rest.rpartition(".")
        tied = {
            k: v.reindex_like(array).transpose(*array.dims) for k, v in tied.items()
        }
        axes = [array[dim].values for dim in array.dims]
        for index in np.argwhere(~np.isnan(array.values)):
            place = dict(zip(map(str, array.dims), index))
            at = {d: axes[n][place[d]] for n, d in enumerate(map(str, array.dims))}
            found = {"variable": variable, "metric": metric or None, **_texts(at)}
            found["value"] = f"{array.values[tuple(index)]:.7g}"
            own = str(array.attrs.get("units", ""))
            # Scores of further dimensions are of one metric, and name its unit.
            found["units"] = own if metric else metrics.units_of(found["metric"], own)
            for extra, other in tied.items():
                number = other.values[tuple(index)]
                found[extra] = "" if np.isnan(number) else f"{number:.7g}"
            yield [str(found.get(c) or "") for c in (*_COLUMNS, *_EXTRA)]


def _texts(at: Mapping[str, object]) -> dict[str, str]:
    """Returns coordinates as a spreadsheet shows them."""
    found = {}
    for dim, value in at.items():
        if dim == "lead_time":
            found["lead_hours"] = f"{value / np.timedelta64(1, 'h'):g}"  # type: ignore
        elif dim.endswith("wavenumber"):
            found["wavenumber"] = str(value)
        elif dim == "init_time":
            found[dim] = str(np.datetime_as_string(value, unit="s"))  # type: ignore
        elif isinstance(value, float | np.floating):
            found[dim] = f"{value:g}"
        else:
            found[dim] = str(value)
    return found
