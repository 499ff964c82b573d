"""Sums that scores are made of: computed in parts, merged exactly."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray

from weatherlib.evaluation import metrics, statistics

__all__ = [
    "Totals",
    "empty_totals",
    "incomplete_fields",
    "metric_values",
    "on_common_starts",
]

PARTS = ("sum", "weight")
# Shares of the points that differ by less than this count as the same sample.
_SAME_SHARE = 0.01


@dataclasses.dataclass(frozen=True)
class Totals:
    """Weighted sums of statistics of one model, and the sums of their weights.

    Attributes:
      dataset: Variables named STATISTIC.VARIABLE with the dimensions (part, init_time,
        lead_time[, level][, region], ...), `part` being sum and weight. Long vectors
        such as spectra have no init_time.
      members: Members of the ensemble.
    """

    dataset: xarray.Dataset
    members: int

    def merge(self, other: Totals) -> Totals:
        """Returns the totals of both, such as of two years or two sets of lead times.

        Raises:
          ValueError: They are of different ensembles, statistics or regions.
        """
        if self.members != other.members:
            raise ValueError(
                f"totals of {self.members} and of {other.members} members do not merge"
            )
        if set(self.dataset.data_vars) != set(other.dataset.data_vars):
            odd = set(self.dataset.data_vars) ^ set(other.dataset.data_vars)
            first = min(map(str, odd))
            raise ValueError(
                f"totals of different statistics do not merge: {first} is in "
                "one of them only"
            )
        fixed = set(map(str, self.dataset.dims)) - {"init_time", "lead_time", "level"}
        for dim in fixed:
            if not self.dataset.get_index(dim).equals(other.dataset.get_index(dim)):
                raise ValueError(f"totals of different {dim} values do not merge")
        zero: Any = 0.0
        pair = (self.dataset, other.dataset)
        ours, theirs = xarray.align(*pair, join="outer", fill_value=zero)
        return Totals(ours + theirs, self.members)

    def add(
        self,
        variable: str,
        place: Mapping[str, slice],
        sums: Mapping[str, tuple[np.ndarray, np.ndarray]],
    ) -> None:
        """Adds the sums of a block where they belong.

        Args:
          variable: Name.
          place: Slices of init_time, lead_time and level.
          sums: Of each statistic sums and weights, [init, lead, level, ...].
        """
        for statistic, pair in sums.items():
            array = self.dataset[f"{statistic}.{variable}"]
            where = {dim: part for dim, part in place.items() if dim in array.dims}
            for index, values in enumerate(pair):
                if "init_time" not in array.dims:
                    values = values.sum(0)
                if "level" not in array.dims:
                    values = values.squeeze(axis=2 if "init_time" in array.dims else 1)
                target = array.variable[{"part": index, **where}].values
                target += values


def empty_totals(
    coords: Mapping[str, Any],
    wanted: Mapping[str, tuple[bool, tuple[str, ...]]],
    sizes: Mapping[str, Mapping[str, Any]],
    members: int,
) -> Totals:
    """Returns totals of zero.

    Args:
      coords: init_time, lead_time, region and, where there is one, level.
      wanted: For each variable whether it has levels, and its statistics.
      sizes: For each variable the coordinates of further dimensions.
      members: Members of the ensemble.
    """
    arrays = {}
    for variable, (has_level, names) in wanted.items():
        for name in names:
            statistic = statistics.STATISTICS[name]
            dims = ["init_time"] if statistic.per_start else []
            dims += ["lead_time", *(["level"] if has_level else [])]
            dims += [*(["region"] if statistic.regional else []), *statistic.dims]
            # Thresholds differ between variables.
            own = {d: sizes[variable][d] for d in statistic.dims}
            renamed = {"threshold": f"threshold.{variable}"}
            dims = [renamed.get(dim, dim) for dim in dims]
            held = {**coords, **{renamed.get(d, d): c for d, c in own.items()}}
            shape = [2, *(len(held[dim]) for dim in dims)]
            arrays[f"{name}.{variable}"] = xarray.DataArray(
                np.zeros(shape),
                {"part": list(PARTS), **{dim: held[dim] for dim in dims}},
                ["part", *dims],
            )
    return Totals(xarray.Dataset(arrays), members)


def incomplete_fields(found: Mapping[str, Totals], pairs: int) -> list[str]:
    """Returns notes of the fields that spectra leave out because a value is missing.

    Args:
      found: Totals of each model.
      pairs: Pairs of start and lead time that have truth.
    """
    models: dict[tuple[str, int, int], list[str]] = {}
    for name, each in found.items():
        lost: dict[str, tuple[int, int]] = {}
        for label, array in each.dataset.data_vars.items():
            if not str(array.dims[-1]).endswith("wavenumber"):
                continue
            variable = str(label).partition(".")[2]
            count = pairs * array.sizes.get("level", 1)
            gone = count - round(float(array.values[1][..., 0].sum()))
            lost[variable] = max(lost.get(variable, (0, 0)), (gone, count))
        for variable, (gone, count) in lost.items():
            if gone:
                models.setdefault((variable, gone, count), []).append(name)
    return [
        f"spectra of {variable}: {gone} of {count} fields have missing values and are "
        f"left out ({', '.join(names)})"
        for (variable, gone, count), names in models.items()
    ]


def metric_values(
    found: Totals,
    metric: metrics.Metric,
    variable: str,
    counts: np.ndarray | None = None,
) -> xarray.DataArray | None:
    """Returns a metric from totals, or None where its statistics are not there.

    Args:
      found: Totals of one model.
      metric: Which score.
      variable: Of which variable.
      counts: How often each start counts in each sample, [sample, init_time]. Default:
        each once. With "each" for every start by itself use the identity.

    Returns:
      Dimensions (sample, lead_time[, level][, region], ...), one sample by default;
      metrics of long vectors have no `sample`.
    """
    names = {s: f"{s}.{variable}" for s in metric.statistics}
    if any(name not in found.dataset for name in names.values()):
        return None
    arrays = {s: found.dataset[name] for s, name in names.items()}
    first = next(iter(arrays.values()))
    if "init_time" not in first.dims:
        means = {s: _mean(*(a.values[i] for i in (0, 1))) for s, a in arrays.items()}
        values = metric.finish(metrics.Means(means, found.members))
        return first.isel(part=0, drop=True).copy(data=values)
    if counts is None:
        counts = np.ones((1, first.sizes["init_time"]))
    if metric.per_start:
        made = _each_start(found, metric, list(names.values()))
        known = np.isfinite(made)
        values = _mean(
            np.tensordot(counts, np.where(known, made, 0.0), axes=1),
            np.tensordot(counts, known.astype(np.float64), axes=1),
        )
    else:
        means = {
            s: _mean(*(np.tensordot(counts, a.values[i], axes=1) for i in (0, 1)))
            for s, a in arrays.items()
        }
        values = metric.finish(metrics.Means(means, found.members))
    dims = ["sample", *[d for d in first.dims if d not in ("part", "init_time")]]
    coords = {d: first[d] for d in dims if d in first.coords}
    return xarray.DataArray(values, coords, dims)


def on_common_starts(
    ours: Totals, theirs: Totals, metric: metrics.Metric, variable: str
) -> tuple[Totals, Totals, int]:
    """Returns the totals of two models without starts that only one of them has.

    A start is left out, at a lead time, level and region, where the models hold values
    of different shares of the points.

    Args:
      ours: Totals of one model.
      theirs: Totals of another.
      metric: A score of both that has starts.
      variable: Of which variable.

    Returns:
      Both totals, the very same where nothing is left out, and the number of starts
      that lose any of their lead times, levels and regions.
    """
    names = [f"{s}.{variable}" for s in metric.statistics]
    keep: np.ndarray | bool = True
    either: np.ndarray | bool = False
    for name in names:
        pair = [t.dataset[name].values[1] for t in (ours, theirs)]
        low, high = np.minimum(*pair), np.maximum(*pair)
        keep = keep & (low > (1 - _SAME_SHARE) * high)
        either = either | (high > 0)
    if metric.per_start:
        made = [_each_start(t, metric, names) for t in (ours, theirs)]
        keep = keep & np.isfinite(made[0]) & np.isfinite(made[1])
    lost = np.asarray(either & ~np.asarray(keep))
    if not lost.any():
        return ours, theirs, 0
    both = [
        Totals(
            t.dataset[names].map(lambda a: a.copy(data=np.where(keep, a.values, 0.0))),
            t.members,
        )
        for t in (ours, theirs)
    ]
    return both[0], both[1], int(lost.any(tuple(range(1, lost.ndim))).sum())


def _each_start(
    found: Totals, metric: metrics.Metric, names: Sequence[str]
) -> np.ndarray:
    """Returns the metric of every start, NaN where it has none."""
    each = {
        s: _mean(*found.dataset[name].values)
        for s, name in zip(metric.statistics, names)
    }
    return metric.finish(metrics.Means(each, found.members))


def _mean(total: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Returns sums over weights, NaN where there is no weight."""
    return total / np.where(weight > 0, weight, np.nan)
