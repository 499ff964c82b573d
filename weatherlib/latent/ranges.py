"""The values of fields that become -1 and 1. Nothing here imports JAX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from weatherlib.latent.field_codec_config import FieldCodecConfig

__all__ = ["middle_and_half", "require_data", "require_near"]


def middle_and_half(
    config: FieldCodecConfig,
) -> tuple[Float[np.ndarray, " channel"], Float[np.ndarray, " channel"]]:
    """Returns what is subtracted from normalised fields, and what they are divided by.

    A field that never changes is divided by 1.

    Raises:
      ValueError: The range is not known.
    """
    if not config.lowest:
        raise ValueError(
            "lowest and highest are not known; training finds them, or set "
            "normalization to standard"
        )
    low, high = np.float64(config.lowest), np.float64(config.highest)
    half = (high - low) / 2
    return (low + high) / 2, np.where(half > 0, half, 1.0)


def require_near(
    values: Float[np.ndarray, "*place channel"],
    labels: Sequence[str],
    config: FieldCodecConfig,
) -> None:
    """Makes sure that fields in the range of images are not far outside of it.

    Missing values are not looked at.

    Args:
      values: The fields.
      labels: Name of each channel.
      config: Of the model.

    Raises:
      ValueError: A value lies further outside of [-1, 1] than `range_margin`.
    """
    flat = np.abs(values.reshape(-1, values.shape[-1]))
    with np.errstate(invalid="ignore"):
        largest = np.where(np.isfinite(flat), flat, 0).max(axis=0)
    limit = 1 + config.range_margin
    for label, found in zip(labels, largest):
        if found > limit:
            raise ValueError(
                f"{label}: values reach {found:.3g} where those of the training period "
                f"lie in [-1, 1] and at most {limit:g} is accepted; {_HELP}"
            )


def require_data(
    dataset: xr.Dataset,
    config: FieldCodecConfig,
    names: Sequence[str],
    mean: xr.Dataset,
    stddev: xr.Dataset,
) -> None:
    """Makes sure that weather is not far outside of the values of the training period.

    Args:
      dataset: Weather in its own units.
      config: Of the model.
      names: Variables that it predicts.
      mean: Of each, by level.
      stddev: Likewise.

    Raises:
      ValueError: It is.
    """
    if config.normalization != "minmax" or not config.lowest:
        return
    middle, half = middle_and_half(config)
    place, beyond = 0, 1 + config.range_margin
    for name in sorted(names):
        field, centre, spread = (d[name] for d in (dataset, mean, stddev))
        if "level" in field.dims and "level" in centre.dims:
            field = field.sel(level=centre["level"])
        count = field.sizes.get("level", 1)
        part = slice(place, place + count)
        place += count
        around = [d for d in field.dims if d != "level"]
        for end, sign in (("min", -1), ("max", 1)):
            found = np.atleast_1d(getattr(field, end)(around).values)
            limit = np.atleast_1d(centre.values) + np.atleast_1d(spread.values) * (
                middle[part] + sign * beyond * half[part]
            )
            bad = np.flatnonzero(sign * found > sign * limit)
            if bad.size:
                raise ValueError(_outside(field, bad[0], found, limit, sign))


_HELP = (
    "check the data and their units, or train with a longer period or a wider "
    "range_margin (no values are clipped)"
)


def _outside(field: Any, at: int, found: Any, limit: Any, sign: int) -> str:
    level = f" at {field['level'].values[at]:g} hPa" if "level" in field.dims else ""
    words = "below the lowest" if sign < 0 else "above the highest"
    accepted = np.broadcast_to(limit, found.shape)[at]
    return (
        f"{field.name}{level} is {found[at]:.5g} somewhere, {words} value that the "
        f"model accepts, {accepted:.5g}, by the range of its training period; {_HELP}"
    )
