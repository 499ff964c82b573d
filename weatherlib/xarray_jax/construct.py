"""Makes xarray objects from JAX arrays, and takes the arrays out again."""

from collections.abc import Hashable, Mapping
from typing import Any, TypeVar, cast

import jax
import numpy as np
import xarray

from weatherlib.xarray_jax.wrapper import JaxArrayWrapper, unwrap, wrap

__all__ = [
    "DataArray",
    "Dataset",
    "DatasetOrDataArray",
    "Variable",
    "assign_coords",
    "assign_jax_coords",
    "get_jax_coords",
    "jax_data",
    "jax_vars",
    "unwrap_coords",
    "unwrap_data",
    "unwrap_vars",
]

_JAX_COORD_ATTRIBUTE = "_jax_coord"

_ARRAYS = (jax.Array, jax.ShapeDtypeStruct, np.ndarray, np.generic, int, float, complex)

DatasetOrDataArray = TypeVar("DatasetOrDataArray", xarray.Dataset, xarray.DataArray)


def Variable(dims: Any, data: Any, **kwargs: Any) -> xarray.Variable:
    """Returns an `xarray.Variable`, whose data may be a JAX array."""
    return xarray.Variable(dims, wrap(data), **kwargs)


def DataArray(
    data: Any,
    coords: Any = None,
    dims: Any = None,
    name: Hashable | None = None,
    attrs: Mapping[Any, Any] | None = None,
    jax_coords: Mapping[Hashable, Any] | None = None,
) -> xarray.DataArray:
    """Returns an `xarray.DataArray`, whose data may be a JAX array.

    Args:
      data: As in xarray, or a JAX array.
      coords: As in xarray. NumPy coordinates, static under JAX transformations: a
        function under `jax.jit` sees their values and is traced anew for others.
      dims: As in xarray.
      name: As in xarray.
      attrs: As in xarray.
      jax_coords: More coordinates, which are data under JAX transformations: traced
        under `jax.jit`, and free to change between calls. They carry no index, so
        `.sel` does not know them.
    """
    static, dynamic = _split_coords(coords, jax_coords)
    result = xarray.DataArray(wrap(data), static, dims, name, attrs)
    return assign_coords(result, jax_coords=dynamic)


def Dataset(
    data_vars: Mapping[Hashable, Any] | None = None,
    coords: Mapping[Hashable, Any] | None = None,
    attrs: Mapping[Any, Any] | None = None,
    jax_coords: Mapping[Hashable, Any] | None = None,
) -> xarray.Dataset:
    """Returns an `xarray.Dataset`, whose variables may hold JAX arrays.

    Args:
      data_vars: As in xarray, with JAX arrays too.
      coords: As in `DataArray`.
      attrs: As in xarray.
      jax_coords: As in `DataArray`.
    """
    variables = {}
    for name, value in (data_vars or {}).items():
        if isinstance(value, tuple):
            value = (value[0], wrap(value[1]), *value[2:])
        variables[name] = wrap(value)
    static, dynamic = _split_coords(coords, jax_coords)
    result = xarray.Dataset(variables, static, attrs)
    return assign_coords(result, jax_coords=dynamic)


def assign_coords(
    x: DatasetOrDataArray,
    *,
    coords: Mapping[Hashable, Any] | None = None,
    jax_coords: Mapping[Hashable, Any] | None = None,
) -> DatasetOrDataArray:
    """Returns `x` with more coordinates, static or made of JAX arrays.

    Use it in place of the xarray method on anything that has `jax_coords` named like
    a dimension: the method may try to make an index of them, which needs values.

    Args:
      x: A Dataset or DataArray. It is not changed.
      coords: Static coordinates, as in `x.assign_coords`.
      jax_coords: Coordinates that are data under JAX transformations; see `DataArray`.
        Each is a Variable, a DataArray, a `(dims, data)` tuple, a scalar, or a list or
        one-dimensional array along the dimension of its own name.

    Raises:
      ValueError: A jax_coord is none of these.
    """
    static, given = _split_coords(coords, jax_coords)
    if not static and not given:
        return x
    present = get_jax_coords(x)
    # A jax_coord must be out of the way while xarray makes indexes of the others.
    x = x.drop_vars(present.keys()).assign_coords(static)
    dynamic = {n: value for n, value in present.items() if n not in (static or {})}
    dynamic |= {name: as_jax_coord(name, value) for name, value in given.items()}
    # Stating that there are no indexes keeps xarray from making any.
    return x.assign_coords(xarray.Coordinates(dynamic, indexes={}))


def assign_jax_coords(
    x: DatasetOrDataArray,
    jax_coords: Mapping[Any, Any] | None = None,
    **jax_coords_kwargs: Any,
) -> DatasetOrDataArray:
    """Returns `x` with more jax_coords, given as one mapping or by keyword."""
    return assign_coords(x, jax_coords=jax_coords or jax_coords_kwargs)


def get_jax_coords(
    x: xarray.Dataset | xarray.DataArray,
) -> dict[Hashable, xarray.Variable]:
    """Returns the coordinates that are data under JAX transformations."""
    return {
        name: variable
        for name, variable in x.coords.variables.items()
        if is_jax_coord(variable)
    }


def is_jax_coord(variable: xarray.Variable | xarray.DataArray) -> bool:
    """Whether a coordinate is data under JAX transformations, and not static."""
    if variable.attrs.get(_JAX_COORD_ATTRIBUTE, False):
        return True
    if isinstance(variable, xarray.IndexVariable):
        return False
    return isinstance(variable.data, JaxArrayWrapper)


def as_jax_coord(name: Hashable, value: Any) -> xarray.Variable:
    """Returns any accepted form of a jax_coord as a Variable that is marked as one.

    Raises:
      ValueError: `value` is none of the forms that `assign_coords` lists.
    """
    if isinstance(value, xarray.DataArray):
        value = value.variable
    elif isinstance(value, tuple):
        value = Variable(*value)
    elif not isinstance(value, xarray.Variable):
        data = np.asarray(value) if isinstance(value, list) else unwrap(value)
        if not isinstance(data, _ARRAYS) or np.ndim(data) > 1:
            raise ValueError(
                f"Unsupported value for coordinate {name}: give a Variable, a "
                f"DataArray, (dims, data), a scalar or a one-dimensional array, "
                f"not {type(value).__name__}"
            )
        value = Variable((name,) if np.ndim(data) else (), data)
    attrs = {**value.attrs, _JAX_COORD_ATTRIBUTE: True}
    return xarray.Variable(value.dims, value.data, attrs, fastpath=True)


def unwrap_data(
    value: xarray.Variable | xarray.DataArray, require_jax: bool = False
) -> jax.Array | np.ndarray:
    """Returns the bare array of a Variable or DataArray; see `unwrap`."""
    return unwrap(value.data, require_jax=require_jax)


def unwrap_vars(
    dataset: Mapping[Hashable, xarray.DataArray], require_jax: bool = False
) -> dict[str, jax.Array | np.ndarray]:
    """Returns the bare array of each variable; see `unwrap`."""
    return {
        str(name): unwrap_data(value, require_jax=require_jax)
        for name, value in dataset.items()
    }


def unwrap_coords(
    dataset: xarray.Dataset | xarray.DataArray, require_jax: bool = False
) -> dict[str, jax.Array | np.ndarray]:
    """Returns the bare array of each coordinate; see `unwrap`."""
    return {
        str(name): unwrap_data(value, require_jax=require_jax)
        for name, value in dataset.coords.items()
    }


def jax_data(value: xarray.Variable | xarray.DataArray) -> jax.Array:
    """Returns the JAX array of a Variable or DataArray.

    Raises:
      TypeError: The data is something else, so it did not come through JAX.
    """
    return cast(jax.Array, unwrap_data(value, require_jax=True))


def jax_vars(dataset: Mapping[Hashable, xarray.DataArray]) -> dict[str, jax.Array]:
    """Returns the JAX array of each variable.

    Raises:
      TypeError: The data of one is something else.
    """
    return cast(dict[str, jax.Array], unwrap_vars(dataset, require_jax=True))


def _split_coords(
    coords: Any, jax_coords: Mapping[Hashable, Any] | None
) -> tuple[Any, dict[Hashable, Any]]:
    """Returns the static coordinates and the jax_coords.

    Where a user hands on the coordinates of another object, some of them may be marked
    as jax_coords already.
    """
    dynamic = dict(jax_coords or {})
    if not isinstance(coords, Mapping):
        return coords, dynamic
    marked = {
        name: value
        for name, value in coords.items()
        if isinstance(value, xarray.DataArray | xarray.Variable) and is_jax_coord(value)
    }
    if not marked:
        return coords, dynamic
    static = {name: value for name, value in coords.items() if name not in marked}
    return static, marked | dynamic
