"""Scores of ensembles at each point, on arrays. Members lie along the first axis."""

from __future__ import annotations

import numpy as np

__all__ = [
    "crps",
    "energy_parts",
    "energy_score",
    "mean_distance",
    "ranks",
    "squared_norms",
    "variance",
]


def mean_distance(members: np.ndarray) -> np.ndarray:
    """Returns the mean of |x_i - x_j| over all ordered pairs, i = j among them.

    Sorting makes it O(M log M): the sum over pairs i < j of the sorted members is the
    sum of (2 k - M - 1) x_k, k counted from 1.

    Args:
      members: Shape [member, ...].

    Returns:
      Shape [...], NaN where a member is.
    """
    count = members.shape[0]
    if count == 1:
        return members[0] * 0.0
    ordered = np.sort(np.asarray(members, np.float64), axis=0)
    # Differences from the middle member, so that large values lose no digits.
    ordered = ordered - ordered[count // 2]
    factors = 2.0 * np.arange(1, count + 1) - count - 1
    return 2.0 * np.tensordot(factors, ordered, axes=1) / count**2


def crps(members: np.ndarray, truth: np.ndarray, *, fair: bool = False) -> np.ndarray:
    """Returns the continuous ranked probability score at each point.

    mean |x_i - y| - 1/2 sum |x_i - x_j| / D, with D = M^2 for the score of the
    ensemble as it is, and D = M (M - 1) for the fair score, whose expectation does not
    depend on the number of members.

    Args:
      members: Shape [member, ...].
      truth: Shape [...].
      fair: Whether to return the fair score.

    Raises:
      ValueError: The fair score of a single member.

    Source: Ferro 2014, doi:10.1002/qj.2270; Zamo and Naveau 2018,
    doi:10.1007/s11004-017-9709-7.
    """
    count = members.shape[0]
    if fair and count < 2:
        raise ValueError("the fair CRPS needs at least 2 members, found 1")
    skill = np.abs(np.asarray(members, np.float64) - truth).mean(0)
    factor = count / (count - 1) if fair else 1.0
    return skill - 0.5 * factor * mean_distance(members)


def variance(members: np.ndarray) -> np.ndarray:
    """Returns the unbiased variance of the members at each point, 0 for one member.

    Args:
      members: Shape [member, ...].

    Returns:
      Shape [...].
    """
    if members.shape[0] == 1:
        return members[0] * 0.0
    return np.asarray(members, np.float64).var(axis=0, ddof=1)


def ranks(
    members: np.ndarray, truth: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Returns the place of the truth among the members, 0 to M.

    Among members equal to the truth, such as no rain, the place is drawn at random.

    Args:
      members: Shape [member, ...].
      truth: Shape [...].
      generator: Draws the places of ties.

    Returns:
      int64 of shape [...], -1 where a value is missing.
    """
    below = (members < truth).sum(0)
    equal = (members == truth).sum(0)
    if equal.any():
        below = below + generator.integers(0, equal + 1)
    return np.where(np.isnan(truth) | np.isnan(members).any(0), -1, below)


def squared_norms(
    members: np.ndarray, truth: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns weighted mean squares of member minus truth and of pairs of members.

    Args:
      members: Fields as vectors without NaN, shape [member, point].
      truth: Shape [point].
      weights: Sum 1, shape [point].

    Returns:
      Shape [member], and [member, member].
    """
    # About the ensemble mean, so that the Gram matrix loses no digits.
    centre = members.mean(0)
    centred = (members - centre) * np.sqrt(weights)
    gram = centred @ centred.T
    size = np.diag(gram)
    pairs = np.maximum(size[:, None] + size[None, :] - 2.0 * gram, 0.0)
    np.fill_diagonal(pairs, 0.0)
    return ((members - truth) ** 2) @ weights, pairs


def energy_score(
    members: np.ndarray, truth: np.ndarray, weights: np.ndarray, *, fair: bool = False
) -> float:
    """Returns the energy score of an ensemble of fields.

    mean ||x_i - y|| - 1/2 sum ||x_i - x_j|| / D, with D as for `crps` and ||.|| the
    root of the weighted mean square, as in WeatherBench 2.

    Args:
      members: Shape [member, point].
      truth: Shape [point].
      weights: Not negative, shape [point]. Points with a missing value are left out.
      fair: Whether to return the fair score.

    Returns:
      NaN where no point is left.

    Source: Gneiting and Raftery 2007, doi:10.1198/016214506000001437.
    """
    skill, spread = energy_parts(members, truth, weights)
    count = members.shape[0]
    return skill - 0.5 * spread * (count / (count - 1) if fair else 1.0)


def energy_parts(
    members: np.ndarray, truth: np.ndarray, weights: np.ndarray
) -> tuple[float, float]:
    """Returns the means of ||x_i - y|| and of ||x_i - x_j|| over all M^2 pairs.

    Args:
      members: Shape [member, ...].
      truth: Shape [...].
      weights: Of the points, shape [...]; points where a value is missing or the weight
        is 0 do not count.

    Returns:
      Both in the unit of the field; NaN where no point counts.
    """
    held = (weights > 0) & ~np.isnan(truth) & ~np.isnan(members).any(0)
    total = weights[held].sum()
    if not total > 0:
        return np.nan, np.nan
    to_truth, pairs = squared_norms(
        members[:, held], truth[held], weights[held] / total
    )
    return float(np.sqrt(to_truth).mean()), float(np.sqrt(pairs).mean())
