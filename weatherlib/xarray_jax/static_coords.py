"""Coordinates as part of a JAX tree structure: hashable, comparable, unchangeable."""

from collections.abc import Hashable, Mapping, Set
from typing import Any, NamedTuple

import numpy as np
import xarray

__all__ = ["StaticCoords"]


class _Coord(NamedTuple):
    """One coordinate.

    Attributes:
      variable: Its dimensions, attributes and values. What has no index is a read-only
        copy, since the user may write into the original later.
      index: Its index, or None.
    """

    variable: xarray.Variable
    index: Any


class StaticCoords:
    """The coordinates of a Dataset or DataArray that JAX transformations do not trace.

    Two are equal when names, dimensions, types, values and kinds of index are, whatever
    the order of the names. Missing values (NaN, NaT) equal each other. Attributes do
    not count.

    JAX compares these on every call of a jitted function, once with each structure it
    has met, so identical indexes end the comparison first.
    """

    __slots__ = ("_coords", "_hash")

    def __init__(
        self,
        variables: Mapping[Hashable, xarray.Variable],
        indexes: Mapping[Hashable, Any],
    ) -> None:
        """Keeps coordinates.

        Args:
          variables: The coordinates by name.
          indexes: The xarray indexes by name of the coordinates that have one.
        """
        self._coords = {}
        self._hash = None
        for name, variable in variables.items():
            index = indexes.get(name)
            if index is None:
                variable = _snapshot(variable)
            self._coords[name] = _Coord(variable, index)

    def __repr__(self) -> str:
        return f"StaticCoords({ {n: c.variable for n, c in self._coords.items()} })"

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, StaticCoords):
            return NotImplemented
        theirs = other._coords
        if len(theirs) != len(self._coords):
            return False
        return all(
            name in theirs and _equal(coord, theirs[name])
            for name, coord in self._coords.items()
        )

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(
                frozenset(
                    (name, coord.variable.dims, _fingerprint(coord.variable.values))
                    for name, coord in self._coords.items()
                )
            )
        return self._hash

    def restore(
        self, dims: Set[Hashable] | None = None
    ) -> tuple[dict[Hashable, xarray.Variable], dict[Hashable, Any]]:
        """Returns the coordinates and their indexes, to put into an xarray object.

        Args:
          dims: Dimensions that are left; coordinates of others are left out. None keeps
            all.
        """
        kept = {
            name: coord
            for name, coord in self._coords.items()
            if dims is None or dims.issuperset(coord.variable.dims)
        }
        # An index over several coordinates is of no use without one of them.
        broken = {
            id(coord.index)
            for name, coord in self._coords.items()
            if coord.index is not None and name not in kept
        }
        variables, indexes = {}, {}
        for name, (variable, index) in kept.items():
            if index is None or id(index) in broken:
                variables[name] = _writeable_copy(variable)
            else:
                variables[name] = variable
                indexes[name] = index
        return variables, indexes


def _snapshot(variable: xarray.Variable) -> xarray.Variable:
    values = np.array(variable.values)
    values.flags.writeable = False
    return xarray.Variable(variable.dims, values, dict(variable.attrs), fastpath=True)


def _writeable_copy(variable: xarray.Variable) -> xarray.Variable:
    values = np.array(variable.values)
    return xarray.Variable(variable.dims, values, dict(variable.attrs), fastpath=True)


def _equal(a: _Coord, b: _Coord) -> bool:
    if a.variable is b.variable and a.index is b.index:
        return True
    if a.variable.dims != b.variable.dims or type(a.index) is not type(b.index):
        return False
    if a.index is b.index and a.index is not None:
        return True
    if a.variable.dtype != b.variable.dtype:
        return False
    return _equal_values(a.variable.values, b.variable.values)


def _equal_values(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays of one type are equal, missing values included."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind == "O":
        return all(map(_equal_items, a.ravel().tolist(), b.ravel().tolist()))
    if a.dtype.kind in "mM":
        return np.array_equal(a.astype(np.int64), b.astype(np.int64))
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def _equal_items(a: Any, b: Any) -> bool:
    return a is b or bool(a == b) or bool(a != a and b != b)


def _fingerprint(values: np.ndarray) -> tuple[Any, ...]:
    """Returns what is the same for all arrays that `_equal_values` holds equal."""
    content = b""
    if values.dtype.kind in "biumMSU":
        content = values.tobytes()
    elif values.dtype.kind in "fc":
        # Positive zero, and one kind of NaN.
        content = np.where(np.isnan(values), np.nan, values + 0).tobytes()
    return values.dtype.str, values.shape, content
