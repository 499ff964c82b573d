"""Sums by hour and day of the year, and the usual weather that follows from them."""

from __future__ import annotations

import dataclasses

import numpy as np

from weatherlib.data_utils import series

__all__ = ["DAYS", "Calendar", "Request", "usual", "window_weights"]

DAYS = 366
_YEAR = 365.2425


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calendar:
    """Where each frame of a series belongs.

    Attributes:
      hours: Hours of the day that occur, ascending.
      slots: For each frame, number of its hour times `DAYS` plus its day from 0.
    """

    hours: tuple[int, ...]
    slots: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What is wanted of a stretch of a series.

    Attributes:
      piece: All frames of some levels and rows.
      calendar: Of the whole series.
      window: Days of the smoothing window, odd.
      harmonics: Waves a year of the fit; 0 for a smoothed mean.
    """

    piece: series.Piece
    calendar: Calendar
    window: int
    harmonics: int


def window_weights(window: int) -> np.ndarray:
    """Returns how much each day of the year counts for each, shape [366, 366].

    They fall linearly with the distance in days, around the turn of the year, and are
    nothing from half the window on; a window of one day is that day.
    """
    distance = np.abs(np.arange(DAYS)[:, np.newaxis] - np.arange(DAYS))
    distance = np.minimum(distance, DAYS - distance)
    return np.maximum(0.0, 1.0 - distance / max(window // 2, 1))


def usual(request: Request) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation by hour and day of the year.

    Returns:
      Two float32 arrays of shape [hour, day, level * point].

    Raises:
      OSError: Values cannot be read.
    """
    offset, count, total, squares = _sums(request)
    weights = window_weights(request.window)
    if request.harmonics:
        mean = _fitted(count, total, request.harmonics)
    else:
        mean = _divided(weights @ total, weights @ count)
    # Deviations from the mean of their own day, so that the season, which changes
    # within the window, is no spread.
    about = np.where(count > 0, mean, 0.0)
    squares = squares - 2 * about * total + about**2 * count
    variance = _divided(weights @ squares, weights @ count)
    deviation = np.sqrt(np.maximum(variance, 0.0))
    return (mean + offset).astype(np.float32), deviation.astype(np.float32)


def _sums(
    request: Request,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns an offset near the mean, and count, sum and sum of squares without it.

    Returns:
      Shape [level * point], and three of shape [hour, day, level * point]; the count
      has a last dimension of 1 where nothing is missing.
    """
    piece, calendar = request.piece, request.calendar
    shape = (len(calendar.hours) * DAYS, 1)
    offset = None
    count = np.zeros(shape)
    total = squares = np.empty(0)
    for first, stop in piece.blocks():
        block = piece.series.read(first, stop)
        block = block.reshape(len(block), -1).astype(np.float64)
        known = ~np.isnan(block)
        gaps = not known.all()
        if offset is None:
            # Squares stay small, so that their difference keeps its digits.
            number = np.maximum(known.sum(axis=0), 1)
            offset = np.where(known, block, 0.0).sum(axis=0) / number
            total = np.zeros((shape[0], block.shape[1]))
            squares = np.zeros_like(total)
        block -= offset
        if gaps:
            block[~known] = 0.0
            count = np.broadcast_to(count, total.shape).copy()
        for frame, slot in enumerate(calendar.slots[first:stop]):
            total[slot] += block[frame]
            squares[slot] += block[frame] ** 2
            count[slot] += known[frame] if count.shape[1] > 1 else 1.0
    assert offset is not None, "a piece has frames"
    parts = (len(calendar.hours), DAYS, -1)
    return (
        offset,
        count.reshape(parts),
        total.reshape(parts),
        squares.reshape(parts),
    )


def _divided(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns sums by counts, NaN where there is nothing."""
    counts = np.broadcast_to(counts, sums.shape)
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def _fitted(count: np.ndarray, total: np.ndarray, harmonics: int) -> np.ndarray:
    """Returns the fit of a mean and waves by least squares, each hour by itself.

    Args:
      count: Values of each day, shape [hour, day, point] or [hour, day, 1].
      total: Their sums, shape [hour, day, point].
      harmonics: Waves a year.
    """
    phase = 2 * np.pi * np.arange(DAYS) / _YEAR
    waves = [np.ones(DAYS)]
    for wave in range(1, harmonics + 1):
        waves += [np.cos(wave * phase), np.sin(wave * phase)]
    basis = np.stack(waves, axis=1)
    normal = np.einsum("hdp,df,dg->hpfg", count, basis, basis, optimize=True)
    right = np.einsum("hdp,df->hpf", total, basis, optimize=True)
    empty = np.broadcast_to(count.sum(axis=1) == 0, right.shape[:2])
    # A tiny ridge: points with few values have an answer too.
    scale = np.trace(normal, axis1=2, axis2=3)[..., np.newaxis, np.newaxis]
    normal = normal + (1e-12 * scale + (scale == 0)) * np.eye(basis.shape[1])
    fit = np.linalg.solve(
        np.broadcast_to(normal, (*right.shape, right.shape[2])),
        right[..., np.newaxis],
    )[..., 0]
    fit[empty] = np.nan
    return np.einsum("hpf,df->hdp", fit, basis, optimize=True)
