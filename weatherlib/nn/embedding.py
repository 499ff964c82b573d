"""Fixed tables of sines and cosines that tell positions apart."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Real

__all__ = ["alternating_1d", "sincos_1d", "sincos_2d"]


def sincos_1d(
    width: int, positions: Real[np.ndarray, " position"]
) -> Float[np.ndarray, "position width"]:
    """Returns sines, then cosines, of positions at `width / 2` frequencies.

    The frequencies fall geometrically from 1 to about 1 / 10000 radians per unit.

    Args:
      width: Channels, an even number.
      positions: Any numbers.

    Raises:
      ValueError: `width` is odd.

    Source: Vaswani et al. (2017), arXiv 1706.03762, with the sines side by side.
    """
    if width % 2:
        raise ValueError(f"a table of sines and cosines has an even width, not {width}")
    half = width // 2
    frequencies = 10000.0 ** -(np.arange(half, dtype=np.float64) / half)
    angles = np.asarray(positions, np.float64)[:, np.newaxis] * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def alternating_1d(
    width: int, positions: Real[np.ndarray, " position"]
) -> Float[np.ndarray, "position width"]:
    """Returns the table of `sincos_1d` with sines on even and cosines on odd columns.

    Args:
      width: Channels, an even number.
      positions: Any numbers.

    Raises:
      ValueError: `width` is odd.

    Source: Vaswani et al. (2017), arXiv 1706.03762, section 3.5.
    """
    table = sincos_1d(width, positions)
    return table.reshape(-1, 2, width // 2).swapaxes(1, 2).reshape(table.shape)


def sincos_2d(
    width: int, rows: int, columns: int
) -> Float[np.ndarray, "position width"]:
    """Returns the table of a grid, row by row.

    The first half of the channels tells the column, the second half the row, as in the
    published weights of masked autoencoders and of ClimaX.

    Args:
      width: Channels, a multiple of 4.
      rows: Of the grid.
      columns: Of the grid.

    Raises:
      ValueError: `width` is no multiple of 4.
    """
    if width % 4:
        raise ValueError(f"a table of two axes needs a multiple of 4, not {width}")
    row, column = np.indices((rows, columns), dtype=np.float64)
    return np.concatenate(
        [
            sincos_1d(width // 2, column.reshape(-1)),
            sincos_1d(width // 2, row.reshape(-1)),
        ],
        axis=1,
    )
