"""Which quantity of the vocabulary a variable of a file holds."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import xarray

from weatherlib import variables
from weatherlib.data_utils import lexicon, units

__all__ = ["is_on_levels", "quantity", "split_level"]

# Standard names that say nothing without a height, which only `atmospheric` has.
_NEEDS_HEIGHT = (
    "air_temperature",
    "dew_point_temperature",
    "eastward_wind",
    "northward_wind",
    "wind_speed",
    "relative_humidity",
    "specific_humidity",
    "geopotential",
    "geopotential_height",
    # The period matters, which the name does not tell.
    "lwe_thickness_of_precipitation_amount",
    "integral_wrt_time_of_toa_incoming_shortwave_flux",
)

# Words of long names as they stand in ours.
_WORDS = (
    (r"^(\d+) ?-?(metre|meter|m)s?\b", r"\1m"),
    (r"\b(u|v)[ -]wind[ -]component\b", r"\1 component of wind"),
    (r"\b(u|v) component of (the )?wind\b", r"\1 component of wind"),
    (r"\bdew ?point\b", "dewpoint"),
    (r"\bvapor\b", "vapour"),
    (r"\bice area fraction\b", "ice cover"),
    (r"\(.*?\)", ""),
)

_LEVEL_NAME = re.compile(r"([A-Za-z][A-Za-z0-9_]*?)_?(\d{1,4})(hPa|mb)?")
_HIGHEST_HPA = 1100

# Geopotential of more than this everywhere is that of a level, not of the ground.
_ABOVE_GROUND = 2.0e4


def quantity(name: str, array: xarray.DataArray) -> str | None:
    """Returns the long name in our vocabulary, None where it is not known.

    The name decides, in our spelling, as a short name, in any case of letters; then the
    standard name, and then the words of the long name. A unit that does not belong to
    the quantity speaks against it.

    Args:
      name: Of the variable in the file.
      array: The variable, axes under any known name. Its values are looked at only for
        `z` without levels, one frame at most.
    """
    if name in variables.VARIABLES:
        return name
    on_levels = is_on_levels(array)
    known = variables.find(name) or variables.find(name.lower())
    if known is not None and known.name == "geopotential" and not on_levels:
        return _geopotential(array)
    if known is None:
        known = _by_standard_name(array, on_levels) or _by_long_name(array)
    if known is None or not _unit_fits(array, known):
        return None
    if known.kind in ("surface", "static") and array_has_levels(array):
        return None
    return known.name


def split_level(name: str) -> tuple[str, int] | None:
    """Returns variable and level in hPa of a name such as `z500`, None for others."""
    if variables.find(name) is not None:
        return None
    match = _LEVEL_NAME.fullmatch(name)
    if match is None or not 0 < int(match[2]) <= _HIGHEST_HPA:
        return None
    known = variables.find(match[1]) or variables.find(match[1].lower())
    if known is None or known.kind != "atmospheric":
        return None
    return known.name, int(match[2])


def is_on_levels(array: xarray.DataArray) -> bool:
    """Tells whether a variable has pressure levels, as an axis or a single one."""
    names = set(lexicon.AXES["level"])
    return bool(names & {*map(str, array.dims), *map(str, array.coords)})


def array_has_levels(array: xarray.DataArray) -> bool:
    """Tells whether a variable has an axis of more than one level."""
    return any(array.sizes.get(name, 1) > 1 for name in lexicon.AXES["level"])


def _unit_fits(array: xarray.DataArray, known: variables.Variable) -> bool:
    """Tells whether the unit, where there is one, can be that of the quantity."""
    stated = str(array.attrs.get("units", "")).strip()
    return not stated or units.conversion(stated, known.units) is not None


def _geopotential(array: xarray.DataArray) -> str | None:
    """Returns what `z` without levels is: that of the ground or of an unnamed level."""
    if not _unit_fits(array, variables.get("geopotential")):
        return None
    kind = str(array.attrs.get("GRIB_typeOfLevel", ""))
    if kind == "surface":
        return "geopotential_at_surface"
    if kind.startswith("isobaric"):
        return "geopotential"
    frames = array.sizes.get("time", array.sizes.get("valid_time", 1))
    if frames > 1:
        axis = "time" if "time" in array.dims else "valid_time"
        ends = array.isel({axis: [0, -1]}).transpose(axis, ...).values
        same = np.array_equal(ends[0], ends[1], equal_nan=True)
        return "geopotential_at_surface" if same else "geopotential"
    lowest = np.nanmin(np.asarray(array.values)) if array.size else np.nan
    return "geopotential" if lowest > _ABOVE_GROUND else "geopotential_at_surface"


def _by_standard_name(
    array: xarray.DataArray, on_levels: bool
) -> variables.Variable | None:
    """Returns the only quantity of a standard name."""
    standard = str(array.attrs.get("standard_name", ""))
    if not standard or (not on_levels and standard in _NEEDS_HEIGHT):
        return None
    fitting = [
        known
        for known in variables.VARIABLES.values()
        if known.standard_name == standard
        and (known.kind == "atmospheric") is on_levels
    ]
    return fitting[0] if len(fitting) == 1 else None


def _by_long_name(array: xarray.DataArray) -> variables.Variable | None:
    """Returns the quantity that the words of the long name spell."""
    words = str(array.attrs.get("long_name", "")).strip().lower()
    for pattern, replacement in _WORDS:
        words = re.sub(pattern, replacement, words)
    spelled = re.sub(r"[\s-]+", "_", words.strip())
    known: Mapping[str, variables.Variable] = variables.VARIABLES
    found = known.get(spelled)
    # A name of one plain word, such as "temperature", says nothing of the height.
    if found is not None and found.kind == "atmospheric" and not is_on_levels(array):
        return None
    return found
