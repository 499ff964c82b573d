"""Nowcasts that need no training: what a trained one has to beat.

Each is a `nowcasts.Nowcaster`: a function of context pixels [batch, time, lat, lon] and
a number of leads.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from weatherlib import optional
from weatherlib.evaluation import extrapolation

__all__ = [
    "Extrapolation",
    "PystepsExtrapolation",
    "PystepsSteps",
    "fill_missing",
    "persistence",
]

# Where pysteps is told that it is dry, in dBR: 0.1 mm/h.
_DRY_DBR = -15.0
_DRY_RAIN = 0.1


def persistence(context: np.ndarray, leads: int) -> np.ndarray:
    """Returns the last frame for every lead.

    Args:
      context: Pixels [batch, time, lat, lon], NaN where missing: they count as dry.
      leads: Number of frames.

    Returns:
      Pixels [batch, lead, lat, lon].

    Raises:
      ValueError: The context has other dimensions, or no frame.
    """
    last = fill_missing(context, 1)[:, -1:]
    return np.repeat(last, leads, axis=1)


@dataclasses.dataclass(frozen=True)
class Extrapolation:
    """The last frame moved along the motion of the last frames.

    Attributes:
      settings: How motion is found and gone on with.
    """

    settings: extrapolation.FlowConfig = dataclasses.field(
        default_factory=extrapolation.FlowConfig
    )

    def __call__(self, context: np.ndarray, leads: int) -> np.ndarray:
        """Returns pixels [batch, lead, lat, lon]; arguments as for `persistence`.

        Raises:
          ValueError: As for `persistence`, or there are fewer than two frames.
        """
        frames = fill_missing(context, 2)
        found = []
        for one, raw in zip(frames, np.asarray(context, np.float64)):
            # The edge of what the radar sees does not move, and says nothing.
            flow = extrapolation.find_motion(raw, self.settings)
            found.append(extrapolation.advect(one[-1], flow, leads, self.settings))
        return np.stack(found)


@dataclasses.dataclass(frozen=True)
class PystepsExtrapolation:
    """The same by the package pysteps, extra `nowcast`.

    Attributes:
      motion: Its way of finding motion: "LK", "VET", "DARTS" or "proesmans".
      options: For it.
    """

    motion: str = "LK"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __call__(self, context: np.ndarray, leads: int) -> np.ndarray:
        """Returns pixels [batch, lead, lat, lon]; what comes in is dry.

        Args:
          context: As for `persistence`.
          leads: Number of frames.

        Raises:
          ImportError: pysteps is missing; the message says how to install it.
          ValueError: As for `Extrapolation`, or pysteps has no such motion.
        """
        motion = _pysteps("motion").get_method(self.motion)
        forecast = _pysteps("nowcasts").get_method("extrapolation")
        frames = fill_missing(context, 2)
        found = []
        for one in frames:
            flow = motion(one, **self.options)
            found.append(forecast(one[-1], flow, leads))
        return np.nan_to_num(np.stack(found), nan=0.0)


@dataclasses.dataclass(frozen=True)
class PystepsSteps:
    """An ensemble of pysteps: STEPS, with noise where scales are not predictable.

    Attributes:
      members: Of the ensemble.
      minutes: Between frames.
      cell_km: Side of a cell, km.
      to_rain: Makes mm/h of pixels, such as `radar_units.pixels_to_rain`.
      from_rain: Makes pixels of mm/h, such as `radar_units.rain_to_pixels`.
      levels: Scales of the cascade.
      seed: Of the noise.
    """

    members: int
    minutes: float
    cell_km: float
    to_rain: Callable[[np.ndarray], np.ndarray]
    from_rain: Callable[[np.ndarray], np.ndarray]
    levels: int = 6
    seed: int = 0

    def __call__(self, context: np.ndarray, leads: int) -> np.ndarray:
        """Returns pixels [member, batch, lead, lat, lon]; what comes in is dry.

        Where no rain is in the last frames, all members are dry.

        Args:
          context: As for `persistence`, at least 3 frames.
          leads: Number of frames.

        Raises:
          ImportError: As for `PystepsExtrapolation`.
          ValueError: As for `persistence`, or there are fewer than three frames.
        """
        motion = _pysteps("motion").get_method("LK")
        steps = _pysteps("nowcasts").get_method("steps")
        frames = fill_missing(context, 3)
        found = []
        for one in frames:
            rain = self.to_rain(one[-3:])
            wet = rain >= _DRY_RAIN
            if not wet.any(axis=(1, 2)).all():
                found.append(np.zeros((self.members, leads, *one.shape[1:])))
                continue
            dbr = np.where(wet, 10 * np.log10(np.maximum(rain, _DRY_RAIN)), _DRY_DBR)
            members = steps(
                dbr,
                motion(dbr),
                leads,
                n_ens_members=self.members,
                n_cascade_levels=self.levels,
                precip_thr=10 * np.log10(_DRY_RAIN),
                kmperpixel=self.cell_km,
                timestep=self.minutes,
                # Of the frames themselves, so that batches make no difference.
                seed=zlib.crc32(one[-3:].tobytes(), self.seed & 0xFFFFFFFF),
            )
            falls = np.nan_to_num(members, nan=_DRY_DBR)
            falls = np.where(falls > 10 * np.log10(_DRY_RAIN), 10 ** (falls / 10), 0.0)
            found.append(self.from_rain(falls))
        return np.stack(found, axis=1)


def _pysteps(module: str) -> Any:
    return optional.require(f"pysteps.{module}", extra="nowcast")


def fill_missing(context: np.ndarray, frames: int) -> np.ndarray:
    """Returns the context with missing pixels dry, float64.

    Args:
      context: Pixels [batch, time, lat, lon], NaN where missing.
      frames: How many it has at least.

    Raises:
      ValueError: It has other dimensions, too few frames, or only missing values.
    """
    values = np.asarray(context, np.float64)
    if values.ndim != 4 or values.shape[1] < frames:
        raise ValueError(
            f"context: expected at least {frames} frame(s) of [batch, time, lat, lon], "
            f"found the shape {values.shape}"
        )
    missing = np.isnan(values)
    empty = missing.all(axis=(2, 3))
    if empty.any():
        sample, frame = np.argwhere(empty)[0]
        raise ValueError(
            f"context: every pixel of frame {frame} of sample {sample} is missing"
        )
    return np.where(missing, 0.0, values)
