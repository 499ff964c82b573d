"""Count, mean, spread and minimum of values that arrive block by block."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from weatherlib.data_utils import tiled_sums

__all__ = ["Moments", "add_block"]

# Share of the squares of a block that its distance from where they are taken may make
# up, before their difference loses digits.
_FAR = 0.75

# Square of a mean, as a share of the variance, that costs squares no digits.
_SMALL = 0.1

# Mean squares below which single precision runs out of exponents.
_TINY = 1e-30


@dataclasses.dataclass
class Moments:
    """Moments of values on levels, merged without loss of precision.

    Values of single precision are handled in it, a piece at a time that fits the cache:
    the distances from a point near the mean are as good as exact, and no more than a
    few thousand of them or of their squares are added before double precision takes
    over. That point is the mean so far, so that squares are never much larger than what
    they add to the sum of squared deviations, or the mean of the block where little
    came before. Where that does not do, double precision is used throughout.

    Attributes:
      weight: Sum of weights; the number of values where they count equally. [level]
      mean: Weighted mean. [level]
      squares: Weighted sum of squared deviations from the mean. [level]
      minimum: Smallest value, infinity before there is one. [level]
      count: Values added. [level]
      missing: Values left out because they were NaN. [level]

    Source: Chan, Golub and LeVeque (1979), Updating formulae and a pairwise algorithm
    for computing sample variances.
    """

    weight: np.ndarray
    mean: np.ndarray
    squares: np.ndarray
    minimum: np.ndarray
    count: np.ndarray
    missing: np.ndarray

    @classmethod
    def empty(cls, levels: int) -> Moments:
        """Returns the moments of no value at all."""
        return cls(
            weight=np.zeros(levels),
            mean=np.zeros(levels),
            squares=np.zeros(levels),
            minimum=np.full(levels, np.inf),
            count=np.zeros(levels, np.int64),
            missing=np.zeros(levels, np.int64),
        )

    @property
    def stddev(self) -> np.ndarray:
        """The standard deviation, NaN where there is no value. Shape [level]."""
        unknown = np.full(self.weight.shape, np.nan)
        known = self.weight > 0
        return np.sqrt(np.divide(self.squares, self.weight, out=unknown, where=known))

    @property
    def known_mean(self) -> np.ndarray:
        """The mean, NaN where there is no value. Shape [level]."""
        return np.where(self.weight > 0, self.mean, np.nan)

    @property
    def known_minimum(self) -> np.ndarray:
        """The smallest value, NaN where there is none. Shape [level]."""
        return np.where(self.count > 0, self.minimum, np.nan)

    def add(self, level: int, sums: tiled_sums.Sums) -> None:
        """Adds values of one level, given the sums of their distances from a point."""
        mean = sums.total / sums.weight if sums.weight else 0.0
        part = Moments(
            weight=np.array([sums.weight]),
            mean=np.array([sums.shift + mean]),
            squares=np.array([max(0.0, sums.squares - sums.total * mean)]),
            minimum=np.array([sums.minimum]),
            count=np.array([sums.count]),
            missing=np.array([sums.missing]),
        )
        self.merge(part, slice(level, level + 1))

    def outweighs(self, level: int, sums: tiled_sums.Sums) -> bool:
        """Returns whether sums may be added that were taken about the mean so far.

        Their squares are exact to single precision, and much of them may go away with
        the distance of their mean from the shift. Either little of them does, or it
        comes back when they are merged with as many values.
        """
        if not np.isfinite(sums.squares) or sums.squares < _TINY * sums.weight:
            return False
        is_near = sums.total**2 <= _FAR * sums.squares * sums.weight
        return is_near or bool(self.count[level] >= sums.count)

    def merge(self, other: Moments, levels: slice = slice(None)) -> None:
        """Adds the moments of other values, which may stand for some levels only."""
        total = self.weight[levels] + other.weight
        share = np.divide(
            other.weight, total, out=np.zeros_like(total), where=total > 0
        )
        shift = other.mean - self.mean[levels]
        self.squares[levels] += other.squares + shift**2 * self.weight[levels] * share
        self.mean[levels] += shift * share
        self.weight[levels] = total
        self.minimum[levels] = np.minimum(self.minimum[levels], other.minimum)
        self.count[levels] += other.count
        self.missing[levels] += other.missing


def add_block(
    values: Moments,
    changes: Moments,
    block: np.ndarray,
    pairs: Sequence[tuple[slice, np.ndarray]],
    weights: np.ndarray | None = None,
) -> None:
    """Adds a block to the moments of values and of changes, NaNs left out and counted.

    Args:
      values: Grows by the block.
      changes: Grows by later frames less earlier ones.
      block: Any numbers, shape [time, level, point].
      pairs: Which of the frames are later ones, and the earlier ones of these, shape
        [time, level, point].
      weights: How much each point counts, shape [point]. Default: one.

    Raises:
      ValueError: A value is infinite.
    """
    for level in range(block.shape[1]):
        frames = tiled_sums.Block(
            values=block[:, level],
            pairs=[(later, earlier[:, level]) for later, earlier in pairs],
            weights=weights,
        )
        shifts = _shifts(values, changes, level, frames.values)
        gaps = bool(values.missing[level] or changes.missing[level])
        found = frames.sums(*shifts, gaps=gaps)
        if not gaps and any(np.isnan(one.total) for one in found):
            found = frames.sums(*shifts, gaps=True)
        both = (values, changes)
        if not all(m.outweighs(level, one) for m, one in zip(both, found)):
            found = frames.sums(*map(_mean_of, found), gaps=True, precise=True)
        if not all(np.isfinite(one.total) for one in found):
            raise ValueError("infinite values; mark what is missing as NaN")
        for whole, one in zip(both, found):
            whole.add(level, one)


def _shifts(
    values: Moments, changes: Moments, level: int, frames: np.ndarray
) -> list[float]:
    """Returns points that are likely to lie near the means of values and changes."""
    shift, change = float(values.mean[level]), float(changes.mean[level])
    if not values.count[level]:
        known = frames[0][np.isfinite(frames[0])]
        shift = float(known.mean(dtype=np.float64)) if known.size else 0.0
    if change**2 * changes.weight[level] <= _SMALL * changes.squares[level]:
        # Changes hardly ever have a mean that is worth a pass over them.
        change = 0.0
    return [shift, change]


def _mean_of(sums: tiled_sums.Sums) -> float:
    """Returns the mean of values, or a point near it where it is not known."""
    is_known = np.isfinite(sums.total) and sums.weight
    return sums.shift + (sums.total / sums.weight if is_known else 0.0)
