"""The rolling window of input frames, shared by every way of rolling out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray

from weatherlib import xarray_jax

__all__ = ["check_next_inputs", "next_inputs"]


def next_inputs(
    inputs: xarray.Dataset, predictions: xarray.Dataset, forcings: xarray.Dataset
) -> xarray.Dataset:
    """Returns the inputs of the next call: the newest frames, at the old times.

    Time-dependent variables move on by the frames that were predicted or forced; the
    others stay. The time coordinate is that of `inputs`, so a compiled predictor sees
    the same lead times at every call. Works eagerly and under `jax.jit`, on NumPy and
    JAX arrays.

    Args:
      inputs: Inputs of the call before.
      predictions: What it predicted.
      forcings: Forcings at the same times as `predictions`.

    Raises:
      ValueError: A time-dependent input is neither predicted nor forced, a variable is
        both, or the grids differ.
    """
    check_next_inputs(inputs, predictions, forcings)
    arrivals = {**predictions.data_vars, **forcings.data_vars}
    variables = {
        name: _advance(variable.variable, arrivals[name].variable)
        if "time" in variable.dims
        else variable.variable
        for name, variable in inputs.data_vars.items()
    }
    coords = {name: coord.variable for name, coord in inputs.coords.items()}
    return xarray.Dataset(variables, coords, inputs.attrs)


def check_next_inputs(
    inputs: xarray.Dataset, predictions: xarray.Dataset, forcings: xarray.Dataset
) -> None:
    """Checks that predictions and forcings renew every time-dependent input.

    Raises:
      ValueError: As `next_inputs`.
    """
    both = sorted(map(str, predictions.keys() & forcings.keys()))
    if both:
        raise ValueError(f"variables both predicted and forced: {', '.join(both)}")
    known = predictions.keys() | forcings.keys()
    lost = sorted(
        str(name)
        for name, variable in inputs.items()
        if "time" in variable.dims and name not in known
    )
    if lost:
        raise ValueError(
            "Found an input with a time index that is not predicted or forced: "
            f"{', '.join(lost)}. The next step needs it; predict it, or give it among "
            "the forcings"
        )
    for name, index in inputs.indexes.items():
        for label, other in (("predictions", predictions), ("forcings", forcings)):
            if name == "time" or name not in other.indexes:
                continue
            if not index.equals(other.indexes[name]):
                raise ValueError(
                    f"the {name} coordinate of the {label} differs from that of the "
                    "inputs in values or order"
                )


def _advance(old: xarray.Variable, new: xarray.Variable) -> xarray.Variable:
    """Returns the newest frames of both, as many as `old` has, in its dimensions."""
    frames = old.sizes["time"]
    dims = (*old.dims, *(dim for dim in new.dims if dim not in old.dims))
    arriving = new.sizes.get("time", 1)
    sizes = {**new.sizes, **old.sizes}
    if old.dims != dims:
        old = old.set_dims({dim: sizes[dim] for dim in dims})
    if new.dims != dims:
        new = new.set_dims({dim: {**sizes, "time": arriving}[dim] for dim in dims})
    axis = dims.index("time")
    if arriving >= frames:
        kept = new.isel(time=slice(arriving - frames, None))
        return xarray_jax.Variable(dims, xarray_jax.unwrap_data(kept), attrs=old.attrs)
    kept = old.isel(time=slice(arriving, None))
    joined = _concatenate([xarray_jax.unwrap_data(part) for part in (kept, new)], axis)
    return xarray_jax.Variable(dims, joined, attrs=old.attrs)


def _concatenate(parts: list[Any], axis: int) -> Any:
    if any(isinstance(part, jax.Array) for part in parts):
        return jnp.concatenate([jnp.asarray(part) for part in parts], axis)
    return np.concatenate(parts, axis)
