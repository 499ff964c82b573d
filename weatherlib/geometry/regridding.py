"""Weights that carry fields from one latitude-longitude grid to another.

Both kinds factor into a matrix for the rows and one for the columns.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

__all__ = [
    "column_overlaps",
    "column_weights",
    "covers_circle",
    "row_overlaps",
    "row_weights",
]

# Share of a step by which edges may miss each other.
_SLACK = 1e-6


def covers_circle(lon: Float[np.ndarray, " lon"]) -> bool:
    """Tells whether columns lie evenly all around the globe.

    Args:
      lon: Degrees east, ascending, shape [lon].
    """
    if lon.size < 3:
        return False
    gaps = np.diff(lon, append=lon[0] + 360)
    return bool(np.all(np.abs(gaps - 360 / lon.size) < 0.02 * 360 / lon.size))


def row_overlaps(
    source: Float[np.ndarray, " source"], target: Float[np.ndarray, " target"]
) -> Float[np.ndarray, "target source"]:
    """Returns which share of each target row lies in each source row, by area.

    Rows reach half way to their neighbours, and to the pole where it is no more than a
    step away.

    Args:
      source: Row centres, ascending. Degrees north, shape [source].
      target: Row centres, ascending, shape [target].

    Returns:
      Shares of the area of the target row; they add up to 1 where it is covered. Shape
      [target, source].
    """
    old = np.sin(np.deg2rad(_row_edges(source)))
    new = np.sin(np.deg2rad(_row_edges(target)))
    return _overlaps(old, new)


def column_overlaps(
    source: Float[np.ndarray, " source"], target: Float[np.ndarray, " target"]
) -> Float[np.ndarray, "target source"]:
    """Returns which share of each target column lies in each source column.

    Args:
      source: Column centres, ascending, counted in any way. Degrees east, shape
        [source].
      target: Column centres, ascending, shape [target].

    Returns:
      Shape [target, source].
    """
    old, new = _edges(source), _edges(target)
    # Longitudes are a circle: the source is laid out around the target.
    turns = range(
        int(np.floor((new[0] - old[-1]) / 360)),
        int(np.ceil((new[-1] - old[0]) / 360)) + 1,
    )
    return np.sum([_overlaps(old + 360 * turn, new) for turn in turns], axis=0)


def row_weights(
    source: Float[np.ndarray, " source"], target: Float[np.ndarray, " target"]
) -> Float[np.ndarray, "target source"]:
    """Returns weights of linear interpolation; rows beyond the source get none.

    Args:
      source: Degrees north, ascending, shape [source].
      target: Degrees north, shape [target].

    Returns:
      Shape [target, source].
    """
    return _linear(source, target)


def column_weights(
    source: Float[np.ndarray, " source"], target: Float[np.ndarray, " target"]
) -> Float[np.ndarray, "target source"]:
    """Returns weights of linear interpolation, across the seam on a whole globe.

    Args:
      source: Degrees east, ascending, shape [source].
      target: Degrees east, shape [target].

    Returns:
      Shape [target, source].
    """
    moved = source[0] + (target - source[0] + 1e-9) % 360 - 1e-9
    if not covers_circle(source):
        return _linear(source, moved)
    closed = _linear(np.append(source, source[0] + 360), moved)
    closed[:, 0] += closed[:, -1]
    return closed[:, :-1]


def _linear(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns the weights of the two neighbours of each target."""
    weights = np.zeros((target.size, source.size))
    if source.size == 1:
        weights[np.isclose(target, source[0]), 0] = 1
        return weights
    slack = _SLACK * np.abs(np.diff(source)).min()
    inside = (target >= source[0] - slack) & (target <= source[-1] + slack)
    left = np.clip(
        np.searchsorted(source, target, side="right") - 1, 0, source.size - 2
    )
    share = (target - source[left]) / (source[left + 1] - source[left])
    share = np.clip(share, 0, 1)
    rows = np.flatnonzero(inside)
    weights[rows, left[rows]] = 1 - share[rows]
    weights[rows, left[rows] + 1] += share[rows]
    return weights


def _overlaps(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Returns the share of each new interval in each old one, both by their edges."""
    low = np.maximum(old[None, :-1], new[:-1, None])
    high = np.minimum(old[None, 1:], new[1:, None])
    return np.clip(high - low, 0, None) / np.diff(new)[:, None]


def _edges(centres: np.ndarray) -> np.ndarray:
    """Returns the borders half way between centres, ends as far as on their inside."""
    if centres.size == 1:
        raise ValueError(
            f"one value ({centres[0]:g}) has no extent; conservative regridding needs "
            "at least two rows and columns"
        )
    middles = (centres[1:] + centres[:-1]) / 2
    first = 2 * centres[0] - middles[0]
    last = 2 * centres[-1] - middles[-1]
    return np.concatenate([[first], middles, [last]])


def _row_edges(centres: np.ndarray) -> np.ndarray:
    """Returns the borders of rows, the outer ones at a pole that is near."""
    edges = _edges(centres)
    step = np.diff(centres)
    if centres[0] - step[0] < -90 + _SLACK:
        edges[0] = -90
    if centres[-1] + step[-1] > 90 - _SLACK:
        edges[-1] = 90
    return edges
