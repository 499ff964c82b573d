"""Which patches of a grid lie in a region. Nothing here imports JAX or xarray."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from weatherlib import config
from weatherlib.climax.config import ClimaXConfig

__all__ = ["REGIONS", "Region", "crop", "find_points", "find_region", "is_turned"]

REGIONS = {
    "NorthAmerica": (15.0, 65.0, 220.0, 300.0),
    "SouthAmerica": (-55.0, 20.0, 270.0, 330.0),
    "Europe": (30.0, 65.0, 0.0, 40.0),
    "SouthAsia": (-15.0, 45.0, 25.0, 110.0),
    "EastAsia": (5.0, 65.0, 70.0, 150.0),
    "Australia": (-50.0, 10.0, 100.0, 180.0),
    "Global": (-90.0, 90.0, 0.0, 360.0),
}
"""The published regions: south, north, west and east edges in degrees."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Region:
    """A rectangle of whole patches; across the seam of a globe too.

    Attributes:
      patch_rows: Rows of patches, ascending.
      patch_columns: Columns of patches, from west to east.
      patch_size: Grid points along a side of a patch.
      grid_columns: Columns of patches of the whole grid.
    """

    patch_rows: tuple[int, ...]
    patch_columns: tuple[int, ...]
    patch_size: int
    grid_columns: int

    @property
    def patch_ids(self) -> np.ndarray:
        """Numbers of the patches in the whole grid, shape [row, column]."""
        first = np.asarray(self.patch_rows)[:, np.newaxis] * self.grid_columns
        return first + np.asarray(self.patch_columns)

    @property
    def rows(self) -> np.ndarray:
        """Rows of the grid that the patches fill."""
        return _points(self.patch_rows, self.patch_size)

    @property
    def columns(self) -> np.ndarray:
        """Columns of the grid that the patches fill, from west to east."""
        return _points(self.patch_columns, self.patch_size)


def is_turned(sizes: ClimaXConfig, lat: np.ndarray) -> bool:
    """Returns whether the rows of data run against those of the weights."""
    ascending = len(lat) < 2 or lat[-1] > lat[0]
    return bool(ascending != (sizes.latitude == "ascending"))


def crop(sizes: ClimaXConfig, dataset: Any) -> Any:
    """Returns the part of a dataset on the whole grid that the model predicts.

    Args:
      sizes: Names the region. Without one, everything is predicted.
      dataset: An xarray dataset with the coordinates `lat` and `lon`, in degrees.

    Raises:
      ValueError: The grid does not hold the region, or patches do not fit it.
    """
    if not sizes.is_regional:
        return dataset
    rows, columns = find_points(sizes, dataset["lat"].values, dataset["lon"].values)
    return dataset.isel(lat=rows, lon=columns)


def find_points(
    sizes: ClimaXConfig, lat: np.ndarray, lon: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows and columns of the region in the order of the data.

    Args:
      sizes: Names the region.
      lat: Degrees north, in either order, shape [lat].
      lon: Degrees east, shape [lon].

    Raises:
      ValueError: As for `find_region`.
    """
    lat = np.asarray(lat)
    if not is_turned(sizes, lat):
        region = find_region(sizes, lat, lon)
        return region.rows, region.columns
    region = find_region(sizes, lat[::-1], lon)
    return (len(lat) - 1 - region.rows)[::-1], region.columns


def find_region(sizes: ClimaXConfig, lat: np.ndarray, lon: np.ndarray) -> Region:
    """Returns the patches that lie in a region with all their points.

    Args:
      sizes: Names the region, and how grids are cut.
      lat: Degrees north in the order of the rows, shape [lat].
      lon: Degrees east, counted in any way, shape [lon].

    Raises:
      ValueError: The region is not known, no whole patch of the grid lies in it, or
        patches do not divide the grid.
    """
    south, north, west, east = _edges(sizes)
    size = sizes.patch_size
    lat, lon = np.asarray(lat, np.float64), np.asarray(lon, np.float64)
    if len(lat) % size or len(lon) % size:
        raise ValueError(
            f"patch_size {size} does not divide the {len(lat)}x{len(lon)} grid; regrid "
            f"it or cut it to {len(lat) // size * size}x{len(lon) // size * size}"
        )
    # Published: the rows are found from north to south, whatever their order.
    found_lat = lat[::-1] if sizes.mirrored_region else lat
    rows = (found_lat >= south) & (found_lat <= north)
    whole = (east - west) % 360 == 0 and east != west
    columns = np.ones(len(lon), bool) if whole else (lon - west) % 360 <= east - west
    patch_rows = np.flatnonzero(rows.reshape(-1, size).all(axis=1))
    patch_columns = np.flatnonzero(columns.reshape(-1, size).all(axis=1))
    if not patch_rows.size or not patch_columns.size:
        name = sizes.region or f"{south:g} to {north:g} N, {west:g} to {east:g} E"
        raise ValueError(
            f"region {name}: no whole patch of {size}x{size} points of the "
            f"{len(lat)}x{len(lon)} grid, latitude {lat[0]:g} to {lat[-1]:g} and "
            f"longitude {lon[0]:g} to {lon[-1]:g}, lies in it"
        )
    return Region(
        patch_rows=tuple(patch_rows.tolist()),
        patch_columns=tuple(_joined(patch_columns).tolist()),
        patch_size=size,
        grid_columns=len(lon) // size,
    )


def _edges(sizes: ClimaXConfig) -> tuple[float, float, float, float]:
    if sizes.region_box is not None:
        south, north, west, east = sizes.region_box
        if east < west:
            east += 360
        if not (-90 <= south < north <= 90 and west < east <= west + 360):
            raise ValueError(
                "region_box must be south, north, west and east edges in degrees, "
                f"found {sizes.region_box}"
            )
        return south, north, west, east
    if sizes.region not in REGIONS:
        hint = config.closest_hint(sizes.region, REGIONS)
        raise ValueError(
            f"region {sizes.region!r} is not known{hint}; region_box takes any edges"
        )
    return REGIONS[sizes.region]


def _joined(columns: np.ndarray) -> np.ndarray:
    """Returns columns with those west of a gap, at the seam of a globe, put last."""
    gaps = np.flatnonzero(np.diff(columns) > 1)
    return np.roll(columns, -(gaps[0] + 1)) if gaps.size else columns


def _points(patches: tuple[int, ...], size: int) -> np.ndarray:
    first = np.asarray(patches)[:, np.newaxis] * size
    return (first + np.arange(size)).reshape(-1)
