"""Map projections of the sphere: forwards for lines, backwards for fields.

Fields are drawn by asking for each pixel which place it shows, so nothing can be torn
or smeared where a map ends. All lengths are in units of the radius.

Source of the formulae: Snyder (1987), Map projections, USGS Professional Paper 1395;
Robinson's table: Robinson (1974), as tabulated by Snyder (1990).
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from typing import ClassVar

import numpy as np
import scipy.interpolate

__all__ = ["NAMES", "Projection", "make"]

Pair = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Projection(abc.ABC):
    """A way to show the sphere on a plane.

    Attributes:
      longitude: Of the middle of the map, degrees east.
      latitude: Likewise, degrees north, where the projection has a choice.
    """

    longitude: float = 0.0
    latitude: float = 0.0
    # Whether the map ends in the west and east, and does not go around its middle.
    has_ends: ClassVar[bool] = True

    @abc.abstractmethod
    def forward(self, longitude: np.ndarray, latitude: np.ndarray) -> Pair:
        """Returns x and y of places in degrees; NaN for those the map cannot show.

        Args:
          longitude: Degrees east, any shape.
          latitude: Degrees north, of the same shape.

        Returns:
          Both of that shape, on a globe of radius 1.
        """

    @abc.abstractmethod
    def inverse(self, x: np.ndarray, y: np.ndarray) -> Pair:
        """Returns degrees east in [-180, 180) and north; NaN off the map.

        Args:
          x: On a globe of radius 1, any shape.
          y: Of the same shape.
        """

    @abc.abstractmethod
    def outline(self) -> Pair:
        """Returns the closed border of the largest map."""

    @property
    def whole(self) -> tuple[float, float, float, float]:
        """Left, right, lower and upper end of the largest map."""
        x, y = self.outline()
        return float(x.min()), float(x.max()), float(y.min()), float(y.max())

    def tears(self, longitude: np.ndarray) -> np.ndarray:
        """Tells where a line passes from one end of the map to the other.

        Args:
          longitude: Of the points of a line, degrees east, shape [point].

        Returns:
          Shape [point - 1].
        """
        jumps = np.abs(np.diff(self._from_middle(longitude))) > np.pi
        return jumps & self.has_ends

    def _from_middle(self, longitude: np.ndarray) -> np.ndarray:
        """Returns radians east of the middle, in [-pi, pi)."""
        return np.deg2rad(_wrap(np.asarray(longitude) - self.longitude))


class PlateCarree(Projection):
    """Degrees as lengths."""

    def forward(self, longitude: np.ndarray, latitude: np.ndarray) -> Pair:
        """As in `Projection`."""
        return self._from_middle(longitude), np.deg2rad(latitude)

    def inverse(self, x: np.ndarray, y: np.ndarray) -> Pair:
        """As in `Projection`."""
        inside = (np.abs(x) <= np.pi + 1e-9) & (np.abs(y) <= np.pi / 2 + 1e-9)
        return _degrees(self.longitude + np.rad2deg(x), np.rad2deg(y), inside)

    def outline(self) -> Pair:
        """As in `Projection`."""
        x = np.array([-1.0, 1.0, 1.0, -1.0, -1.0]) * np.pi
        return x, np.array([-0.5, -0.5, 0.5, 0.5, -0.5]) * np.pi


class _PseudoCylindrical(Projection):
    """Straight parallels, whose length and height depend on latitude alone."""

    @abc.abstractmethod
    def _width(self, latitude: np.ndarray) -> np.ndarray:
        """Returns x of a place one radian east of the middle."""

    @abc.abstractmethod
    def _height(self, latitude: np.ndarray) -> np.ndarray:
        """Returns y at degrees north."""

    @functools.cached_property
    def _table(self) -> Pair:
        latitude = np.linspace(-90.0, 90.0, 3601)
        return self._height(latitude), latitude

    def forward(self, longitude: np.ndarray, latitude: np.ndarray) -> Pair:
        """As in `Projection`."""
        latitude = np.asarray(latitude, float)
        x = self._from_middle(longitude) * self._width(latitude)
        return x, self._height(latitude)

    def inverse(self, x: np.ndarray, y: np.ndarray) -> Pair:
        """As in `Projection`."""
        latitude = np.interp(y, *self._table, left=np.nan, right=np.nan)
        width = self._width(np.nan_to_num(latitude))
        with np.errstate(divide="ignore", invalid="ignore"):
            east = np.rad2deg(x / width)
        inside = np.isfinite(latitude) & (np.abs(east) <= 180.0)
        return _degrees(self.longitude + east, latitude, inside)

    def outline(self) -> Pair:
        """As in `Projection`."""
        up = np.linspace(-90.0, 90.0, 181)
        side, height = np.pi * self._width(up), self._height(up)
        x = np.concatenate([side, -side[::-1], side[:1]])
        return x, np.concatenate([height, height[::-1], height[:1]])


class Robinson(_PseudoCylindrical):
    """A compromise that pleases the eye, for the whole globe."""

    def _width(self, latitude: np.ndarray) -> np.ndarray:
        return 0.8487 * _robinson()[0](np.abs(latitude))

    def _height(self, latitude: np.ndarray) -> np.ndarray:
        return 1.3523 * np.sign(latitude) * _robinson()[1](np.abs(latitude))


class Mollweide(_PseudoCylindrical):
    """Equal areas, for the whole globe."""

    def _angle(self, latitude: np.ndarray) -> np.ndarray:
        # 2 t + sin 2 t = pi sin(latitude) has no solution in closed form.
        angle = np.pi / 2 * np.sin(np.linspace(-np.pi / 2, np.pi / 2, 4001))
        share = (2 * angle + np.sin(2 * angle)) / np.pi
        return np.interp(np.sin(np.deg2rad(latitude)), share, angle)

    def _width(self, latitude: np.ndarray) -> np.ndarray:
        return 2 * np.sqrt(2) / np.pi * np.cos(self._angle(latitude))

    def _height(self, latitude: np.ndarray) -> np.ndarray:
        return np.sqrt(2) * np.sin(self._angle(latitude))


class _Azimuthal(Projection):
    """Directions from the middle are true; distance follows from the angle there."""

    has_ends = False
    reach: ClassVar[float]  # Largest angle from the middle that is shown, radians.

    @abc.abstractmethod
    def _distance(self, angle: np.ndarray) -> np.ndarray:
        """Returns the distance on the map of an angle from the middle."""

    @abc.abstractmethod
    def _angle(self, distance: np.ndarray) -> np.ndarray:
        """Returns the angle of a distance on the map."""

    def forward(self, longitude: np.ndarray, latitude: np.ndarray) -> Pair:
        """As in `Projection`."""
        east, north = self._from_middle(longitude), np.deg2rad(latitude)
        middle = np.deg2rad(self.latitude)
        right = np.cos(north) * np.sin(east)
        up = np.cos(middle) * np.sin(north) - np.sin(middle) * np.cos(north) * np.cos(
            east
        )
        towards = np.sin(middle) * np.sin(north) + np.cos(middle) * np.cos(
            north
        ) * np.cos(east)
        angle = np.arctan2(np.hypot(right, up), towards)
        shown = angle <= self.reach + 1e-9
        sine = np.maximum(np.hypot(right, up), 1e-12)
        factor = np.where(shown, self._distance(np.minimum(angle, self.reach)), np.nan)
        return factor * right / sine, factor * up / sine

    def inverse(self, x: np.ndarray, y: np.ndarray) -> Pair:
        """As in `Projection`."""
        distance = np.hypot(x, y)
        inside = distance <= self._distance(np.array(self.reach)) + 1e-12
        angle = self._angle(np.where(inside, distance, 0.0))
        far = np.maximum(distance, 1e-12)
        middle = np.deg2rad(self.latitude)
        north = np.arcsin(
            np.clip(
                np.cos(angle) * np.sin(middle)
                + y * np.sin(angle) * np.cos(middle) / far,
                -1.0,
                1.0,
            )
        )
        east = np.arctan2(
            x * np.sin(angle),
            far * np.cos(middle) * np.cos(angle) - y * np.sin(middle) * np.sin(angle),
        )
        return _degrees(self.longitude + np.rad2deg(east), np.rad2deg(north), inside)

    def outline(self) -> Pair:
        """As in `Projection`."""
        turn = np.linspace(0.0, 2 * np.pi, 361)
        radius = float(self._distance(np.array(self.reach)))
        return radius * np.cos(turn), radius * np.sin(turn)


class Orthographic(_Azimuthal):
    """The globe as seen from far away."""

    reach = np.pi / 2

    def _distance(self, angle: np.ndarray) -> np.ndarray:
        return np.sin(angle)

    def _angle(self, distance: np.ndarray) -> np.ndarray:
        return np.arcsin(np.minimum(distance, 1.0))


class Stereographic(_Azimuthal):
    """Angles are true; from a pole to 20 degrees of latitude of its hemisphere."""

    reach = np.deg2rad(70.0)

    def _distance(self, angle: np.ndarray) -> np.ndarray:
        return 2 * np.tan(angle / 2)

    def _angle(self, distance: np.ndarray) -> np.ndarray:
        return 2 * np.arctan(distance / 2)


class Lambert(Projection):
    """Angles are true; for regions of middle latitudes (conformal conic)."""

    @property
    def _constants(self) -> tuple[float, float]:
        """The opening of the cone, and the scale that is true in the middle."""
        middle = np.deg2rad(self.latitude)
        cone = float(np.sin(middle))
        scale = np.cos(middle) * np.tan(np.pi / 4 + middle / 2) ** cone / cone
        return cone, float(scale)

    def forward(self, longitude: np.ndarray, latitude: np.ndarray) -> Pair:
        """As in `Projection`."""
        cone, scale = self._constants
        north = np.deg2rad(np.asarray(latitude, float))
        # The far pole lies at infinity.
        shown = north * np.sign(cone) > np.deg2rad(-60.0)
        safe = np.clip(np.where(shown, north, 0.0), -1.5707, 1.5707)
        radius = np.where(shown, scale / np.tan(np.pi / 4 + safe / 2) ** cone, np.nan)
        angle = cone * self._from_middle(longitude)
        return radius * np.sin(angle), 1 / np.tan(
            np.deg2rad(self.latitude)
        ) - radius * np.cos(angle)

    def inverse(self, x: np.ndarray, y: np.ndarray) -> Pair:
        """As in `Projection`."""
        cone, scale = self._constants
        up = 1 / np.tan(np.deg2rad(self.latitude)) - y
        radius = np.sign(cone) * np.maximum(np.hypot(x, up), 1e-12)
        angle = np.arctan2(np.sign(cone) * x, np.sign(cone) * up)
        north = 2 * np.arctan((scale / radius) ** (1 / cone)) - np.pi / 2
        east = np.rad2deg(angle / cone)
        inside = (np.abs(east) <= 180.0) & (north * np.sign(cone) > np.deg2rad(-60.0))
        return _degrees(self.longitude + east, np.rad2deg(north), inside)

    def outline(self) -> Pair:
        """As in `Projection`."""
        far = -np.sign(self.latitude) * 20.0
        near = np.sign(self.latitude) * 89.0
        east = np.linspace(-179.99, 179.99, 361)
        first = self.forward(self.longitude + east, np.full(361, far))
        second = self.forward(self.longitude + east[::-1], np.full(361, near))
        x, y = (np.concatenate([a, b, a[:1]]) for a, b in zip(first, second))
        return x, y


_KINDS: dict[str, type[Projection]] = {
    "plate-carree": PlateCarree,
    "robinson": Robinson,
    "mollweide": Mollweide,
    "orthographic": Orthographic,
    "north-polar": Stereographic,
    "south-polar": Stereographic,
    "lambert": Lambert,
}
NAMES = tuple(_KINDS)


def make(name: str, longitude: float = 0.0, latitude: float = 0.0) -> Projection:
    """Returns a projection.

    Args:
      name: One of `NAMES`.
      longitude: Of the middle of the map, degrees east.
      latitude: Likewise, degrees north; polar maps have the pole, and global ones the
        equator.

    Raises:
      ValueError: There is no such projection, or it cannot have that middle.
    """
    if name not in _KINDS:
        raise ValueError(
            f"projection: there is no {name!r}; there are {', '.join(NAMES)}"
        )
    if name == "lambert" and not 10.0 <= abs(latitude) <= 80.0:
        raise ValueError(
            f"projection: lambert suits maps around 10 to 80 degrees of latitude, not "
            f"around {latitude:g}; take orthographic or give a region"
        )
    poles = {"north-polar": 90.0, "south-polar": -90.0}
    return _KINDS[name](longitude, poles.get(name, latitude))


@functools.cache
def _robinson() -> tuple[scipy.interpolate.Akima1DInterpolator, ...]:
    """Returns Robinson's lengths and heights of parallels as functions of latitude."""
    length = [
        1.0, 0.9986, 0.9954, 0.99, 0.9822, 0.973, 0.96, 0.9427, 0.9216, 0.8962,
        0.8679, 0.835, 0.7986, 0.7597, 0.7186, 0.6732, 0.6213, 0.5722, 0.5322,
    ]  # fmt: skip
    height = [
        0.0, 0.062, 0.124, 0.186, 0.248, 0.31, 0.372, 0.434, 0.4958, 0.5571, 0.6176,
        0.6769, 0.7346, 0.7903, 0.8435, 0.8936, 0.9394, 0.9761, 1.0,
    ]  # fmt: skip
    latitude = np.arange(0.0, 91.0, 5.0)
    return tuple(
        scipy.interpolate.Akima1DInterpolator(latitude, table)
        for table in (length, height)
    )


def _wrap(degrees: np.ndarray) -> np.ndarray:
    """Returns degrees in [-180, 180)."""
    return (np.asarray(degrees) + 180.0) % 360.0 - 180.0


def _degrees(longitude: np.ndarray, latitude: np.ndarray, inside: np.ndarray) -> Pair:
    """Returns degrees, NaN for what is not inside."""
    return (
        np.where(inside, _wrap(longitude), np.nan),
        np.where(inside, np.clip(latitude, -90.0, 90.0), np.nan),
    )
