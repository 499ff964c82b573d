"""Fields cut into patches that are the points of a coarser grid, and back."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.nn.edges import Edges

__all__ = ["from_patches", "patch_edges", "to_patches"]


def to_patches(
    field: Float[Array, "*batch lat lon channel"], patch: tuple[int, int]
) -> Float[Array, "*batch row column value"]:
    """Returns the values of each patch as the channels of one point.

    Values go row by row within a patch, the channel last. Where a patch reaches over
    the end, the field is continued with its last row and column.

    Args:
      field: Rows and columns are the third and second axis from the end.
      patch: Its rows and columns.
    """
    if patch == (1, 1):
        return field
    *batch, lat, lon, channels = field.shape
    rows, columns = -(-lat // patch[0]), -(-lon // patch[1])
    more = (rows * patch[0] - lat, columns * patch[1] - lon)
    if any(more):
        none = ((0, 0),) * len(batch)
        widths = (*none, (0, more[0]), (0, more[1]), (0, 0))
        field = jnp.pad(field, widths, mode="edge")
    cut = field.reshape(*batch, rows, patch[0], columns, patch[1], channels)
    return jnp.swapaxes(cut, -4, -3).reshape(*batch, rows, columns, -1)


def from_patches(
    points: Float[Array, "*batch row column value"],
    patch: tuple[int, int],
    sizes: tuple[int, int],
) -> Float[Array, "*batch lat lon channel"]:
    """Returns the field whose patches the points hold; the inverse of `to_patches`.

    Args:
      points: Values in the order of `to_patches`.
      patch: Rows and columns of a patch.
      sizes: Rows and columns of the field; what lies beyond is cut off.
    """
    if patch == (1, 1):
        return points
    *batch, rows, columns, values = points.shape
    channels = values // (patch[0] * patch[1])
    apart = points.reshape(*batch, rows, columns, *patch, channels)
    field = jnp.swapaxes(apart, -4, -3)
    field = field.reshape(*batch, rows * patch[0], columns * patch[1], channels)
    return field[..., : sizes[0], : sizes[1], :]


def patch_edges(edges: Edges, patch: tuple[int, int], sizes: tuple[int, int]) -> Edges:
    """Returns how the coarser grid goes on beyond its edges.

    Over a pole go whole patches, whose rows keep their order. A pole that the field
    does not reach with a whole patch is none any more: the last row is repeated there.

    Args:
      edges: Of the field.
      patch: Rows and columns of a patch.
      sizes: Rows and columns of the field.

    Raises:
      ValueError: The field goes round, and the patch does not divide its columns.
    """
    if patch == (1, 1):
        return edges
    rows, columns = sizes
    if edges.columns == "around" and columns % patch[1]:
        raise ValueError(
            f"patch_size {patch[1]} does not divide the {columns} columns of a grid "
            "that goes round; take a size that does, or edges zero or regional"
        )
    halves = columns // patch[1] % 2 == 0

    def coarser(kind: str, whole: bool) -> str:
        if kind not in ("pole", "on_pole"):
            return kind
        return "pole" if whole and halves else "repeat"

    return Edges(
        columns=edges.columns,
        over_first_row=coarser(edges.over_first_row, True),
        over_last_row=coarser(edges.over_last_row, rows % patch[0] == 0),
    )
