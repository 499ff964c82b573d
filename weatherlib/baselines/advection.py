"""What the wind that follows the contours of a field would carry, as inputs.

Air at 500 hPa flows along the contours of geopotential, warm air on its right side. How
fast it changes another field there is the product of their slopes, which a network of
convolutions and few data finds hard to make.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from typing import Any

import haiku as hk
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from weatherlib import slopes, stacking

__all__ = ["Advection", "Places", "find_places", "mirrored_signs"]

# Slopes are changes over this length, in km.
_LENGTH = 500.0
# Curvatures over that length are several times larger than fields and full of noise,
# and a network that sees them so learns that.
_CURVATURE = 0.2
# The mean of a carrier has weights of this size less than its values, so that an
# optimiser that changes all weights by the same amount finds it in time.
_MEAN_SCALE = 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Places:
    """Where fields stand among the channels.

    Attributes:
      carriers: Channels of the fields that the wind follows.
      carried: Channels of the fields that are carried.
    """

    carriers: tuple[int, ...]
    carried: tuple[int, ...]


class Advection(hk.Module):
    """Computes how fast fields are carried along the contours of others.

    The fields a network sees lack their mean and mostly their climatology too, and with
    them the mean wind, so each carrier has a learned mean field.
    """

    def __init__(self, name: str = "advection") -> None:
        """Takes its name."""
        super().__init__(name=name)

    def __call__(
        self,
        field: Float[Array, "batch lat lon channel"],
        places: Places,
        lat: Any,
        lon: Any,
    ) -> Float[Array, "batch lat lon advected"]:
        """Returns two channels for each pair of a carrier and a carried field.

        They are the Jacobian of the two, eastward slope of the carrier times northward
        slope of the carried field less the product of the other two, and that of the
        carrier and a fifth of the curvature of the carried field. Slopes are changes
        over 500 km, the curvature a change of slopes over as much. Which hemisphere it
        is, so which way the wind blows, is left to the network.

        Args:
          field: What the network sees, normalised.
          places: Of the fields among its channels.
          lat: Degrees north, in either order, shape [lat].
          lon: Degrees east, shape [lon].

        Raises:
          ValueError: The grid is uneven.
        """
        shape = (*field.shape[1:3], len(places.carriers))
        mean = hk.get_parameter("mean", shape, field.dtype, jnp.zeros)
        carriers = field[..., np.array(places.carriers)] + _MEAN_SCALE * mean
        carried = field[..., np.array(places.carried)]
        *along, curvature = slopes.compute_slopes(carried, lat, lon, _LENGTH)
        of_curvature = slopes.compute_slopes(_CURVATURE * curvature, lat, lon, _LENGTH)
        east, north, _ = slopes.compute_slopes(carriers, lat, lon, _LENGTH)
        parts = []
        for i in range(len(places.carriers)):
            for carried_east, carried_north in (along, of_curvature[:2]):
                first = east[..., i : i + 1] * carried_north
                parts.append(first - north[..., i : i + 1] * carried_east)
        return jnp.concatenate(parts, axis=-1)


def find_places(
    inputs: xr.Dataset, carriers: Sequence[str], carried: Sequence[Hashable]
) -> Places:
    """Returns where the newest frames of fields stand among the channels of inputs.

    Args:
      inputs: What the network sees first; values are not read.
      carriers: Names of the variables whose contours the wind follows.
      carried: Names of the variables that are predicted, in any order; those that are
        not inputs are left out.

    Raises:
      ValueError: A carrier is not among the inputs.
    """
    plan = {variable.name: variable for variable in stacking.plan_channels(inputs)}
    missing = [name for name in carriers if name not in plan]
    if missing:
        raise ValueError(
            f"carriers: {', '.join(missing)} is not among the inputs "
            f"{', '.join(map(str, plan))}"
        )
    return Places(
        carriers=tuple(c for name in carriers for c in _newest(plan[name])),
        carried=tuple(
            c for name in plan if name in carried for c in _newest(plan[name])
        ),
    )


def mirrored_signs(
    channels: Float[np.ndarray, " channel"], places: Places
) -> Float[np.ndarray, " advected"]:
    """Returns the signs that results of `Advection` change by in a mirrored world.

    Args:
      channels: Those of all that the network sees.
      places: Of the fields among it.
    """
    carriers = channels[np.array(places.carriers)]
    carried = channels[np.array(places.carried)]
    # Of the two slopes in each product one is northward.
    pairs = -carriers[:, np.newaxis, np.newaxis] * carried
    return np.broadcast_to(pairs, (len(carriers), 2, len(carried))).reshape(-1)


def _newest(variable: stacking.VariableChannels) -> range:
    """Returns the channels of the last time."""
    if "time" not in variable.channel_dims:
        return range(variable.start, variable.stop)
    times = variable.channel_shape[variable.channel_dims.index("time")]
    size = (variable.stop - variable.start) // times
    return range(variable.stop - size, variable.stop)
