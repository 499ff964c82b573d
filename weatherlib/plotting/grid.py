"""Where a field lies on a flat map: row order, longitude convention and cell edges."""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.interpolate
import scipy.ndimage
import xarray

from weatherlib.data_utils import lexicon

__all__ = ["FlatField", "flatten", "named"]

_GLOBE = 360.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlatField:
    """A field laid out for drawing, south to north and west to east.

    Attributes:
      values: The field. Shape [lat, lon].
      latitude: Row centres, ascending. Degrees north, shape [lat].
      longitude: Column centres, ascending without a jump; may leave [-180, 360).
        Degrees east, shape [lon].
      wraps: Whether the columns go once around the globe.
    """

    values: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray
    wraps: bool

    @property
    def latitude_edges(self) -> np.ndarray:
        """Borders of the rows, none beyond a pole. Degrees north, shape [lat + 1]."""
        return np.clip(_edges(self.latitude), -90.0, 90.0)

    @property
    def longitude_edges(self) -> np.ndarray:
        """Borders of the columns. Degrees east, shape [lon + 1]."""
        return _edges(self.longitude)

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """West, east, south and north border of the map, in degrees."""
        west, east = self.longitude_edges[[0, -1]]
        south, north = self.latitude_edges[[0, -1]]
        return float(west), float(east), float(south), float(north)

    def refined(self, rows: int = 180) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns longitude, latitude and values for smooth lines of equal value.

        The field reaches half a cell further to each side, so that lines end at the
        border of the map, and is interpolated by cubic splines to about `rows` rows.
        Cells without a value stay without.
        """
        latitude, longitude = self.latitude, self.longitude
        ends = (2 * longitude[0] - longitude[1], 2 * longitude[-1] - longitude[-2])
        longitude = np.concatenate([ends[:1], longitude, ends[1:]])
        mode = "wrap" if self.wraps else "edge"
        values = np.pad(self.values, ((0, 0), (1, 1)), mode)
        factor = rows // len(latitude)
        gaps = ~np.isfinite(values)
        if factor < 2 or gaps.all():
            return longitude, latitude, values
        old_rows, old_columns = latitude, longitude
        spline = scipy.interpolate.RectBivariateSpline(
            latitude,
            longitude,
            _filled(values),
            kx=min(3, len(latitude) - 1),
            ky=min(3, len(longitude) - 1),
        )
        latitude = np.linspace(latitude[0], latitude[-1], factor * len(latitude))
        longitude = np.linspace(longitude[0], longitude[-1], factor * len(longitude))
        values = spline(latitude, longitude)
        if gaps.any():
            cells = np.ix_(_nearest(old_rows, latitude),
                           _nearest(old_columns, longitude))  # fmt: skip
            values[gaps[cells]] = np.nan
        return longitude, latitude, values

    @property
    def filled(self) -> np.ndarray:
        """The field with the nearest values where there are none. Shape [lat, lon]."""
        return _filled(self.values)

    @property
    def even(self) -> bool:
        """Whether rows and columns are evenly spaced, to a hundredth of a cell."""
        return all(
            np.ptp(np.diff(centres)) <= 0.02 * np.abs(np.diff(centres)).mean()
            for centres in (self.latitude, self.longitude)
            if len(centres) > 2
        )


def named(field: xarray.DataArray) -> xarray.DataArray:
    """Returns the field with its axes under our names, such as lat for latitude.

    Args:
      field: With names as ERA5, WeatherBench 2, GRIB or CMIP files have them.
    """
    names = lexicon.axis_names(field.coords.to_dataset())
    renamed = {
        theirs: ours
        for ours, theirs in names.items()
        if ours != theirs
        and ours not in field.coords
        and (theirs in field.dims or (ours == "level" and not field[theirs].dims))
    }
    return field.rename(renamed) if renamed else field


def flatten(field: xarray.DataArray) -> FlatField:
    """Returns one latitude-longitude field laid out for a flat map.

    Global fields start at 180 degrees west. Windows start after the widest gap between
    their columns, so one that crosses Greenwich or the date line stays in one piece.

    Args:
      field: Dimensions `lat` and `lon`, or what `named` knows, in any order; others
        must have size 1.

    Raises:
      ValueError: A dimension or coordinate is missing, or another has more than one
        entry.
    """
    field = named(field)
    for name in ("lat", "lon"):
        if name not in field.dims or name not in field.coords:
            raise ValueError(
                f"a map needs dimension and coordinate {name!r}; the field has "
                f"dimensions {dict(field.sizes)} and coordinates {list(field.coords)}"
            )
    long = {k: n for k, n in field.sizes.items() if k not in ("lat", "lon") and n != 1}
    if long:
        raise ValueError(f"one map shows one field; select one entry along {long}")
    field = field.squeeze([d for d in field.dims if d not in ("lat", "lon")], drop=True)
    values = np.asarray(field.transpose("lat", "lon").values, dtype=np.float64)
    latitude = field["lat"].values.astype(np.float64)
    longitude = field["lon"].values.astype(np.float64)
    rows = np.argsort(latitude)
    columns, longitude, wraps = _unroll(longitude)
    return FlatField(
        values=values[rows][:, columns],
        latitude=latitude[rows],
        longitude=longitude,
        wraps=wraps,
    )


def _unroll(longitude: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Returns the order of columns, their unbroken longitudes, and if they wrap."""
    if len(longitude) == 1:
        return np.array([0]), longitude, False
    turned = np.mod(longitude, _GLOBE)
    order = np.argsort(turned, kind="stable")
    gaps = np.diff(turned[order], append=turned[order[0]] + _GLOBE)
    widest = int(np.argmax(gaps))
    wraps = bool(gaps[widest] < 1.5 * np.median(gaps))
    if wraps:
        first = int(np.searchsorted(turned[order], 180.0 - 1e-6))
        order = np.roll(order, -first)
        unbroken = (turned[order] + 180.0 + 1e-6) % _GLOBE - 180.0 - 1e-6
        return order, unbroken, True
    order = np.roll(order, -(widest + 1))
    start = turned[order[0]]
    unbroken = start + np.mod(turned[order] - start, _GLOBE)
    if unbroken.mean() > 180.0:
        unbroken = unbroken - _GLOBE
    return order, unbroken, False


def _filled(values: np.ndarray) -> np.ndarray:
    """Returns values with the nearest ones where there are none."""
    gaps = ~np.isfinite(values)
    if not gaps.any() or gaps.all():
        return values
    place = scipy.ndimage.distance_transform_edt(
        gaps, return_distances=False, return_indices=True
    )
    return values[tuple(np.asarray(place))]


def _nearest(centres: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Returns the index of the ascending centre that is nearest to each place."""
    return np.searchsorted((centres[1:] + centres[:-1]) / 2, places)


def _edges(centres: np.ndarray) -> np.ndarray:
    """Returns the borders between cells, half a cell beyond the outer centres."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    first = centres[0] - (middle[0] - centres[0])
    last = centres[-1] + (centres[-1] - middle[-1])
    return np.concatenate([[first], middle, [last]])
