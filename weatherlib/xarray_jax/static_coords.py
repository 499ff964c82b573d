"""Coordinates as part of a JAX tree structure: hashable, comparable, unchangeable."""

from collections.abc import Hashable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import xarray

__all__ = ["StaticCoords"]

# Kinds of NumPy types of which each value has one pattern of bytes.
_ONE_PATTERN = "biumMSU"


class _Coord:
    """One coordinate, as it was when a tree was flattened.

    Attributes:
      dims: Its dimensions.
      dtype: The type of its values.
      shape: The shape of its values.
      attrs: Its attributes.
      index: Its xarray index, or None.
      variable: Its Variable where it has an index, since that cannot be written to.
        Otherwise None: the user may write into the original later.
    """

    __slots__ = ("_content", "attrs", "dims", "dtype", "index", "shape", "variable")

    def __init__(self, variable: xarray.Variable, index: Any) -> None:
        self.dims = variable.dims
        self.shape = variable.shape
        self.attrs = variable.attrs
        self.index = index
        if index is None:
            values = variable.values
            self.variable = None
            self.dtype = values.dtype
            self._content = _content(values)
        else:
            self.variable = variable
            self.dtype = variable.dtype
            self._content = None

    @property
    def content(self) -> bytes | tuple[Any, ...]:
        """The values as bytes, or one by one where bytes are mere addresses."""
        if self._content is None:
            assert self.variable is not None
            self._content = _content(self.variable.values)
        return self._content

    def values(self) -> np.ndarray:
        """Returns the values in an array of their own."""
        if self.variable is not None:
            return self.variable.values.copy()
        if isinstance(self.content, bytes):
            flat = np.frombuffer(self.content, self.dtype).copy()
        else:
            flat = np.empty(len(self.content), self.dtype)
            for i, item in enumerate(self.content):
                flat[i] = item
        return flat.reshape(self.shape)

    def restore(self) -> xarray.Variable:
        """Returns a Variable that has nothing to write to in common with this."""
        return xarray.Variable(
            self.dims, self.values(), dict(self.attrs), fastpath=True
        )

    def equals(self, other: "_Coord") -> bool:
        """Whether dimensions, type, kind of index and values are the same."""
        if self.dims != other.dims or self.dtype != other.dtype:
            return False
        if type(self.index) is not type(other.index) or self.shape != other.shape:
            return False
        if self.index is not None and _same_index(self.index, other.index):
            return True
        a, b = self.content, other.content
        if isinstance(a, tuple) and isinstance(b, tuple):
            return all(map(_equal_items, a, b))
        if a == b:
            return True
        if self.dtype.kind in _ONE_PATTERN:
            return False
        # Zeros have two signs and NaNs many patterns.
        return np.array_equal(self.values(), other.values(), equal_nan=True)

    def fingerprint(self) -> Hashable:
        """Returns what is the same for all coordinates that equal this one."""
        content = self.content if self.dtype.kind in _ONE_PATTERN else b""
        return self.dims, str(self.dtype), self.shape, content


class StaticCoords:
    """The coordinates of a Dataset or DataArray that JAX transformations do not trace.

    Two are equal when names, dimensions, types, values and kinds of index are, whatever
    the order of the names. Missing values (NaN, NaT) equal each other. Attributes do
    not count.

    JAX compares these on every call of a jitted function, once with each structure it
    has met. So a shared index ends the comparison of a coordinate, and values are
    compared as bytes, which are taken once.
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
        self._coords = {
            name: _Coord(variable, indexes.get(name))
            for name, variable in variables.items()
        }
        self._hash: int | None = None

    def __repr__(self) -> str:
        values = {name: coord.values() for name, coord in self._coords.items()}
        return f"StaticCoords({values})"

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, StaticCoords):
            return NotImplemented
        theirs = other._coords
        if self._coords.keys() != theirs.keys():
            return False
        return all(coord.equals(theirs[name]) for name, coord in self._coords.items())

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(
                frozenset((n, coord.fingerprint()) for n, coord in self._coords.items())
            )
        return self._hash

    def restore(
        self, dims: AbstractSet[Hashable] | None = None
    ) -> tuple[dict[Hashable, xarray.Variable], dict[Hashable, Any]]:
        """Returns the coordinates and their indexes, to put into an xarray object.

        Args:
          dims: Dimensions that are left; coordinates of others are left out. None keeps
            all.
        """
        kept = {
            name: coord
            for name, coord in self._coords.items()
            if dims is None or dims >= set(coord.dims)
        }
        # An index over several coordinates is of no use without one of them.
        broken = {id(coord.index) for n, coord in self._coords.items() if n not in kept}
        variables, indexes = {}, {}
        for name, coord in kept.items():
            if coord.variable is None or id(coord.index) in broken:
                variables[name] = coord.restore()
            else:
                variables[name] = coord.variable
                indexes[name] = coord.index
        return variables, indexes


def _content(values: np.ndarray) -> bytes | tuple[Any, ...]:
    if values.dtype.kind in "OT":
        return tuple(values.ravel().tolist())
    return values.tobytes()


def _same_index(a: Any, b: Any) -> bool:
    """Whether two indexes are the same object, or wrap the same pandas index."""
    return a is b or (hasattr(a, "index") and a.index is b.index)


def _equal_items(a: Any, b: Any) -> bool:
    """Whether two objects are equal or both are missing."""
    if a is b:
        return True
    try:
        return bool(a == b) or bool(a != a and b != b)
    except (TypeError, ValueError):
        # Some objects, such as `pandas.NA`, do not say whether they are equal.
        return False
