"""Where on the grid a score is taken, and how much each point counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from weatherlib.geometry import sphere

__all__ = [
    "DEFAULT_REGIONS",
    "REGIONS",
    "Box",
    "Grid",
    "Weighting",
    "parse_box",
    "point_weights",
    "region_masks",
]

Weighting = Literal["area", "cosine", "none"]

# A grid whose first and last cells reach this near to the poles covers the globe; those
# of Gaussian grids end a little before them.
_NEAR_POLE = 88.0
# Of latitude, on a sphere of 6371 km.
_KM_PER_DEGREE = 6371.0 * np.pi / 180
# Degrees by which a point may miss an edge that it lies on: 43.3 in float32 is more.
_SLACK = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Box:
    """A part of the globe between two parallels and two meridians, edges included.

    Attributes:
      south: Degrees north.
      north: Degrees north.
      west: Degrees east, counted in any way.
      east: Degrees east; the box runs eastwards from `west`.
      outside: Whether everything else is meant.
    """

    south: float = -90.0
    north: float = 90.0
    west: float = 0.0
    east: float = 360.0
    outside: bool = False

    def __post_init__(self) -> None:
        if not -90 <= self.south < self.north <= 90:
            raise ValueError(
                f"a box needs -90 <= south < north <= 90, found {self.south:g} and "
                f"{self.north:g}"
            )

    def mask(self, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
        """Returns 1.0 for points of the box and 0.0 for others, shape [lat, lon]."""
        rows = (lat >= self.south - _SLACK) & (lat <= self.north + _SLACK)
        width = self.east - self.west
        if width % 360 == 0 and width != 0:
            columns = np.ones(len(lon), bool)
        else:
            columns = (lon - self.west + _SLACK) % 360 <= width % 360 + 2 * _SLACK
        inside = rows[:, None] & columns[None, :]
        return (~inside if self.outside else inside).astype(np.float64)


# Names and edges of WeatherBench 2, which follows the scorecards of ECMWF.
REGIONS: Mapping[str, Box] = {
    "global": Box(),
    "tropics": Box(south=-20, north=20),
    "extra-tropics": Box(south=-20, north=20, outside=True),
    "northern-hemisphere": Box(south=20, north=90),
    "southern-hemisphere": Box(south=-90, north=-20),
    "europe": Box(south=35, north=75, west=-12.5, east=42.5),
    "north-america": Box(south=25, north=60, west=240, east=285),
    "north-atlantic": Box(south=25, north=65, west=290, east=340),
    "north-pacific": Box(south=25, north=60, west=145, east=230),
    "east-asia": Box(south=25, north=60, west=102.5, east=150),
    "ausnz": Box(south=-45, north=-12.5, west=120, east=175),
    "arctic": Box(south=60, north=90),
    "antarctic": Box(south=-90, north=-60),
}
_ALIASES = {
    "northern-extratropics": "northern-hemisphere",
    "southern-extratropics": "southern-hemisphere",
    "asia": "east-asia",
}
DEFAULT_REGIONS = ("global", "tropics", "northern-hemisphere", "southern-hemisphere")
_SURFACES = ("land", "sea")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """The points that forecasts and truth share.

    Attributes:
      lat: Degrees north, ascending, shape [lat]; None on a plane.
      lon: Degrees east, ascending, shape [lon]; negative west of Greenwich where a
        domain crosses it. None on a plane.
      shape: Rows and columns.
    """

    lat: np.ndarray | None
    lon: np.ndarray | None
    shape: tuple[int, int]

    @property
    def is_periodic(self) -> bool:
        """Whether the last column is beside the first."""
        if self.lon is None or len(self.lon) < 2:
            return False
        step = np.diff(self.lon)
        gap = 360 - (self.lon[-1] - self.lon[0])
        return bool(np.allclose(step, gap, rtol=0.02))

    @property
    def cell_km(self) -> tuple[float, float] | None:
        """Height and width in km of a cell at the middle latitude of a domain.

        None for a plane without degrees, for circles of latitude, and where rows or
        columns are not evenly spaced.
        """
        if self.lat is None or self.lon is None or self.is_periodic:
            return None
        steps = [np.diff(axis) for axis in (self.lat, self.lon)]
        if any(not step.size for step in steps):
            return None
        down, across = (float(step.mean()) for step in steps)
        if not all(np.allclose(s, s.mean(), rtol=0.02) for s in steps):
            return None
        middle = np.cos(np.deg2rad((self.lat[0] + self.lat[-1]) / 2))
        return _KM_PER_DEGREE * down, _KM_PER_DEGREE * across * float(middle)

    @property
    def is_global(self) -> bool:
        """Whether it covers the sphere."""
        if self.lat is None or not self.is_periodic:
            return False
        if len(self.lat) < 2:
            return False
        half = np.median(np.diff(self.lat)) / 2
        return bool(min(-self.lat[0], self.lat[-1]) + half > _NEAR_POLE)


def parse_box(text: str) -> tuple[str, Box]:
    """Returns the name and the box of "name=south,north,west,east".

    Raises:
      ValueError: It is written otherwise.
    """
    name, _, edges = text.partition("=")
    if not name.strip():
        raise ValueError(
            f"region {text!r}: the box has no name; write name=south,north,west,east, "
            "such as alps=43,49,5,17"
        )
    try:
        south, north, west, east = map(float, edges.split(","))
    except ValueError as error:
        raise ValueError(
            f"region {text!r}: write a box as name=south,north,west,east in degrees, "
            "such as alps=43,49,5,17"
        ) from error
    return name, Box(south=south, north=north, west=west, east=east)


def point_weights(grid: Grid, weighting: Weighting = "area") -> np.ndarray:
    """Returns how much each point counts, scaled to mean 1, shape [row, column].

    Args:
      grid: Points.
      weighting: `area` is the area of the cell around the point, half a cell for rows
        on the poles, as in WeatherBench 2; `cosine` the cosine of latitude, which
        counts rows on the poles as nothing; `none` 1. A plane has `none`.
    """
    if grid.lat is None or weighting == "none":
        return np.ones(grid.shape)
    if weighting == "cosine":
        rows = np.maximum(np.cos(np.deg2rad(grid.lat)), 0.0)
        rows = rows / rows.mean()
    else:
        rows = sphere.latitude_weights(grid.lat) if len(grid.lat) > 1 else np.ones(1)
    return np.broadcast_to(rows[:, None], grid.shape).copy()


def region_masks(
    grid: Grid,
    regions: Sequence[str] | None = None,
    boxes: Mapping[str, Box] | None = None,
    land_sea_mask: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Returns how much of each point lies in each region, 0 to 1, [row, column].

    Args:
      grid: Points.
      regions: Names of `REGIONS`, "land" and "sea". Default: globe, tropics and the
        extratropics of both hemispheres of a global grid, else the whole domain.
      boxes: More regions by name.
      land_sea_mask: Share of land of each point, for "land" and "sea".

    Raises:
      ValueError: A region is not known, needs a mask, or holds no point of the grid.
    """
    boxes = dict(boxes or {})
    if regions is None:
        regions = DEFAULT_REGIONS if grid.is_global else ("domain",)
        if land_sea_mask is not None:
            regions = (*regions, *_SURFACES)
    masks: dict[str, np.ndarray] = {}
    for name in (*regions, *boxes):
        masks[name] = _mask(name, grid, boxes, land_sea_mask)
        if not masks[name].any():
            raise ValueError(f"region {name}: no point of the grid lies in it")
    return masks


def _mask(
    name: str,
    grid: Grid,
    boxes: Mapping[str, Box],
    land_sea_mask: np.ndarray | None,
) -> np.ndarray:
    if name == "domain":
        return np.ones(grid.shape)
    if name in _SURFACES:
        if land_sea_mask is None:
            raise ValueError(f"region {name}: give a land-sea mask for it")
        land = np.clip(np.nan_to_num(np.asarray(land_sea_mask, np.float64)), 0, 1)
        return land if name == "land" else 1 - land
    box = boxes.get(name) or REGIONS.get(_ALIASES.get(name, name))
    if box is None:
        known = ", ".join([*REGIONS, *_ALIASES, *_SURFACES, "domain"])
        raise ValueError(
            f"region {name!r} is not known; there are {known}, and boxes "
            "name=south,north,west,east"
        )
    if grid.lat is None or grid.lon is None:
        raise ValueError(f"region {name}: the grid has no latitude and longitude")
    return box.mask(grid.lat, grid.lon)
