"""What a family may ask about the training data before anything is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray

from weatherlib.cli import run_data

__all__ = ["TrainingSamples"]

_FRAMES = 64  # Read at a time.
_SAMPLES = 16


@dataclasses.dataclass(frozen=True)
class TrainingSamples:
    """Samples of the training period of a source.

    Attributes:
      source: The data.
    """

    source: run_data.Source

    def __call__(self, targets: int, count: int) -> Any:
        """Returns a batch of samples, spread evenly, in the units of the data.

        Args:
          targets: Target frames.
          count: Samples, or as many as there are.

        Raises:
          ValueError: There is none.
        """
        frames = self.source.frames
        period = self.source.settings.train
        starts = frames.starts(period, targets=targets)
        places = np.linspace(0, len(starts) - 1, min(count, len(starts))).astype(int)
        return frames.batch(starts[places], targets, period)

    def normalized(self, dataset: xarray.Dataset) -> xarray.Dataset:
        """Returns data with mean 0 and standard deviation 1, as networks see them."""
        return self.centred(dataset) / self._of(dataset, "stddev_by_level")

    def centred(self, dataset: xarray.Dataset) -> xarray.Dataset:
        """Returns data with mean 0."""
        return dataset - self._of(dataset, "mean_by_level")

    def extremes(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Returns the lowest and highest normalised values of what is predicted.

        One number for each variable, by name, and level; missing values do not count.

        Raises:
          ValueError: A variable has no values.
        """
        low: dict[str, np.ndarray] = {}
        high: dict[str, np.ndarray] = {}
        for part in self._parts():
            for name in sorted(part, key=str):
                field = part[name]
                around = [dim for dim in field.dims if dim != "level"]
                label = str(name)
                for found, end in ((low, "min"), (high, "max")):
                    values = np.atleast_1d(getattr(field, end)(around).values)
                    better = np.fmin if end == "min" else np.fmax
                    found[label] = better(found.get(label, values), values)
        for name, values in low.items():
            if not np.isfinite(values).all():
                raise ValueError(f"{name}: the training period has no values of it")
        return tuple(
            tuple(float(np.float32(v)) for name in sorted(found) for v in found[name])
            for found in (low, high)
        )  # pyright: ignore[reportReturnType]

    def _parts(self) -> Iterator[xarray.Dataset]:
        """Yields normalised frames of the training period, some at a time."""
        source = self.source
        names = list(source.task.target_variables)
        if not hasattr(source.frames, "period"):
            # Radar pictures, which are cut into tiles.
            yield self.normalized(self(1, _SAMPLES)[1][names])
            return
        frames = source.fields.period(source.settings.train)[names]
        for begin in range(0, frames.sizes["time"], _FRAMES):
            part = frames.isel(time=slice(begin, begin + _FRAMES)).load()
            yield self.normalized(part)

    def _of(self, dataset: xarray.Dataset, kind: str) -> xarray.Dataset:
        return self.source.statistics[kind][list(dataset)]
