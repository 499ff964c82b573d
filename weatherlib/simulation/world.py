"""The simulated planet at one resolution: coordinates, ground and units."""

from __future__ import annotations

import dataclasses
import functools
from types import ModuleType
from typing import Any

import numpy as np

from weatherlib import optional
from weatherlib.simulation import config, surface

__all__ = ["REFERENCE_TEMPERATURE", "Units", "World", "dinosaur", "make_grid", "world"]

# About which the equations are linearised, K, the same in all layers.
REFERENCE_TEMPERATURE = 288.0

_MEAN_SURFACE_PRESSURE = 98600.0


@dataclasses.dataclass(frozen=True)
class Units:
    """How many SI units one unit of the dynamical core is.

    Attributes:
      pressure: Pa.
      speed: m s-1.
      geopotential: m2 s-2.
      length: m.
      seconds: s.
    """

    pressure: float
    speed: float
    geopotential: float
    length: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class World:
    """What stays the same during a run.

    Attributes:
      resolution: Truncation, layers and step.
      coords: Coordinates of the dynamical core.
      specs: Constants in the units of the core.
      units: The units of the core.
      orography: Height of the ground as spectral coefficients, in units of the core.
      land: Share of land, shape [lon, lat].
      sigma: Centres of the layers, shape [layer].
      thickness: Of the layers in sigma, shape [layer].
      sin_lat: Shape [lat].
      longitude: Radians, shape [lon].
      area: Weights of the rows with sum one over the grid, shape [lat].
      mean_surface_pressure: Which the run keeps, Pa.
    """

    resolution: config.Resolution
    coords: Any
    specs: Any
    units: Units
    orography: np.ndarray
    land: np.ndarray
    sigma: np.ndarray
    thickness: np.ndarray
    sin_lat: np.ndarray
    longitude: np.ndarray
    area: np.ndarray
    mean_surface_pressure: float = _MEAN_SURFACE_PRESSURE


def dinosaur(module: str) -> ModuleType:
    """Returns a module of the dynamical core, which is an optional package.

    Raises:
      ImportError: It is not installed.
    """
    return optional.require(f"dinosaur.{module}", extra="sim")


def make_grid(wavenumber: int, latitudes: int, spacing: str) -> Any:
    """Returns a grid of the core with twice as many columns as rows.

    Args:
      wavenumber: Largest wavenumber that is kept.
      latitudes: Rows.
      spacing: "gauss" or "equiangular".
    """
    return dinosaur("spherical_harmonic").Grid(
        longitude_wavenumbers=wavenumber + 1,
        total_wavenumbers=wavenumber + 2,
        longitude_nodes=2 * latitudes,
        latitude_nodes=latitudes,
        latitude_spacing=spacing,
        radius=1.0,
    )


@functools.lru_cache(maxsize=4)
def world(resolution: config.Resolution) -> World:
    """Returns the planet at a resolution; the same object for the same resolution.

    Raises:
      ImportError: The package `dinosaur` is not installed.
    """
    # The fewest rows without aliasing of products, a multiple of 8 above that.
    rows = -(-3 * (resolution.wavenumber + 1) // 2 // 8) * 8
    rows = max(rows, 32)
    grid = make_grid(resolution.wavenumber, rows, "gauss")
    vertical = dinosaur("sigma_coordinates").SigmaCoordinates.equidistant(
        resolution.layers
    )
    coords = dinosaur("coordinate_systems").CoordinateSystem(grid, vertical)
    specs = dinosaur("units").SimUnits.from_si()
    longitude, sin_lat = grid.nodal_axes
    latitude = np.rad2deg(np.arcsin(sin_lat))
    weights = np.asarray(grid.spherical_harmonics.basis.w).ravel()
    units = _units(specs)
    return World(
        resolution=resolution,
        coords=coords,
        specs=specs,
        units=units,
        orography=_orography(coords, latitude, np.rad2deg(longitude)) / units.length,
        land=surface.land_fraction(latitude, np.rad2deg(longitude)).T,
        sigma=np.asarray(vertical.centers),
        thickness=np.asarray(vertical.layer_thickness),
        sin_lat=np.asarray(sin_lat),
        longitude=np.asarray(longitude),
        area=weights / (weights.sum() * len(longitude)),
    )


def _units(specs: Any) -> Units:
    """Returns the size of the units of the core."""
    unit = dinosaur("scales").units
    size = functools.partial(specs.dimensionalize, 1.0)
    return Units(
        pressure=float(size(unit.pascal).magnitude),
        speed=float(size(unit.meter / unit.second).magnitude),
        geopotential=float(size(unit.meter**2 / unit.second**2).magnitude),
        length=float(size(unit.meter).magnitude),
        seconds=float(size(unit.second).magnitude),
    )


def _orography(coords: Any, latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Returns the spectral coefficients of the filtered height of the ground, m."""
    grid = coords.horizontal
    height = surface.mountain_height(latitude[np.newaxis], longitude[:, np.newaxis])
    modal = np.asarray(grid.clip_wavenumbers(grid.to_modal(height.astype(np.float32))))
    _, total = grid.modal_axes
    largest = total.max() - 1
    # Lessens ripples over the sea: the smallest waves fall to a fifth.
    return modal * np.exp(-1.6 * (total / largest) ** 4)
