"""What is simulated, for how long and on which grid."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import pandas as pd

from weatherlib import config, task

__all__ = ["RESOLUTIONS", "Resolution", "SimulationConfig"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resolution(config.Mapping):
    """How finely the atmosphere is resolved.

    Attributes:
      wavenumber: Largest wavenumber of the triangular truncation.
      layers: Layers of equal mass.
      minutes: Length of a time step.
      diffusion_hours: Time in which the smallest waves fall by a factor e.
    """

    wavenumber: int
    layers: int
    minutes: int
    diffusion_hours: float


RESOLUTIONS = {
    "T21": Resolution(wavenumber=21, layers=8, minutes=40, diffusion_hours=6.0),
    "T31": Resolution(wavenumber=31, layers=10, minutes=30, diffusion_hours=4.0),
    "T42": Resolution(wavenumber=42, layers=12, minutes=20, diffusion_hours=3.0),
}

_HOURS = (6, 12, 24)
_MOST_DAYS = 80_000
# Dates are counted in nanoseconds, which end in 2262.
_FIRST_YEAR, _END_YEAR = 1678, 2262


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulationConfig(config.Mapping):
    """A run of the simulated atmosphere.

    Attributes:
      days: Length of what is written, in days.
      resolution: Spectral truncation: T21 with 8 layers, T31 with 10, T42 with 12.
      seed: Chooses the weather. The same seed gives the same weather again.
      start: First time written, UTC. It sets the sun; there are no seasons beside it.
      spin_up_days: Days that are simulated first and not written, in which the weather
        of one seed departs from that of another.
      hours: Time between frames, over which rain is summed. 6, 12 or 24.
      latitudes: Rows of the output grid, evenly spaced, without the poles; it has twice
        as many columns.
      pressure_levels: Levels of the output, hPa.
      frames_per_chunk: Frames computed and written at a time.

    Raises:
      ValueError: A value is out of range.
    """

    days: float = 10.0
    resolution: Literal["T21", "T31", "T42"] = "T21"
    seed: int = 0
    start: str = "2001-01-01T00"
    spin_up_days: float = 40.0
    hours: int = 6
    latitudes: int = 32
    pressure_levels: tuple[int, ...] = task.PRESSURE_LEVELS_WEATHERBENCH_13
    frames_per_chunk: int = 40

    def __post_init__(self) -> None:
        if self.resolution not in RESOLUTIONS:
            raise ValueError(
                f"resolution must be one of {', '.join(RESOLUTIONS)}, found "
                f"{self.resolution!r}"
            )
        if self.hours not in _HOURS:
            raise ValueError(f"hours must be one of {_HOURS}, found {self.hours}")
        for name in ("days", "spin_up_days"):
            if not abs(getattr(self, name)) <= _MOST_DAYS:
                raise ValueError(
                    f"{name} must be a number up to {_MOST_DAYS}, found "
                    f"{getattr(self, name)}"
                )
        if self.frames < 1:
            raise ValueError(f"days must cover a frame or more, found {self.days}")
        if self.spin_up_days < 0:
            raise ValueError(
                f"spin_up_days must not be negative, found {self.spin_up_days}"
            )
        config.require_seed(self.seed)
        if self.latitudes < 4 or self.latitudes % 2:
            raise ValueError(
                f"latitudes must be even and at least 4, found {self.latitudes}"
            )
        if self.frames_per_chunk < 1:
            raise ValueError(
                f"frames_per_chunk must be positive, found {self.frames_per_chunk}"
            )
        _check_levels(self.pressure_levels)
        _ = self.start_time

    @property
    def frames(self) -> int:
        """How many frames are written."""
        return int(self.days * 24 // self.hours)

    @property
    def start_time(self) -> np.datetime64:
        """The time of the first frame, UTC, in nanoseconds.

        Raises:
          ValueError: `start` is not a date.
        """
        try:
            time = pd.Timestamp(self.start)
        except ValueError as error:
            raise ValueError(
                f"start must be a date such as 2001-01-01T00, found {self.start!r}"
            ) from error
        if not isinstance(time, pd.Timestamp):
            raise ValueError(f"start must be a date, found {self.start!r}")
        if not _FIRST_YEAR <= time.year <= _END_YEAR - 1 - self.days / 365:
            raise ValueError(
                f"all dates must lie in {_FIRST_YEAR} to {_END_YEAR - 1}, found "
                f"start {self.start!r} and {self.days:g} days"
            )
        return time.to_datetime64().astype("datetime64[ns]")


def _check_levels(levels: tuple[int, ...]) -> None:
    if not levels or any(not 1 <= level <= 1100 for level in levels):
        raise ValueError(f"pressure_levels must lie in 1 to 1100 hPa, found {levels}")
    if list(levels) != sorted(set(levels)):
        raise ValueError(f"pressure_levels must increase, found {levels}")
