"""Puts checked parts together into xarray objects, fast where xarray lets us.

The public constructors align, merge and check what they are given, which takes about
0.2 ms for a Dataset of 20 variables, on every call of a jitted function. What JAX hands
back has been an xarray object before, so the shortcuts that xarray itself uses do, in a
hundredth of the time. They are not public: where a release lacks them, the constructors
take over.
"""

import inspect
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import xarray

__all__ = ["data_array", "dataset"]

_Variables = Mapping[Hashable, xarray.Variable]


def _accepts(function: Callable[..., Any] | None, *names: str) -> bool:
    """Whether a function exists and has these parameters."""
    return function is not None and set(names) <= set(
        inspect.signature(function).parameters
    )


_construct_dataset = getattr(xarray.Dataset, "_construct_direct", None)
_DATASET_SHORTCUT = _accepts(
    _construct_dataset, "variables", "coord_names", "dims", "indexes"
)
_DATA_ARRAY_SHORTCUT = _accepts(xarray.DataArray.__init__, "indexes", "fastpath")


def dataset(
    data_vars: _Variables,
    coords: _Variables,
    indexes: Mapping[Hashable, Any],
    sizes: Mapping[Hashable, int],
) -> xarray.Dataset:
    """Returns a Dataset of variables that are known to fit each other.

    Args:
      data_vars: Data variables by name.
      coords: Coordinates by name.
      indexes: Indexes of those coordinates that have one.
      sizes: Length of each dimension.
    """
    if _DATASET_SHORTCUT and _construct_dataset is not None:
        return _construct_dataset(
            variables={**data_vars, **coords},
            coord_names=set(coords),
            dims=dict(sizes),
            indexes=dict(indexes),
        )
    return xarray.Dataset(data_vars, xarray.Coordinates(coords, indexes))


def data_array(
    variable: xarray.Variable,
    coords: _Variables,
    indexes: Mapping[Hashable, Any],
    name: Hashable | None,
) -> xarray.DataArray:
    """Returns a DataArray of coordinates that are known to fit the variable.

    Args:
      variable: Dimensions and data.
      coords: Coordinates by name.
      indexes: Indexes of those coordinates that have one.
      name: Its name, or None.
    """
    if _DATA_ARRAY_SHORTCUT:
        return xarray.DataArray(
            variable, dict(coords), name=name, indexes=dict(indexes), fastpath=True
        )
    return xarray.DataArray(variable, xarray.Coordinates(coords, indexes), name=name)
