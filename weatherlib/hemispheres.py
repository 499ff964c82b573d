"""Both hemispheres as one: fields in a frame whose second axis points to the pole.

Below the equator the Earth turns the other way round: weather reversed from north to
south, with northward winds and vorticities of the opposite sign and the season of the
other half of the year, obeys the same laws.
"""

from __future__ import annotations

from typing import Any

import xarray as xr

from weatherlib import slopes, variables, xarray_jax
from weatherlib.geometry import grids

__all__ = ["changes_sign", "face_poles"]


def changes_sign(name: str) -> bool:
    """Returns whether a variable is reversed in a world mirrored at the equator.

    Beside those of `variables.changes_sign_when_mirrored`, the season, whose sine and
    cosine are of the opposite sign half a year later, and what
    `slopes.add_slopes` adds.
    """
    for part in slopes.PARTS:
        if name.endswith(f"_{part}"):
            field = name.removesuffix(f"_{part}")
            return changes_sign(field) != (part == "northward_slope")
    is_season = name.startswith("year_progress_")
    return is_season or variables.changes_sign_when_mirrored(name)


def face_poles(dataset: xr.Dataset, latitude: Any) -> xr.Dataset:
    """Returns a dataset whose southern rows are those of a mirrored world.

    Rows stay where they are; what `changes_sign` has the opposite sign south of the
    equator. Done twice, it is undone.

    Args:
      dataset: A variable of the season gets rows where it has none.
      latitude: Of the rows along lat, degrees north, shape [lat].
    """
    signs = grids.poleward(latitude)

    def faced(field: xr.DataArray) -> xr.DataArray:
        if not changes_sign(str(field.name)):
            return field
        values = xarray_jax.unwrap_data(field)
        row_signs = xr.DataArray(
            xarray_jax.wrap(signs.astype(values.dtype)), dims=["lat"]
        )
        return field * row_signs

    return dataset.map(faced)
