"""Units of weather files: their spellings, and what converts one into another."""

from __future__ import annotations

import re
from typing import NamedTuple

from weatherlib import variables

__all__ = ["Conversion", "conversion", "plausible_conversions"]

# Water of 1 kg m-2 stands 1 mm high.
_WATER = "kg m-2"


class Conversion(NamedTuple):
    """A linear change of unit: value * scale + offset.

    Attributes:
      found: Unit before.
      scale: Factor.
      offset: Added after the factor.
    """

    found: str
    scale: float
    offset: float = 0.0


# For each CF unit of the vocabulary: what else is found for it, and the factor.
_CONVERSIONS: dict[str, tuple[Conversion, ...]] = {
    "K": (Conversion("degC", 1.0, 273.15), Conversion("degF", 5 / 9, 459.67 * 5 / 9)),
    "Pa": (Conversion("hPa", 100.0), Conversion("kPa", 1000.0)),
    "m2 s-2": (
        Conversion("m", variables.GRAVITY),
        Conversion("dam", 10 * variables.GRAVITY),
    ),
    "m": (
        Conversion("mm", 1e-3),
        Conversion("cm", 1e-2),
        Conversion("dam", 10.0),
        Conversion("km", 1e3),
    ),
    "kg kg-1": (Conversion("g kg-1", 1e-3),),
    "1": (Conversion("%", 1e-2),),
    "%": (Conversion("1", 100.0),),
    "m s-1": (Conversion("km h-1", 1 / 3.6), Conversion("knot", 1852 / 3600)),
    "Pa s-1": (Conversion("hPa s-1", 100.0),),
    "J m-2": (Conversion("kJ m-2", 1e3), Conversion("MJ m-2", 1e6)),
}

_SPELLINGS: dict[str, str] = {
    spelling: unit
    for unit, spellings in {
        "K": "k kelvin kelvins degk deg_k",
        "degC": "c °c degc deg_c celsius degree_celsius degrees_celsius",
        "degF": "f °f degf fahrenheit degree_fahrenheit degrees_fahrenheit",
        "Pa": "pa pascal pascals n_m-2",
        "hPa": "hpa mb mbar millibar millibars hectopascal hectopascals",
        "kPa": "kpa kilopascal",
        "m2 s-2": "m2_s-2 m2/s2 j_kg-1 j/kg",
        "m": "m gpm metre metres meter meters geopotential_metre m_of_water_equivalent",
        "dam": "dam gpdm decametre decameter",
        "km": "km kilometre kilometer",
        "cm": "cm",
        "mm": "mm kg_m-2 kg/m2 millimetre millimeter",
        "kg kg-1": "kg_kg-1 kg/kg",
        "g kg-1": "g_kg-1 g/kg",
        "1": "1 - ~ dimensionless fraction (0_-_1) (0-1) 0-1 unitless none proportion",
        "%": "% percent percentage",
        "m s-1": "m_s-1 m/s ms-1 meters_per_second metre_per_second",
        "km h-1": "km_h-1 km/h kmh kph km_hr-1",
        "knot": "knot knots kt kts",
        "Pa s-1": "pa_s-1 pa/s",
        "hPa s-1": "hpa_s-1 hpa/s",
        "s-1": "s-1 1/s /s",
        "J m-2": "j_m-2 j/m2",
        "kJ m-2": "kj_m-2 kj/m2",
        "MJ m-2": "mj_m-2 mj/m2",
        "K m2 kg-1 s-1": "k_m2_kg-1_s-1",
        "W m-2": "w_m-2 w/m2",
        "degrees_north": "degrees_north degree_north deg",
        "degrees_east": "degrees_east degree_east",
    }.items()
    for spelling in spellings.split()
}


def conversion(found: str, wanted: str) -> Conversion | None:
    """Returns what turns values of the unit found into the unit wanted.

    Args:
      found: Any common spelling, such as "hPa", "mb" or "K kg**-1".
      wanted: A unit of `variables.py`.

    Returns:
      None where there is no such conversion, or the spelling is not known.
    """
    unit = _canonical(found, wanted)
    if unit == wanted:
        return Conversion(unit, 1.0)
    for candidate in _CONVERSIONS.get(wanted, ()):
        if candidate.found == unit:
            return candidate
    return None


def plausible_conversions(
    low: float, high: float, variable: variables.Variable
) -> list[Conversion]:
    """Returns the units in which values of this range would make sense.

    Args:
      low: Smallest value found.
      high: Largest value found.
      variable: The quantity; its bounds decide.

    Returns:
      The conversions that put the range within the bounds of the variable. Empty where
      it lies within them as it is.
    """
    least, most = variable.bounds
    if least <= low and high <= most:
        return []
    return [
        candidate
        for candidate in _CONVERSIONS.get(variable.units, ())
        if least <= low * candidate.scale + candidate.offset
        and high * candidate.scale + candidate.offset <= most
    ]


def _canonical(text: str, wanted: str) -> str:
    """Returns the CF spelling of a unit, the text itself where it is not known."""
    if text.strip() == wanted:
        return wanted
    key = re.sub(r"\*\*|\^", "", text.strip()).lower().replace(".", " ")
    key = re.sub(r"\s+", "_", key.replace("¹", "1").replace("²", "2"))
    unit = _SPELLINGS.get(key) or _SPELLINGS.get(key.replace("_", "")) or text.strip()
    if unit == "mm" and wanted == _WATER:
        return _WATER
    return unit
