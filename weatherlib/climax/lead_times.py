"""How far ahead a forecast goes, from wherever a caller says it."""

from __future__ import annotations

import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from weatherlib import xarray_jax

__all__ = ["LEAD_TIME", "find_lead_hours", "split_lead_time"]

_logger = logging.getLogger(__name__)

LEAD_TIME = "lead_time"
"""The forcing that holds the lead time of each batch member, hours."""


def split_lead_time(forcings: xr.Dataset | None) -> tuple[Any, xr.DataArray | None]:
    """Returns the other forcings, and the lead times if they are among them."""
    if forcings is None or LEAD_TIME not in forcings:
        return forcings, None
    return forcings.drop_vars(LEAD_TIME), forcings[LEAD_TIME]


def find_lead_hours(
    given: Any,
    forced: xr.DataArray | None,
    inputs: xr.Dataset,
    template: xr.Dataset,
    trained: tuple[float, float],
) -> jax.Array:
    """Returns the lead time of each batch member in hours, shape [batch].

    Args:
      given: Hours, one number or one for each batch member; comes first. May be None.
      forced: The forcing `lead_time`; comes next.
      inputs: Ends at the time that leads are counted from.
      template: Its one time is the lead where nothing else says it.
      trained: Shortest and longest lead time of the training, hours.

    Raises:
      ValueError: A lead time is not positive, not one for each batch member, or not
        said at all.
    """
    batch = inputs.sizes["batch"]
    if given is None and forced is not None:
        foreign = [dim for dim in forced.dims if dim not in ("batch", "time")]
        if foreign:
            raise ValueError(
                f"{LEAD_TIME}: one number of hours for each batch member is needed, "
                f"found the dimensions {forced.dims}"
            )
        given = xarray_jax.unwrap_data(forced)
    if given is None:
        given = _from_times(inputs, template)
    if not isinstance(given, jax.Array):
        given = np.asarray(given, np.float32)
        _check(given, trained)
    if given.size not in (1, batch):
        raise ValueError(
            f"{LEAD_TIME}: {given.size} lead times are given to {batch} batch members"
        )
    hours = jnp.asarray(given).astype(jnp.float32).reshape(-1)
    return jnp.broadcast_to(hours, (batch,))


def _from_times(inputs: xr.Dataset, template: xr.Dataset) -> float:
    time = template.coords.get("time")
    if time is None or np.asarray(time.values).dtype.kind != "m":
        raise ValueError(
            "the lead time is not known: give targets_template a coordinate `time` of "
            f"lead times, a forcing {LEAD_TIME} in hours, or the argument lead_hours"
        )
    lead = np.asarray(time.values).reshape(-1)[0]
    start = inputs.coords.get("time")
    if start is not None and np.asarray(start.values).dtype.kind == "m":
        lead = lead - np.asarray(start.values).reshape(-1)[-1]
    return float(lead / np.timedelta64(1, "h"))


def _check(hours: np.ndarray, trained: tuple[float, float]) -> None:
    if not (np.isfinite(hours) & (hours > 0)).all():
        raise ValueError(
            f"{LEAD_TIME}: must be a positive number of hours after the last input "
            f"frame, found {_listed(hours)}"
        )
    low, high = trained
    outside = np.unique(hours[(hours < low) | (hours > high)])
    if outside.size:
        _logger.warning(
            "lead time %s h: the weights were trained on %g to %g h (lead_hours)",
            _listed(outside),
            low,
            high,
        )


def _listed(hours: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in np.unique(hours))
