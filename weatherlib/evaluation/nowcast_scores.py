"""Sums that scores of nowcasts are made of, and the scores."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
import xarray

from weatherlib import config as configs
from weatherlib.evaluation import (
    events,
    fields,
    metrics,
    regions,
    sevir_skill,
    spectra,
    statistics,
)

__all__ = ["OVER_LEADS", "NowcastConfig", "NowcastScores"]

OVER_LEADS = "_over_leads"
"""Ends the name of a score of all leads together, where it is beside that of each."""

_EVENTS = ("csi", "pod", "sucr", "far", "frequency_bias", "sevir_bias", "hss")
# Published means count a score without any event as 0. A ratio to what happened has no
# such value, and is averaged over thresholds that are reached.
_MEANS = {"csi": 0, "pod": 0, "sucr": 0, "hss": 0}
_MEANS |= {"frequency_bias": np.nan, "sevir_bias": np.nan}
_SINGLE = (
    *("rmse", "mse", "mae", "bias", "crps", "fss", "brier_score"),
    *("forecast_radial_spectrum", "mean_radial_spectrum", "truth_radial_spectrum"),
)
_ENSEMBLE = (
    *("crps_fair", "ensemble_spread", "spread_skill_ratio", "rank_histogram"),
    *("brier_score_fair", "reliability", "reliability_forecast", "reliability_share"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NowcastConfig(configs.Mapping):
    """What nowcasts are judged by.

    Attributes:
      thresholds: Pixels at and above which there is an event.
      pools: Sides of squares of which the largest pixel is compared; 1 is each pixel.
        Scores that are not of events are those of the smallest.
      neighbourhoods: Sides of squares for the fractions skill score, in points; none
        leaves out that score, which takes the most time.
      seed: Of ranks drawn among members equal to the truth, such as where it is dry.
    """

    thresholds: tuple[float, ...] = sevir_skill.THRESHOLDS
    pools: tuple[int, ...] = (1, 4, 16)
    neighbourhoods: tuple[int, ...] = (1, 5, 17)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("thresholds", 0), ("pools", 1), ("neighbourhoods", 1)):
            values = self[name]
            is_lacking = not values and name != "neighbourhoods"
            if is_lacking or min(values, default=low) < low or _repeats(values):
                raise ValueError(
                    f"{name}: expected different values of at least {low}, found "
                    f"{values}"
                )


class NowcastScores:
    """Sums of one model's scores, to which forecasts are added as they are made.

    Attributes:
      config: What is judged.
      members: Of the ensemble.
      leads: Frames of a forecast.
      samples: Forecasts added so far.
      missing: Pixels that forecasts lack where the truth is known.
    """

    def __init__(
        self, leads: int, *, members: int = 1, config: NowcastConfig | None = None
    ) -> None:
        """Begins with sums of zero.

        Args:
          leads: Frames of a forecast.
          members: Of the ensemble.
          config: What is judged.

        Raises:
          ValueError: There are no leads or members.
        """
        if leads < 1 or members < 1:
            raise ValueError(
                f"leads and members are at least 1, found {leads} and {members}"
            )
        self.config = config or NowcastConfig()
        self.leads, self.members = leads, members
        self.samples = self.missing = 0
        names = [*_SINGLE, *(_ENSEMBLE if members > 1 else ())]
        if not self.config.neighbourhoods:
            names.remove("fss")
        self._metrics = metrics.find_metrics(names)
        self._event_metrics = metrics.find_metrics(_EVENTS)
        # By pool and statistic sums and weights, [part, lead, ...].
        self._sums: dict[tuple[int, str], np.ndarray] = {}
        self._shape: tuple[int, int] | None = None

    def update(self, forecast: np.ndarray, truth: np.ndarray) -> None:
        """Adds forecasts.

        Args:
          forecast: Pixels [member, batch, lead, lat, lon], or without members.
          truth: Pixels [batch, lead, lat, lon], NaN where missing.

        Raises:
          ValueError: Shapes do not go together, or with those before.
        """
        truth = np.asarray(truth, np.float64)
        members = np.asarray(forecast, np.float64)
        members = members[np.newaxis] if members.ndim == 4 else members
        self._require_shapes(members, truth)
        mean = members[0] if len(members) == 1 else members.mean(0)
        self.missing += int((np.isfinite(truth) & ~np.isfinite(mean)).sum())
        for pool in self.config.pools:
            block = self._block(members, truth, pool)
            needed = list(self._event_metrics)
            needed += self._metrics if pool == self._finest else []
            names = dict.fromkeys(s for m in needed for s in m.statistics)
            for name in names:
                pair = statistics.STATISTICS[name].compute(block)
                # Summed over the samples; one level and one region.
                single = (2, 3) if statistics.STATISTICS[name].regional else (2,)
                total = np.stack([p.squeeze(single).sum(0) for p in pair])
                held = self._sums.get((pool, name))
                self._sums[pool, name] = total if held is None else held + total
        self.samples += len(truth)

    def merge(self, other: NowcastScores) -> None:
        """Adds the forecasts of another, such as of another process.

        Raises:
          ValueError: It has other settings, leads, members or sizes.
        """
        ours = (self.config, self.leads, self.members)
        if ours != (other.config, other.leads, other.members) or (
            self._shape and other._shape and self._shape != other._shape
        ):
            raise ValueError("scores of other settings, leads or members do not merge")
        self._shape = self._shape or other._shape
        for key, total in other._sums.items():
            held = self._sums.get(key)
            self._sums[key] = total.copy() if held is None else held + total
        self.samples += other.samples
        self.missing += other.missing

    def results(
        self,
        step: Any = None,
        cell_km: float = 1.0,
        *,
        over_leads: bool | Literal["both"] = False,
    ) -> xarray.Dataset:
        """Returns the scores.

        Args:
          step: Time between frames; lead times are their numbers where it is None.
          cell_km: Side of a cell, km, for the lengths of waves.
          over_leads: Whether to return the scores of sums over all leads, as published
            ones are, in place of those of each lead; "both" adds them as variables
            without a lead time, whose names end in `OVER_LEADS`.

        Returns:
          Scores of events by (pool, threshold, lead_time), others by lead_time and what
          they have besides: neighbourhood, rank, probability or radial_wavenumber.
          `csi_mean` and so on are means over thresholds as published, where a score
          without any event counts as 0; of biases, over thresholds that the truth
          reaches. NaN where a score is not defined. A score of an ensemble that is not
          one of ensembles is that of the mean of its members.

        Raises:
          ValueError: No forecast was added.
        """
        if not self.samples or self._shape is None:
            raise ValueError("no forecast was added, so there are no scores")
        if over_leads == "both":
            each, whole = (
                self.results(step, cell_km, over_leads=part) for part in (False, True)
            )
            return each.assign({f"{n}{OVER_LEADS}": a for n, a in whole.items()})
        found = {}
        for metric in self._metrics:
            found[metric.name] = self._score(metric, self._finest, over_leads)
        for metric in self._event_metrics:
            parts = [self._score(metric, p, over_leads) for p in self.config.pools]
            found[metric.name] = xarray.concat(parts, "pool").assign_attrs(
                parts[0].attrs
            )
        for name, undefined in _MEANS.items():
            found[f"{name}_mean"] = _over_thresholds(found[name], undefined)
        leads = np.arange(1, self.leads + 1)
        waves = spectra.radial_wavenumbers(*self._shape)
        coords: dict[str, Any] = {
            "pool": list(self.config.pools),
            "threshold": list(self.config.thresholds),
            "probability": statistics.probabilities(),
            "radial_wavenumber": waves,
            "wavelength_km": ("radial_wavenumber", min(self._shape) * cell_km / waves),
        }
        if self.config.neighbourhoods:
            coords["neighbourhood"] = list(self.config.neighbourhoods)
        if not over_leads:
            coords["lead_time"] = (
                leads
                if step is None
                else (leads * np.timedelta64(step)).astype("timedelta64[ns]")
            )
        if self.members > 1:
            coords["rank"] = statistics.ranks_of(self.members)
        attrs = {"members": self.members, "samples": self.samples}
        if self.missing:
            attrs["missing"] = self.missing
        return xarray.Dataset(found, coords, attrs)

    @property
    def _finest(self) -> int:
        return min(self.config.pools)

    def _require_shapes(self, members: np.ndarray, truth: np.ndarray) -> None:
        if truth.ndim != 4 or members.ndim != 5 or members.shape[1:] != truth.shape:
            raise ValueError(
                "expected forecasts [member, batch, lead, lat, lon] and truth of the "
                f"last four, found {members.shape} and {truth.shape}"
            )
        if (len(members), truth.shape[1]) != (self.members, self.leads):
            raise ValueError(
                f"{len(members)} member(s) and {truth.shape[1]} lead(s) were given, "
                f"scores are of {self.members} and {self.leads}"
            )
        if self._shape not in (None, truth.shape[2:]):
            raise ValueError(
                f"frames are {truth.shape[2]} x {truth.shape[3]}, those before were "
                f"{self._shape[0]} x {self._shape[1]}"
            )
        self._shape = truth.shape[2:]

    def _block(
        self, members: np.ndarray, truth: np.ndarray, pool: int
    ) -> fields.Fields:
        """Returns forecasts and truth as statistics take them, with one level."""
        members = events.pool_highest(members, pool)[:, :, :, np.newaxis]
        truth = events.pool_highest(truth, pool)[:, :, np.newaxis]
        shape = truth.shape[-2:]
        first = self.config.seed * 1_000_003 + self.samples
        sample = np.arange(first, first + len(truth))[:, np.newaxis, np.newaxis]
        lead = np.arange(self.leads)[np.newaxis, :, np.newaxis]
        return fields.Fields(
            members=members,
            truth=truth,
            climatology=None,
            limits=tuple(
                fields.Limit(events.Threshold(value=limit), limit)
                for limit in self.config.thresholds
            ),
            neighbourhoods=self.config.neighbourhoods,
            reduce=fields.Reducer(np.ones((1, *shape))),
            grid=regions.Grid(lat=None, lon=None, shape=shape),
            key=sample * 7919 + lead,
            truncation=1,
        )

    def _score(
        self, metric: metrics.Metric, pool: int, over_leads: bool
    ) -> xarray.DataArray:
        """Returns a score, [lead_time, ...]."""
        means = {}
        for name in metric.statistics:
            total, weight = self._sums[pool, name]
            if over_leads:
                total, weight = total.sum(0), weight.sum(0)
            means[name] = total / np.where(weight > 0, weight, np.nan)
        values = metric.finish(metrics.Means(means, self.members))
        dims = [*([] if over_leads else ["lead_time"]), *metric.dims]
        attrs = {"long_name": metric.long_name, "better": metric.better}
        return xarray.DataArray(values, dims=dims, attrs=attrs)


def _over_thresholds(score: xarray.DataArray, undefined: float) -> xarray.DataArray:
    """Returns the mean of a score over thresholds; what is undefined has that value."""
    known = score.where(np.isfinite(score), undefined)
    name = f"{score.attrs['long_name']}, mean over thresholds"
    return known.mean("threshold").assign_attrs(score.attrs, long_name=name)


def _repeats(values: tuple[float, ...]) -> bool:
    """Returns whether a value occurs more than once."""
    return len(set(values)) < len(values)
