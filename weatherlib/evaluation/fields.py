"""What a metric sees of one block: forecast, truth and climatology as arrays."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from weatherlib.evaluation import events, regions

__all__ = ["Fields", "Limit", "Reducer"]

Sums = tuple[np.ndarray, np.ndarray]
"""Weighted sums and sums of weights, both [init, lead, level, region, ...]."""


@dataclasses.dataclass(frozen=True)
class Reducer:
    """Sums over the points of each region.

    Attributes:
      weights: Area of each point that lies in each region, shape [region, row, column].
    """

    weights: np.ndarray

    @functools.cached_property
    def _matrix(self) -> np.ndarray:
        return np.ascontiguousarray(self.weights.reshape(len(self.weights), -1).T)

    def __call__(self, values: np.ndarray) -> Sums:
        """Returns the weighted sums of fields and the weights they hold.

        Values that are NaN or infinite are left out together with their weight.

        Args:
          values: Shape [..., row, column].

        Returns:
          Two arrays of shape [..., region].
        """
        flat = np.ascontiguousarray(values).reshape(-1, self._matrix.shape[0])
        # An infinite value, or weight 0 times one, also makes the sum not finite.
        with np.errstate(invalid="ignore", over="ignore"):
            sums = flat @ self._matrix
        held = np.broadcast_to(self._matrix.sum(0), sums.shape).copy()
        broken = ~np.isfinite(sums).all(axis=1)
        if broken.any():
            valid = np.isfinite(flat[broken])
            sums[broken] = np.where(valid, flat[broken], 0.0) @ self._matrix
            held[broken] = valid.astype(np.float64) @ self._matrix
        shape = (*values.shape[:-2], self._matrix.shape[1])
        return sums.reshape(shape), held.reshape(shape)


@dataclasses.dataclass(frozen=True)
class Limit:
    """A threshold of the variable at hand.

    Attributes:
      threshold: What makes an event.
      values: The value, or the quantile at each point, [level, row, column].
    """

    threshold: events.Threshold
    values: np.ndarray | float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fields:
    """One variable at some starts, lead times and levels.

    Attributes:
      members: Forecasts, shape [member, init, lead, level, row, column].
      truth: Shape [init, lead, level, row, column].
      climatology: As `truth`, None where no metric needs it.
      limits: Thresholds of the variable.
      neighbourhoods: Sides of squares for the fractions skill score, in points.
      reduce: Sums over regions.
      grid: The points.
      key: What the random numbers of each field depend on, one per field: shape [init,
        lead, level].
      truncation: Highest wavenumber of spherical spectra.
    """

    members: np.ndarray
    truth: np.ndarray
    climatology: np.ndarray | None
    limits: tuple[Limit, ...]
    neighbourhoods: tuple[int, ...]
    reduce: Reducer
    grid: regions.Grid
    key: np.ndarray
    truncation: int

    @functools.cached_property
    def mean(self) -> np.ndarray:
        """The forecast, or the mean of its members, of the shape of the truth."""
        return self.members[0] if len(self.members) == 1 else self.members.mean(0)

    @functools.cached_property
    def error(self) -> np.ndarray:
        """The forecast less the truth, of its shape."""
        return self.mean - self.truth

    @functools.cached_property
    def squared_error(self) -> np.ndarray:
        """The square of the error, of the shape of the truth."""
        return self.error**2

    @functools.cached_property
    def anomalies(self) -> tuple[np.ndarray, np.ndarray]:
        """Departures of forecast and truth from the climatology, NaN where one is.

        Both have the shape of the truth.
        """
        assert self.climatology is not None
        ours, theirs = self.mean - self.climatology, self.truth - self.climatology
        missing = ~np.isfinite(ours + theirs)
        if missing.any():
            ours = np.where(missing, np.nan, ours)
            theirs = np.where(missing, np.nan, theirs)
        return ours, theirs

    @functools.cached_property
    def truth_events(self) -> tuple[np.ndarray, ...]:
        """For each limit 1 where the truth is an event, else 0, NaN where missing.

        Each has the shape of the truth.
        """
        return tuple(x.threshold.events(self.truth, x.values) for x in self.limits)

    @functools.cached_property
    def forecast_events(self) -> tuple[np.ndarray, ...]:
        """As `truth_events` for the forecast or the mean of its members."""
        return tuple(x.threshold.events(self.mean, x.values) for x in self.limits)

    @functools.cached_property
    def probabilities(self) -> tuple[np.ndarray, ...]:
        """For each limit the share of members that are an event.

        Each has the shape of the truth.
        """
        return tuple(
            x.threshold.events(self.members, x.values).mean(0) for x in self.limits
        )

    @functools.cached_property
    def fss_sums(self) -> tuple[Sums, Sums]:
        """Sums of (Pf - Po)^2 and of Pf^2 + Po^2, P the share of events round a point.

        Both are needed, and the shares of events are what takes time. Their last axes
        are [..., threshold, neighbourhood].
        """
        found: list[tuple[Sums, Sums]] = []
        for ours, theirs in zip(self.forecast_events, self.truth_events):
            missing = np.isnan(ours + theirs)
            filled = [np.where(missing, 0.0, x) for x in (ours, theirs)]
            for size in self.neighbourhoods:
                near, true = (
                    events.fractions(x, size, periodic=self.grid.is_periodic)
                    for x in filled
                )
                values = ((near - true) ** 2, near**2 + true**2)
                for value in values:
                    value[missing] = np.nan
                found.append((self.reduce(values[0]), self.reduce(values[1])))
        shape = (len(self.limits), len(self.neighbourhoods))

        def joined(part: int, kind: int) -> np.ndarray:
            stacked = np.stack([pair[part][kind] for pair in found], -1)
            return stacked.reshape(*stacked.shape[:-1], *shape)

        return (joined(0, 0), joined(0, 1)), (joined(1, 0), joined(1, 1))
