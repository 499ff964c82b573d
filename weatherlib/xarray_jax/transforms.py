"""JAX transformations of functions that take and return xarray objects."""

import functools
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import jax
import xarray

from weatherlib.xarray_jax.pytree import dims_change_on_unflatten
from weatherlib.xarray_jax.wrapper import unwrap, wrap

__all__ = [
    "apply_ufunc",
    "pmap",
    "scan",
    "tree_map_variables",
    "tree_map_with_dims",
    "vmap",
]

# Compiled functions that one `pmap` keeps, one for each structure of its arguments.
_MAX_PMAPS = 64

_Dims = tuple[Hashable, ...]
_Tree = TypeVar("_Tree")
_Carry = TypeVar("_Carry")
_X = TypeVar("_X")
_Y = TypeVar("_Y")


def apply_ufunc(
    func: Callable[..., Any],
    *args: Any,
    require_jax: bool = False,
    **apply_ufunc_kwargs: Any,
) -> Any:
    """Returns what `xarray.apply_ufunc` does with a function of JAX arrays.

    Args:
      func: Takes and returns bare JAX arrays, or tuples of them.
      *args: As in `xarray.apply_ufunc`.
      require_jax: Whether to refuse arguments that are no JAX arrays.
      **apply_ufunc_kwargs: As in `xarray.apply_ufunc`.

    Raises:
      TypeError: `require_jax` is true and an argument is no JAX array.
    """

    def unwrapped_func(*arrays: Any, **kwargs: Any) -> Any:
        result = func(*(unwrap(array, require_jax) for array in arrays), **kwargs)
        return jax.tree.map(wrap, result)

    return xarray.apply_ufunc(unwrapped_func, *args, **apply_ufunc_kwargs)


def pmap(
    fn: Callable[..., Any],
    dim: str,
    axis_name: str | None = None,
    devices: Any = None,
    backend: str | None = None,
) -> Callable[..., Any]:
    """Returns `fn` mapped over devices along a dimension; see `jax.pmap`.

    Args:
      fn: Takes and returns trees of arrays and xarray objects without `dim`.
      dim: The first dimension of each variable in the arguments and results. Bare
        arrays are mapped along their first axis.
      axis_name: What collectives call the axis. `dim` by default.
      devices: As in `jax.pmap`.
      backend: As in `jax.pmap`.
    """
    name = axis_name or dim

    # Kept by structure: pmap itself would take equal shapes for an equal structure,
    # and so return the coordinates of an earlier call.
    @functools.lru_cache(maxsize=_MAX_PMAPS)
    def mapped(structure: Any) -> tuple[Callable[..., Any], _FlatFunction]:
        flat = _FlatFunction(fn, dim, structure)
        return jax.pmap(flat, axis_name=name, devices=devices, backend=backend), flat

    def mapped_fn(*args: Any) -> Any:
        leaves, structure = jax.tree.flatten(args)
        function, flat = mapped(structure)
        return flat.restore(function(*leaves))

    return mapped_fn


def vmap(
    fn: Callable[..., Any], dim: str, axis_name: str | None = None
) -> Callable[..., Any]:
    """Returns `fn` vectorised along a dimension; see `jax.vmap`.

    Args:
      fn: As in `pmap`.
      dim: As in `pmap`.
      axis_name: As in `pmap`.
    """

    def mapped_fn(*args: Any) -> Any:
        leaves, structure = jax.tree.flatten(args)
        flat = _FlatFunction(fn, dim, structure)
        return flat.restore(jax.vmap(flat, axis_name=axis_name or dim)(*leaves))

    return mapped_fn


class _FlatFunction:
    """A function of trees as one of their arrays, without the dimension mapped over.

    JAX maps the first axis of every array it is given, which takes a dimension from the
    arguments and adds one to the results.
    """

    def __init__(self, fn: Callable[..., Any], dim: Hashable, structure: Any) -> None:
        self._fn = fn
        self._dim = dim
        self._structure = structure
        self._result_structure: Any = None

    def __call__(self, *leaves: Any) -> list[Any]:
        """Returns the arrays of the result of one slice."""
        with dims_change_on_unflatten(self._remove_dim):
            args = jax.tree.unflatten(self._structure, leaves)
        results, self._result_structure = jax.tree.flatten(self._fn(*args))
        return results

    def restore(self, results: list[Any]) -> Any:
        """Returns the arrays of all slices, as the function would return them."""
        with dims_change_on_unflatten(lambda dims: (self._dim, *dims)):
            return jax.tree.unflatten(self._result_structure, results)

    def _remove_dim(self, dims: _Dims) -> _Dims:
        if dims[:1] != (self._dim,):
            index = dims.index(self._dim) if self._dim in dims else None
            raise ValueError(f"Expected dim {self._dim} at index 0, found at {index}.")
        return dims[1:]


def tree_map_variables(
    func: Callable[[xarray.Variable], xarray.Variable], tree_data: _Tree
) -> _Tree:
    """Returns a tree with a function applied to each Variable of its xarray objects.

    Unlike `jax.tree.map` this shows the dimensions, and lets `func` change them. Static
    coordinates stay as they are, so the new shapes have to fit them. Leaves outside
    xarray objects stay as they are too.

    Args:
      func: Takes and returns a Variable.
      tree_data: Any tree.
    """
    return jax.tree.map(
        lambda leaf: func(leaf) if _is_variable(leaf) else leaf,
        tree_data,
        is_leaf=_is_variable,
    )


def tree_map_with_dims(
    func: Callable[[Any, tuple[str, ...] | None], Any], data: _Tree
) -> _Tree:
    """Returns a tree with a function applied to each array and its dimensions.

    Unlike `jax.tree.map` this shows the dimensions, for instance to shard by name.

    Args:
      func: Takes an array and its dimension names, or None outside of xarray objects.
        Returns an array with the same dimensions; their lengths may change where no
        static coordinate has them. Anything that is no array, such as a sharding, is
        kept as a leaf.
      data: Any tree.
    """

    def map_leaf(leaf: Any) -> Any:
        if not _is_variable(leaf):
            return func(leaf, None)
        result = func(unwrap(leaf.data), leaf.dims)
        return jax.tree.unflatten(jax.tree.structure(leaf), [result])

    return jax.tree.map(map_leaf, data, is_leaf=_is_variable)


def _is_variable(node: Any) -> bool:
    return isinstance(node, xarray.Variable)


def scan(
    f: Callable[[_Carry, _X], tuple[_Carry, _Y]],
    init: _Carry,
    dim: str,
    xs: _X | None = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
) -> tuple[_Carry, _Y]:
    """Returns the last carry and all outputs of a loop over a dimension.

    Args:
      f: One step: `(carry, x) -> (carry, y)`, all trees. `x` is without `dim` and
        without static coordinates along it, since these differ from step to step;
        jax_coords along it are there. `y` must be without `dim`.
      init: The first carry.
      dim: Variables of `xs` are cut along this dimension, wherever it is, and bare
        arrays along their first axis. Variables of the outputs get it as their first.
      xs: What to loop over, or None to loop `length` times with `x` None.
      length: The number of steps; needed without `xs`.
      reverse: Whether to begin at the end.
      unroll: As in `jax.lax.scan`.
    """
    if xs is not None:
        xs = tree_map_variables(lambda variable: variable.transpose(dim, ...), xs)
    leaves, structure = jax.tree.flatten(xs)
    output_structure: Any = None

    def flat_step(carry: _Carry, x_leaves: list[Any]) -> tuple[_Carry, list[Any]]:
        nonlocal output_structure
        with dims_change_on_unflatten(lambda dims: dims[1:]):
            x = jax.tree.unflatten(structure, x_leaves)
        carry, y = f(carry, x)
        outputs, output_structure = jax.tree.flatten(y)
        return carry, outputs

    carry, outputs = jax.lax.scan(flat_step, init, leaves, length, reverse, unroll)
    with dims_change_on_unflatten(lambda dims: (dim, *dims)):
        return carry, jax.tree.unflatten(output_structure, outputs)
