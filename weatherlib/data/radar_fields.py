"""Which field of a radar file holds the pictures, and what its numbers mean."""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np
import xarray

from weatherlib.data import radar_grid
from weatherlib.data_utils import lexicon, times

__all__ = [
    "Quantity",
    "cell_side",
    "code",
    "find_field",
    "find_quantity",
    "in_order",
    "missing_value",
    "sum_hours",
]

Quantity = Literal["rain_sum", "rain_rate", "reflectivity", "liquid_water", "pixels"]
"""What a file may hold: mm over a period, mm/h, dBZ, kg/m2, or pixels of SEVIR."""

_UNITS: dict[Quantity, tuple[str, ...]] = {
    "rain_rate": ("mm/h", "mmh-1", "mm/hr", "mmhr-1", "mm/hour", "kgm-2h-1"),
    "rain_sum": ("mm", "kgm-2"),
    "reflectivity": ("dbz",),
    "liquid_water": ("kg/m2", "kg/m^2"),
}
# "dBZ = (code - 64) / 2", "255 = no data", "65535 = missing or outside radar range"
_CODE = re.compile(r"dbz\s*=\s*\(\s*\w+\s*-\s*([\d.]+)\s*\)\s*/\s*([\d.]+)", re.I)
_NO_DATA = re.compile(r"([\d.]+)\s*(?:=|:|is|means)\s*(?:missing|no[ _]?data)", re.I)
_ROWS = ("y", "lat", "latitude", "row", "rows", "yc", "nrows")
_COLUMNS = ("x", "lon", "longitude", "column", "columns", "col", "xc", "ncols")
_DEFAULT_CELL = 1.0


def find_field(
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
    pictures = [a for a in dataset.data_vars.values() if a.ndim >= 3]
    told = [a for a in pictures if quantity or find_quantity(a) is not None]
    if len(told) == 1:
        return told[0]
    if not told and len(pictures) == 1:
        return pictures[0]
    names = ", ".join(
        str(a.name) for a in told or pictures or dataset.data_vars.values()
    )
    raise ValueError(
        f"{name}: {'several' if told or pictures else 'no'} fields of time, rows and "
        f"columns ({names or 'nothing'}); name one with variable"
    )


def find_quantity(field: xarray.DataArray) -> Quantity | None:
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


def code(field: xarray.DataArray) -> tuple[float, float]:
    """Returns offset and factor from stored values to dBZ."""
    match = _CODE.search(_text(field))
    if match:
        return float(match[1]), 1 / float(match[2])
    return 0.0, 1.0


def missing_value(field: xarray.DataArray, given: float | None) -> float | None:
    """Returns the value that means none, as it comes out of decoding."""
    raw = given
    if raw is None:
        match = _NO_DATA.search(_text(field))
        if match is None:
            return None
        raw = float(match[1])
    scale = float(field.encoding.get("scale_factor", 1.0))
    return raw * scale + float(field.encoding.get("add_offset", 0.0))


def in_order(field: xarray.DataArray, name: str) -> xarray.DataArray:
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
    new_names = {time: "time", rows: "lat", columns: "lon"}
    field = field.drop_vars(list(field.coords))
    field = field.rename({old: new for old, new in new_names.items() if old != new})
    found = field.assign_coords(coords)
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


def cell_side(field: xarray.DataArray) -> float:
    """Returns the side of a cell in km."""
    if "cell_km" in field.attrs:
        return float(field.attrs["cell_km"])
    if "lat" in field.coords and field.sizes["lat"] > 1:
        degrees = np.abs(np.diff(field["lat"].values.astype(np.float64)))
        return float(np.median(degrees)) * radar_grid.KM_PER_DEGREE
    return _DEFAULT_CELL


def sum_hours(
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
            f"{name}: a single frame does not say over which period its rain is "
            "summed; give period, such as '5min'"
        )
    return float(spacing.step / np.timedelta64(1, "h"))
