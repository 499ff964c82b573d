"""What is summed over points and starts, from which metrics are made.

A statistic takes the fields of a block and returns weighted sums and weights of shape
[init, lead, level, region, ...]; those without regions leave that axis out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from weatherlib.evaluation import ensemble, fields, regions, spectra

__all__ = [
    "PROBABILITY_BINS",
    "STATISTICS",
    "Statistic",
    "probabilities",
    "ranks_of",
]

# Bins of forecast probability of the reliability diagram: 0 to 0.05, 0.05 to 0.15, ...
PROBABILITY_BINS = 11

_LONG = {
    "rank",
    "probability",
    "total_wavenumber",
    "zonal_wavenumber",
    "radial_wavenumber",
}

Compute = Callable[[fields.Fields], fields.Sums]


@dataclasses.dataclass(frozen=True)
class Statistic:
    """One quantity to be summed.

    Attributes:
      compute: Returns sums and weights.
      dims: Dimensions after the regions, such as "rank".
      regional: Whether there is an axis of regions.
      needs: What must be there: "climatology", "members", "thresholds", "global",
        "periodic", "plane".
    """

    compute: Compute
    dims: tuple[str, ...] = ()
    regional: bool = True
    needs: frozenset[str] = frozenset()

    @property
    def per_start(self) -> bool:
        """Whether each start is kept; long vectors are summed over starts at once."""
        return not _LONG & set(self.dims)


def ranks_of(members: int) -> np.ndarray:
    """Returns the ranks of truth, counted from 1 as in published histograms."""
    return np.arange(1, members + 2)


def probabilities() -> np.ndarray:
    """Returns the middles of the bins of forecast probability."""
    return np.arange(PROBABILITY_BINS) / (PROBABILITY_BINS - 1)


def _gridded(compute: Callable[[fields.Fields], np.ndarray]) -> Compute:
    """Returns the sums of a field with a value at each point."""
    return lambda block: block.reduce(compute(block))


def _anomaly(index: int, power: int) -> Compute:
    return lambda block: block.reduce(block.anomalies[index] ** power)


def _anomaly_product(block: fields.Fields) -> fields.Sums:
    ours, theirs = block.anomalies
    return block.reduce(ours * theirs)


def _member_error(block: fields.Fields) -> fields.Sums:
    total = np.zeros_like(block.truth)
    for member in block.members:
        total += np.abs(member - block.truth)
    return block.reduce(total / len(block.members))


def _member_distance(block: fields.Fields) -> fields.Sums:
    return block.reduce(_where_truth(block, ensemble.mean_distance(block.members)))


def _variance(block: fields.Fields) -> fields.Sums:
    return block.reduce(_where_truth(block, ensemble.variance(block.members)))


def _where_truth(block: fields.Fields, values: np.ndarray) -> np.ndarray:
    """Returns values where there is truth, so that all scores see the same points."""
    missing = np.isnan(block.truth)
    return np.where(missing, np.nan, values) if missing.any() else values


def _ranks(block: fields.Fields) -> fields.Sums:
    """Returns how often the truth takes each rank among the members."""
    places = np.empty(block.truth.shape, np.int64)
    for index in np.ndindex(*block.key.shape):
        generator = np.random.default_rng(block.key[index])
        members = block.members[(slice(None), *index)]
        places[index] = ensemble.ranks(members, block.truth[index], generator)
    missing = places < 0
    sums, weights = [], []
    for rank in range(len(block.members) + 1):
        hit = (places == rank).astype(np.float64)
        total, weight = block.reduce(np.where(missing, np.nan, hit))
        sums.append(total)
        weights.append(weight)
    return np.stack(sums, -1), np.stack(weights, -1)


def _energy(part: int) -> Compute:
    """Returns the mean distance of members to the truth, or among themselves."""

    def compute(block: fields.Fields) -> fields.Sums:
        areas = block.reduce.weights.reshape(len(block.reduce.weights), -1)
        members = block.members.reshape(*block.members.shape[:-2], -1)
        truth = block.truth.reshape(*block.truth.shape[:-2], -1)
        sums = np.zeros((*block.key.shape, len(areas)))
        for index in np.ndindex(*block.key.shape):
            for place, weights in enumerate(areas):
                sums[(*index, place)] = ensemble.energy_parts(
                    members[(slice(None), *index)], truth[index], weights
                )[part]
        known = np.isfinite(sums)
        return np.where(known, sums, 0.0), known.astype(np.float64)

    return compute


def _for_limits(compute: Callable[[fields.Fields, int], np.ndarray]) -> Compute:
    """Returns the sums of a field for each threshold, which become the last axis."""

    def every(block: fields.Fields) -> fields.Sums:
        pairs = [block.reduce(compute(block, i)) for i in range(len(block.limits))]
        sums, weights = zip(*pairs)
        return np.stack(sums, -1), np.stack(weights, -1)

    return every


def _table(ours: bool, theirs: bool) -> Compute:
    """Returns one entry of the contingency table."""

    def compute(block: fields.Fields, place: int) -> np.ndarray:
        forecast, truth = block.forecast_events[place], block.truth_events[place]
        forecast = forecast if ours else 1 - forecast
        return forecast * (truth if theirs else 1 - truth)

    return _for_limits(compute)


def _brier(block: fields.Fields, place: int) -> np.ndarray:
    return (block.probabilities[place] - block.truth_events[place]) ** 2


def _brier_noise(block: fields.Fields, place: int) -> np.ndarray:
    """Returns p (1 - p), which the fair score takes off over M - 1."""
    chance = block.probabilities[place]
    return _where_truth(block, chance * (1 - chance))


def _reliability(kind: str) -> Compute:
    """Returns events or forecast probabilities by bin of the latter."""

    def compute(block: fields.Fields) -> fields.Sums:
        sums, weights = [], []
        for place in range(len(block.limits)):
            chance, event = block.probabilities[place], block.truth_events[place]
            known = np.isfinite(chance + event)
            bins = np.rint(np.where(known, chance, 0) * (PROBABILITY_BINS - 1))
            value = {"event": event, "chance": chance}.get(kind, known.astype(float))
            for number in range(PROBABILITY_BINS):
                inside = known & (bins == number)
                if kind == "share":
                    held = np.where(known, inside.astype(np.float64), np.nan)
                else:
                    held = np.where(inside, value, np.nan)
                total, weight = block.reduce(held)
                sums.append(total)
                weights.append(weight)
        shape = (len(block.limits), PROBABILITY_BINS)
        return tuple(  # type: ignore[return-value]
            np.stack(x, -1).reshape(*x[0].shape, *shape) for x in (sums, weights)
        )

    return compute


def _fss(part: int) -> Compute:
    """Returns squares of the difference, or of both, of shares of events."""
    return lambda block: block.fss_sums[part]


def _spherical(of_truth: bool) -> Compute:
    def compute(block: fields.Fields) -> fields.Sums:
        assert block.grid.lat is not None
        total = np.zeros((*block.key.shape, block.truncation + 1))
        sources = [block.truth] if of_truth else list(block.members)
        for source in sources:
            # The mean of members has no small scales; that of their spectra does.
            filled = np.where(np.isfinite(source), source, 0.0)
            total += spectra.spherical_power(filled, block.grid.lat, block.truncation)
        return _complete(block, total / len(sources))

    return compute


def _zonal(of_truth: bool) -> Compute:
    def compute(block: fields.Fields) -> fields.Sums:
        # Of all rows, whatever the regions of other scores are.
        rows = regions.point_weights(block.grid)[:, 0]
        rows = rows / rows.sum()
        total: np.ndarray | float = 0.0
        sources = [block.truth] if of_truth else list(block.members)
        for source in sources:
            filled = np.where(np.isfinite(source), source, 0.0)
            total = total + np.einsum(
                "...yk,y->...k", spectra.zonal_power(filled), rows
            )
        return _complete(block, np.asarray(total / len(sources)))

    return compute


def _radial(of: str) -> Compute:
    """Returns spectra of the truth, the members, or the mean of the members."""

    def compute(block: fields.Fields) -> fields.Sums:
        sources = {"truth": [block.truth], "mean": [block.mean]}.get(
            of, list(block.members)
        )
        total: np.ndarray | float = 0.0
        for source in sources:
            filled = np.where(np.isfinite(source), source, 0.0)
            cell = block.grid.cell_km or (1.0, 1.0)
            total = total + spectra.radial_power(filled, cell)
        return _complete(block, np.asarray(total / len(sources)))

    return compute


def _complete(block: fields.Fields, power: np.ndarray) -> fields.Sums:
    """Returns spectra of fields without missing values; others count nothing."""
    known = np.isfinite(block.truth + block.members.sum(0)).all((-2, -1))
    weights = np.broadcast_to(known[..., None].astype(np.float64), power.shape).copy()
    return power * weights, weights


_CLIMATOLOGY = frozenset({"climatology"})
_MEMBERS = frozenset({"members"})
_EVENTS = frozenset({"thresholds"})

STATISTICS: Mapping[str, Statistic] = {
    "squared_error": Statistic(_gridded(lambda block: block.squared_error)),
    "absolute_error": Statistic(_gridded(lambda block: np.abs(block.error))),
    "error": Statistic(_gridded(lambda block: block.error)),
    "anomaly_product": Statistic(_anomaly_product, needs=_CLIMATOLOGY),
    "forecast_anomaly": Statistic(_anomaly(0, 1), needs=_CLIMATOLOGY),
    "forecast_anomaly_square": Statistic(_anomaly(0, 2), needs=_CLIMATOLOGY),
    "truth_anomaly": Statistic(_anomaly(1, 1), needs=_CLIMATOLOGY),
    "truth_anomaly_square": Statistic(_anomaly(1, 2), needs=_CLIMATOLOGY),
    "member_error": Statistic(_member_error),
    "member_distance": Statistic(_member_distance),
    "ensemble_variance": Statistic(_variance, needs=_MEMBERS),
    "ranks": Statistic(_ranks, ("rank",), needs=_MEMBERS),
    "energy_skill": Statistic(_energy(0), needs=_MEMBERS),
    "energy_spread": Statistic(_energy(1), needs=_MEMBERS),
    "hits": Statistic(_table(True, True), ("threshold",), needs=_EVENTS),
    "misses": Statistic(_table(False, True), ("threshold",), needs=_EVENTS),
    "false_alarms": Statistic(_table(True, False), ("threshold",), needs=_EVENTS),
    "correct_negatives": Statistic(_table(False, False), ("threshold",), needs=_EVENTS),
    "brier": Statistic(_for_limits(_brier), ("threshold",), needs=_EVENTS),
    "brier_noise": Statistic(_for_limits(_brier_noise), ("threshold",), needs=_EVENTS),
    **{
        f"reliability_{kind}": Statistic(
            _reliability(kind), ("threshold", "probability"), needs=_EVENTS
        )
        for kind in ("event", "chance", "share")
    },
    "fss_error": Statistic(_fss(0), ("threshold", "neighbourhood"), needs=_EVENTS),
    "fss_reference": Statistic(_fss(1), ("threshold", "neighbourhood"), needs=_EVENTS),
    "forecast_power": Statistic(
        _spherical(False), ("total_wavenumber",), False, frozenset({"global"})
    ),
    "truth_power": Statistic(
        _spherical(True), ("total_wavenumber",), False, frozenset({"global"})
    ),
    "forecast_zonal_power": Statistic(
        _zonal(False), ("zonal_wavenumber",), False, frozenset({"periodic"})
    ),
    "truth_zonal_power": Statistic(
        _zonal(True), ("zonal_wavenumber",), False, frozenset({"periodic"})
    ),
    **{
        f"{of}_radial_power": Statistic(
            _radial(of), ("radial_wavenumber",), False, frozenset({"plane"})
        )
        for of in ("forecast", "mean", "truth")
    },
}
