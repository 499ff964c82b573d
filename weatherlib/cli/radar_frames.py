"""Radar series and SEVIR as the data of a training run, in place of `training.Frames`.

Samples are those of `data.Sequences`. Whatever is asked for, training, validation or
test, is cut by itself, so that no two of them share a frame.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray

from weatherlib import task as tasks
from weatherlib import training
from weatherlib.data import (
    radar,
    radar_grid,
    radar_sequences,
    radar_series,
    sevir,
)
from weatherlib.data_utils import statistics
from weatherlib.training import frame_axis

__all__ = ["RadarFrames"]

# A number names a sample and, above this, the part of the data that it belongs to.
_PART = 2**40
_IN_MEMORY_BYTES = 2**31
_UNIT = 255.0


@dataclasses.dataclass(frozen=True)
class _Part:
    """Samples of one period with so many targets."""

    period: training.Period
    targets: int
    sequences: radar_sequences.Sequences


class RadarFrames:
    """Radar pictures from which batches of samples are cut, as `training.Frames` does.

    Attributes:
      dataset: Coordinates of a sample, `lat` and `lon`, as degrees of arc on a plane.
      task: `vil` from its own past.
      step: From one frame of a sample to the next.
      inputs: Frames that a sample begins with.
      in_memory: Whether the pictures are in memory.
      skipped: Nothing; samples that cannot be used are left out when they are cut.
    """

    def __init__(
        self, settings: training.DataConfig, *, mask_targets: bool = False
    ) -> None:
        """Opens the data, and cuts what is trained on.

        Args:
          settings: With `radar`.
          mask_targets: Whether targets keep NaN where pixels are missing, for a loss
            that leaves them out. Otherwise they are filled as inputs are.

        Raises:
          ValueError: The data cannot be read as radar pictures, or hold no sample.
          FileNotFoundError: There is no such file, or one is missing.
          OSError: A file is damaged or cut short.
        """
        assert settings.radar is not None
        self._settings, self._radar = settings, settings.radar
        self._mask = mask_targets
        self._parts: list[_Part] = []
        self._series: xarray.Dataset | None = None
        if self._radar.kind == "series":
            self._series = self._opened()
        self.inputs = self._radar.inputs
        self.skipped: dict[str, str] = {}
        first = self.sequences(settings.train)
        self.in_memory = self._series is not None and self._is_small
        self.step, self.cell_km = first.step, first.cell_km
        self._shape = first.shape
        lat, lon = radar_grid.plane_degrees(first.shape, first.cell_km)
        self.dataset = xarray.Dataset(coords={"lat": lat, "lon": lon})
        # A task has a past: that of single frames, of an autoencoder, is the frame.
        minutes = max(self.inputs, 1) * (self.step / np.timedelta64(1, "m"))
        self.task = tasks.TaskConfig(
            input_variables=(radar.NAME,),
            target_variables=(radar.NAME,),
            forcing_variables=(),
            pressure_levels=(),
            input_duration=f"{minutes:g}min",
        )

    def starts(
        self, period: training.Period | None = None, *, targets: int = 1
    ) -> np.ndarray:
        """Returns the numbers of all samples that lie in a period with all frames.

        Samples of the training period are counted in every way that they are turned.

        Args:
          period: Holds inputs and targets; None is that of training.
          targets: Frames after the inputs.

        Returns:
          int64 of shape [sample], for `batch` and the loader.

        Raises:
          ValueError: There is none.
          OSError: A file is damaged or cut short.
        """
        period = period or self._settings.train
        is_trained = period == self._settings.train
        augment = self._radar.augment if is_trained else "none"
        for number, part in enumerate(self._parts):
            if (part.period, part.targets) == (period, targets):
                return number * _PART + part.sequences.numbers
        found = self.sequences(period, targets=targets, augment=augment)
        self._parts.append(_Part(period, targets, found))
        return (len(self._parts) - 1) * _PART + found.numbers

    def sequences(
        self, period: training.Period, *, targets: int = 1, augment: str = "none"
    ) -> radar_sequences.Sequences:
        """Returns the samples of a period.

        Args:
          period: Holds them with all their frames.
          targets: Frames after the inputs.
          augment: How they are turned and mirrored.

        Raises:
          ValueError: There is none.
          FileNotFoundError: A file is missing.
          OSError: A file is damaged or cut short.
        """
        given, path = self._radar, self._settings.path_text
        try:
            config = radar_sequences.SequenceConfig(
                targets=targets,
                augment=augment,
                **{
                    name: given[name]
                    for name in ("inputs", "stride", "every", "max_missing", "fill")
                },
            )
            if self._series is None:
                return self._events(config, period)
            return radar_series.series_sequences(
                self._series,
                config,
                tile=given.tile,
                tile_stride=given.tile_stride,
                start=period.start,
                end=period.end,
            )
        except ValueError as error:
            raise ValueError(f"{path}, {period}: {error}") from error

    def loader(
        self, targets: int = 1, period: training.Period | None = None
    ) -> Callable[[np.ndarray], Any]:
        """Returns the function that reads batches with so many target frames.

        Args:
          targets: Frames of the targets.
          period: Of the samples; not needed, for none is replaced.
        """
        return lambda starts: self.batch(starts, targets, period)

    def batch(
        self,
        starts: np.ndarray,
        targets: int = 1,
        period: training.Period | None = None,
    ) -> Any:
        """Returns inputs, targets and forcings (none) of samples by their numbers.

        Args:
          starts: From `starts`, all of one period; shape [batch].
          targets: Frames of the targets, at most as many as `starts` was asked for.
          period: Of the samples; not needed, for none is replaced.

        Raises:
          OSError: A file cannot be read.
          ValueError: A frame has too many missing pixels.
        """
        del period
        numbers = np.asarray(starts)
        places = np.unique(numbers // _PART)
        assert len(places) == 1, "a batch is of one period"
        sequences = self._parts[int(places[0])].sequences
        return sequences.datasets(
            numbers % _PART, targets, keep_missing_targets=self._mask
        )

    def statistics(self, period: training.Period) -> statistics.Statistics:
        """Returns what pixels are normalised with.

        Args:
          period: Whose samples count, where `scale` is "statistics".

        Raises:
          ValueError: There is no sample.
          OSError: A file cannot be read.
        """
        if self._radar.scale == "unit":
            return _statistics(0.0, _UNIT, _UNIT, 0.0)
        sequences = self.sequences(period)
        sums, changes, lowest = np.zeros(3), np.zeros(3), np.inf
        for number in range(len(sequences)):
            pixels = sequences.pixels(number).astype(np.float64)
            sums += _sums(pixels)
            changes += _sums(np.diff(pixels, axis=0))
            lowest = min(lowest, float(np.nanmin(pixels)))
        mean, spread = _moments(sums)
        spread_of_changes = _moments(changes)[1]
        if not (spread > 0 and spread_of_changes > 0):
            raise ValueError(
                f"{self._settings.path_text}, {period}: all pixels or all frames are "
                "alike, so there is no standard deviation; take scale unit, or other "
                "times"
            )
        return _statistics(mean, spread, spread_of_changes, lowest)

    def extent(self, period: training.Period) -> dict[str, Any] | None:
        """Returns first and last time of a period and how many frames it has.

        None of events, which have no common time.
        """
        if self._series is None:
            return None
        dates = self._series["time"].values.astype("datetime64[ns]")
        return frame_axis.extent(dates, period)

    @property
    def description(self) -> str:
        """How much there is, for people."""
        rows, columns = self._shape
        found = [f"{rows} x {columns} pixels"]
        trained = [p for p in self._parts if p.period == self._settings.train]
        if trained:
            longest = max(trained, key=lambda part: part.targets)
            found.insert(0, f"{len(longest.sequences)} samples to train on")
        if self._series is not None:
            found.insert(0, f"{self._series.sizes['time']} frames")
        found.append("in memory" if self.in_memory else "read as needed")
        return ", ".join(found)

    @property
    def _is_small(self) -> bool:
        wanted = self._settings.in_memory
        assert self._series is not None
        return self._series.nbytes <= _IN_MEMORY_BYTES if wanted is None else wanted

    def _opened(self) -> xarray.Dataset:
        """Returns the series, in memory where it is small."""
        given, path = self._radar, self._settings.path
        series = radar.open_radar(
            _existing(path),
            **{
                name: given[name]
                for name in ("variable", "quantity", "missing", "period", "cell_km")
            },
        )
        if given.crop is not None:
            sides = (given.crop,) if isinstance(given.crop, int) else given.crop
            try:
                series = radar_grid.crop(series, *sides)
            except ValueError as error:
                raise ValueError(
                    f"{self._settings.path_text}: crop: {error}"
                ) from error
        self._series = series
        if not self._is_small:
            return series
        try:
            return series.load()
        # What damage raises depends on the library and on where it is met.
        except (EOFError, KeyError, OSError, RuntimeError) as error:
            raise OSError(
                f"{self._settings.path_text}: damaged or cut short ({error}); fetch it "
                "again"
            ) from error

    def _events(
        self, config: radar_sequences.SequenceConfig, period: training.Period
    ) -> radar_sequences.Sequences:
        """Returns the samples of a side of SEVIR's split."""
        given = self._radar
        names = (
            *("date", "after", "until"),
            *("validation_share", "key", "max_pct_missing"),
        )
        path = self._settings.path
        assert period.split is not None and isinstance(path, str)
        return sevir.open_sevir(
            path,
            config,
            split=period.split,
            missing_files=given.missing_files,
            **{name: given[name] for name in names if given[name] is not None},
        )


def _existing(path: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """Returns the path of a series.

    Raises:
      FileNotFoundError: It is a plain name, and there is nothing of it.
    """
    for name in (path,) if isinstance(path, str) else path:
        plain = "://" not in name and not any(c in name for c in "*?[")
        if plain and not pathlib.Path(name).expanduser().exists():
            raise FileNotFoundError(
                f"{name}: there is no such file; name the radar series with "
                "--set data.path=FILE"
            )
    return path


def _sums(values: np.ndarray) -> np.ndarray:
    """Returns count, sum and sum of squares of the values that are not missing."""
    known = values[np.isfinite(values)]
    return np.array([known.size, known.sum(), np.square(known).sum()])


def _moments(sums: np.ndarray) -> tuple[float, float]:
    count, total, squares = sums
    mean = total / count
    return float(mean), float(np.sqrt(max(squares / count - mean**2, 0.0)))


def _statistics(
    mean: float, stddev: float, diffs: float, lowest: float
) -> statistics.Statistics:
    """Returns numbers as statistics of the one variable."""
    values = {"mean": mean, "stddev": stddev, "diffs_stddev": diffs, "min": lowest}
    return statistics.Statistics(
        **{
            kind: xarray.Dataset({radar.NAME: np.float32(value)})
            for kind, value in values.items()
        }
    )
