"""Quantities that follow from those of a dataset."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray

from weatherlib import variables
from weatherlib.data import lazy
from weatherlib.data_utils import lexicon
from weatherlib.data_utils.problems import listed
from weatherlib.geometry import harmonics, regridding

__all__ = ["DERIVABLE", "add_derived"]

# Source of the constants: IFS documentation CY47R3, part IV, section 7.4.2.
_TRIPLE_POINT = 273.16
_ALL_ICE = 250.16
_GAS_RATIO = 0.621981

_THICKNESS = re.compile(r"thickness_(\d+)_(\d+)")

# Name: what it is made of.
DERIVABLE = {
    "wind_speed": ("u_component_of_wind", "v_component_of_wind"),
    "10m_wind_speed": ("10m_u_component_of_wind", "10m_v_component_of_wind"),
    "relative_humidity": ("temperature", "specific_humidity"),
    "2m_relative_humidity": ("2m_temperature", "2m_dewpoint_temperature"),
    "vorticity": ("u_component_of_wind", "v_component_of_wind"),
    "divergence": ("u_component_of_wind", "v_component_of_wind"),
    "geopotential_height": ("geopotential",),
    "thickness_UPPER_LOWER": ("geopotential",),
}


def add_derived(dataset: xarray.Dataset, names: Sequence[str]) -> xarray.Dataset:
    """Returns the data with further quantities, worked out when they are read.

    Known are the keys of `DERIVABLE`; of a thickness the levels in hPa are part of the
    name, as in `thickness_500_1000` (m). Relative humidity is that of the IFS: over
    water above 0.01 °C, over ice below -23 °C, and a mixture between; at 2 m it is over
    water, as the dew point is. Vorticity and divergence are spectral where the data
    covers the globe: to rounding those of NCL, and exact for winds that the grid
    resolves. On a part of the globe they are second-order differences: about a tenth
    too weak for waves of eight grid lengths.

    Args:
      dataset: As `data.open_dataset` returns it. Not changed.
      names: Quantities to add; those that are there already stay as they are.

    Raises:
      ValueError: A quantity is not known, or what it is made of is missing.
    """
    for name in names:
        if name in dataset.data_vars:
            continue
        dataset = dataset.assign({name: _derive(dataset, name)})
    return dataset


def _derive(dataset: xarray.Dataset, name: str) -> xarray.Variable:
    """Returns one quantity."""
    thickness = _THICKNESS.fullmatch(name)
    key = "thickness_UPPER_LOWER" if thickness else name
    if key not in DERIVABLE:
        guess = lexicon.closest(name, DERIVABLE)
        hint = f"; is it {guess}?" if guess else ""
        raise ValueError(f"{name}: cannot be derived{hint}; known: {listed(DERIVABLE)}")
    missing = [needed for needed in DERIVABLE[key] if needed not in dataset]
    if missing:
        raise ValueError(
            f"{name}: needs {listed(DERIVABLE[key])}; missing: {listed(missing)}"
        )
    inputs = [dataset[needed].variable for needed in DERIVABLE[key]]
    if thickness:
        return _thickness(dataset, int(thickness[1]), int(thickness[2]))
    if name in ("vorticity", "divergence"):
        return _of_wind(dataset, name, inputs)
    if name == "relative_humidity":
        if "level" not in inputs[0].dims:
            raise ValueError(f"{name}: needs the axis level, for the pressure")
        # In memory: an input like the others, so that it is cut as they are.
        inputs.append(dataset["level"].variable.to_base_variable().astype(np.float64))
    functions: dict[str, Callable[..., xarray.Variable]] = {
        "wind_speed": _speed,
        "10m_wind_speed": _speed,
        "relative_humidity": _relative_humidity,
        "2m_relative_humidity": _humidity_of_dewpoint,
        "geopotential_height": _height,
    }
    return _apply(functions[name], inputs, name)


def _apply(
    function: Callable[..., xarray.Variable],
    inputs: list[xarray.Variable],
    name: str,
    whole: Sequence[str] = (),
) -> xarray.Variable:
    """Returns the lazy result with the attributes of the vocabulary."""
    attrs = _attrs(name)
    first = inputs[0]
    return lazy.apply(
        function, inputs, first.sizes, first.dtype, whole=whole, attrs=attrs
    )


def _attrs(name: str) -> dict[str, Any]:
    """Returns the attributes of a quantity of the vocabulary."""
    known = variables.get(name)
    attrs = {"long_name": known.long_name, "units": known.units}
    if known.standard_name:
        attrs["standard_name"] = known.standard_name
    return attrs


def _speed(u: xarray.Variable, v: xarray.Variable) -> xarray.Variable:
    """Returns the length of the wind."""
    return xarray.Variable(u.dims, np.hypot(u.values, v.transpose(*u.dims).values))


def _height(geopotential: xarray.Variable) -> xarray.Variable:
    """Returns geopotential height in m."""
    return geopotential.astype(np.float64) / variables.GRAVITY


def _saturation(temperature: np.ndarray, *, ice: bool) -> np.ndarray:
    """Returns the vapour pressure of saturation over water or ice, in Pa.

    Source: Tetens formula with the constants of the IFS.
    """
    factor, offset = (22.587, -0.7) if ice else (17.502, 32.19)
    exponent = factor * (temperature - _TRIPLE_POINT) / (temperature - offset)
    return 611.21 * np.exp(exponent)


def _relative_humidity(
    temperature: xarray.Variable, humidity: xarray.Variable, level: xarray.Variable
) -> xarray.Variable:
    """Returns relative humidity in %, over water, ice or their mixture.

    Source: IFS documentation CY47R3, part IV, equations 7.5, 7.91 and 12.13.
    """
    kelvin = temperature.values.astype(np.float64)
    share = np.clip((kelvin - _ALL_ICE) / (_TRIPLE_POINT - _ALL_ICE), 0, 1) ** 2
    saturation = share * _saturation(kelvin, ice=False)
    saturation += (1 - share) * _saturation(kelvin, ice=True)
    pascal = level.set_dims(
        {d: 1 for d in temperature.dims if d != "level"} | level.sizes
    )
    q = humidity.transpose(*temperature.dims).values.astype(np.float64)
    pressure = pascal.transpose(*temperature.dims).values * 100
    vapour = pressure * q / (_GAS_RATIO + (1 - _GAS_RATIO) * q)
    return xarray.Variable(temperature.dims, 100 * vapour / saturation)


def _humidity_of_dewpoint(
    temperature: xarray.Variable, dewpoint: xarray.Variable
) -> xarray.Variable:
    """Returns relative humidity over water in %."""
    kelvin = temperature.values.astype(np.float64)
    dew = dewpoint.transpose(*temperature.dims).values.astype(np.float64)
    ratio = _saturation(dew, ice=False) / _saturation(kelvin, ice=False)
    return xarray.Variable(temperature.dims, 100 * ratio)


def _thickness(dataset: xarray.Dataset, upper: int, lower: int) -> xarray.Variable:
    """Returns the height between two levels in m."""
    name = f"thickness_{upper}_{lower}"
    array = dataset["geopotential"]
    held = [float(x) for x in dataset["level"].values] if "level" in array.dims else []
    missing = [level for level in (upper, lower) if level not in held]
    if missing or upper >= lower:
        raise ValueError(
            f"{name}: needs geopotential at {upper} and {lower} hPa, the upper level "
            f"first; the data has {listed(held) or 'no levels'}"
        )
    ends = [
        array.isel(level=held.index(level), drop=True).variable
        for level in (upper, lower)
    ]
    attrs = {"long_name": f"thickness from {lower} to {upper} hPa", "units": "m"}
    return lazy.apply(_difference, ends, ends[0].sizes, array.dtype, attrs=attrs)


def _difference(upper: xarray.Variable, lower: xarray.Variable) -> xarray.Variable:
    """Returns the height between two geopotentials."""
    return (upper.astype(np.float64) - lower) / variables.GRAVITY


def _of_wind(
    dataset: xarray.Dataset, name: str, inputs: list[xarray.Variable]
) -> xarray.Variable:
    """Returns vorticity or divergence."""
    for axis in ("lat", "lon"):
        if axis not in inputs[0].dims or axis not in dataset.coords:
            raise ValueError(f"{name}: needs the axis {axis}")
    lat = np.asarray(dataset["lat"].values, np.float64)
    lon = np.asarray(dataset["lon"].values, np.float64)
    around = regridding.covers_circle(lon)
    whole = around and np.ptp(lat) > 180 - 2.01 * 180 / lat.size
    function = functools.partial(
        _wind_field, 0 if name == "vorticity" else 1, lat, lon, bool(whole)
    )
    return _apply(function, inputs, name, whole=("lat", "lon"))


def _wind_field(
    place: int,
    lat: np.ndarray,
    lon: np.ndarray,
    whole: bool,
    u: xarray.Variable,
    v: xarray.Variable,
) -> xarray.Variable:
    """Returns vorticity (0) or divergence (1) of a wind on a globe or a part of it."""
    u = u.transpose(..., "lat", "lon")
    v = v.transpose(*u.dims)
    if whole:
        both = harmonics.vorticity_and_divergence(u.values, v.values, lat)
    else:
        both = harmonics.finite_differences(u.values, v.values, lat, lon)
    return xarray.Variable(u.dims, both[place])
