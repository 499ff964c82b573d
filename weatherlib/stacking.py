"""Datasets as arrays [node, batch, channel] or frames, and back.

Channels follow the published order: variables sorted as Python strings, within a
variable time before level. A plan holds what can be worked out from names and sizes
alone, so that inside a jitted function only array operations remain.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import xarray as xr

from weatherlib import xarray_jax
from weatherlib.nn import partition

__all__ = [
    "VariableChannels",
    "dataset_to_stacked",
    "frames_to_variables",
    "lat_lon_to_leading_axes",
    "level_count",
    "members_to_variables",
    "plan_channels",
    "restore_leading_axes",
    "stack",
    "stacked_to_dataset",
    "unstack",
    "variable_to_stacked",
    "variables_to_frames",
]

_PRESERVED = ("batch", "lat", "lon")
_FIRST_CHANNEL_DIMS = ("time", "level")
_BY_CHANNEL = (partition.BATCH, partition.CHANNEL)
_FRAME_DIMS = ("batch", "time", "lat", "lon", "level")
_PLACED = (partition.BATCH, None, partition.LAT, partition.LON, None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VariableChannels:
    """Where one variable lies among the channels.

    Attributes:
      name: Of the variable.
      dims: Of the variable, in its own order.
      channel_dims: Those folded into channels, slowest first.
      channel_shape: Their sizes.
      start: First channel.
    """

    name: Hashable
    dims: tuple[Hashable, ...]
    channel_dims: tuple[Hashable, ...]
    channel_shape: tuple[int, ...]
    start: int

    @property
    def stop(self) -> int:
        """One past the last channel."""
        return self.start + math.prod(self.channel_shape)


def plan_channels(
    dataset: xr.Dataset | Mapping[Hashable, xr.DataArray], first_channel: int = 0
) -> tuple[VariableChannels, ...]:
    """Returns the place of each variable of `dataset` among the channels.

    Args:
      dataset: Dataset or mapping of arrays. Values are not read.
      first_channel: Where the first variable starts.
    """
    plan, start = [], first_channel
    for name in sorted(dataset.keys(), key=str):
        sizes = dataset[name].sizes
        folded = [dim for dim in sizes if dim not in _PRESERVED]
        first = [dim for dim in _FIRST_CHANNEL_DIMS if dim in folded]
        channel_dims = (*first, *(dim for dim in folded if dim not in first))
        plan.append(
            VariableChannels(
                name=name,
                dims=tuple(sizes),
                channel_dims=channel_dims,
                channel_shape=tuple(sizes[dim] for dim in channel_dims),
                start=start,
            )
        )
        start = plan[-1].stop
    return tuple(plan)


def stack(datasets: tuple[xr.Dataset, ...], sizes: Mapping[str, int]) -> jax.Array:
    """Returns the variables of `datasets` as channels, one dataset after the other.

    Args:
      datasets: With dimensions batch, lat and lon; a variable may lack some of them
        and is repeated along those. Anything else becomes channels.
      sizes: Length of batch, lat and lon.

    Returns:
      Shape [lat * lon, batch, channel].

    Raises:
      ValueError: There is no variable, or variables differ in dtype.
    """
    batch, nodes = sizes["batch"], sizes["lat"] * sizes["lon"]
    columns = {}
    for i, dataset in enumerate(datasets):
        for variable in plan_channels(dataset):
            wanted = ("batch", *variable.channel_dims, "lat", "lon")
            data = xarray_jax.unwrap_data(dataset[variable.name])
            present = [dim for dim in wanted if dim in variable.dims]
            data = jnp.transpose(data, [variable.dims.index(dim) for dim in present])
            data = data.reshape(
                [data.shape[present.index(d)] if d in present else 1 for d in wanted]
            )
            full = (batch, *variable.channel_shape, sizes["lat"], sizes["lon"])
            columns[i, variable.name] = jnp.broadcast_to(data, full).reshape(
                batch, -1, sizes["lat"], sizes["lon"]
            )
    if not columns:
        raise ValueError("there are no variables to stack")
    dtypes = {key[1]: column.dtype for key, column in columns.items()}
    if len(set(dtypes.values())) > 1:
        raise ValueError(f"all variables must have the same dtype, found {dtypes}")
    channels = _as_placed(jnp.concatenate(list(columns.values()), axis=1))
    if _rows_uneven(sizes):
        channels = partition.constrain(channels, *_BY_CHANNEL, None, None)
    channels = channels.reshape(batch, -1, nodes)
    return partition.by_row(channels.transpose(2, 0, 1))


def unstack(
    array: jax.Array,
    template: xr.Dataset | Mapping[Hashable, xr.DataArray],
    sizes: Mapping[str, int],
) -> Any:
    """Returns the channels of `array` as the variables of `template`.

    Args:
      array: Shape [lat * lon, batch, channel], stacked as `stack` would `template`.
      template: Gives names, dimension order and coordinates; every variable has batch,
        lat and lon.
      sizes: Length of batch, lat and lon.

    Returns:
      An object of the type of `template`.

    Raises:
      ValueError: A variable lacks batch, lat or lon, or the channels do not add up.
    """
    plan = plan_channels(template)
    for variable in plan:
        _require_dims(variable.name, variable.dims, _PRESERVED)
    _require_channels(plan[-1].stop if plan else 0, array.shape[-1])
    channels_first = partition.by_row(array).transpose(1, 2, 0)
    if _rows_uneven(sizes):
        channels_first = partition.constrain(channels_first, *_BY_CHANNEL, None)
    channels_first = _as_placed(
        channels_first.reshape(*channels_first.shape[:2], sizes["lat"], sizes["lon"])
    )
    result = {}
    for variable in plan:
        data = channels_first[:, variable.start : variable.stop].reshape(
            sizes["batch"], *variable.channel_shape, sizes["lat"], sizes["lon"]
        )
        have = ("batch", *variable.channel_dims, "lat", "lon")
        data = data.transpose([have.index(dim) for dim in variable.dims])
        original = template[variable.name]
        result[variable.name] = xarray_jax.DataArray(
            data, original.coords, variable.dims, original.name
        )
    make: Any = type(template)
    return make(result)


def _as_placed(channels: jax.Array) -> jax.Array:
    """Returns an array [batch, channel, lat, lon] cut as datasets are."""
    return partition.constrain(
        channels, partition.BATCH, None, partition.LAT, partition.LON
    )


def _rows_uneven(sizes: Mapping[str, int]) -> bool:
    """Whether parts of the grid end within a row.

    Those cannot be merged into parts of the nodes, but parts of the channels can.
    """
    return sizes["lat"] % partition.parts(partition.ROW) != 0


def lat_lon_to_leading_axes(grid_xarray: xr.DataArray) -> xr.DataArray:
    """Returns the array with lat and lon as its first dimensions."""
    return grid_xarray.transpose("lat", "lon", ...)


def restore_leading_axes(grid_xarray: xr.DataArray) -> xr.DataArray:
    """Returns the array with batch, time and level, where present, first."""
    leading = [dim for dim in ("batch", "time", "level") if dim in grid_xarray.dims]
    return grid_xarray.transpose(*leading, ...)


def variable_to_stacked(
    variable: xr.Variable,
    sizes: Mapping[Hashable, int],
    preserved_dims: tuple[str, ...] = _PRESERVED,
) -> xr.Variable:
    """Returns the variable with dimensions `preserved_dims` and `channels`.

    Args:
      variable: Of any dimensions; all but the preserved ones become channels, the
        first slowest.
      sizes: Length of preserved dimensions that the variable lacks and is repeated
        along.
      preserved_dims: What does not become channels.
    """
    folded = [dim for dim in variable.dims if dim not in preserved_dims]
    if folded:
        variable = variable.stack(channels=folded)
    shape = {dim: variable.sizes.get(dim) or sizes[dim] for dim in preserved_dims}
    return variable.set_dims({**shape, "channels": variable.sizes.get("channels", 1)})


def dataset_to_stacked(
    dataset: xr.Dataset,
    sizes: Mapping[Hashable, int] | None = None,
    preserved_dims: tuple[str, ...] = _PRESERVED,
) -> xr.DataArray:
    """Returns all variables, sorted by name, along one dimension `channels`.

    Args:
      dataset: Dataset.
      sizes: As in `variable_to_stacked`; by default those of the dataset.
      preserved_dims: What does not become channels. Their coordinates are kept.
    """
    variables = [
        variable_to_stacked(
            dataset.variables[name], sizes or dataset.sizes, preserved_dims
        )
        for name in sorted(dataset.data_vars, key=str)
    ]
    coords = {
        name: coord for name, coord in dataset.coords.items() if name in preserved_dims
    }
    return xr.DataArray(xr.Variable.concat(variables, dim="channels"), coords=coords)


def stacked_to_dataset(
    stacked_array: xr.Variable,
    template_dataset: xr.Dataset | Mapping[Hashable, xr.DataArray],
    preserved_dims: tuple[str, ...] = _PRESERVED,
) -> Any:
    """Returns the channels as the variables of a template.

    Args:
      stacked_array: As `dataset_to_stacked` would make it of the template.
      template_dataset: Gives names, dimensions and coordinates.
      preserved_dims: Dimensions that every variable of the template has.

    Returns:
      An object of the type of `template_dataset`.

    Raises:
      ValueError: A variable lacks a preserved dimension, or the channels do not add up.
    """
    names = sorted(template_dataset.keys(), key=str)
    folded = {}
    for name in names:
        sizes = template_dataset[name].sizes
        _require_dims(name, sizes, preserved_dims)
        folded[name] = {d: n for d, n in sizes.items() if d not in preserved_dims}
    stops = list(itertools.accumulate(math.prod(f.values()) for f in folded.values()))
    _require_channels(stops[-1] if stops else 0, stacked_array.sizes["channels"])
    result = {}
    for name, start, stop in zip(names, [0, *stops], stops):
        original = template_dataset[name]
        part = stacked_array.isel(channels=slice(start, stop))
        part = part.unstack(channels=folded[name]).transpose(*original.dims)
        result[name] = xr.DataArray(part, original.coords, name=original.name)
    make: Any = type(template_dataset)
    return make(result)


def _require_dims(
    name: Hashable, found: Iterable[Hashable], wanted: Iterable[Hashable]
) -> None:
    missing = [dim for dim in wanted if dim not in found]
    if missing:
        raise ValueError(
            f"{name} cannot be made from channels: its template has the dimensions "
            f"{tuple(found)} and lacks {missing}"
        )


def _require_channels(expected: int, found: int) -> None:
    if expected != found:
        raise ValueError(f"the template needs {expected} channels, found {found}")


def variables_to_frames(
    dataset: xr.Dataset,
    names: Sequence[Hashable],
    sizes: Mapping[Any, int],
    dtype: Any = None,
) -> jax.Array:
    """Returns variables as the channels of frames.

    Variables may lack dimensions and are repeated along those; levels are channels.

    Args:
      dataset: Holds the variables.
      names: Of the variables, in the order of the channels.
      sizes: Length of batch, time, lat and lon.
      dtype: Where there is no variable.

    Returns:
      Shape [batch, time, lat, lon, channel].
    """
    shape = tuple(sizes[dim] for dim in _FRAME_DIMS[:-1])
    parts = []
    for name in names:
        variable = dataset[name]
        data = xarray_jax.unwrap_data(variable)
        present = [dim for dim in _FRAME_DIMS if dim in variable.dims]
        data = jnp.transpose(data, [variable.dims.index(dim) for dim in present])
        kept = [variable.sizes.get(dim, 1) for dim in _FRAME_DIMS]
        parts.append(jnp.broadcast_to(data.reshape(kept), (*shape, kept[-1])))
    if not parts:
        return jnp.zeros((*shape, 0), dtype)
    return partition.constrain(jnp.concatenate(parts, axis=-1), *_PLACED)


def frames_to_variables(frames: jax.Array, template: xr.Dataset) -> Any:
    """Returns frames as the variables of a template, which are sorted by name.

    Args:
      frames: Shape [batch, time, lat, lon, channel].
      template: Dimensions and coordinates. Values are not read.
    """
    found, start = {}, 0
    for name in sorted(template, key=str):
        like = template[name]
        stop = start + level_count(like)
        data, have = frames[..., start:stop], _FRAME_DIMS
        if "level" not in like.dims:
            data, have = data[..., 0], have[:-1]
        data = data.transpose([have.index(str(dim)) for dim in like.dims])
        found[name] = xarray_jax.DataArray(data, like.coords, like.dims, like.name)
        start = stop
    make: Any = type(template)
    return make(found)


def members_to_variables(frames: jax.Array, template: xr.Dataset) -> xr.Dataset:
    """Returns frames with or without members as variables, in the template's dtype.

    Args:
      frames: Shape [[sample,] batch, time, lat, lon, channel].
      template: As for `frames_to_variables`. Where its variables have several dtypes,
        that of the frames stays.

    Returns:
      The variables, with a first dimension `sample` where there are members.
    """
    dtypes = {template[name].dtype for name in template}
    if len(dtypes) == 1:
        frames = frames.astype(dtypes.pop())
    if frames.ndim == len(_FRAME_DIMS):
        return frames_to_variables(frames, template)
    members = [frames_to_variables(member, template) for member in frames]
    found = {}
    for name in members[0]:
        data = jnp.stack([xarray_jax.unwrap_data(member[name]) for member in members])
        like = members[0][name]
        found[name] = xarray_jax.DataArray(data, like.coords, ("sample", *like.dims))
    return xr.Dataset(found)


def level_count(variable: xr.DataArray) -> int:
    """Returns how many channels a variable has at a time."""
    return variable.sizes.get("level", 1)
