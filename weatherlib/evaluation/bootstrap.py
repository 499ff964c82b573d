"""How sure a score is: moving-block bootstrap over the starts of forecasts."""

from __future__ import annotations

import numpy as np

__all__ = ["block_counts", "default_block", "interval", "p_value"]

# Errors of forecasts that start within these days of each other resemble each other.
_MEMORY = np.timedelta64(5, "D")


def default_block(inits: np.ndarray) -> int:
    """Returns how many consecutive starts to keep together.

    As many as lie within five days, and at least the cube root of their number, but at
    most half of them.

    Args:
      inits: Starts, ascending, datetime64[ns], shape [start].
    """
    count = len(inits)
    if count < 2:
        return 1
    step = np.median(np.diff(inits))
    wanted = max(int(np.ceil(_MEMORY / step)), int(np.ceil(count ** (1 / 3))))
    return max(1, min(wanted, count // 2))


def block_counts(count: int, block: int, resamples: int, seed: int) -> np.ndarray:
    """Returns how often each start is drawn in each sample, [sample, start].

    Blocks of consecutive starts are drawn with replacement from all places and the last
    one is cut, so that each sample holds as many starts as there are.

    Args:
      count: Number of starts.
      block: Starts in a block.
      resamples: Number of samples.
      seed: Of the random numbers.

    Source: Kuensch 1989, doi:10.1214/aos/1176347265.
    """
    block = min(block, count)
    generator = np.random.default_rng(seed)
    pieces = -(-count // block)
    first = generator.integers(0, count - block + 1, (resamples, pieces))
    drawn = (first[:, :, None] + np.arange(block)).reshape(resamples, -1)[:, :count]
    counts = np.zeros((resamples, count))
    np.add.at(counts, (np.arange(resamples)[:, None], drawn), 1.0)
    return counts


def interval(samples: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ends of the interval that holds the middle of the samples.

    Args:
      samples: Shape [sample, ...]; NaN ones are left out.
      confidence: Share of the samples that the interval holds.

    Returns:
      Lower and upper end, shape [...]; NaN where no sample has a value.
    """
    tails = ((1 - confidence) / 2, (1 + confidence) / 2)
    if not np.isnan(samples).any():
        low, high = np.quantile(samples, tails, axis=0)
        return low, high
    known = ~np.isnan(samples).all(axis=0)
    low, high = np.full((2, *samples.shape[1:]), np.nan)
    if known.any():
        low[known], high[known] = np.nanquantile(samples[:, known], tails, axis=0)
    return low, high


def p_value(differences: np.ndarray) -> np.ndarray:
    """Returns the two-sided probability that the sign of a difference is by chance.

    Twice the smaller share of samples on either side of zero, at least 2 / (samples +
    1). NaN where no sample has a value.

    Args:
      differences: Of two models in the same samples, shape [sample, ...].

    Returns:
      Shape [...].
    """
    known = (~np.isnan(differences)).sum(0)
    with np.errstate(invalid="ignore"):
        below = (differences <= 0).sum(0) + 1
        above = (differences >= 0).sum(0) + 1
    found = np.minimum(1.0, 2.0 * np.minimum(below, above) / (known + 1))
    return np.where(known > 0, found, np.nan)
