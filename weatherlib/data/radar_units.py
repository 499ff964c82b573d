"""Rain, reflectivity and liquid water on the scale of SEVIR's radar pictures.

SEVIR stores vertically integrated liquid (VIL) in one byte: 0 to 254, and 255 where
there is no measurement. Thresholds of nowcasts and trained models are on that scale, so
other radar data are brought onto it, by way of

    rain rate R (mm/h)  ->  reflectivity factor Z  ->  VIL (kg/m2)  ->  pixel

- Z = 200 R^1.6, in mm6/m3, and dBZ = 10 log10 Z (Marshall, Langille and Palmer 1947,
  doi:10.1175/1520-0469(1947)004<0186:MORBR>2.0.CO;2).
- VIL = 3.44e-6 Z^(4/7) H, for a column of depth H with one reflectivity (Greene and
  Clark 1972, doi:10.1175/1520-0493(1972)100<0548:VILWNA>2.3.CO;2). Only one level is
  known, so H is a choice: with 4500 m the thresholds 74, 133, 160, 181 and 219 are the
  limits of the video-integrator levels 2 to 6 of the weather service, 30, 41, 46, 50
  and 57 dBZ, within 1.1 dB.
- pixel X: VIL is 0 up to X = 5, (X - 2) / 90.66 up to 18, exp((X - 83.9) / 38.9) up to
  254 (Veillette et al. 2020, SEVIR, supplement, equation 2).

All steps are monotone, and each has its inverse. Up to 5 pixels, 0.08 mm/h, there is
no rain. Missing values are NaN on both sides.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "DRY",
    "HIGHEST",
    "LAYER_DEPTH",
    "MISSING",
    "dbz_to_pixels",
    "dbz_to_rain",
    "dbz_to_vil",
    "driest_dbz",
    "pixels_to_dbz",
    "pixels_to_rain",
    "pixels_to_vil",
    "rain_to_dbz",
    "rain_to_pixels",
    "vil_to_dbz",
    "vil_to_pixels",
]

MISSING = 255
"""Byte of a pixel without measurement."""

HIGHEST = 254
"""Largest pixel with one."""

DRY = 5
"""Largest pixel that means no liquid water."""

LAYER_DEPTH = 4500.0
"""Depth of the column of one reflectivity, m."""

_RAIN_FACTOR = 200.0
_RAIN_POWER = 1.6
_LIQUID_FACTOR = 3.44e-6
_LIQUID_POWER = 4 / 7

_STEPS = 90.66
_SHIFT = 2.0
_KNEE = 18.0
_LOG_SHIFT = 83.9
_LOG_STEPS = 38.9
_VIL_AT_KNEE = (_KNEE - _SHIFT) / _STEPS
_VIL_DRY = (DRY - _SHIFT) / _STEPS


def rain_to_dbz(rain: np.ndarray) -> np.ndarray:
    """Returns the reflectivity of a rain rate, minus infinity where it does not rain.

    Args:
      rain: mm/h, any shape. What is negative counts as zero.

    Returns:
      dBZ, float64.
    """
    rate = np.maximum(np.asarray(rain, np.float64), 0.0)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(_RAIN_FACTOR) + 10 * _RAIN_POWER * np.log10(rate)


def dbz_to_rain(dbz: np.ndarray) -> np.ndarray:
    """Returns the rain rate of a reflectivity.

    Args:
      dbz: dBZ, any shape; minus infinity is no rain.

    Returns:
      mm/h, float64.
    """
    factor = 10 ** (np.asarray(dbz, np.float64) / 10)
    return (factor / _RAIN_FACTOR) ** (1 / _RAIN_POWER)


def dbz_to_vil(dbz: np.ndarray, depth: float = LAYER_DEPTH) -> np.ndarray:
    """Returns the liquid water of a column with one reflectivity.

    Args:
      dbz: dBZ, any shape.
      depth: Of the column, m.

    Returns:
      kg/m2, float64.
    """
    factor = 10 ** (np.asarray(dbz, np.float64) / 10)
    return _LIQUID_FACTOR * factor**_LIQUID_POWER * depth


def vil_to_dbz(vil: np.ndarray, depth: float = LAYER_DEPTH) -> np.ndarray:
    """Returns the reflectivity of a column that holds some liquid water.

    Args:
      vil: kg/m2, any shape.
      depth: Of the column, m.

    Returns:
      dBZ, float64; minus infinity where there is no water.
    """
    density = np.maximum(np.asarray(vil, np.float64), 0.0) / (_LIQUID_FACTOR * depth)
    with np.errstate(divide="ignore"):
        return 10 / _LIQUID_POWER * np.log10(density)


def vil_to_pixels(vil: np.ndarray, *, rounded: bool = False) -> np.ndarray:
    """Returns liquid water on the scale of SEVIR.

    Args:
      vil: kg/m2, any shape.
      rounded: Whether to return whole numbers, as SEVIR has them.

    Returns:
      0 to 254, float64; NaN where `vil` is. At the knee of the scale, where two of its
      formulas leave a gap, pixels are 18.
    """
    water = np.asarray(vil, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        linear = _SHIFT + _STEPS * water
        steep = _LOG_SHIFT + _LOG_STEPS * np.log(water)
        pixels = np.where(water <= _VIL_AT_KNEE, linear, np.maximum(steep, _KNEE))
        pixels = np.where(water <= _VIL_DRY, 0.0, np.minimum(pixels, HIGHEST))
    pixels = np.where(np.isnan(water), np.nan, pixels)
    return np.rint(pixels) if rounded else pixels


def pixels_to_vil(pixels: np.ndarray) -> np.ndarray:
    """Returns the liquid water that pixels of SEVIR stand for.

    Args:
      pixels: 0 to 254, any shape. In whole-number types 255 is a missing value.

    Returns:
      kg/m2, float64.
    """
    given = np.asarray(pixels)
    value = given.astype(np.float64)
    if given.dtype.kind in "iu":
        value = np.where(given == MISSING, np.nan, value)
    linear = (value - _SHIFT) / _STEPS
    steep = np.exp((value - _LOG_SHIFT) / _LOG_STEPS)
    water = np.where(value <= _KNEE, linear, steep)
    return np.where(value <= DRY, 0.0, water)


def driest_dbz(depth: float = LAYER_DEPTH) -> float:
    """Returns the highest reflectivity that becomes a pixel of 0, dBZ.

    Args:
      depth: Of the column, m.
    """
    return float(vil_to_dbz(np.array(_VIL_DRY), depth))


def dbz_to_pixels(
    dbz: np.ndarray, depth: float = LAYER_DEPTH, *, rounded: bool = False
) -> np.ndarray:
    """Returns reflectivity on the scale of SEVIR; see `vil_to_pixels`."""
    return vil_to_pixels(dbz_to_vil(dbz, depth), rounded=rounded)


def pixels_to_dbz(pixels: np.ndarray, depth: float = LAYER_DEPTH) -> np.ndarray:
    """Returns the reflectivity that pixels of SEVIR stand for; see `pixels_to_vil`."""
    return vil_to_dbz(pixels_to_vil(pixels), depth)


def rain_to_pixels(
    rain: np.ndarray, depth: float = LAYER_DEPTH, *, rounded: bool = False
) -> np.ndarray:
    """Returns rain rates in mm/h on the scale of SEVIR; see `vil_to_pixels`."""
    return dbz_to_pixels(rain_to_dbz(rain), depth, rounded=rounded)


def pixels_to_rain(pixels: np.ndarray, depth: float = LAYER_DEPTH) -> np.ndarray:
    """Returns the rain rate in mm/h that pixels stand for; see `pixels_to_vil`."""
    return dbz_to_rain(pixels_to_dbz(pixels, depth))
