"""Whether fields lie at the places of others: their grid and their levels."""

from __future__ import annotations

import numpy as np
import xarray

__all__ = ["on_levels", "require_same_grid"]

# Part of the grid spacing by which coordinates of the same place may differ.
_SAME_PLACE = 1e-2


def require_same_grid(
    known: xarray.Dataset, grid: xarray.Dataset, what: str, remedy: str
) -> None:
    """Checks that rows and columns are the same, and in the same order.

    Args:
      known: Has the grid that is needed.
      grid: Has that of the data.
      what: Is made for the grid of `known`, for the message.
      remedy: Says what would work.

    Raises:
      ValueError: They differ.
    """
    for axis in ("lat", "lon"):
        ours, theirs = known[axis].values, grid[axis].values
        spacing = np.abs(np.diff(ours)).min() if ours.size > 1 else 1.0
        if ours.shape != theirs.shape or (
            np.abs(ours - theirs).max() > _SAME_PLACE * spacing
        ):
            raise ValueError(
                f"{axis}: {what} on {ours.size} values from {ours[0]:g} to "
                f"{ours[-1]:g}, the data have {theirs.size} from {theirs[0]:g} to "
                f"{theirs[-1]:g}; {remedy}"
            )


def on_levels(
    known: xarray.Dataset, field: xarray.DataArray, what: str
) -> xarray.Dataset:
    """Returns fields on the levels of another one.

    Args:
      known: On all levels there are.
      field: On those wanted; a field without levels wants all.
      what: Names `known` in messages.

    Raises:
      ValueError: A level is not there.
    """
    if "level" not in field.dims or "level" not in field.coords:
        return known
    wanted = field["level"].values
    held = known["level"].values if "level" in known.coords else np.empty(0)
    if np.array_equal(held, wanted):
        return known
    lacking = sorted(set(wanted.tolist()) - set(held.tolist()))
    if lacking:
        raise ValueError(f"{field.name}: {what} lacks the levels {lacking} hPa")
    return known.sel(level=wanted)
