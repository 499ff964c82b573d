"""How fields go on beyond the rows and columns of their grid."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from weatherlib.geometry import grids

__all__ = [
    "ZERO",
    "Edges",
    "check_reach",
    "coarsened",
    "fill_up",
    "find_edges",
    "surround",
]

# Part of the grid spacing by which coordinates may be rounded.
_ROUNDING = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edges:
    """How a field goes on beyond its outermost rows and columns.

    Attributes:
      columns: What lies beyond the outermost columns. "around": the columns of the
        other side, as on a globe; "repeat": the outermost column itself; "zero".
      over_first_row: What lies beyond row 0. "repeat": the row itself; "zero"; "pole":
        the rows on the other side of a pole half a row away; "on_pole": the same where
        the row is the pole.
      over_last_row: Likewise beyond the last row.
    """

    columns: str = "repeat"
    over_first_row: str = "repeat"
    over_last_row: str = "repeat"

    @property
    def over_poles(self) -> bool:
        """Whether a field goes on over a pole, which needs rows behind its edge."""
        return bool({self.over_first_row, self.over_last_row} & {"pole", "on_pole"})


ZERO = Edges(columns="zero", over_first_row="zero", over_last_row="zero")
"""Zeros all around, the padding of most published convolutional networks."""


def find_edges(lat: Any, lon: Any, kind: str = "auto") -> Edges:
    """Returns how fields on a grid go on beyond its edges.

    Over a pole they go on half-way round, which needs an even number of columns; with
    an odd number, and where the rows end before a pole, the outermost row is repeated.

    Args:
      lat: Degrees north, in either order, shape [lat].
      lon: Degrees east, shape [lon].
      kind: "zero", "global", "regional", or "auto" for what the longitudes say.

    Raises:
      ValueError: The grid is uneven, or "global" was asked for and the longitudes do
        not go round.
    """
    rows, columns = grids.check_latitude(lat), grids.check_longitude(lon)
    if kind == "zero":
        return ZERO
    step = np.median((np.diff(columns) + 180) % 360 - 180) if columns.size > 1 else 0
    goes_round = abs(abs(step) * columns.size - 360) < _ROUNDING * abs(step)
    if kind == "global" and not goes_round:
        raise ValueError(
            f"edges: global needs longitudes all around the Earth, found "
            f"{columns.size} columns from {columns[0]:g} to {columns[-1]:g} degrees; "
            "use regional or auto"
        )
    if kind == "regional" or not goes_round:
        return Edges()
    ends = ["repeat", "repeat"]
    if columns.size % 2 == 0 and rows.size > 1:
        ends = [_end(rows), _end(rows[::-1])]
    return Edges(columns="around", over_first_row=ends[0], over_last_row=ends[1])


def _end(rows: np.ndarray) -> str:
    """Returns what lies beyond the first of some rows."""
    step = abs(rows[1] - rows[0])
    to_pole = (90 - abs(rows[0])) / step
    if to_pole < _ROUNDING:
        return "on_pole"
    # Gaussian rows lie a little off the middle of their cells.
    return "pole" if 0.25 < to_pole < 0.85 else "repeat"


def check_reach(rows: int, columns: int, reach: int, edges: Edges) -> None:
    """Checks that a grid is large enough to go on beyond its edges.

    Args:
      rows: Of the grid.
      columns: Of the grid.
      reach: How many more are needed on each side.
      edges: What they hold.

    Raises:
      ValueError: It is not.
    """
    needed = (
        reach + 1 if edges.over_poles else 1,
        max(reach, 1) if edges.columns == "around" else 1,
    )
    for found, least, what in zip((rows, columns), needed, ("rows", "columns")):
        if found < least:
            raise ValueError(
                f"a kernel that reaches {reach} point(s) needs at least {least} "
                f"{what} to go on beyond the edge, found {found}; take a smaller "
                "kernel, dilation or patch, or edges zero"
            )


def coarsened(edges: Edges) -> Edges:
    """Returns the edges of a field whose points are means of 2 x 2 or more points.

    Where the finer rows begin on a pole, the coarser ones begin a quarter of a row or
    more away from it, so they go on as if it were half a row.
    """

    def kind(of_row: str) -> str:
        return "pole" if of_row == "on_pole" else of_row

    return dataclasses.replace(
        edges,
        over_first_row=kind(edges.over_first_row),
        over_last_row=kind(edges.over_last_row),
    )


def fill_up(
    x: Float[Array, "batch lat lon channel"], multiple: int
) -> Float[Array, "batch rows columns channel"]:
    """Returns a field with sides that are multiples of a number.

    The last row and column are repeated, so that the field has no step anywhere, not
    even where it goes round or over a pole.

    Args:
      x: The field.
      multiple: What the sides are multiples of.
    """
    rows, columns = (-size % multiple for size in x.shape[1:3])
    if not rows and not columns:
        return x
    return jnp.pad(x, ((0, 0), (0, rows), (0, columns), (0, 0)), mode="edge")


def surround(
    x: Float[Array, "batch lat lon channel"], reach: int, edges: Edges
) -> Float[Array, "batch rows columns channel"]:
    """Returns a field with `reach` more rows and columns on each side.

    Args:
      x: The field.
      reach: Rows and columns to add, at most as many as there are behind the edge.
      edges: What they hold.
    """
    if not reach:
        return x
    if edges == ZERO:
        return jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    first = _beyond(x[:, : reach + 1], reach, edges.over_first_row)
    last = _beyond(x[:, -reach - 1 :][:, ::-1], reach, edges.over_last_row)
    x = jnp.concatenate([first[:, ::-1], x, last], axis=1)
    if edges.columns == "around":
        return jnp.concatenate([x[:, :, -reach:], x, x[:, :, :reach]], axis=2)
    mode = "constant" if edges.columns == "zero" else "edge"
    return jnp.pad(x, ((0, 0), (0, 0), (reach, reach), (0, 0)), mode=mode)


def _beyond(rows: Array, reach: int, kind: str) -> Array:
    """Returns what lies beyond an edge, nearest first; so are the rows behind it."""
    if kind in ("repeat", "zero"):
        repeated = jnp.repeat(rows[:, :1], reach, axis=1)
        return repeated if kind == "repeat" else jnp.zeros_like(repeated)
    first = 1 if kind == "on_pole" else 0
    across = rows[:, first : first + reach]
    return jnp.roll(across, across.shape[2] // 2, axis=2)
