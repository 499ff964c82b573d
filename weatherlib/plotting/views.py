"""Which part of the globe a map shows, in which projection, and drawing on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import matplotlib.axes
import matplotlib.cm
import matplotlib.collections
import matplotlib.colors
import matplotlib.patches
import matplotlib.path
import numpy as np
import scipy.ndimage
import xarray

from weatherlib.plotting import coastline, grid, projections

__all__ = ["REGIONS", "View", "draw", "find", "prepare", "sample", "visible"]

# West, east, south and north, degrees; west may be larger than east.
REGIONS = {
    "africa": (-25.0, 60.0, -38.0, 40.0),
    "arctic": (-180.0, 180.0, 60.0, 90.0),
    "antarctic": (-180.0, 180.0, -90.0, -60.0),
    "asia": (50.0, 150.0, 0.0, 60.0),
    "australia": (105.0, 165.0, -48.0, 0.0),
    "europe": (-15.0, 40.0, 34.0, 72.0),
    "north-america": (-140.0, -55.0, 20.0, 65.0),
    "north-atlantic": (-80.0, 20.0, 20.0, 70.0),
    "north-pacific": (120.0, -110.0, 10.0, 65.0),
    "south-america": (-90.0, -30.0, -57.0, 15.0),
    "tropics": (-180.0, 180.0, -30.0, 30.0),
}
_PIXELS = 900
_SMOOTH_BELOW = 360  # Rows; finer fields are drawn cell by cell.
_PAD = 6


@dataclasses.dataclass(frozen=True)
class View:
    """A map.

    Attributes:
      projection: How places lie on it.
      extent: Left, right, lower and upper end.
      framed: Whether its border is the rectangle of the extent and not the outline of
        the projection.
    """

    projection: projections.Projection
    extent: tuple[float, float, float, float]
    framed: bool

    @property
    def shape(self) -> float:
        """Height divided by width."""
        left, right, low, high = self.extent
        return (high - low) / (right - left)


def find(
    name: str,
    field: xarray.DataArray,
    *,
    region: str | tuple[float, float, float, float] | None = None,
    middle: tuple[float, float] | None = None,
) -> View:
    """Returns the map that shows a field, or a region of it.

    Args:
      name: A projection, one of `projections.NAMES`.
      field: With coordinates `lat` and `lon`; a map of one that covers a part of the
        globe shows that part.
      region: One of `REGIONS`, or west, east, south and north in degrees.
      middle: Degrees east and north of the middle of the map. Default: that of the
        region, or of the field.

    Raises:
      ValueError: The projection or region is not known or has no size, or the
        projection cannot show it.
    """
    field = grid.named(field)
    bounds = _bounds(region)
    flat = grid.flatten(
        field.isel({d: 0 for d in field.dims if d not in ("lat", "lon")})
    )
    part = bounds is not None
    if bounds is None:
        bounds = flat.extent
        part = not flat.wraps and bounds[1] - bounds[0] < 300
    west, east, south, north = bounds
    east = east if east > west else east + 360.0
    longitude, latitude = (west + east) / 2, (south + north) / 2
    if not part and name in ("orthographic", "lambert"):
        latitude = 30.0 if name == "orthographic" else 45.0
    if not part:
        longitude = 0.0
    if middle is not None:
        longitude, latitude = middle
    if name in ("plate-carree", "robinson", "mollweide"):
        latitude = 0.0
    projection = projections.make(name, longitude, latitude)
    poles = {"north-polar": (20.0, 90.0), "south-polar": (-90.0, -20.0)}
    low, high = poles.get(name, (-90.0, 90.0))
    if part and (north <= low or south >= high):
        raise ValueError(
            f"region: {name} shows latitudes {low:g} to {high:g}, the region has "
            f"{south:g} to {north:g}; take another projection or region"
        )
    if not part:
        if name == "lambert":
            return _framed(projection, (longitude - 50, longitude + 50, 20.0, 70.0))
        return View(projection, projection.whole, framed=name == "plate-carree")
    return _framed(projection, (west, east, south, north))


def _bounds(
    region: str | tuple[float, float, float, float] | None,
) -> tuple[float, float, float, float] | None:
    """Returns the borders of a region in degrees."""
    if region is None:
        return None
    if isinstance(region, str):
        if region not in REGIONS:
            raise ValueError(
                f"region: there is no {region!r}; there are {', '.join(REGIONS)}, or "
                "give west, east, south and north in degrees"
            )
        return REGIONS[region]
    west, east, south, north = region
    if not -90.0 <= south < north <= 90.0 or west == east:
        raise ValueError(
            f"region: west {west:g}, east {east:g}, south {south:g}, north {north:g} "
            "is no part of the globe; south must lie below north"
        )
    return region


def _framed(
    projection: projections.Projection, bounds: tuple[float, float, float, float]
) -> View:
    """Returns the rectangle around a region on the map."""
    west, east, south, north = bounds
    # Just inside, so that the far end of a map of the globe is not its near end.
    across = np.linspace(west + 1e-6, east - 1e-6, 181)
    up = np.linspace(south, north, 91)
    lon, lat = np.meshgrid(across, up)
    x, y = projection.forward(lon, lat)
    if not np.isfinite(x).any():
        raise ValueError("region: the projection does not show it; move its middle")
    left, right = float(np.nanmin(x)), float(np.nanmax(x))
    low, high = float(np.nanmin(y)), float(np.nanmax(y))
    return View(projection, (left, right, low, high), framed=True)


def draw(
    axes: matplotlib.axes.Axes,
    field: xarray.DataArray,
    view: View,
    *,
    norm: matplotlib.colors.Normalize,
    colormap: str | matplotlib.colors.Colormap,
    contours: np.ndarray | None = None,
    contour_color: str = "",
) -> matplotlib.cm.ScalarMappable:
    """Draws a field, coastlines, parallels and meridians on a map.

    Args:
      axes: Empty axes.
      field: As for `grid.flatten`, in the units of `norm`.
      view: The map.
      norm: Colour scale.
      colormap: Colours.
      contours: Values of lines; None for no lines.
      contour_color: Their colour.

    Returns:
      What a colour bar needs.
    """
    border = prepare(axes, view)
    x, y, values = sample(field, view)
    image = axes.imshow(
        np.ma.masked_invalid(values),
        origin="lower",
        extent=view.extent,
        interpolation="bilinear" if np.isfinite(values).all() else "nearest",
        norm=norm,
        cmap=colormap,
        zorder=1,
    )
    image.set_clip_path(border)
    if contours is not None and np.isfinite(values).any():
        lines = axes.contour(
            x,
            y,
            np.ma.masked_invalid(values),
            levels=contours,
            colors=contour_color,
            linewidths=0.5,
            alpha=0.7,
            zorder=2,
        )
        lines.set_clip_path(border)
    left, right, low, high = view.extent
    axes.set(xlim=(left, right), ylim=(low, high))
    return image


def sample(
    field: xarray.DataArray, view: View, *, pixels: int = _PIXELS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns x and y of the pixels of a map and the field there, NaN off the map.

    Args:
      field: As for `grid.flatten`.
      view: The map.
      pixels: Along its longer side.
    """
    left, right, low, high = view.extent
    columns = pixels if view.shape < 1 else max(2, round(pixels / view.shape))
    rows = max(2, round(columns * view.shape))
    x = left + (np.arange(columns) + 0.5) / columns * (right - left)
    y = low + (np.arange(rows) + 0.5) / rows * (high - low)
    lon, lat = view.projection.inverse(*np.meshgrid(x, y))
    return x, y, _sampled(grid.flatten(field), lon, lat)


def prepare(
    axes: matplotlib.axes.Axes, view: View, *, ground: str = "0.85"
) -> matplotlib.patches.Patch:
    """Draws border, coastlines, parallels and meridians; returns the border.

    Args:
      axes: Empty axes.
      view: The map.
      ground: Colour where no field is drawn.
    """
    left, right, low, high = view.extent
    axes.set(xlim=(left, right), ylim=(low, high), xticks=[], yticks=[])
    axes.set_aspect("equal")
    border = _border(axes, view, ground)
    for paths, color, width in (
        (_graticule(view), "0.35", 0.3),
        (_coasts(), "0.15", 0.6),
    ):
        lines = matplotlib.collections.LineCollection(
            list(_projected(paths, view)), colors=color, linewidths=width, zorder=3
        )
        axes.add_collection(lines, autolim=False)
        lines.set_clip_path(border)
    return border


def visible(field: xarray.DataArray, view: View | None) -> xarray.DataArray:
    """Returns the field with NaN where the map does not show it."""
    if view is None:
        return field
    left, right, low, high = view.extent
    x, y = view.projection.forward(
        *np.meshgrid(field["lon"].values, field["lat"].values)
    )
    with np.errstate(invalid="ignore"):
        shown = (x >= left) & (x <= right) & (y >= low) & (y <= high)
    if not shown.any():
        return field
    return field.where(xarray.DataArray(shown, dims=("lat", "lon")))


def _border(
    axes: matplotlib.axes.Axes, view: View, colour: str
) -> matplotlib.patches.Patch:
    """Draws the border of the map and returns it, for clipping."""
    left, right, low, high = view.extent
    if view.framed:
        x = np.array([left, right, right, left, left])
        y = np.array([low, low, high, high, low])
    else:
        x, y = view.projection.outline()
    patch = matplotlib.patches.PathPatch(
        matplotlib.path.Path(np.column_stack([x, y]), closed=True),
        facecolor="none",
        edgecolor="0.2",
        linewidth=0.8,
        zorder=4,
        clip_on=False,
    )
    ground = matplotlib.patches.PathPatch(
        patch.get_path(), facecolor=colour, edgecolor="none", zorder=0
    )
    axes.add_patch(ground)
    axes.add_patch(patch)
    axes.set_axis_off()
    return patch


def _sampled(flat: grid.FlatField, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Returns the field at places, NaN outside its cells."""
    smooth = len(flat.latitude) < _SMOOTH_BELOW and min(flat.values.shape) > 3
    pad = _PAD if flat.wraps else 0
    values = np.pad(flat.filled if smooth else flat.values,
                    ((0, 0), (pad, pad)), "wrap")  # fmt: skip
    longitude = np.arange(-pad, len(flat.longitude) + pad)
    west, east, south, north = flat.extent
    turned = west + np.mod(lon - west, 360.0)
    column = np.interp(turned, flat.longitude, np.arange(len(flat.longitude)))
    if flat.wraps:
        step = 360.0 / len(flat.longitude)
        column = (turned - flat.longitude[0]) / step
    row = np.interp(lat, flat.latitude, np.arange(len(flat.latitude)))
    known = np.isfinite(lon) & (lat >= south - 1e-9) & (lat <= north + 1e-9)
    known &= turned <= east + 1e-9
    places = [np.where(known, row, 0.0), np.where(known, column - longitude[0], 0.0)]
    found = scipy.ndimage.map_coordinates(
        values, places, order=3 if smooth else 0, mode="nearest"
    )
    gaps = ~np.isfinite(flat.values)
    if smooth and gaps.any():
        gaps = np.pad(gaps, ((0, 0), (pad, pad)), "wrap").astype(np.uint8)
        known &= ~scipy.ndimage.map_coordinates(
            gaps, places, order=0, mode="nearest"
        ).astype(bool)
    return np.where(known, found, np.nan)


def _graticule(view: View) -> Iterator[np.ndarray]:
    """Yields parallels and meridians, degrees, shape [point, 2]."""
    left, right, _, _ = view.extent
    width = np.rad2deg(right - left)
    step = next((s for s in (2.0, 5.0, 10.0, 20.0) if width / s <= 8), 30.0)
    for lat in np.arange(-90.0 + step, 90.0, step):
        east = np.linspace(-180.0, 180.0, 721)
        yield np.column_stack([east, np.full(721, lat)])
    for lon in np.arange(-180.0, 180.0, step):
        north = np.linspace(-90.0 + step / 2, 90.0 - step / 2, 361)
        yield np.column_stack([np.full(361, lon), north])


def _coasts() -> tuple[np.ndarray, ...]:
    """Returns the coastlines, nothing where their file is missing."""
    try:
        return coastline.lines()
    except FileNotFoundError:
        return ()


def _projected(
    paths: Iterator[np.ndarray] | tuple[np.ndarray, ...], view: View
) -> Iterator[np.ndarray]:
    """Yields lines on the map, cut where they leave it or jump across it."""
    for path in paths:
        x, y = view.projection.forward(path[:, 0], path[:, 1])
        points = np.column_stack([x, y])
        lost = ~np.isfinite(x)
        torn = view.projection.tears(path[:, 0])
        cuts = np.flatnonzero(torn | lost[1:] | lost[:-1]) + 1
        for piece in np.split(points, cuts):
            if len(piece) > 1 and np.isfinite(piece).all():
                yield piece
