"""Registers xarray objects with JAX as containers of arrays.

The data of variables and of jax_coords are the leaves. Dimension names, the name of a
DataArray and the static coordinates are the structure: JAX traces a function anew when
they differ. Attributes of variables and Datasets are not kept.
"""

import contextlib
import contextvars
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import xarray

from weatherlib.xarray_jax import build
from weatherlib.xarray_jax.construct import (
    DataArray,
    Dataset,
    as_jax_coord,
    is_jax_coord,
)
from weatherlib.xarray_jax.static_coords import StaticCoords
from weatherlib.xarray_jax.wrapper import JaxArrayWrapper, unwrap, wrap

__all__ = ["DimsChangeFn", "dims_change_on_unflatten"]

_Dims = tuple[Hashable, ...]
# Old dimensions to new ones.
DimsChangeFn = Callable[[_Dims], _Dims]
_Variables = Mapping[Hashable, xarray.Variable]

_change_of_dims: contextvars.ContextVar[DimsChangeFn | None] = contextvars.ContextVar(
    "change_of_dims", default=None
)


@contextlib.contextmanager
def dims_change_on_unflatten(dims_change_fn: DimsChangeFn) -> Iterator[None]:
    """Changes the dimensions that arrays get when JAX puts them back into xarray.

    For code that adds, removes or reorders axes between `jax.tree.flatten` and
    `jax.tree.unflatten`, or inside `jax.tree.map`. Static coordinates of dimensions
    that have gone are dropped.

    Args:
      dims_change_fn: Takes the dimensions an array had when it was flattened, and
        returns those it has now.
    """
    token = _change_of_dims.set(dims_change_fn)
    try:
        yield
    finally:
        _change_of_dims.reset(token)


class _Placeholder(JaxArrayWrapper):
    """Stands in for data while JAX keeps something other than arrays in a tree.

    JAX builds trees of axis numbers, shardings or bare objects. The shape is a made-up
    one that suits the object around it.
    """

    __slots__ = ("_shape",)

    def __init__(self, content: Any, ndim: int) -> None:
        super().__init__(content)
        self._shape = (1,) * ndim

    @property
    def shape(self) -> tuple[int, ...]:
        """The made-up length of each axis."""
        return self._shape

    @property
    def dtype(self) -> np.dtype:
        """Says that the content is any object."""
        return np.dtype(object)

    def fit(self, sizes: dict[Hashable, int], dims: _Dims) -> None:
        """Takes the shape that dimensions have elsewhere, or 1 where they are new."""
        self._shape = tuple(sizes.setdefault(dim, 1) for dim in dims)


def _to_data(leaf: Any, dims: _Dims) -> Any:
    """Returns a leaf as the data of a Variable with these dimensions."""
    leaf = wrap(leaf)
    if isinstance(leaf, JaxArrayWrapper | np.ndarray):
        if leaf.ndim != len(dims):
            raise ValueError(
                f"an array of shape {leaf.shape} cannot have the dimensions {dims}: "
                "use xarray_jax.vmap, pmap, scan or dims_change_on_unflatten where a "
                "transformation adds or removes axes"
            )
        return leaf
    if not dims and isinstance(leaf, bool | int | float | complex | np.generic):
        return np.asarray(leaf)
    return _Placeholder(leaf, len(dims))


def _flatten_variable(variable: xarray.Variable) -> tuple[tuple[Any], _Dims]:
    return (unwrap(variable.data),), variable.dims


def _unflatten_variable(aux: _Dims, children: tuple[Any]) -> xarray.Variable:
    change = _change_of_dims.get()
    dims = change(aux) if change else aux
    return xarray.Variable(dims, _to_data(children[0], dims), fastpath=True)


def _flatten_data_array(array: xarray.DataArray) -> tuple[tuple[Any, ...], Any]:
    dynamic, static = _split_coords(array)
    names, coords = _sorted_items(dynamic)
    return (array.variable, *coords), (array.name, names, static)


def _unflatten_data_array(aux: Any, children: tuple[Any, ...]) -> xarray.DataArray:
    name, coord_names, static = aux
    variable, *coords = children
    if not isinstance(variable, xarray.Variable):
        variable = DataArray(variable).variable
    dims_left = set(variable.dims) if _change_of_dims.get() else None
    variables, indexes = static.restore(dims_left)
    variables |= _jax_coords(coord_names, coords)
    _check_sizes({name: variable}, variables)
    for coord_name, coord in variables.items():
        if not set(coord.dims) <= set(variable.dims):
            raise ValueError(
                f"coordinate {coord_name!r} has dimensions {coord.dims}, but the "
                f"DataArray only {variable.dims}"
            )
    return build.data_array(variable, variables, indexes, name)


def _flatten_dataset(dataset: xarray.Dataset) -> tuple[tuple[Any, ...], Any]:
    dynamic, static = _split_coords(dataset)
    names, variables = _sorted_items(dataset.data_vars.variables)
    coord_names, coords = _sorted_items(dynamic)
    return (*variables, *coords), (names, coord_names, static)


def _unflatten_dataset(aux: Any, children: tuple[Any, ...]) -> xarray.Dataset:
    names, coord_names, static = aux
    variables = dict(zip(names, children))
    if not all(isinstance(v, xarray.Variable) for v in variables.values()):
        variables = dict(Dataset(variables).variables)
    dims_left = None
    if _change_of_dims.get():
        dims_left = {dim for variable in variables.values() for dim in variable.dims}
    coords, indexes = static.restore(dims_left)
    coords |= _jax_coords(coord_names, children[len(names) :])
    sizes = _check_sizes(variables, coords)
    return build.dataset(variables, coords, indexes, sizes)


def _flatten_datatree(tree: xarray.DataTree) -> tuple[tuple[Any, ...], Any]:
    # Inherited coordinates stay with the parent. A subtree loses them here.
    names, children = _sorted_items(tree.children)
    return (tree.to_dataset(inherit=False), *children), (tree.name, names)


def _unflatten_datatree(aux: Any, children: tuple[Any, ...]) -> xarray.DataTree:
    name, names = aux
    dataset, *subtrees = children
    return xarray.DataTree(dataset, children=dict(zip(names, subtrees)), name=name)


def _sorted_items(
    mapping: Mapping[Any, Any],
) -> tuple[tuple[Hashable, ...], list[Any]]:
    """Returns keys and values in an order that depends on the keys only."""
    try:
        names = tuple(sorted(mapping))
    except TypeError:
        names = tuple(sorted(mapping, key=lambda name: (str(type(name)), str(name))))
    return names, [mapping[name] for name in names]


def _jax_coords(
    names: Iterable[Hashable], values: Iterable[Any]
) -> dict[Hashable, xarray.Variable]:
    """Returns jax_coords by name. Values are Variables unless a user mapped those."""
    return {
        name: as_jax_coord(name, value)
        for name, value in zip(names, values, strict=True)
    }


def _split_coords(
    x: xarray.Dataset | xarray.DataArray,
) -> tuple[dict[Hashable, xarray.Variable], StaticCoords]:
    """Returns the jax_coords and the static coordinates."""
    dynamic, static = {}, {}
    for name, variable in x.coords.variables.items():
        (dynamic if is_jax_coord(variable) else static)[name] = variable
    return dynamic, StaticCoords(static, x.xindexes)


def _check_sizes(*groups: Mapping[Hashable, xarray.Variable]) -> dict[Hashable, int]:
    """Returns the length of each dimension, and fits placeholders to it.

    Raises:
      ValueError: Two variables disagree.
    """
    sizes, source, placeholders = {}, {}, []
    for group in groups:
        for name, variable in group.items():
            data = variable.data
            if isinstance(data, _Placeholder):
                placeholders.append(variable)
                continue
            for dim, size in zip(variable.dims, data.shape, strict=True):
                if sizes.setdefault(dim, size) != size:
                    raise ValueError(
                        f"conflicting sizes for dimension {dim!r}: {size} in {name!r}, "
                        f"but {sizes[dim]} in {source[dim]!r}"
                    )
                source.setdefault(dim, name)
    for variable in placeholders:
        variable.data.fit(sizes, variable.dims)
    return sizes


def _variable_keys(aux: Any) -> list[Any]:
    del aux
    return [jax.tree_util.GetAttrKey("data")]


def _data_array_keys(aux: Any) -> list[Any]:
    coords = [jax.tree_util.DictKey(name) for name in aux[1]]
    return [jax.tree_util.GetAttrKey("variable"), *coords]


def _dataset_keys(aux: Any) -> list[Any]:
    return [jax.tree_util.DictKey(name) for name in (*aux[0], *aux[1])]


def _datatree_keys(aux: Any) -> list[Any]:
    children = [jax.tree_util.DictKey(name) for name in aux[1]]
    return [jax.tree_util.GetAttrKey("dataset"), *children]


def _register(
    kind: Any,
    flatten: Callable[..., Any],
    unflatten: Callable[..., Any],
    keys: Callable[[Any], list[Any]],
) -> None:
    """Tells JAX how to take a type apart, put it together and name its parts.

    Raises:
      ImportError: Another package has done so.
    """

    def flatten_with_keys(x: Any) -> tuple[list[tuple[Any, Any]], Any]:
        children, aux = flatten(x)
        return list(zip(keys(aux), children, strict=True)), aux

    try:
        jax.tree_util.register_pytree_with_keys(
            kind, flatten_with_keys, unflatten, flatten
        )
    except ValueError as error:
        raise ImportError(
            f"another package, such as graphcast, has registered {kind.__name__} of "
            "xarray with JAX in this process; use one of them in a process"
        ) from error


_register(xarray.Variable, _flatten_variable, _unflatten_variable, _variable_keys)
_register(xarray.IndexVariable, _flatten_variable, _unflatten_variable, _variable_keys)
_register(
    xarray.DataArray, _flatten_data_array, _unflatten_data_array, _data_array_keys
)
_register(xarray.Dataset, _flatten_dataset, _unflatten_dataset, _dataset_keys)
_register(xarray.DataTree, _flatten_datatree, _unflatten_datatree, _datatree_keys)
