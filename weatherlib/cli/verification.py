"""Root-mean-square errors of a forecast and of persistence, by variable and lead time.

Persistence says that the weather stays as it is; a forecast that does worse is of no
use. Each row of the globe counts by its area.
"""

from __future__ import annotations

import csv
import io
import os
import pathlib

import numpy as np
import xarray

from weatherlib import variables, writing
from weatherlib.evaluation import deterministic
from weatherlib.geometry import sphere
from weatherlib.plotting import styles

__all__ = ["SOURCES", "headline", "score_rows", "scores", "title", "write_csv"]

SOURCES = ("forecast", "persistence")

_TABLE_LEVELS = (500, 850)
_LEAD_COLUMNS = 6
_DAY = 24
_HEADLINE = (
    "geopotential_500",
    "temperature_850",
    "2m_temperature",
    "mean_sea_level_pressure",
    "10m_u_component_of_wind",
    "u_component_of_wind_250",
    "specific_humidity_700",
    "total_precipitation_6hr",
)


def scores(
    predictions: xarray.Dataset, targets: xarray.Dataset, initial: xarray.Dataset
) -> xarray.Dataset:
    """Returns the errors of the forecast and of persistence.

    Args:
      predictions: Dimensions `time`, `lat`, `lon`, maybe `batch` and `level`.
      targets: The truth at some lead times of the predictions, on the same grid.
      initial: The last frame before the forecast, without `time`.

    Returns:
      One variable for each variable, or each of its levels, such as
      `geopotential_500`, with dimensions `source` (of `SOURCES`) and `time`, in the
      units of the data. Missing values are left out; persistence is NaN for a variable
      that `initial` lacks.
    """
    weights = sphere.latitude_weights(targets["lat"].values)
    found = {}
    for name in map(str, targets.data_vars):
        if name not in predictions:
            continue
        truth = targets[name]
        order = [dim for dim in ("time", "level", "lat") if dim in truth.dims]
        order += [dim for dim in truth.dims if dim not in order]
        truth = truth.transpose(*order)
        rmse = []
        for other in (predictions[name].sel(time=truth["time"]), initial.get(name)):
            if other is None:
                rmse.append(np.full(truth.shape[: order.index("lat")], np.nan))
                continue
            error = (other - truth).transpose(*order).values.astype(np.float64)
            first = order.index("lat")
            shape = [-1 if i == first else 1 for i in range(error.ndim)]
            over = tuple(range(first, error.ndim))
            square = deterministic.weighted_mean(error**2, weights.reshape(shape), over)
            rmse.append(np.sqrt(square))
        both = np.stack(rmse)
        levels = truth["level"].values.tolist() if "level" in truth.dims else [None]
        for index, level in enumerate(levels):
            label = name if level is None else f"{name}_{level:g}"
            values = both if level is None else both[:, :, index]
            found[label] = (("source", "time"), values, _attrs(name, level))
    coords = {"source": list(SOURCES), "time": targets["time"].values}
    return xarray.Dataset(found, coords=coords)


def score_rows(found: xarray.Dataset) -> tuple[list[str], list[list[str]]]:
    """Returns the heading and the rows of a table of errors for people.

    Each cell is the error of the forecast and, in brackets, of persistence, in the
    units of our maps. Of the levels 500 and 850 hPa are shown where the data have
    them, and at most six lead times, the first and the last among them.
    """
    hours = found["time"].values / np.timedelta64(1, "h")
    shown = _shown_leads(hours)
    heading = ["variable", "unit", *(f"+{hours[i]:g} h" for i in shown)]
    rows = []
    for name in _table_names(found):
        values = found[name]
        read = styles.find(values).show(values, difference=True)
        forecast, persistence = read.transpose("source", "time").values
        cells = [f"{forecast[i]:.3g} ({persistence[i]:.3g})" for i in shown]
        rows.append([name, str(read.attrs["units"]), *cells])
    return heading, rows


def headline(found: xarray.Dataset) -> xarray.Dataset:
    """Returns the few scores that say most, or the first ones where none is there."""
    names = [name for name in _HEADLINE if name in found]
    return found[names or list(found.data_vars)[: len(_HEADLINE)]]


def write_csv(found: xarray.Dataset, path: str | os.PathLike[str]) -> pathlib.Path:
    """Writes all errors as lines of variable, unit, source, lead hours and RMSE.

    Under NAME.partial until all are there.

    Raises:
      OSError: The file cannot be written.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["variable", "unit", "source", "lead_hours", "rmse"])
    hours = found["time"].values / np.timedelta64(1, "h")
    for name, values in found.data_vars.items():
        for source in SOURCES:
            for lead, value in zip(hours, values.sel(source=source).values):
                unit = values.attrs["units"]
                writer.writerow([name, unit, source, f"{lead:g}", f"{value:.6g}"])
    path = pathlib.Path(path)
    with writing.replacing(path) as partial:
        partial.write_text(stream.getvalue(), encoding="utf8")
    return path


def title(name: str, level: float | None) -> str:
    """Returns the name of a variable for people, with its level in hPa."""
    known = variables.find(name)
    words = known.display_name if known else name.replace("_", " ")
    return words if level is None else f"{words} at {level:g} hPa"


def _attrs(name: str, level: float | None) -> dict[str, str]:
    known = variables.find(name)
    return {"units": known.units if known else "", "long_name": title(name, level)}


def _table_names(found: xarray.Dataset) -> list[str]:
    """Returns the scores for the table: two levels of each variable, if it has them."""
    names = list(map(str, found.data_vars))
    groups: dict[str, list[str]] = {}
    for name in names:
        stem, _, level = name.rpartition("_")
        groups.setdefault(stem if level.isdigit() and stem else name, []).append(name)
    chosen = []
    for stem, members in groups.items():
        wanted = [f"{stem}_{level}" for level in _TABLE_LEVELS]
        chosen += [name for name in wanted if name in members] or members[:2]
    return chosen


def _shown_leads(hours: np.ndarray) -> list[int]:
    """Returns the indices of at most six leads: the first, whole days, the last."""
    if len(hours) <= _LEAD_COLUMNS:
        return list(range(len(hours)))
    days = np.flatnonzero(hours % _DAY == 0)
    pool = sorted({0, *days.tolist(), len(hours) - 1})
    if len(pool) < _LEAD_COLUMNS:
        pool = list(range(len(hours)))
    places = np.linspace(0, len(pool) - 1, _LEAD_COLUMNS).round().astype(int)
    return [pool[place] for place in places]
