"""Moves datasets between host and devices without waiting for them."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import xarray

from weatherlib import xarray_jax

# A `jax.Device`, which type checkers do not take for a class.
Device: TypeAlias = Any

__all__ = [
    "Device",
    "holds_jax_arrays",
    "replicate",
    "shard",
    "start_copies",
    "to_device",
]


def start_copies(tree: Any) -> None:
    """Starts to copy every JAX array of a pytree to the host, and returns at once."""
    for leaf in jax.tree.leaves(tree):
        if not isinstance(leaf, jax.Array):
            continue
        if leaf.is_fully_addressable or leaf.is_fully_replicated:
            leaf.copy_to_host_async()


def holds_jax_arrays(dataset: xarray.Dataset) -> bool:
    """Whether any variable of the dataset is a JAX array."""
    return any(
        isinstance(array, jax.Array)
        for array in xarray_jax.unwrap_vars(dataset).values()
    )


def to_device(dataset: xarray.Dataset) -> xarray.Dataset:
    """Returns the dataset with its numbers on the default device.

    Coordinates and variables of other kinds, such as dates, stay as they are.
    """

    def put(variable: xarray.Variable) -> xarray.Variable:
        data = xarray_jax.unwrap_data(variable)
        if isinstance(data, jax.Array) or data.dtype.kind not in "biuf":
            return variable
        return xarray_jax.Variable(
            variable.dims, jax.device_put(data), attrs=variable.attrs
        )

    return _map_variables(put, dataset)


def shard(parts: Sequence[Any], devices: Sequence[Device], axis_name: str) -> Any:
    """Returns the parts stacked along a new first axis, one on each device.

    Args:
      parts: Arrays or keys of one shape, as many as devices.
      devices: Where each goes.
      axis_name: Name of the axis, equal to that of the pmapped function.
    """
    mesh = jax.sharding.Mesh(np.array(devices), (axis_name,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(axis_name))
    on_device = all(isinstance(part, jax.Array) for part in parts)
    stack = jnp.stack if on_device else np.stack
    return jax.device_put(stack(list(parts)), sharding)


def replicate(
    dataset: xarray.Dataset,
    dim: str,
    devices: Sequence[Device],
    *,
    on_devices: bool,
) -> xarray.Dataset:
    """Returns the dataset with every variable led by the dimension `dim`.

    Args:
      dataset: Variables with `dim` are transposed, the others repeated per device.
      dim: Name of the replica dimension.
      devices: One per replica.
      on_devices: Whether to place the copies on the devices, or keep them on the host.
    """

    def spread(variable: xarray.Variable) -> xarray.Variable:
        if dim in variable.dims:
            return variable.transpose(dim, ...)
        copies = [xarray_jax.unwrap_data(variable)] * len(devices)
        data = shard(copies, devices, dim) if on_devices else np.stack(copies)
        return xarray_jax.Variable((dim, *variable.dims), data, attrs=variable.attrs)

    return _map_variables(spread, dataset)


def _map_variables(function: Any, dataset: xarray.Dataset) -> xarray.Dataset:
    variables = {
        name: function(array.variable) for name, array in dataset.data_vars.items()
    }
    coords = {name: coord.variable for name, coord in dataset.coords.items()}
    return xarray.Dataset(variables, coords, dataset.attrs)
