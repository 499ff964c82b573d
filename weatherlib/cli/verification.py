"""Root-mean-square errors of a forecast and of persistence, by variable and lead time.

Persistence says that the weather stays as it is; a forecast that does worse is of no
use. Each row of the globe counts by its area.
"""

from __future__ import annotations

import csv
import io
import os
import pathlib
from collections.abc import Sequence

import numpy as np
import xarray

from weatherlib import variables
from weatherlib.geometry import sphere

__all__ = ["headline", "score_table", "scores", "write_csv"]

_LEVELS = (250, 500, 700, 850)
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
    predictions: xarray.Dataset,
    targets: xarray.Dataset,
    initial: xarray.Dataset,
    *,
    levels: Sequence[int] = _LEVELS,
) -> xarray.Dataset:
    """Returns the errors of the forecast and of persistence.

    Args:
      predictions: Dimensions `time`, `lat`, `lon`, maybe `batch` and `level`.
      targets: The truth at the first lead times of the predictions, or at all.
      initial: The last frame before the forecast, without `time`.
      levels: Levels to score, hPa, as far as the data have them; where they have none
        of these, all their levels.

    Returns:
      One variable per variable and level, such as `geopotential_500`, with dimensions
      `source` ("forecast", "persistence") and `time`, in the units of the data.
      Missing values are left out; persistence is NaN for a variable that `initial`
      lacks.
    """
    rows = sphere.latitude_weights(targets["lat"].values)
    weights = xarray.DataArray(rows, dims="lat", coords={"lat": targets["lat"]})
    found = {}
    for name in targets.data_vars:
        if name not in predictions:
            continue
        for label, level in _rows(str(name), targets[name], levels):
            truth, forecast, start = (
                _at(dataset, name, level) for dataset in (targets, predictions, initial)
            )
            assert truth is not None and forecast is not None
            forecast = forecast.sel(time=truth["time"])
            errors = [forecast - truth]
            errors.append(truth * np.nan if start is None else start - truth)
            rmse = [_rmse(error, weights) for error in errors]
            found[label] = (
                ("source", "time"),
                np.stack(rmse),
                _attrs(str(name), level),
            )
    coords = {
        "source": ["forecast", "persistence"],
        "time": targets["time"].values,
    }
    return xarray.Dataset(found, coords=coords)


def score_table(found: xarray.Dataset) -> tuple[list[str], list[list[str]]]:
    """Returns the heading and the rows of a table of errors for people.

    Each cell is the error of the forecast and, in brackets, of persistence. At most
    six lead times are shown, the first and the last among them.
    """
    hours = found["time"].values / np.timedelta64(1, "h")
    shown = _shown_leads(hours)
    heading = ["RMSE (persistence)", "unit", *(f"+{hours[i]:g} h" for i in shown)]
    rows = []
    for name, values in found.data_vars.items():
        forecast, persistence = values.transpose("source", "time").values
        cells = [f"{forecast[i]:.3g} ({persistence[i]:.3g})" for i in shown]
        rows.append([str(name), str(values.attrs["units"]), *cells])
    return heading, rows


def headline(found: xarray.Dataset) -> xarray.Dataset:
    """Returns the few scores that say most, or the first ones where none is there."""
    names = [name for name in _HEADLINE if name in found]
    return found[names or list(found.data_vars)[: len(_HEADLINE)]]


def write_csv(found: xarray.Dataset, path: str | os.PathLike[str]) -> pathlib.Path:
    """Writes all errors as lines of variable, unit, source, lead hours and RMSE.

    Raises:
      OSError: The file cannot be written.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["variable", "unit", "source", "lead_hours", "rmse"])
    hours = found["time"].values / np.timedelta64(1, "h")
    for name, values in found.data_vars.items():
        for source in found["source"].values:
            for lead, value in zip(hours, values.sel(source=source).values):
                unit = values.attrs["units"]
                writer.writerow([name, unit, source, f"{lead:g}", f"{value:.6g}"])
    path = pathlib.Path(path)
    path.write_text(stream.getvalue(), encoding="utf8")
    return path


def _rows(
    name: str, field: xarray.DataArray, levels: Sequence[int]
) -> list[tuple[str, int | None]]:
    """Returns the labels and levels under which a variable is scored."""
    if "level" not in field.dims:
        return [(name, None)]
    held = field["level"].values.tolist()
    chosen = [level for level in levels if level in held] or held
    return [(f"{name}_{level:g}", level) for level in chosen]


def _at(
    dataset: xarray.Dataset, name: object, level: int | None
) -> xarray.DataArray | None:
    """Returns one variable at one level, None where the data lack it."""
    if name not in dataset:
        return None
    field = dataset[str(name)].astype("float64")
    return field if level is None else field.sel(level=level)


def _rmse(error: xarray.DataArray, weights: xarray.DataArray) -> np.ndarray:
    """Returns the root-mean-square error at each time. Shape [time]."""
    rest = [dim for dim in error.dims if dim != "time"]
    mean = (error**2).weighted(weights).mean(rest)
    return np.sqrt(mean.transpose("time").values)


def _attrs(name: str, level: int | None) -> dict[str, str]:
    known = variables.find(name)
    title = known.display_name if known else name.replace("_", " ")
    if level is not None:
        title = f"{title} at {level:g} hPa"
    return {"units": known.units if known else "", "long_name": title}


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
