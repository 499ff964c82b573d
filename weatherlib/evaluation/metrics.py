"""Metrics by name: which statistics they need, and how they are made of their means."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from weatherlib import config
from weatherlib.evaluation import events, statistics

__all__ = [
    "METRICS",
    "NAMES",
    "Means",
    "Metric",
    "default_metrics",
    "find_metrics",
    "units_of",
]

Better = Literal["lower", "higher", "zero", "one", "none"]


@dataclasses.dataclass(frozen=True)
class Means:
    """Weighted means of statistics.

    Attributes:
      values: Name of each statistic and its mean, any shape.
      members: Members of the ensemble.
    """

    values: Mapping[str, np.ndarray]
    members: int

    def __getitem__(self, name: str) -> np.ndarray:
        return self.values[name]


@dataclasses.dataclass(frozen=True)
class Metric:
    """One score.

    Attributes:
      name: As results call it; names of WeatherBench 2 where it has one.
      statistics: What it is made of.
      finish: Makes it of the means of the statistics.
      better: Which values are good.
      per_start: Whether it is made for each start and then averaged, as WeatherBench 2
        does for correlations; else it is made once of sums over all starts.
      long_name: For tables and files.
      scale: Power of the variable's unit that the metric has; 0 for a pure number.
    """

    name: str
    statistics: tuple[str, ...]
    finish: Callable[[Means], np.ndarray]
    better: Better = "lower"
    per_start: bool = False
    long_name: str = ""
    scale: int = 1

    @property
    def dims(self) -> tuple[str, ...]:
        """Dimensions that it has besides start, lead time, level and region."""
        return statistics.STATISTICS[self.statistics[0]].dims

    @property
    def regional(self) -> bool:
        """Whether there is a value for each region."""
        return statistics.STATISTICS[self.statistics[0]].regional

    @property
    def needs(self) -> frozenset[str]:
        """What must be there for it."""
        return frozenset().union(
            *(statistics.STATISTICS[name].needs for name in self.statistics)
        )


def _root(name: str) -> Callable[[Means], np.ndarray]:
    return lambda means: np.sqrt(means[name])


def _plain(name: str) -> Callable[[Means], np.ndarray]:
    return lambda means: means[name]


def _acc(means: Means) -> np.ndarray:
    scale = means["forecast_anomaly_square"] * means["truth_anomaly_square"]
    with np.errstate(divide="ignore", invalid="ignore"):
        return means["anomaly_product"] / np.sqrt(scale)


def _activity(of: str) -> Callable[[Means], np.ndarray]:
    def finish(means: Means) -> np.ndarray:
        variance = means[f"{of}_anomaly_square"] - means[f"{of}_anomaly"] ** 2
        return np.sqrt(np.maximum(variance, 0.0))

    return finish


def _scored(skill: str, spread: str, *, fair: bool) -> Callable[[Means], np.ndarray]:
    """Returns skill less half the spread, of all or of unlike pairs of members."""

    def finish(means: Means) -> np.ndarray:
        factor = means.members / (means.members - 1) if fair else 1.0
        return means[skill] - 0.5 * factor * means[spread]

    return finish


def _spread_skill(means: Means) -> np.ndarray:
    factor = np.sqrt((means.members + 1) / means.members)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt(means["ensemble_variance"]) / np.sqrt(means["squared_error"])
    return factor * ratio


def _fair_mean_mse(means: Means) -> np.ndarray:
    return means["squared_error"] - means["ensemble_variance"] / means.members


def _fair_mean_rmse(means: Means) -> np.ndarray:
    return np.sqrt(np.maximum(_fair_mean_mse(means), 0.0))


def _rank_histogram(means: Means) -> np.ndarray:
    return means["ranks"] * (means.members + 1)


def _event_score(name: str) -> Callable[[Means], np.ndarray]:
    def finish(means: Means) -> np.ndarray:
        return events.contingency_scores(
            means["hits"], means["misses"], means["false_alarms"]
        )[name]

    return finish


def _heidke(means: Means) -> np.ndarray:
    return events.heidke_skill(*(means[name] for name in _WHOLE_TABLE))


def _sevir_bias(means: Means) -> np.ndarray:
    hits, misses, false_alarms = (means[name] for name in _TABLE)
    return events.sevir_bias(hits, misses, false_alarms)


def _fair_brier(means: Means) -> np.ndarray:
    if means.members == 1:
        return means["brier"]
    return means["brier"] - means["brier_noise"] / (means.members - 1)


def _fss(means: Means) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 - means["fss_error"] / means["fss_reference"]


_EVENT_SCORES: tuple[tuple[str, Better, str], ...] = (
    ("csi", "higher", "critical success index"),
    ("pod", "higher", "probability of detection"),
    ("sucr", "higher", "success ratio"),
    ("far", "lower", "false alarm ratio"),
    ("frequency_bias", "one", "frequency bias"),
)
_TABLE = ("hits", "misses", "false_alarms")
_WHOLE_TABLE = (*_TABLE, "correct_negatives")
_ACTIVITY = "activity, the spatial standard deviation of the anomaly, of the"

METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("rmse", ("squared_error",), _root("squared_error"),
               long_name="root-mean-square error"),
        Metric("mse", ("squared_error",), _plain("squared_error"),
               long_name="mean squared error", scale=2),
        Metric("mae", ("absolute_error",), _plain("absolute_error"),
               long_name="mean absolute error"),
        Metric("bias", ("error",), _plain("error"), "zero",
               long_name="mean error"),
        Metric("acc", ("anomaly_product", "forecast_anomaly_square",
                       "truth_anomaly_square"), _acc, "higher", True,
               "anomaly correlation coefficient", 0),
        Metric("forecast_activity", ("forecast_anomaly_square", "forecast_anomaly"),
               _activity("forecast"), "none", True, f"{_ACTIVITY} forecast"),
        Metric("truth_activity", ("truth_anomaly_square", "truth_anomaly"),
               _activity("truth"), "none", True, f"{_ACTIVITY} truth"),
        Metric("crps", ("member_error", "member_distance"),
               _scored("member_error", "member_distance", fair=False),
               long_name="continuous ranked probability score"),
        Metric("crps_fair", ("member_error", "member_distance", "ensemble_variance"),
               _scored("member_error", "member_distance", fair=True),
               long_name="fair continuous ranked probability score"),
        Metric("ensemble_mean_rmse", ("squared_error", "ensemble_variance"),
               _root("squared_error"),
               long_name="root-mean-square error of the ensemble mean"),
        Metric("ensemble_mean_rmse_fair", ("squared_error", "ensemble_variance"),
               _fair_mean_rmse,
               long_name="the same, less what the number of members adds"),
        Metric("ensemble_mean_mse", ("squared_error", "ensemble_variance"),
               _plain("squared_error"),
               long_name="mean squared error of the ensemble mean", scale=2),
        Metric("ensemble_mean_mse_fair", ("squared_error", "ensemble_variance"),
               _fair_mean_mse, scale=2,
               long_name="the same, less what the number of members adds"),
        Metric("ensemble_variance", ("ensemble_variance",),
               _plain("ensemble_variance"), "none",
               long_name="mean variance of the members", scale=2),
        Metric("ensemble_spread", ("ensemble_variance",),
               _root("ensemble_variance"), "none",
               long_name="root of the mean variance of the members"),
        Metric("spread_skill_ratio", ("squared_error", "ensemble_variance"),
               _spread_skill, "one", long_name="spread over error", scale=0),
        Metric("energy_score", ("energy_skill", "energy_spread"),
               _scored("energy_skill", "energy_spread", fair=False),
               long_name="energy score"),
        Metric("energy_score_fair", ("energy_skill", "energy_spread"),
               _scored("energy_skill", "energy_spread", fair=True),
               long_name="fair energy score"),
        Metric("rank_histogram", ("ranks",), _rank_histogram, "one",
               long_name="relative frequency of ranks, 1 where flat", scale=0),
        Metric("brier_score", ("brier",), _plain("brier"),
               long_name="Brier score", scale=0),
        Metric("brier_score_fair", ("brier", "brier_noise"), _fair_brier,
               long_name="fair Brier score", scale=0),
        Metric("reliability", ("reliability_event",), _plain("reliability_event"),
               "none", long_name="observed frequency by forecast probability",
               scale=0),
        Metric("reliability_forecast", ("reliability_chance",),
               _plain("reliability_chance"), "none",
               long_name="mean forecast probability of the bin", scale=0),
        Metric("reliability_share", ("reliability_share",),
               _plain("reliability_share"), "none",
               long_name="share of forecasts in the bin", scale=0),
        *(
            Metric(name, _TABLE, _event_score(name), better, long_name=title, scale=0)
            for name, better, title in _EVENT_SCORES
        ),
        Metric("hss", _WHOLE_TABLE, _heidke, "higher",
               long_name="Heidke skill score", scale=0),
        Metric("sevir_bias", _TABLE, _sevir_bias, "none",
               long_name="squared ratio that SEVIR nowcasts call BIAS", scale=0),
        Metric("fss", ("fss_error", "fss_reference"), _fss, "higher",
               long_name="fractions skill score", scale=0),
        Metric("forecast_power_spectrum", ("forecast_power",),
               _plain("forecast_power"), "none",
               long_name="power by total wavenumber of the forecast", scale=2),
        Metric("truth_power_spectrum", ("truth_power",), _plain("truth_power"), "none",
               long_name="power by total wavenumber of the truth", scale=2),
        Metric("forecast_zonal_spectrum", ("forecast_zonal_power",),
               _plain("forecast_zonal_power"), "none",
               long_name="power by zonal wavenumber of the forecast", scale=2),
        Metric("truth_zonal_spectrum", ("truth_zonal_power",),
               _plain("truth_zonal_power"), "none",
               long_name="power by zonal wavenumber of the truth", scale=2),
        *(
            Metric(f"{of}_radial_spectrum", (f"{of}_radial_power",),
                   _plain(f"{of}_radial_power"), "none",
                   long_name=f"power by wavenumber on a plane of the {of}", scale=2)
            for of in ("forecast", "mean", "truth")
        ),
    )
}  # fmt: skip

# A factor of a unit, such as "K", "s-1" or "m**2", and the number 1.
_FACTOR = re.compile(r"([A-Za-z°%]+|1)(?:\*\*|\^)?([+-]?\d+)?")

# Names that stand for several.
_GROUPS: Mapping[str, tuple[str, ...]] = {
    "activity": ("forecast_activity", "truth_activity"),
    "power_spectrum": ("forecast_power_spectrum", "truth_power_spectrum"),
    "zonal_spectrum": ("forecast_zonal_spectrum", "truth_zonal_spectrum"),
    "radial_spectrum": (
        "forecast_radial_spectrum", "mean_radial_spectrum", "truth_radial_spectrum",
    ),
    "reliability_diagram": (
        "reliability", "reliability_forecast", "reliability_share",
    ),
}  # fmt: skip


NAMES = (*METRICS, *_GROUPS)
"""All that `find_metrics` knows."""


def find_metrics(names: Sequence[str]) -> tuple[Metric, ...]:
    """Returns the metrics of some names, each once.

    Raises:
      ValueError: A name is not known.
    """
    found: dict[str, Metric] = {}
    for name in names:
        for single in _GROUPS.get(name, (name,)):
            if single not in METRICS:
                hint = config.closest_hint(name, NAMES)
                raise ValueError(f"there is no metric {name!r}{hint}")
            found[single] = METRICS[single]
    return tuple(found.values())


def units_of(metric: str, units: str) -> str:
    """Returns the unit of a metric of a variable, empty for pure numbers.

    Args:
      metric: Name. One that is not of ours may be any number, and has no unit.
      units: Of the variable, such as "m s-1", whose square is "m2 s-2".
    """
    scale = METRICS[metric].scale if metric in METRICS else 0
    if scale == 0 or not units:
        return ""
    if scale == 1:
        return units
    found = [_FACTOR.fullmatch(factor) for factor in units.split()]
    if not all(found):
        return f"({units}){scale}"
    return " ".join(
        match[1] if match[1] == "1" else f"{match[1]}{scale * int(match[2] or 1)}"
        for match in found
        if match is not None
    )


def default_metrics(
    *, climatology: bool, members: bool, thresholds: bool
) -> tuple[str, ...]:
    """Returns the metrics that make sense for what is there."""
    names = ["rmse", "mse", "mae", "bias"]
    if climatology:
        names += ["acc", "activity"]
    if members:
        names += ["crps", "crps_fair", "ensemble_spread", "spread_skill_ratio"]
        names += ["rank_histogram"]
    if thresholds:
        names += ["csi", "pod", "sucr", "far", "frequency_bias", "fss", "brier_score"]
    return tuple(names)
