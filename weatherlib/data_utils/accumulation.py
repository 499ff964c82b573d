"""Over how long precipitation is summed, by its name and attributes."""

from __future__ import annotations

import re

import xarray

from weatherlib import variables

__all__ = ["FROM_START", "grows", "hours_of_name", "periods", "stated_hours"]

FROM_START = "from the start"
"""In `cell_methods`, of sums that grow during a forecast."""

_PRECIPITATION = re.compile(r"total_precipitation(?:_(\d+)hr)?")
_INTERVAL = re.compile(r"interval:\s*(\d+)\s*h")
_STEPS = re.compile(r"(\d+)-(\d+)")


def hours_of_name(name: str) -> int | None:
    """Returns the hours that a name of precipitation tells, None for other names.

    Without a number it is the sum over one hour.
    """
    known = variables.find(name)
    match = _PRECIPITATION.fullmatch(name if known is None else known.name)
    return int(match[1] or 1) if match else None


def stated_hours(array: xarray.DataArray) -> int | None:
    """Returns the period of a sum by its attributes, None where they do not tell."""
    said = _INTERVAL.search(str(array.attrs.get("cell_methods", "")))
    steps = _STEPS.fullmatch(str(array.attrs.get("GRIB_stepRange", "")))
    return int(said[1]) if said else int(steps[2]) - int(steps[1]) if steps else None


def grows(array: xarray.DataArray) -> bool:
    """Tells whether a sum grows from the start of a forecast on."""
    return FROM_START in str(array.attrs.get("cell_methods", ""))


def periods(dataset: xarray.Dataset) -> dict[str, int | None]:
    """Returns the hours over which each precipitation of the data is summed.

    Args:
      dataset: Precipitation under our names or short names. Attributes go before the
        name.

    Returns:
      By name; None for sums that grow from the start of a forecast.
    """
    found = {}
    for name, array in dataset.data_vars.items():
        hours = hours_of_name(str(name))
        if hours is not None:
            found[str(name)] = None if grows(array) else stated_hours(array) or hours
    return found
