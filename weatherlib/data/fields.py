"""Values in the form of the vocabulary: unpacked, in its units, without idle axes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray

from weatherlib import variables
from weatherlib.data import lazy
from weatherlib.data_utils import check_fields, units

__all__ = [
    "convert",
    "converted",
    "drop_idle_axes",
    "expand",
    "fill_from",
    "is_constant",
    "unpack",
]

# Up to so many frames are all compared before a field counts as constant.
_ALL_COMPARED = 64
# A longer series is compared at so many frames, spread over it.
_SAMPLED = 9


def unpack(dataset: xarray.Dataset) -> tuple[xarray.Dataset, list[str]]:
    """Turns packed integers into the numbers they stand for."""
    packed = [str(n) for n, array in dataset.data_vars.items() if _is_packed(array)]
    if not packed:
        return dataset, []
    decoded = xarray.decode_cf(dataset[packed], decode_times=False)
    return dataset.assign(decoded.data_vars), [f"unpacked {', '.join(packed)}"]


def _is_packed(array: xarray.DataArray) -> bool:
    """Tells whether values are integers that stand for other numbers."""
    packing = {"scale_factor", "add_offset"} & set(array.attrs)
    return array.dtype.kind in "iu" and bool(packing)


def convert(
    dataset: xarray.Dataset, *, guess: bool
) -> tuple[xarray.Dataset, list[str]]:
    """Converts values to the units of the vocabulary.

    Args:
      dataset: Variables under our names; what is packed stays as it is.
      guess: Where there is no attribute, look at the values. They are read for it.
    """
    changes = []
    for name, array in dataset.data_vars.items():
        known = variables.VARIABLES.get(str(name))
        if known is None or array.dtype.kind not in "iuf" or _is_packed(array):
            continue
        stated = str(array.attrs.get("units", "")).strip()
        change = None
        if stated:
            change = units.conversion(stated, known.units)
        elif guess:
            scan = check_fields.scan(array)
            change = check_fields.guess_conversion(known, array, scan)
        if change is None:
            continue
        if (change.scale, change.offset) == (1.0, 0.0):
            if stated != known.units:
                spelled = array.variable.copy(deep=False)
                spelled.attrs["units"] = known.units
                dataset = dataset.assign({name: spelled})
            continue
        kept = array.dtype if array.dtype.kind == "f" else np.dtype(np.float32)
        attrs = {**array.attrs, "units": known.units}
        variable = converted(array.variable, change, kept, attrs)
        dataset = dataset.assign({name: variable})
        because = "" if stated else ", as the values tell"
        changes.append(
            f"converted {name} from {stated or change.found} to {known.units}{because}"
        )
    return dataset, changes


def converted(
    variable: xarray.Variable,
    change: units.Conversion,
    dtype: Any,
    attrs: Mapping[str, Any],
) -> xarray.Variable:
    """Returns the variable in another unit, worked out when it is read."""
    linear = functools.partial(_linear, change.scale, change.offset)
    return lazy.apply(linear, [variable], variable.sizes, dtype, attrs=attrs)


def _linear(scale: float, offset: float, values: xarray.Variable) -> xarray.Variable:
    """Returns values under a linear change."""
    # In double precision: single would round twice.
    return values.astype(np.float64) * scale + offset


def drop_idle_axes(dataset: xarray.Dataset) -> tuple[xarray.Dataset, list[str]]:
    """Takes axes from variables that cannot have them, where they hold one field."""
    changes = []
    for name, array in dataset.data_vars.items():
        known = variables.VARIABLES.get(str(name))
        if known is None:
            continue
        if known.kind == "static" and "time" in array.dims and is_constant(array):
            dataset = dataset.assign({name: array.isel(time=0, drop=True)})
            changes.append(f"took the time axis from {name}, which is constant")
        if known.kind in ("static", "surface") and array.sizes.get("level") == 1:
            dataset = dataset.assign({name: dataset[name].isel(level=0, drop=True)})
            changes.append(f"took the level axis of length 1 from {name}")
    return dataset, changes


def is_constant(array: xarray.DataArray, dim: str = "time") -> bool:
    """Tells whether a field is the same at all times, or at a sample of many.

    Args:
      array: Its values are read, unless there is one time only.
      dim: The axis of times.
    """
    frames = array.sizes.get(dim, 1)
    if frames == 1:
        return True
    if frames > _ALL_COMPARED:
        places = np.unique(np.linspace(0, frames - 1, _SAMPLED).astype(int))
        array = array.isel({dim: places})
    first = array.isel({dim: 0}, drop=True).values
    return all(
        np.array_equal(array.isel({dim: frame}).values, first, equal_nan=True)
        for frame in range(1, array.sizes[dim])
    )


def expand(variable: xarray.Variable, sizes: Mapping[Any, int]) -> xarray.Variable:
    """Returns the variable with axes of length 1 that it lacks, in the order given."""
    whole = functools.partial(_expanded, dict(sizes))
    return lazy.apply(whole, [variable], sizes, variable.dtype, attrs=variable.attrs)


def _expanded(sizes: Mapping[Any, int], values: xarray.Variable) -> xarray.Variable:
    """Returns values with the axes that they lack."""
    missing = {dim: 1 for dim in sizes if dim not in values.dims}
    return values.set_dims({**missing, **values.sizes})


def fill_from(first: xarray.Variable, second: xarray.Variable) -> xarray.Variable:
    """Returns the first variable, with the second where it is NaN."""
    second = second.transpose(*first.dims)
    return lazy.apply(
        _filled, [first, second], first.sizes, first.dtype, attrs=first.attrs
    )


def _filled(first: xarray.Variable, second: xarray.Variable) -> xarray.Variable:
    """Returns values of the first, of the second where those are NaN."""
    values = np.where(np.isnan(first.values), second.values, first.values)
    return xarray.Variable(first.dims, values)
