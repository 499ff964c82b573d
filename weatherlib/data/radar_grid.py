"""Space and time of radar pictures: parts of them, and the frames that are missing.

A picture is a plane of square cells. Its rows and columns are the dimensions `lat` and
`lon`, as everywhere in the library, mostly without values, since cells of a map
projection have no latitude of their row.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import xarray

__all__ = [
    "Spacing",
    "Tile",
    "crop",
    "find_spacing",
    "on_plane",
    "plane_degrees",
    "tiles",
]

KM_PER_DEGREE = 111.195
"""Length of a degree of a great circle on a sphere of 6371 km, km."""


class Tile(NamedTuple):
    """A rectangle of a picture.

    Attributes:
      row: First row.
      column: First column.
      rows: Number of rows.
      columns: Number of columns.
    """

    row: int
    column: int
    rows: int
    columns: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns as slices."""
        return (
            slice(self.row, self.row + self.rows),
            slice(self.column, self.column + self.columns),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spacing:
    """How the frames of a series follow one another.

    Attributes:
      step: Between frames without a gap.
      gaps: Places of the frames before which others are missing, shape [gap].
      description: The gaps in words, empty where there is none.
    """

    step: np.timedelta64
    gaps: np.ndarray
    description: str


def find_spacing(times: np.ndarray) -> Spacing:
    """Returns the step of a series and where frames are missing.

    Args:
      times: Dates, shape [time].

    Raises:
      ValueError: There are fewer than two, they do not ascend, one occurs twice, or a
        distance between two frames is no multiple of the most frequent one.
    """
    moments = np.asarray(times).astype("datetime64[ns]")
    if len(moments) < 2:
        raise ValueError(f"time: a series needs several frames, found {len(moments)}")
    distances = np.diff(moments)
    backwards = np.flatnonzero(distances <= np.timedelta64(0, "ns"))
    if backwards.size:
        at = int(backwards[0])
        raise ValueError(
            f"time: {_minute(moments[at + 1])} comes after {_minute(moments[at])}; "
            "sort the frames and drop those that occur twice"
        )
    values, counts = np.unique(distances, return_counts=True)
    step = values[np.argmax(counts)]
    odd = np.flatnonzero(distances % step)
    if odd.size:
        at = int(odd[0])
        raise ValueError(
            f"time: {_minute(moments[at])} and {_minute(moments[at + 1])} are "
            f"{pd.Timedelta(distances[at])} apart, no multiple of the "
            f"{pd.Timedelta(step)} between most frames; leave odd frames out"
        )
    gaps = np.flatnonzero(distances != step) + 1
    words = ""
    if gaps.size:
        first = int(gaps[0])
        missing = int((distances[gaps - 1] // step - 1).sum())
        words = (
            f"{missing} frame(s) are missing in {gaps.size} gap(s), the first between "
            f"{_minute(moments[first - 1])} and {_minute(moments[first])}"
        )
    return Spacing(step=step, gaps=gaps, description=words)


def crop(
    dataset: xarray.Dataset,
    rows: int,
    columns: int | None = None,
    *,
    at: Literal["middle"] | tuple[int, int] = "middle",
) -> xarray.Dataset:
    """Returns a rectangle of the pictures.

    Args:
      dataset: Dimensions `lat` and `lon`.
      rows: Number of rows.
      columns: Number of columns; as many as rows by default.
      at: First row and column, or "middle".

    Raises:
      ValueError: The rectangle is empty or reaches beyond the picture.
    """
    columns = rows if columns is None else columns
    shape = dataset.sizes["lat"], dataset.sizes["lon"]
    if at == "middle":
        at = ((shape[0] - rows) // 2, (shape[1] - columns) // 2)
    tile = Tile(at[0], at[1], rows, columns)
    inside = min(tile) >= 0 and min(rows, columns) > 0
    if not inside or at[0] + rows > shape[0] or at[1] + columns > shape[1]:
        raise ValueError(
            f"a part of {rows} x {columns} cells from row {at[0]}, column {at[1]} does "
            f"not lie in a picture of {shape[0]} x {shape[1]}"
        )
    lat, lon = tile.slices
    return dataset.isel(lat=lat, lon=lon)


def tiles(
    shape: tuple[int, int], size: int | tuple[int, int], stride: int | None = None
) -> tuple[Tile, ...]:
    """Returns rectangles that cover a picture, row by row.

    Args:
      shape: Rows and columns of the picture.
      size: Rows and columns of a tile, or both in one.
      stride: Cells from one tile to the next; the size of a tile by default. What does
        not make up a whole tile at the end is covered by a last one that overlaps.

    Raises:
      ValueError: The picture is smaller than a tile.
    """
    rows, columns = (size, size) if isinstance(size, int) else size
    if min(rows, columns) < 1 or rows > shape[0] or columns > shape[1]:
        raise ValueError(
            f"tiles of {rows} x {columns} cells do not fit into a picture of "
            f"{shape[0]} x {shape[1]}"
        )
    if stride is not None and stride < 1:
        raise ValueError(f"the stride of tiles is at least 1, found {stride}")
    return tuple(
        Tile(row, column, rows, columns)
        for row in _starts(shape[0], rows, stride or rows)
        for column in _starts(shape[1], columns, stride or columns)
    )


def plane_degrees(
    shape: tuple[int, int], cell_km: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows and columns of a plane as degrees of arc about its middle.

    For networks and losses that want latitudes and longitudes. The middle is put on the
    equator at 180 degrees east, where cells are square and no coast is near: it is not
    where the picture was taken.

    Args:
      shape: Rows and columns.
      cell_km: Side of a cell, km.

    Returns:
      Degrees north, ascending, shape [lat], and degrees east, shape [lon].
    """
    lat, lon = (
        (np.arange(size) - (size - 1) / 2) * cell_km / KM_PER_DEGREE for size in shape
    )
    return lat.astype(np.float32), (lon + 180).astype(np.float32)


def on_plane(dataset: xarray.Dataset) -> xarray.Dataset:
    """Returns the pictures with coordinates as `plane_degrees` makes them.

    Args:
      dataset: Dimensions `lat` and `lon`, and the attribute `cell_km`, 1 if missing.
    """
    shape = dataset.sizes["lat"], dataset.sizes["lon"]
    lat, lon = plane_degrees(shape, float(dataset.attrs.get("cell_km", 1.0)))
    note = {"comment": "degrees of arc about the middle of a plane, not a place"}
    return dataset.assign_coords(
        lat=("lat", lat, {"units": "degrees_north", **note}),
        lon=("lon", lon, {"units": "degrees_east", **note}),
    )


def _starts(length: int, size: int, stride: int) -> list[int]:
    """Returns where tiles begin along one axis."""
    starts = list(range(0, length - size + 1, stride))
    if starts[-1] + size < length:
        starts.append(length - size)
    return starts


def _minute(moment: np.datetime64) -> str:
    return str(moment)[:16]
