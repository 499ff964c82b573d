"""How each kind of field is shown: colours, reader's units and labels.

Data stay in SI units everywhere in the library. Only a picture shows degrees Celsius,
hectopascals or millimetres, and its colour bar says so.
"""

from __future__ import annotations

import dataclasses
import re

import matplotlib.colors
import numpy as np
import xarray

from weatherlib import variables

__all__ = [
    "DIFFERENCE_COLORMAP",
    "Style",
    "find",
    "label",
    "normalize",
    "reference_time",
    "squared",
    "valid_label",
]

DIFFERENCE_COLORMAP = "RdBu_r"

# White for dry, then blues to violet, as on rain charts.
_RAIN = matplotlib.colors.LinearSegmentedColormap.from_list(
    "weatherlib_rain",
    ["#ffffff", "#c8e6f5", "#7fbfe6", "#3487c9", "#1b4f9c", "#5b2a86", "#a0307a"],
)
_TEMPERATURE = matplotlib.colors.LinearSegmentedColormap.from_list(
    "weatherlib_temperature",
    [
        "#3b1f6b",
        "#3a4fa3",
        "#4a90c8",
        "#a6d5e3",
        "#f3f1d3",
        "#fbc66a",
        "#ec7b3d",
        "#bf2c2f",
        "#6a1026",
    ],
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Style:
    """The look of one kind of field.

    Attributes:
      colormap: Name of a matplotlib colour map, or the map.
      units: Units on the picture; empty keeps those of the data.
      factor: Multiplies the data.
      offset: Is added after that; left out for differences.
      floor: Lowest value of the colour scale, in the picture's units.
      centred: Whether the colour scale is symmetric about zero.
      contours: Colour of thin lines of equal value drawn on top; empty for none.
    """

    colormap: str | matplotlib.colors.Colormap = "viridis"
    units: str = ""
    factor: float = 1.0
    offset: float = 0.0
    floor: float | None = None
    centred: bool = False
    contours: str = ""

    def show(self, field: xarray.DataArray, *, difference: bool) -> xarray.DataArray:
        """Returns the field in the picture's units, its attributes kept.

        Args:
          field: Values in SI units.
          difference: Whether the values are differences, which take no offset.
        """
        shown = field * self.factor + (0.0 if difference else self.offset)
        shown.attrs = dict(field.attrs)
        known = variables.find(str(field.name or ""))
        units = str(field.attrs.get("units") or (known.units if known else ""))
        # A difference of temperatures is in kelvin, whatever the scale it is read on.
        kelvin = difference and self.offset != 0.0 and self.factor == 1.0
        shown.attrs["units"] = "K" if kelvin else self.units or units
        return shown.rename(field.name)

    def show_norm(
        self, norm: matplotlib.colors.Normalize, *, difference: bool
    ) -> matplotlib.colors.Normalize:
        """Returns a colour scale in SI units as one in the picture's units."""
        ends = xarray.DataArray(np.array([norm.vmin, norm.vmax], dtype=float))
        return matplotlib.colors.Normalize(*self.show(ends, difference=difference))


_TEMPERATURES = Style(colormap=_TEMPERATURE, units="°C", offset=-273.15)
_WINDS = Style(colormap="PuOr_r", units="m/s", centred=True)
_STYLES = (
    (r"temperature|t2m|sst|dewpoint", "K", _TEMPERATURES),
    (
        r"precipitation",
        "m",
        Style(colormap=_RAIN, units="mm", factor=1e3, floor=0.0),
    ),
    (r"wind_speed", "", Style(colormap="YlGnBu", units="m/s", floor=0.0)),
    (r"component_of_wind", "", _WINDS),
    (r"vertical_velocity", "", Style(colormap="BrBG_r", units="Pa/s", centred=True)),
    (r"potential_vorticity", "", Style(colormap="PuOr_r", centred=True)),
    (
        r"vorticity|divergence",
        "s-1",
        Style(colormap="PuOr_r", units="10⁻⁵ s⁻¹", factor=1e5, centred=True),
    ),
    (
        r"pressure",
        "Pa",
        Style(colormap="viridis", units="hPa", factor=1e-2, contours="white"),
    ),
    (
        r"specific_humidity",
        "kg/kg",
        Style(colormap="YlGnBu", units="g/kg", factor=1e3, floor=0.0),
    ),
    (r"humidity", "", Style(colormap="YlGnBu", floor=0.0)),
    (r"geopotential_at_surface|orography", "", Style(colormap="terrain")),
    (r"geopotential_height", "", Style(colormap="Spectral_r", contours="0.3")),
    (
        r"geopotential",
        "m2/s2",
        Style(
            colormap="Spectral_r",
            units="dam",
            factor=0.1 / variables.GRAVITY,
            contours="0.3",
        ),
    ),
    (r"radiation", "", Style(colormap="inferno", units="J/m2", floor=0.0)),
)
_SAME_UNITS = {
    "kelvin": "K",
    "kgkg-1": "kg/kg",
    "kgkg**-1": "kg/kg",
    "kg/kg": "kg/kg",
    "m2s-2": "m2/s2",
    "m**2s**-2": "m2/s2",
    "m^2/s^2": "m2/s2",
    "m2/s2": "m2/s2",
    "pascal": "Pa",
    "metre": "m",
    "s**-1": "s-1",
    "s^-1": "s-1",
    "1/s": "s-1",
}


def find(field: xarray.DataArray) -> Style:
    """Returns the style of a field by its name and units.

    Units are converted only where the data say they have the library's units, or say
    nothing and have a name of its vocabulary; otherwise they stay as they are.
    """
    name = str(field.name or "")
    units = str(field.attrs.get("units", ""))
    plain = _SAME_UNITS.get(units.replace(" ", "").lower(), units)
    for pattern, needed, style in _STYLES:
        if not re.search(pattern, name):
            continue
        if needed and plain not in ("", needed):
            return dataclasses.replace(style, units="", factor=1.0, offset=0.0)
        return style
    return Style()


def normalize(
    fields: list[xarray.DataArray],
    style: Style,
    *,
    difference: bool = False,
    robust: bool = True,
) -> matplotlib.colors.Normalize:
    """Returns one colour scale for all fields given, in the picture's units.

    Args:
      fields: Fields in the picture's units.
      style: Says if the scale starts at a floor or is symmetric about zero.
      difference: Whether the scale is symmetric about zero whatever the style.
      robust: Whether the outer percent on each side is left out of the range.
    """
    ends = [1.0, 99.0] if robust else [0.0, 100.0]
    values = np.concatenate([np.ravel(field.values) for field in fields])
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, ends) if values.size else (0.0, 1.0)
    if difference or style.centred:
        high = max(abs(low), abs(high))
        low = -high
    elif style.floor is not None:
        low = style.floor
    if not high > low:
        low, high = low - 0.5, low + 0.5
    return matplotlib.colors.Normalize(float(low), float(high))


def label(field: xarray.DataArray) -> str:
    """Returns the name of a field for a title, with its level where it has one."""
    name = str(field.attrs.get("long_name") or field.name or "field")
    known = variables.find(str(field.name or ""))
    name = known.display_name if known else name.replace("_", " ")
    name = name[:1].upper() + name[1:]
    level = field.coords.get("level")
    if level is None or level.size != 1 or "level" in name:
        return name
    return f"{name} at {float(level.squeeze()):g} hPa"


def squared(units: str) -> str:
    """Returns the square of units for people: m⁴ s⁻⁴ of "m2 s-2" or "m**2 s**-2".

    Units that are no product of powers stay as they are, in brackets.
    """
    powers: dict[str, int] = {}
    sign = 1
    words = re.findall(r"/|[^\s/*]+", units.replace("**", "^"))
    for word in words:
        if word == "/":
            sign = -1
            continue
        found = re.fullmatch(r"([^\W\d]+|°C)\^?([-+]?\d+)?", word)
        if not found or found[1] in powers:
            return f"({units})²"
        powers[found[1]] = 2 * sign * int(found[2] or 1)
        sign = 1
    digits = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return " ".join(
        f"{name}{str(power).translate(digits)}" for name, power in powers.items()
    )


def reference_time(field: xarray.DataArray) -> np.datetime64 | None:
    """Returns the start of the forecast a field belongs to, where it says so."""
    start = field.coords.get("forecast_reference_time")
    if start is not None and start.size and start.dtype.kind == "M":
        return np.ravel(start.values)[0]
    return None


def valid_label(field: xarray.DataArray) -> str:
    """Returns when a field is valid and its lead time, as far as the field says.

    Args:
      field: May have a scalar `datetime` or `valid_time`, a `time` that is a date or a
        lead time, and a `forecast_reference_time`.
    """
    valid = lead = None
    for name in ("datetime", "valid_time", "time"):
        time = field.coords.get(name)
        if time is None or time.size != 1:
            continue
        stamp = np.ravel(time.values)[0]
        if time.dtype.kind == "M" and valid is None:
            valid = stamp
        if time.dtype.kind == "m":
            lead = stamp
    start = reference_time(field)
    if valid is None and start is not None and lead is not None:
        valid = start + lead
    parts = []
    if valid is not None and not np.isnat(valid):
        text = np.datetime_as_string(valid, unit="m").replace("T", " ")
        parts.append(f"{text} UTC")
    if lead is not None:
        parts.append(f"{lead / np.timedelta64(1, 'h'):+g} h")
    return ", ".join(parts)
