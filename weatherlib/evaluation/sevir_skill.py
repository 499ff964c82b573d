"""The scores of published SEVIR nowcasts, with their definitions and their quirks.

They reproduce published numbers. For nowcasts of your own `nowcasts` says more: per
lead and threshold, for ensembles, and beside references. What is peculiar here:

- Frames come between 0 and 1 and are divided by 1/255 in float32, not multiplied by
  255.
- A value at a threshold is an event. Pixels missing in either field count nowhere.
- A small number is added to divisors, so that scores without any event are 0.
- What is called bias is `events.sevir_bias`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import scipy.ndimage

from weatherlib.evaluation import events

__all__ = ["THRESHOLDS", "SevirSkill", "ssim"]

THRESHOLDS = (16, 74, 133, 160, 181, 219)
"""Pixels at and above which published nowcasts are judged."""

_SCALE = np.float32(1 / 255)
_NAMES = ("csi", "bias", "sucr", "pod")

# Those of torchmetrics, which published code calls without options.
_SIGMA = 1.5
_RADIUS = 5
_K1, _K2 = 0.01, 0.03


class SevirSkill:
    """Counts of hits, misses and false alarms, summed over updates, and their scores.

    Attributes:
      hits: Forecast and observed. float64 of shape [threshold], or of shape [threshold,
        lead] in modes 1 and 2.
      misses: Observed only.
      false_alarms: Forecast only.
    """

    def __init__(
        self,
        mode: Literal[0, 1, 2] = 0,
        *,
        leads: int | None = None,
        pool: int = 1,
        thresholds: Sequence[float] = THRESHOLDS,
        eps: float = 1e-4,
    ) -> None:
        """Begins with counts of zero.

        Args:
          mode: 0 counts over all frames; 1 counts each lead by itself; 2 does so and
            averages the scores of the leads.
          leads: Frames of a forecast, for modes 1 and 2.
          pool: Side of squares of which the largest pixel is taken first; published are
            4 and 16.
          thresholds: Pixels.
          eps: Added to divisors.

        Raises:
          ValueError: The mode is not known, or `leads` is missing.
        """
        if mode not in (0, 1, 2):
            raise ValueError(f"mode is 0, 1 or 2, found {mode!r}")
        if mode and not leads:
            raise ValueError(f"mode {mode} needs the number of leads")
        self._mode, self._leads, self._pool = mode, leads, pool
        self._thresholds, self._eps = tuple(thresholds), eps
        shape = (len(self._thresholds), *([leads] if mode and leads else []))
        self.hits = np.zeros(shape)
        self.misses = np.zeros(shape)
        self.false_alarms = np.zeros(shape)

    def update(self, forecast: np.ndarray, truth: np.ndarray) -> None:
        """Adds the counts of some forecasts.

        Args:
          forecast: Between 0 and 1, shape [batch, lead, row, column] or with one
            channel after them.
          truth: Of that shape.

        Raises:
          ValueError: Shapes do not go together, or there are other leads.
        """
        ours, theirs = _frames(forecast, truth)
        if self._mode and ours.shape[1] != self._leads:
            raise ValueError(
                f"{ours.shape[1]} frames are given for {self._leads} leads"
            )
        ours, theirs = (
            events.pool_highest(f / _SCALE, self._pool) for f in (ours, theirs)
        )
        known = ~(np.isnan(ours) | np.isnan(theirs))
        axes = (0, 2, 3) if self._mode else None
        for number, limit in enumerate(self._thresholds):
            forecast_is, truth_is = (ours >= limit) & known, (theirs >= limit) & known
            self.hits[number] += (forecast_is & truth_is).sum(axes)
            self.misses[number] += (~forecast_is & truth_is).sum(axes)
            self.false_alarms[number] += (forecast_is & ~truth_is).sum(axes)

    def compute(self) -> dict[Any, dict[str, Any]]:
        """Returns `csi`, `pod`, `sucr` and `bias` by threshold, as "avg" their mean.

        They are floats; in mode 1 arrays, one value for each lead.
        """
        scores = self._scores()
        if self._mode == 2:
            scores = {name: values.mean(1) for name, values in scores.items()}

        def plain(value: Any) -> Any:
            return value if np.ndim(value) else float(value)

        found: dict[Any, dict[str, Any]] = {
            limit: {name: plain(scores[name][number]) for name in _NAMES}
            for number, limit in enumerate(self._thresholds)
        }
        found["avg"] = {name: plain(scores[name].mean(0)) for name in _NAMES}
        return found

    def _scores(self) -> Mapping[str, np.ndarray]:
        h, m, f = self.hits, self.misses, self.false_alarms
        return {
            "csi": h / (h + m + f + self._eps),
            "pod": h / (h + m + self._eps),
            "sucr": h / (h + f + self._eps),
            "bias": events.sevir_bias(h, m, f, self._eps),
        }


def ssim(forecast: np.ndarray, truth: np.ndarray) -> float:
    """Returns the structural similarity, mean over frames, as published code has it.

    A Gaussian window of 11 x 11 points with a standard deviation of 1.5, and the larger
    of the ranges of forecast and truth as the range of the data.

    Args:
      forecast: Shape [batch, lead, row, column] or with one channel after them.
      truth: Of that shape.

    Raises:
      ValueError: Shapes do not go together, or frames are smaller than the window.

    Source: Wang et al. 2004, doi:10.1109/TIP.2003.819861.
    """
    ours, theirs = (np.asarray(x, np.float64) for x in _frames(forecast, truth))
    if min(ours.shape[-2:]) <= 2 * _RADIUS:
        raise ValueError(
            f"frames of {ours.shape[-2]} x {ours.shape[-1]} points are smaller than "
            f"the window of {2 * _RADIUS + 1} x {2 * _RADIUS + 1}"
        )
    extent = max(np.ptp(ours), np.ptp(theirs))
    c1, c2 = (_K1 * extent) ** 2, (_K2 * extent) ** 2
    mean, other = _windowed(ours), _windowed(theirs)
    variance = np.maximum(_windowed(ours**2) - mean**2, 0)
    other_variance = np.maximum(_windowed(theirs**2) - other**2, 0)
    covariance = _windowed(ours * theirs) - mean * other
    upper = (2 * mean * other + c1) * (2 * covariance + c2)
    lower = (mean**2 + other**2 + c1) * (variance + other_variance + c2)
    return float((upper / lower).mean())


def _windowed(field: np.ndarray) -> np.ndarray:
    """Returns means over the window where all of it lies inside."""
    options = {"truncate": (_RADIUS + 0.01) / _SIGMA, "mode": "nearest"}
    across = scipy.ndimage.gaussian_filter1d(field, _SIGMA, -1, **options)
    both = scipy.ndimage.gaussian_filter1d(across, _SIGMA, -2, **options)
    inner = slice(_RADIUS, -_RADIUS)
    return both[..., inner, inner]


def _frames(forecast: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns both as float32 of [batch, lead, row, column].

    Raises:
      ValueError: Shapes do not go together.
    """
    ours, theirs = (np.asarray(x, np.float32) for x in (forecast, truth))
    if ours.shape != theirs.shape or ours.ndim not in (4, 5):
        raise ValueError(
            "forecast and truth must be of one shape [batch, lead, row, column] or "
            f"with a channel, found {ours.shape} and {theirs.shape}"
        )
    if ours.ndim == 5:
        if ours.shape[-1] != 1:
            raise ValueError(f"one channel is expected, found {ours.shape[-1]}")
        ours, theirs = ours[..., 0], theirs[..., 0]
    return ours, theirs
