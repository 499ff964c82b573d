"""How fields go on beyond the rows and columns of their grid."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["ZERO", "Edges", "check_reach", "coarsened", "fill_up", "surround"]


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
