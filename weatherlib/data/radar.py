"""Radar series of any kind in one form: `vil`, on the scale of SEVIR, by time and cell.

    from weatherlib import data

    rain = data.open_radar("rain_5min.nc")           # lazy, NaN where nothing is known
    part = data.radar_grid.crop(rain, 384)

Rain sums, rain rates, reflectivities, byte codes of reflectivity, liquid water and
SEVIR's own pixels are understood; `radar_units` has the formulas.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import xarray

from weatherlib.data import lazy, radar_grid, radar_units
from weatherlib.data import open as opening
from weatherlib.data_utils import lexicon, times

__all__ = ["NAME", "Quantity", "as_quantity", "open_radar", "to_pixels"]

NAME = "vil"
"""The variable of radar pictures."""

Quantity = Literal["rain_sum", "rain_rate", "reflectivity", "liquid_water", "pixels"]
"""What a file may hold: mm over a period, mm/h, dBZ, kg/m2, or pixels of SEVIR."""

_UNITS: dict[Quantity, tuple[str, ...]] = {
    "rain_rate": ("mm/h", "mmh-1", "mm/hr", "mmhr-1", "mm/hour", "kgm-2h-1"),
    "rain_sum": ("mm", "kgm-2"),
    "reflectivity": ("dbz",),
    "liquid_water": ("kg/m2", "kg/m^2"),
}
_OUT: dict[Quantity, tuple[str, str]] = {
    "rain_rate": ("mm h-1", "rain rate"),
    "rain_sum": ("mm", "rain sum"),
    "reflectivity": ("dBZ", "reflectivity"),
    "liquid_water": ("kg m-2", "vertically integrated liquid"),
    "pixels": ("1", "vertically integrated liquid, scale of SEVIR"),
}
# "dBZ = (code - 64) / 2", "255 = no data", "65535 = missing or outside radar range"
_CODE = re.compile(r"dbz\s*=\s*\(\s*\w+\s*-\s*([\d.]+)\s*\)\s*/\s*([\d.]+)", re.I)
_NO_DATA = re.compile(r"([\d.]+)\s*(?:=|:|is|means)\s*(?:missing|no[ _]?data)", re.I)
_ROWS = ("y", "lat", "latitude", "row", "rows", "yc", "nrows")
_COLUMNS = ("x", "lon", "longitude", "column", "columns", "col", "xc", "ncols")
_DEFAULT_CELL = 1.0


@dataclasses.dataclass(frozen=True)
class _Reading:
    """How stored values become pixels.

    Attributes:
      quantity: What they are.
      offset: Taken off first.
      factor: Multiplies the rest.
      missing: Stored value that means none.
      hours: Period of sums.
      depth: Of the column, m.
    """

    quantity: Quantity
    offset: float
    factor: float
    missing: float | None
    hours: float
    depth: float


def open_radar(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | xarray.Dataset,
    *,
    variable: str | None = None,
    quantity: Quantity | None = None,
    missing: float | None = None,
    period: Any = None,
    depth: float = radar_units.LAYER_DEPTH,
    cell_km: float | None = None,
) -> xarray.Dataset:
    """Returns radar pictures as `vil` of (time, lat, lon), 0 to 254, NaN where missing.

    Values are read when they are used. Rows and columns stay in the order of the file.

    Args:
      source: As for `open_dataset`, or a dataset as it is stored.
      variable: Name of the field. Default: the only one of time, rows and columns whose
        units or name say what it is.
      quantity: What it holds. Default: what its units, its name or a comment such as
        "dBZ = (code - 64) / 2" say.
      missing: Stored value that means no measurement, beside NaN and fill values.
        Default: what an attribute says, such as "255 = no data".
      period: Over which a rain sum is. Default: the step between frames.
      depth: Of the column that reflectivity stands for, m; see `radar_units`.
      cell_km: Side of a cell. Default: what the coordinates say, else 1.

    Returns:
      float32, lazy; attributes `cell_km` and `source_quantity`. Coordinates in degrees
      are kept where rows and columns have them.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: A file is damaged or cut short.
      ValueError: The field cannot be found or told, frames do not ascend in time or
        are unevenly spaced.
    """
    if isinstance(source, xarray.Dataset):
        dataset, name = source, "the dataset"
    else:
        dataset, name = opening.open_dataset(source, canonical=False), str(source)
    stored = _field(dataset, variable, quantity, name)
    field = _in_order(stored, name)
    found = quantity or _quantity(field)
    if found is None:
        raise ValueError(
            f"{name}: {field.name} says neither in its units "
            f"({field.attrs.get('units', 'none')!r}) nor otherwise what it is; give "
            f"quantity, one of {', '.join(get_args(Quantity))}"
        )
    _require_known(found)
    spacing = None
    if field.sizes["time"] > 1:
        try:
            spacing = radar_grid.find_spacing(field["time"].values)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    offset, factor = _code(field) if found == "reflectivity" else (0.0, 1.0)
    reading = _Reading(
        quantity=found,
        offset=offset,
        factor=factor,
        missing=_missing(stored, missing),
        hours=_hours(period, spacing, found, name),
        depth=depth,
    )
    attrs = {
        "units": _OUT["pixels"][0],
        "long_name": _OUT["pixels"][1],
        "valid_range": [0.0, float(radar_units.HIGHEST)],
    }
    values = lazy.apply(
        functools.partial(_as_pixels, reading),
        [field.variable],
        field.sizes,
        np.float32,
        attrs=attrs,
    )
    side = cell_km or _cell(field)
    kept = {**dataset.attrs, "cell_km": side, "source_quantity": found}
    if found != "pixels":
        kept["layer_depth_m"] = depth
    coords: dict[str, Any] = {"time": field["time"].values.astype("datetime64[ns]")}
    coords |= {n: field[n] for n in ("lat", "lon") if n in field.coords}
    return xarray.Dataset({NAME: values}, coords, kept)


def to_pixels(
    values: np.ndarray, quantity: Quantity, depth: float = radar_units.LAYER_DEPTH
) -> np.ndarray:
    """Returns values on the scale of SEVIR, 0 to 254, NaN where missing.

    Args:
      values: mm/h, dBZ, kg/m2 or pixels; rain sums are to be made rates first.
      quantity: Which of them.
      depth: As for `open_radar`.

    Raises:
      ValueError: The quantity is none of these.
    """
    if quantity == "pixels":
        given = np.asarray(values, np.float64)
        return np.where((given < 0) | (given > radar_units.HIGHEST), np.nan, given)
    if quantity == "liquid_water":
        return radar_units.vil_to_pixels(values)
    if quantity == "reflectivity":
        return radar_units.dbz_to_pixels(values, depth)
    if quantity == "rain_rate":
        return radar_units.rain_to_pixels(values, depth)
    raise _unknown(quantity, ("rain_rate", "reflectivity", "liquid_water", "pixels"))


def as_quantity(
    dataset: xarray.Dataset, quantity: Quantity, name: str | None = None
) -> xarray.DataArray:
    """Returns pictures of `vil` in another quantity, NaN where missing.

    Args:
      dataset: Holds `vil`; the attribute `layer_depth_m` is minded.
      quantity: "rain_rate" in mm/h, "reflectivity" in dBZ (minus infinity where it is
        dry), "liquid_water" in kg/m2, or "pixels".
      name: Of the result; that of the quantity by default.

    Raises:
      ValueError: Another quantity, or there is no `vil`.
    """
    if NAME not in dataset:
        raise ValueError(
            f"{NAME}: not in the data, which has {', '.join(map(str, dataset))}"
        )
    depth = float(dataset.attrs.get("layer_depth_m", radar_units.LAYER_DEPTH))
    convert = {
        "rain_rate": functools.partial(radar_units.pixels_to_rain, depth=depth),
        "reflectivity": functools.partial(radar_units.pixels_to_dbz, depth=depth),
        "liquid_water": radar_units.pixels_to_vil,
        "pixels": np.asarray,
    }
    if quantity not in convert:
        raise _unknown(quantity, tuple(convert))
    field = dataset[NAME]

    def converted(pixels: xarray.Variable) -> xarray.Variable:
        return xarray.Variable(pixels.dims, convert[quantity](pixels.values))

    units, title = _OUT[quantity]
    variable = lazy.apply(
        converted,
        [field.variable],
        field.sizes,
        np.float32,
        attrs={"units": units, "long_name": title},
    )
    return xarray.DataArray(variable, field.coords, name=name or quantity)


def _as_pixels(reading: _Reading, stored: xarray.Variable) -> xarray.Variable:
    """Returns stored values as pixels."""
    values = stored.values.astype(np.float64)
    if reading.missing is not None:
        distance = np.abs(values - reading.missing)
        values[distance <= 1e-9 * abs(reading.missing)] = np.nan
    values = (values - reading.offset) * reading.factor
    kind: Quantity = reading.quantity
    if kind == "rain_sum":
        kind, values = "rain_rate", values / reading.hours
    if kind == "pixels":
        return xarray.Variable(stored.dims, to_pixels(values, kind))
    # Most of most pictures is dry, and logarithms take their time.
    dry = radar_units.driest_dbz(reading.depth) if kind == "reflectivity" else 0.0
    pixels = np.where(np.isnan(values), np.nan, 0.0)
    wet = values > dry
    pixels[wet] = to_pixels(values[wet], kind, reading.depth)
    return xarray.Variable(stored.dims, pixels)


def _field(
    dataset: xarray.Dataset,
    variable: str | None,
    quantity: Quantity | None,
    name: str,
) -> xarray.DataArray:
    """Returns the field to read.

    Raises:
      ValueError: There is none, or several.
    """
    if variable is not None:
        if variable not in dataset:
            close = lexicon.closest(variable, map(str, dataset.data_vars))
            hint = f"; did you mean {close}?" if close else ""
            raise ValueError(
                f"{name}: there is no variable {variable!r}, but "
                f"{', '.join(map(str, dataset.data_vars)) or 'none'}{hint}"
            )
        return dataset[variable]
    pictures = [a for a in dataset.data_vars.values() if a.squeeze().ndim >= 3]
    told = [a for a in pictures if quantity or _quantity(a) is not None]
    if len(told) == 1:
        return told[0]
    if not told and len(pictures) == 1:
        return pictures[0]
    names = ", ".join(str(a.name) for a in told or pictures or dataset.data_vars)
    raise ValueError(
        f"{name}: {'several' if told or pictures else 'no'} fields of time, rows and "
        f"columns ({names or 'nothing'}); name one with variable"
    )


def _quantity(field: xarray.DataArray) -> Quantity | None:
    """Returns what a field says that it holds."""
    if _CODE.search(_text(field)):
        return "reflectivity"
    units = str(field.attrs.get("units", "")).replace(" ", "").replace("**", "^")
    units = units.lower()
    name = str(field.name).lower()
    if "vil" in re.split(r"[^a-z]+", name) and units in ("", "1"):
        return "pixels"
    if "vil" in name and units in ("kgm-2", *_UNITS["liquid_water"]):
        return "liquid_water"
    return next((kind for kind, known in _UNITS.items() if units in known), None)


def _text(field: xarray.DataArray) -> str:
    """Returns all text that describes a field."""
    return "; ".join(v for v in field.attrs.values() if isinstance(v, str))


def _code(field: xarray.DataArray) -> tuple[float, float]:
    """Returns offset and factor from stored values to dBZ."""
    match = _CODE.search(_text(field))
    if match:
        return float(match[1]), 1 / float(match[2])
    return 0.0, 1.0


def _missing(field: xarray.DataArray, given: float | None) -> float | None:
    """Returns the value that means none, as it comes out of decoding."""
    raw = given
    if raw is None:
        match = _NO_DATA.search(_text(field))
        if match is None:
            return None
        raw = float(match[1])
    scale = float(field.encoding.get("scale_factor", 1.0))
    return raw * scale + float(field.encoding.get("add_offset", 0.0))


def _in_order(field: xarray.DataArray, name: str) -> xarray.DataArray:
    """Returns the field as (time, lat, lon), coordinates only where in degrees.

    Raises:
      ValueError: It has other dimensions, or no dates.
    """
    spare = [d for d in field.dims if field.sizes[d] == 1 and d not in _ROWS + _COLUMNS]
    time = next((d for d in lexicon.AXES["time"] if d in field.dims), None)
    field = field.squeeze([d for d in spare if d != time], drop=True)
    others = [str(d) for d in field.dims if d != time]
    rows = next((d for d in others if d.lower() in _ROWS), None)
    columns = next((d for d in others if d.lower() in _COLUMNS), None)
    if time is None or len(others) != 2:
        raise ValueError(
            f"{name}: {field.name} has the dimensions "
            f"{', '.join(map(str, field.dims))}; radar series are of time, rows and "
            "columns"
        )
    if rows is None or columns is None:
        rows, columns = others
    field = field.transpose(time, rows, columns)
    if time not in field.coords or field[time].dtype.kind != "M":
        raise ValueError(f"{name}: {field.name} has no dates along {time}")
    kept = {}
    for old, new, limit in ((rows, "lat", 90.0), (columns, "lon", 360.0)):
        if old in field.coords and field[old].ndim == 1:
            values = field[old]
            degrees = str(values.attrs.get("units", "")).lower().startswith("deg")
            named = old.lower() in ("lat", "lon", "latitude", "longitude")
            if degrees or (named and np.abs(values.values).max() <= limit):
                kept[new] = (new, values.values, values.attrs)
    cell = _cell_of_axis(field, columns)
    coords = {"time": ("time", field[time].values), **kept}
    variable = xarray.Variable(
        ("time", "lat", "lon"), field.variable._data, field.attrs, field.encoding
    )
    found = xarray.DataArray(variable, coords, name=field.name)
    return found.assign_attrs(cell_km=cell) if cell else found


def _cell_of_axis(field: xarray.DataArray, axis: str) -> float | None:
    """Returns the distance of columns in km, where the coordinate is a length."""
    if axis not in field.coords or field.sizes[axis] < 2:
        return None
    unit = str(field[axis].attrs.get("units", "")).strip().lower()
    scale = {"m": 1e-3, "meter": 1e-3, "metre": 1e-3, "meters": 1e-3, "km": 1.0}
    if unit not in scale:
        return None
    steps = np.abs(np.diff(field[axis].values.astype(np.float64)))
    return float(np.median(steps)) * scale[unit]


def _cell(field: xarray.DataArray) -> float:
    """Returns the side of a cell in km."""
    if "cell_km" in field.attrs:
        return float(field.attrs["cell_km"])
    if "lat" in field.coords and field.sizes["lat"] > 1:
        degrees = np.abs(np.diff(field["lat"].values.astype(np.float64)))
        return float(np.median(degrees)) * radar_grid.KM_PER_DEGREE
    return _DEFAULT_CELL


def _hours(
    period: Any, spacing: radar_grid.Spacing | None, quantity: Quantity, name: str
) -> float:
    """Returns the period of rain sums, hours.

    Raises:
      ValueError: It is not known.
    """
    if quantity != "rain_sum":
        return 1.0
    if period is not None:
        return times.as_timedelta(period).total_seconds() / 3600
    if spacing is None:
        raise ValueError(
            f"{name}: a single frame does not say over which period its rain is summed; "
            "give period, such as '5min'"
        )
    return float(spacing.step / np.timedelta64(1, "h"))


def _require_known(quantity: str) -> None:
    if quantity not in get_args(Quantity):
        raise _unknown(quantity, get_args(Quantity))


def _unknown(quantity: str, known: Sequence[str]) -> ValueError:
    return ValueError(
        f"quantity: there is no {quantity!r}; there are {', '.join(known)}"
    )
