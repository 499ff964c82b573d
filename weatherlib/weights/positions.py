"""Position embeddings of one grid carried over to another."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["bicubic", "grid_of_tokens", "interpolate"]

# Sharpness of the cubic kernel in torch; that of JAX is -0.5.
_A = -0.75


def grid_of_tokens(count: int) -> tuple[int, int]:
    """Returns rows and columns of tokens on a grid twice as wide as high.

    Args:
      count: Tokens.

    Raises:
      ValueError: They fill no such grid.
    """
    rows = math.isqrt(count // 2)
    if 2 * rows * rows != count:
        raise ValueError(
            f"{count} position embeddings fill no grid twice as wide as high; its rows "
            "and columns have to be given"
        )
    return rows, 2 * rows


def interpolate(
    table: np.ndarray, old: tuple[int, int], new: tuple[int, int]
) -> np.ndarray:
    """Returns position embeddings of another number of rows and columns.

    Args:
      table: Shape [1, rows * columns, width], row by row.
      old: Rows and columns of `table`.
      new: Rows and columns wanted.

    Returns:
      Shape [1, rows * columns, width] of the new grid, of the type of `table`.

    Raises:
      ValueError: `table` does not have the size of the old grid.
    """
    rows, columns = old
    if table.ndim != 3 or table.shape[:2] != (1, rows * columns):
        raise ValueError(
            f"position embeddings of shape {list(table.shape)} do not belong to "
            f"{rows}x{columns} patches"
        )
    fields = table[0].reshape(rows, columns, -1).astype(np.float64)
    down, across = bicubic(rows, new[0]), bicubic(columns, new[1])
    moved = np.einsum("ir,rcd->icd", down, fields)
    moved = np.einsum("jc,icd->ijd", across, moved)
    return moved.reshape(1, new[0] * new[1], -1).astype(table.dtype)


def bicubic(old: int, new: int) -> np.ndarray:
    """Returns the weights by which values at old places give those at new ones.

    Places are the centres of equal cells; beyond the edge the outermost value is
    repeated, and nothing is smoothed where the new cells are larger.

    Args:
      old: Cells there are.
      new: Cells wanted.

    Returns:
      Shape [new, old], float64; each row sums to 1.

    Source: `torch.nn.functional.interpolate`, mode "bicubic", align_corners False.
    """
    places = (np.arange(new) + 0.5) * (old / new) - 0.5
    first = np.floor(places)
    weights = np.zeros((new, old))
    for offset in (-1, 0, 1, 2):
        distance = np.abs(places - first - offset)
        near = ((_A + 2) * distance - (_A + 3)) * distance**2 + 1
        far = _A * (((distance - 5) * distance + 8) * distance - 4)
        index = np.clip(first + offset, 0, old - 1).astype(int)
        np.add.at(weights, (np.arange(new), index), np.where(distance <= 1, near, far))
    return weights
