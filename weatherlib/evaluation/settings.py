"""What to evaluate, and how."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from weatherlib.evaluation import events, metrics, periods, references, regions

__all__ = ["Execution", "Settings"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What to evaluate.

    Attributes:
      metrics: Names of `metrics.METRICS`. Default: what suits the forecasts.
      variables: Names. Default: all that forecasts and truth share.
      levels: Pressure levels in hPa. Default: all that they share.
      regions: Names of `regions.REGIONS`, "land" and "sea". Default: the globe, the
        tropics and both extratropics, or the whole domain of a regional grid.
      boxes: More regions by name.
      weighting: How much each point counts, see `regions.point_weights`.
      thresholds: Events by variable, for scores of events.
      neighbourhoods: Sides of squares for the fractions skill score, in points.
      references: Of `references.REFERENCES`.
      period: First and last time of the truth, or of the reference data, that
        climatology and references are fitted to, where no climatology is given. An
        empty one is that of the data.
      harmonics: Waves of the year of a fitted climatology. Default: 3 where the period
        has two years, else 0.
      by_hour: Whether a fitted climatology is by hour of the day.
      penalty: Of the ridge regression.
      confidence: Probability of the confidence intervals; 0 for none.
      resamples: Samples of the bootstrap.
      block: Consecutive starts that the bootstrap keeps together. Default: see
        `bootstrap.default_block`.
      by_start: Whether results also hold each start by itself.
      truncation: Highest total wavenumber of spectra. Default: what the grid holds.
      seed: Of random ranks and samples.
    """

    metrics: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    levels: tuple[float, ...] = ()
    regions: tuple[str, ...] | None = None
    boxes: Mapping[str, regions.Box] = dataclasses.field(default_factory=dict)
    weighting: regions.Weighting = "area"
    thresholds: Mapping[str, tuple[events.Threshold, ...]] = dataclasses.field(
        default_factory=dict
    )
    neighbourhoods: tuple[int, ...] = (1, 3, 5, 9)
    references: tuple[str, ...] = ("persistence", "climatology")
    period: tuple[Any, Any] | None = None
    harmonics: int | None = None
    by_hour: bool = False
    penalty: float = 100.0
    confidence: float = 0.95
    resamples: int = 1000
    block: int | None = None
    by_start: bool = False
    truncation: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        metrics.find_metrics(self.metrics)
        wrong = [name for name in self.references if name not in references.REFERENCES]
        if wrong:
            known = ", ".join(references.REFERENCES)
            raise ValueError(f"there is no reference {wrong[0]!r}; there are {known}")
        if not 0 <= self.confidence < 1:
            raise ValueError(
                f"confidence is a probability below 1, found {self.confidence:g}"
            )
        if any(size < 1 for size in self.neighbourhoods):
            raise ValueError(
                f"neighbourhoods are at least 1 point, found {min(self.neighbourhoods)}"
            )
        for name, least in (
            ("resamples", 1), ("block", 1), ("harmonics", 0), ("seed", 0),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is at least {least}, found {value}")
        if self.penalty <= 0:
            raise ValueError(f"penalty is above 0, found {self.penalty:g}")
        for name, limits in self.thresholds.items():
            if any(not isinstance(limit, events.Threshold) for limit in limits):
                raise ValueError(
                    f"thresholds of {name}: make them with evaluation.parse_threshold"
                )
        self.dates()

    def dates(self) -> periods.Period | None:
        """Returns the period as datetime64[ns], a last day of it to its end.

        Raises:
          ValueError: It is no pair of ascending dates.
        """
        if self.period is None:
            return None
        try:
            given = zip(self.period, periods.OPEN_PERIOD, strict=True)
            first, last = (np.datetime64(x or end) for x, end in given)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"period {self.period}: two dates, such as 2000-01-01 and 2006-12-31"
            ) from error
        # A date without an hour means the whole day, month or year.
        unit = np.datetime_data(last.dtype)[0]
        last_ns = last.astype("datetime64[ns]")
        if unit in ("Y", "M", "D"):
            last_ns = (last + np.timedelta64(1, unit)).astype(
                "datetime64[ns]"
            ) - np.timedelta64(1, "ns")
        first_ns = first.astype("datetime64[ns]")
        if first_ns >= last_ns:
            raise ValueError(f"period: {first} is not before {last}")
        return first_ns, last_ns


@dataclasses.dataclass(frozen=True, kw_only=True)
class Execution:
    """How the work is done; results do not depend on it.

    Attributes:
      memory: Bytes that blocks in work may take, all together.
      workers: Threads.
      scheduler: Address of a dask scheduler to work on instead.
      progress: Is told the blocks done, those in all, and the seconds so far.
    """

    memory: int = 256 * 2**20
    workers: int = 2
    scheduler: str | None = None
    progress: Callable[[int, int, float], None] | None = None

    def __post_init__(self) -> None:
        if self.memory < 1 or self.workers < 1:
            raise ValueError(
                f"memory and workers are at least 1, found {self.memory} and "
                f"{self.workers}"
            )
