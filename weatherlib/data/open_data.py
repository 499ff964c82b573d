"""Analyses of ECMWF that are open to all, fetched when they are asked for."""

from __future__ import annotations

import datetime
import os
import pathlib
from typing import Any

import numpy as np
import pandas as pd
import xarray

from weatherlib import optional, variables, writing
from weatherlib.data import archive, fields, grib
from weatherlib.data_utils import units

__all__ = ["PREFIX", "open_latest_analysis", "open_source"]

PREFIX = "ecmwf-open-data:"

_LEVELS = (1000, 925, 850, 700, 600, 500, 400, 300, 250, 200, 150, 100, 50)
_ON_LEVELS = ("gh", "t", "u", "v", "w", "q")
_AT_SURFACE = ("2t", "2d", "10u", "10v", "msl", "sp", "skt", "tcwv", "lsm", "z")
_STEP = pd.Timedelta(6, "h")

_LICENCE = (
    "Open data of ECMWF, CC BY 4.0. Copyright European Centre for Medium-Range Weather "
    "Forecasts (ECMWF)."
)


def open_source(source: str, *, client: Any = None) -> xarray.Dataset:
    """Returns what a source of the form ecmwf-open-data:[DATE] stands for.

    Raises:
      ValueError: What follows the colon is no date.
    """
    text = source.removeprefix(PREFIX).strip()
    if text in ("", "latest"):
        return open_latest_analysis(client=client)
    try:
        moment = pd.Timestamp(text)
    except ValueError as error:
        raise ValueError(
            f"{source}: {text!r} is no date; write {PREFIX} for the latest analysis, "
            f"or {PREFIX}2026-01-15T00"
        ) from error
    return open_latest_analysis(moment, client=client)


def open_latest_analysis(
    time: Any = None,
    *,
    frames: int = 2,
    folder: str | os.PathLike[str] | None = None,
    client: Any = None,
) -> xarray.Dataset:
    """Returns analyses of ECMWF six hours apart, on 13 levels at 0.25 degrees.

    What is not yet in the folder is fetched: about 60 MB for each time. ECMWF keeps the
    last few days.

    Args:
      time: Of the last frame, 00, 06, 12 or 18 UTC; the newest that is published if
        None.
      frames: How many, six hours apart.
      folder: Where files are kept; a cache folder of the user if None.
      client: With the methods `latest` and `retrieve` of `ecmwf.opendata.Client`.

    Raises:
      ImportError: The packages of the extras `open-data` and `grib` are missing.
      OSError: The data cannot be fetched.
      ValueError: There is no analysis at this time of day.
    """
    if frames < 1:
        raise ValueError(f"frames is {frames}, expected at least 1")
    if client is None:
        client = optional.require("ecmwf.opendata", extra="open-data").Client("ecmwf")
    if time is None:
        last = _latest(client)
    else:
        last = pd.Timestamp(time)
        last = last.tz_convert(None) if last.tzinfo else last
    if last.hour % 6 or last != last.floor("h"):
        raise ValueError(
            f"{last}: analyses are of 00, 06, 12 and 18 UTC; choose one of these"
        )
    place = _cache_folder() if folder is None else pathlib.Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    parts = {}
    for number in reversed(range(frames)):
        moment: Any = last - number * _STEP
        part = _one_time(client, moment, place)
        parts[f"ECMWF open data of {moment}"] = part
    dataset = archive.combine(parts)
    dataset.attrs = {"source": f"ECMWF open data, {last}", "licence": _LICENCE}
    return dataset


def _cache_folder() -> pathlib.Path:
    """Returns the folder of the user that keeps what was fetched."""
    pooch = optional.require("pooch")
    return pathlib.Path(pooch.os_cache("weatherlib")) / "ecmwf-open-data"


def _latest(client: Any) -> Any:
    """Returns the time of the newest analysis."""
    request = _request(_ON_LEVELS, levels=True)
    # What the client raises depends on how the connection failed.
    try:
        newest = client.latest(request)
    except Exception as error:
        raise OSError(
            f"the newest analysis of ECMWF cannot be found ({error}); is there a "
            "connection? A date can be given too"
        ) from error
    if isinstance(newest, datetime.datetime) and newest.tzinfo is not None:
        newest = newest.astimezone(datetime.UTC).replace(tzinfo=None)
    return pd.Timestamp(newest)


def _request(names: tuple[str, ...], *, levels: bool) -> dict[str, Any]:
    """Returns what to ask for fields at the start of a forecast, the analysis."""
    request: dict[str, Any] = {"type": "fc", "step": 0, "param": list(names)}
    if levels:
        return {**request, "levtype": "pl", "levelist": list(_LEVELS)}
    return {**request, "levtype": "sfc"}


def _one_time(
    client: Any, moment: pd.Timestamp, folder: pathlib.Path
) -> xarray.Dataset:
    """Returns one analysis, fetched where the folder does not have it."""
    parts = []
    for kind, names in (("pl", _ON_LEVELS), ("sfc", _AT_SURFACE)):
        path = folder / f"{moment:%Y%m%dT%H}-{kind}.grib2"
        if not path.exists():
            _fetch(client, moment, _request(names, levels=kind == "pl"), path)
        part = grib.open_grib(path)
        if kind == "sfc" and "z" in part:
            # The name is that of the geopotential on levels, too.
            part = part.rename(z="geopotential_at_surface")
        parts.append(part)
    merged: Any = xarray.merge(
        parts, join="exact", compat="no_conflicts", combine_attrs="drop_conflicts"
    )
    return _with_geopotential(merged)


def _fetch(
    client: Any, moment: pd.Timestamp, request: dict[str, Any], path: pathlib.Path
) -> None:
    """Fetches one file, under its name only when it is complete."""
    with writing.replacing(path) as partial:
        try:
            client.retrieve(
                {**request, "date": f"{moment:%Y-%m-%d}", "time": moment.hour},
                target=str(partial),
            )
        except Exception as error:
            raise OSError(
                f"the analysis of {moment} cannot be fetched from ECMWF ({error}); the "
                "last few days are kept"
            ) from error


def _with_geopotential(dataset: xarray.Dataset) -> xarray.Dataset:
    """Returns the data with geopotential in place of its height."""
    if "gh" not in dataset or "z" in dataset:
        return dataset
    height = dataset["gh"].variable
    attrs = {"units": "m2 s-2", "standard_name": "geopotential"}
    change = units.Conversion("m", variables.GRAVITY)
    geopotential = fields.converted(height, change, np.float32, attrs)
    return dataset.drop_vars("gh").assign(z=geopotential)
