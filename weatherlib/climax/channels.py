"""Datasets as the variables of ClimaX, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from weatherlib import config, xarray_jax

__all__ = ["ALIASES", "Channel", "find_channels", "number", "stack", "unstack"]

ALIASES = {"geopotential_at_surface": "orography"}
"""Variables that stand for one of the published list where that has no name of theirs.
Normalised, surface geopotential and height are the same."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Channel:
    """A variable of the model and where it lies in a dataset.

    Attributes:
      name: In the model, such as `geopotential_500`.
      variable: In the dataset.
      index: Along `level`; None where the variable has no levels.
    """

    name: str
    variable: Hashable
    index: int | None = None


def find_channels(
    dataset: xr.Dataset | Mapping[Hashable, xr.DataArray], levels: Sequence[int]
) -> tuple[Channel, ...]:
    """Returns the variables of the model that a dataset holds, in its order.

    Args:
      dataset: Its values are not read.
      levels: Of the task, hPa, for data whose levels have no coordinate.
    """
    found = []
    for name, array in dataset.items():
        if "level" not in array.dims:
            found.append(Channel(name=str(name), variable=name))
            continue
        known = array.coords["level"].values if "level" in array.coords else levels
        found += [
            Channel(name=f"{name}_{level:g}", variable=name, index=i)
            for i, level in enumerate(np.asarray(known).tolist())
        ]
    return tuple(found)


def number(channels: Iterable[Channel], names: Sequence[str]) -> tuple[int, ...]:
    """Returns the places of channels in a list of names.

    Raises:
      ValueError: A channel is not in the list, or two of them are the same.
    """
    places: list[int] = []
    for channel in channels:
        name = channel.name
        if name not in names:
            name = ALIASES.get(name, name)
        if name not in names:
            raise ValueError(
                f"{channel.name}: no variable of this model"
                f"{config.closest_hint(channel.name, names)}; leave it out of the "
                "task, or add it to default_vars with a fresh embedding"
            )
        if names.index(name) in places:
            raise ValueError(f"{channel.name}: stands for {name}, which is given twice")
        places.append(names.index(name))
    return tuple(places)


def stack(
    dataset: Mapping[Hashable, xr.DataArray],
    channels: Sequence[Channel],
    sizes: Mapping[str, int],
) -> jax.Array:
    """Returns channels of a dataset as one array, repeated where they lack a dimension.

    Args:
      dataset: Holds the channels.
      channels: What to take, in the order wanted.
      sizes: Lengths of batch, time, lat and lon.

    Returns:
      Shape [batch, time, channel, lat, lon].

    Raises:
      ValueError: Variables differ in dtype or have a dimension beside these and level.
    """
    wanted = ("batch", "time", "level", "lat", "lon")
    parts: dict[Hashable, jax.Array] = {}
    for name in dict.fromkeys(channel.variable for channel in channels):
        array = dataset[name]
        foreign = [dim for dim in array.dims if dim not in wanted]
        if foreign:
            raise ValueError(f"{name}: ClimaX knows no dimension {foreign}")
        data = jnp.asarray(xarray_jax.unwrap_data(array))
        present = [dim for dim in wanted if dim in array.dims]
        data = data.transpose([array.dims.index(dim) for dim in present])
        shape = [array.sizes.get(dim, 1) for dim in wanted]
        full = [sizes.get(dim, array.sizes.get(dim, 1)) for dim in wanted]
        parts[name] = jnp.broadcast_to(data.reshape(shape), full)
    dtypes = {name: part.dtype for name, part in parts.items()}
    if len(set(dtypes.values())) > 1:
        raise ValueError(f"all variables must have the same dtype, found {dtypes}")
    return jnp.stack([parts[c.variable][:, :, c.index or 0] for c in channels], axis=2)


def unstack(
    fields: jax.Array, template: xr.Dataset, channels: Sequence[Channel]
) -> xr.Dataset:
    """Returns predicted channels as the variables of a template of one time.

    Args:
      fields: Shape [batch, channel, lat, lon].
      template: Gives names, dimension order and coordinates.
      channels: Those of the template, in the order of `fields`.
    """
    made: dict[Hashable, Any] = {}
    for name, like in template.items():
        places = np.array([i for i, c in enumerate(channels) if c.variable == name])
        data = fields[:, np.newaxis, places]
        have = ["batch", "time", "level", "lat", "lon"]
        if "level" not in like.dims:
            data = data[:, :, 0]
            have.remove("level")
        data = data.transpose([have.index(str(dim)) for dim in like.dims])
        made[name] = xarray_jax.DataArray(data, like.coords, like.dims, like.name)
    return type(template)(made)
