"""Times that are dates in another form: other calendars, text, and numbers."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import xarray

__all__ = ["are_numbered", "read_dates"]

# Coordinates that may hold dates.
_NAMES = ("time", "valid_time", "datetime")

_ISO = re.compile(
    r"\d{4}-\d{2}(-\d{2}([T ]\d{2}(:?\d{2}(:?\d{2}(\.\d+)?)?)?)?)?(Z|\+00:?00)?"
)
# In `units`, of numbers that spell a date.
_SPELLED = re.compile(r"(day as )?(yyyymmdd(hh)?|%y%m%d(%h)?)(\.%f)?", re.I)
# Years to which datetime64 reaches in nanoseconds, and those that are taken for dates
# where no unit says so.
_HELD, _PLAUSIBLE = (1678, 2261), (1900, 2100)
# Calendars of the world, which differ in more than the days that they lack.
_WORLD = ("julian",)


def read_dates(dataset: xarray.Dataset) -> tuple[xarray.Dataset, list[str]]:
    """Returns the data with dates as datetime64[ns], and what was changed for it.

    Dates of calendars without leap days and the like keep their day and month. Text is
    read as ISO 8601 has it; numbers such as 20031127 or 2003112706 are read where all
    of them are dates and the units, if there are any, do not say otherwise. Other times
    stay as they are.

    Args:
      dataset: Not changed.

    Raises:
      ValueError: A calendar has a day that does not exist, or dates are too far away.
    """
    changes = []
    for name in _NAMES:
        if name not in dataset.coords or not dataset[name].size:
            continue
        variable = dataset[name].variable
        found, form = _read(name, variable)
        if found is None:
            continue
        kept = ("units", "calendar", "dtype")
        attrs = {k: v for k, v in variable.attrs.items() if k not in kept}
        values = found.astype("datetime64[ns]").reshape(variable.shape)
        dates = xarray.Variable(variable.dims, values, attrs)
        dataset = dataset.assign_coords({name: dates})
        changes.append(f"read {form} in {name}")
    return dataset, changes


def are_numbered(variable: xarray.Variable) -> bool:
    """Tells whether times are numbers that spell dates, such as 20031127."""
    return variable.dtype.kind in "iuf" and _from_numbers(variable) is not None


def _read(name: str, variable: xarray.Variable) -> tuple[np.ndarray | None, str]:
    """Returns dates in one row, None where there are none, and what they were."""
    kind = variable.dtype.kind
    if kind in "iuf":
        return _from_numbers(variable), "dates as numbers"
    if kind not in "OUST":
        return None, ""
    values = variable.values.ravel()
    calendar = getattr(values[0], "calendar", None)
    if calendar is not None and hasattr(values[0], "isoformat"):
        return _from_calendar(name, values), f"dates of the calendar {calendar}"
    return _from_text(values), "dates as text"


def _from_calendar(name: str, values: np.ndarray) -> np.ndarray:
    """Returns the dates of a calendar of cftime.

    Raises:
      ValueError: One of them does not exist, or is too far away.
    """
    calendar = values[0].calendar
    years = [value.year for value in (min(values), max(values))]
    if years[0] < _HELD[0] or years[1] > _HELD[1]:
        raise ValueError(
            f"{name}: years {years[0]} to {years[1]} of the calendar {calendar}; dates "
            f"are counted here from {_HELD[0]} to {_HELD[1]}"
        )
    if calendar in _WORLD:
        values = np.array([v.change_calendar("proleptic_gregorian") for v in values])
    try:
        return np.array([v.isoformat() for v in values], "datetime64[us]")
    except ValueError as error:
        odd = next(v for v in values if not _exists(v))
        raise ValueError(
            f"{name}: the calendar {calendar} has the day {odd.isoformat()[:10]}, "
            "which does not exist; convert the data to the standard calendar, such as "
            "by convert_calendar('standard', align_on='year') of xarray"
        ) from error


def _exists(value: Any) -> bool:
    """Tells whether a date of cftime is one of the standard calendar."""
    try:
        np.datetime64(value.isoformat()[:10], "D")
    except ValueError:
        return False
    return True


def _from_text(values: np.ndarray) -> np.ndarray | None:
    """Returns the dates of ISO 8601, None where some text is something else."""
    texts = [v.decode("utf8", "replace") if isinstance(v, bytes) else v for v in values]
    if not all(isinstance(t, str) and _ISO.fullmatch(t.strip()) for t in texts):
        return None
    # NumPy takes neither a space nor a zone.
    plain = [re.sub(r"(Z|\+00:?00)$", "", t.strip()).replace(" ", "T") for t in texts]
    try:
        return np.array(plain, "datetime64[us]")
    except ValueError:
        return None


def _from_numbers(variable: xarray.Variable) -> np.ndarray | None:
    """Returns the dates that numbers spell, None where they are no dates."""
    units = str(variable.attrs.get("units", "")).strip()
    if units and not _SPELLED.fullmatch(units):
        return None
    values = variable.values.ravel()
    if values.dtype.kind == "f":
        if not units or not np.isfinite(values).all():
            return None
        whole = np.floor(values)
        rest, values = values - whole, whole.astype(np.int64)
    else:
        rest, values = np.zeros(values.size), values.astype(np.int64)
    hours = np.zeros_like(values)
    if (values > 10**8).all():
        values, hours = np.divmod(values, 100)
    years, months, days = values // 10000, values // 100 % 100, values % 100
    first, last = _HELD if units else _PLAUSIBLE
    if not ((years >= first) & (years <= last) & (hours < 24)).all():
        return None
    month = ((years - 1970) * 12 + months - 1).astype("datetime64[M]")
    day = month.astype("datetime64[D]") + (days - 1)
    if not (
        (months >= 1) & (months <= 12) & (day.astype("datetime64[M]") == month)
    ).all():
        return None
    seconds = hours * 3600 + np.round(rest * 86400).astype(np.int64)
    return day.astype("datetime64[s]") + seconds
