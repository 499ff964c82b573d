"""Files of fields that `weatherlib plot` draws: opened, and cut to what is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray

from weatherlib import data, variables
from weatherlib.cli import files
from weatherlib.data_utils import lexicon, times
from weatherlib.plotting import ensembles, scorecards

if TYPE_CHECKING:
    from weatherlib.cli import plot

__all__ = ["open_one", "open_truth", "variable"]

_LEAD = "prediction_timedelta"
_START = "forecast_reference_time"


def open_one(path: str, options: plot.Options) -> xarray.Dataset:
    """Returns a weather file under our names, cut to the times and member wanted.

    A set of forecasts becomes one of them, with lead times as `time`. A variable that
    the file lacks is derived from those that it has.

    Raises:
      ValueError: It lacks the start, the time, the lead time or the member.
    """
    dataset = _with(_opened(path, options), options.var)
    if _LEAD in dataset.dims:
        dataset = _one_start(dataset, options.init)
    if options.member != "first":
        dataset = _one_member(dataset, options.member)
    if options.lead is not None:
        dataset = _at_lead(dataset, options.lead)
    if options.time is not None:
        stamps = _dates(dataset, path)
        wanted = _date(options.time)
        held = np.flatnonzero(stamps == wanted)
        if not held.size:
            raise ValueError(
                f"--time: {path} has no {options.time}; it has {stamps[0]} to "
                f"{stamps[-1]}, {stamps.size} times"
            )
        dataset = dataset.isel(time=held[:1])
    return dataset


def variable(dataset: xarray.Dataset, options: plot.Options) -> str:
    """Returns the variable to draw, under our name.

    Raises:
      ValueError: None is named, and none has latitudes and longitudes.
    """
    if options.var is not None:
        return _our_name(options.var, dataset)
    if "2m_temperature" in dataset:
        return "2m_temperature"
    on_map = [n for n, a in dataset.data_vars.items() if {"lat", "lon"} <= set(a.dims)]
    if not on_map:
        raise ValueError(
            f"{options.path}: no variable on latitudes and longitudes; it has "
            f"{', '.join(map(str, dataset.data_vars)) or 'none'}"
        )
    return str(on_map[0])


def open_truth(path: str, name: str, forecast: xarray.Dataset) -> xarray.Dataset:
    """Returns what happened at the dates of a forecast.

    Raises:
      ValueError: One of the files has no dates, or the truth lacks one of them.
    """
    truth = _with(_renamed(files.open_weather(path)), name)
    held, wanted = _dates(truth, "the truth"), _dates(forecast, "the forecast")
    missing = wanted[~np.isin(wanted, held)]
    if missing.size:
        raise ValueError(
            f"the truth lacks {missing.size} of the {wanted.size} dates of the "
            f"forecast, the first of them {missing[0]}"
        )
    order = [int(np.flatnonzero(held == date)[0]) for date in wanted]
    return truth.isel(time=order).assign_coords(time=forecast["time"])


def _opened(path: str, options: plot.Options) -> xarray.Dataset:
    """Returns a weather file under our names; forecasts keep start and lead time.

    A file whose starts and steps make one series, as analyses and sums of reanalyses
    do, is a series, unless a start or lead time is asked for.

    Raises:
      ValueError: It holds scores and not fields.
    """
    dataset = files.open_lazily(path, by_start=True)
    if options.init is None and options.lead is None and _is_series(dataset):
        dataset = files.open_lazily(path)
    dataset = _renamed(dataset)
    on_map = any({"lat", "lon"} <= set(a.dims) for a in dataset.data_vars.values())
    if not on_map and set(scorecards.LEADS[:2]) & set(dataset.dims):
        raise ValueError(
            f"{path}: holds scores by lead time and no maps; draw it with --kind "
            "curves or --kind scorecard"
        )
    return files.load_small(dataset, path)


def _is_series(dataset: xarray.Dataset) -> bool:
    """Whether forecasts by start and step have one value for each valid time."""
    if not {"time", _LEAD} <= set(dataset.dims):
        return False
    starts, leads = dataset["time"].values, dataset[_LEAD].values
    if starts.dtype.kind != "M" or leads.dtype.kind != "m":
        return False
    if len(starts) == 1:
        return not leads.any()
    valid = starts[:, np.newaxis] + leads
    return np.unique(valid).size == valid.size


def _with(dataset: xarray.Dataset, name: str | None) -> xarray.Dataset:
    """Returns the data with one more variable, if it is one that can be derived."""
    if name is None:
        return dataset
    name = _our_name(name, dataset)
    if name in dataset or name not in data.DERIVABLE:
        return dataset
    return data.add_derived(dataset, [name])


def _our_name(name: str, dataset: xarray.Dataset) -> str:
    """Returns our name of a variable, or that of the file."""
    known = variables.find(name)
    return known.name if known and name not in dataset else name


def _renamed(dataset: xarray.Dataset) -> xarray.Dataset:
    """Returns the data under our names of axes and variables."""
    return lexicon.rename(dataset, variables.names())[0]


def _one_start(dataset: xarray.Dataset, init: str | None) -> xarray.Dataset:
    """Returns one forecast of a set, its lead times as `time`."""
    if "time" in dataset.dims:
        number = 0
        if init is not None:
            held = np.flatnonzero(dataset["time"].values == _date(init))
            if not held.size:
                raise ValueError(
                    f"--init: there is no forecast from {init}; the starts are "
                    f"{dataset['time'].values[0]} to {dataset['time'].values[-1]}"
                )
            number = int(held[0])
        dataset = dataset.isel(time=number)
    start = dataset["time"].values if "time" in dataset.coords else None
    dataset = dataset.drop_vars(["time", "valid_time"], errors="ignore")
    dataset = dataset.rename({_LEAD: "time"})
    if start is None:
        return dataset
    valid = ("time", start + dataset["time"].values)
    return dataset.assign_coords({_START: start, "datetime": valid})


def _one_member(dataset: xarray.Dataset, member: str) -> xarray.Dataset:
    """Returns one member of an ensemble, or the mean of all."""
    dim = next((d for d in ensembles.MEMBERS if d in dataset.dims), None)
    if dim is None:
        raise ValueError(
            f"--member: the file has no members; its dimensions are "
            f"{', '.join(map(str, dataset.dims))}"
        )
    if member == "mean":
        return dataset.mean(dim, keep_attrs=True)
    labels = [str(label) for label in dataset[dim].values.tolist()]
    if member not in labels:
        raise ValueError(
            f"--member: there is no member {member!r}; there are {labels[0]} to "
            f"{labels[-1]}, first and mean"
        )
    return dataset.isel({dim: labels.index(member)})


def _at_lead(dataset: xarray.Dataset, lead: str) -> xarray.Dataset:
    """Returns the data at one lead time."""
    wanted = times.as_timedelta(lead)
    if "time" not in dataset.dims or dataset["time"].dtype.kind != "m":
        raise ValueError("--lead: the file has no lead times; choose with --time")
    held = pd.TimedeltaIndex(dataset["time"].values)
    if wanted not in held:
        raise ValueError(
            f"--lead: there is no {lead}; there are {held[0]} to {held[-1]}, "
            f"{len(held)} in all"
        )
    return dataset.isel(time=[held.get_loc(wanted)])


def _dates(dataset: xarray.Dataset, what: str) -> np.ndarray:
    """Returns the date of each time of the data."""
    known = [
        name
        for name in ("datetime", "valid_time", "time")
        if name in dataset.coords and dataset[name].dtype.kind == "M"
    ]
    if not known:
        raise ValueError(f"{what} has no dates, so the two cannot be compared")
    return np.atleast_1d(dataset[known[0]].isel(batch=0, missing_dims="ignore").values)


def _date(text: str) -> np.datetime64:
    """Returns a date from the command line."""
    try:
        return pd.Timestamp(text).tz_localize(None).to_datetime64()
    except ValueError as error:
        raise ValueError(f"{text!r} is no date such as 2026-01-15T06") from error
