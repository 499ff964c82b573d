"""JAX arrays inside xarray, and xarray objects inside JAX transformations.

The constructors `Variable`, `DataArray` and `Dataset` take JAX arrays without turning
them into NumPy ones; most operations of xarray then run on them, traced or not. To get
the arrays out again use `unwrap_data` and its relatives, or `jax_data` and `jax_vars`
where a computation must have come through JAX.

Importing this module registers Variable, DataArray, Dataset and DataTree as trees, so
that functions of them can go through `jax.jit`, `jax.grad`, `jax.tree.map` and so on:

    @jax.jit
    def step(state: xarray.Dataset) -> xarray.Dataset: ...

Data are leaves. Coordinates are static, like the dimension names: a jitted function is
traced once for each set of coordinates. Where they have to change without that, make
them data variables, or `jax_coords`. Transformations that add or remove axes need
`vmap`, `pmap` or `scan` from here, or `dims_change_on_unflatten`.

The public names are those of the `xarray_jax` module of the GraphCast package.
"""

from weatherlib.xarray_jax.construct import (
    DataArray,
    Dataset,
    DatasetOrDataArray,
    Variable,
    assign_coords,
    assign_jax_coords,
    get_jax_coords,
    jax_data,
    jax_vars,
    unwrap_coords,
    unwrap_data,
    unwrap_vars,
)

# The underscored names are used by the tests of the published package.
from weatherlib.xarray_jax.pytree import (  # noqa: F401
    DimsChangeFn,
    _flatten_data_array,
    _flatten_dataset,
    _flatten_datatree,
    _flatten_variable,
    _unflatten_data_array,
    _unflatten_dataset,
    _unflatten_datatree,
    _unflatten_variable,
    dims_change_on_unflatten,
)
from weatherlib.xarray_jax.transforms import (
    apply_ufunc,
    pmap,
    scan,
    tree_map_variables,
    tree_map_with_dims,
    vmap,
)
from weatherlib.xarray_jax.wrapper import JaxArrayWrapper, unwrap, wrap

__all__ = [
    "DataArray",
    "Dataset",
    "DatasetOrDataArray",
    "DimsChangeFn",
    "JaxArrayWrapper",
    "Variable",
    "apply_ufunc",
    "assign_coords",
    "assign_jax_coords",
    "dims_change_on_unflatten",
    "get_jax_coords",
    "jax_data",
    "jax_vars",
    "pmap",
    "scan",
    "tree_map_variables",
    "tree_map_with_dims",
    "unwrap",
    "unwrap_coords",
    "unwrap_data",
    "unwrap_vars",
    "vmap",
    "wrap",
]
