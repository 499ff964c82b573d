"""Radar series of any kind in one form: `vil`, on the scale of SEVIR, by time and cell.

    from weatherlib.data import radar, radar_grid

    rain = radar.open_radar("rain_5min.nc")     # lazy, NaN where nothing is known
    part = radar_grid.crop(rain, 384)

Rain sums, rain rates, reflectivities, byte codes of reflectivity, liquid water and
SEVIR's own pixels are understood; `radar_units` has the formulas.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import xarray

from weatherlib.data import lazy, radar_fields, radar_grid, radar_units
from weatherlib.data import open as opening
from weatherlib.data.radar_fields import Quantity

__all__ = ["NAME", "Quantity", "as_quantity", "open_radar", "to_pixels"]

NAME = "vil"
"""The variable of radar pictures."""

_OUT: dict[Quantity, tuple[str, str]] = {
    "rain_rate": ("mm h-1", "rain rate"),
    "rain_sum": ("mm", "rain sum"),
    "reflectivity": ("dBZ", "reflectivity"),
    "liquid_water": ("kg m-2", "vertically integrated liquid"),
    "pixels": ("1", "vertically integrated liquid, scale of SEVIR"),
}


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
    stored = radar_fields.find_field(dataset, variable, quantity, name)
    field = radar_fields.in_order(stored, name)
    found = quantity or radar_fields.find_quantity(field)
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
    offset, factor = radar_fields.code(field) if found == "reflectivity" else (0.0, 1.0)
    reading = _Reading(
        quantity=found,
        offset=offset,
        factor=factor,
        missing=radar_fields.missing_value(stored, missing),
        hours=radar_fields.sum_hours(period, spacing, found, name),
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
    side = cell_km or radar_fields.cell_side(field)
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


def _require_known(quantity: str) -> None:
    if quantity not in get_args(Quantity):
        raise _unknown(quantity, get_args(Quantity))


def _unknown(quantity: str, known: Sequence[str]) -> ValueError:
    return ValueError(
        f"quantity: there is no {quantity!r}; there are {', '.join(known)}"
    )
