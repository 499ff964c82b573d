"""Calendar days from the progress of year and day, in which forecasts know the date.

A compiled forecast sees no dates, only forcings such as `year_progress_sin`. These tell
the time of the mean year and of the day. Both together fix the date: the mean year is
no whole number of days long, so that in each year the days begin at other points of it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from weatherlib.data_utils import progress

__all__ = ["Moment", "dayofyear", "moment"]

# After 128 years the days begin at almost the same points of the mean year again.
_YEARS = (1939, 2066)

_DAYS_PER_YEAR = progress.AVG_SEC_PER_YEAR / progress.SEC_PER_DAY
_MINUTES = 24 * 60


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moment:
    """Times of the year, as arrays of any one shape.

    Attributes:
      year: Number of the mean year, counted from one in 1939.
      day: Days since 1 January; may lie a day or two outside of the year.
      minute: Minutes since midnight UTC.
    """

    year: Any
    day: Any
    minute: Any

    def later(self, days: Any) -> Moment:
        """Returns the same time some days later, 1 or -1 of them."""
        return dataclasses.replace(self, day=self.day + days)


def moment(
    numpy: Any, year: tuple[Any, Any], day: tuple[Any, Any], lon: float
) -> Moment:
    """Returns the times that progress of year and day stand for.

    Exact from 1940 to 2065; in other years the day may be the one before or after.

    Args:
      numpy: The library of the arrays, NumPy or `jax.numpy`.
      year: Sine and cosine of the progress of the year.
      day: Sine and cosine of the progress of the local day, of the same shape.
      lon: Where the day is local, degrees east.
    """
    since = _share(numpy, *year) * np.float32(_DAYS_PER_YEAR)
    of_day = (_share(numpy, *day) - np.float32(lon / 360)) % 1
    minute = numpy.round(of_day * _MINUTES).astype(np.int32)
    # 1 January counted in mean years, days before the mean year begins.
    numbers = np.arange(_YEARS[0], _YEARS[1] + 1)
    first = numbers.astype(str).astype("datetime64[Y]").astype("datetime64[D]")
    begins = (numbers - 1970) * _DAYS_PER_YEAR - first.astype(np.int64)
    days = (since - of_day)[..., np.newaxis] + begins.astype(np.float32)
    whole = numpy.round(days)
    # In the right year a whole number of days has gone by at midnight.
    best = numpy.abs(days - whole).argmin(-1)
    elapsed = numpy.take_along_axis(whole, best[..., np.newaxis], axis=-1)[..., 0]
    turned = minute == _MINUTES
    return Moment(
        year=best.astype(np.int32),
        day=elapsed.astype(np.int32) + turned,
        minute=numpy.where(turned, 0, minute),
    )


def dayofyear(numpy: Any, when: Moment) -> Any:
    """Returns the number of the day in its year, 1 to 366, as int32.

    Args:
      numpy: The library of the arrays, NumPy or `jax.numpy`.
      when: Times.
    """
    numbers = np.arange(_YEARS[0] - 1, _YEARS[1] + 1)
    starts = np.append(numbers, _YEARS[1] + 1).astype(str).astype("datetime64[Y]")
    lengths = np.diff(starts.astype("datetime64[D]").astype(np.int32))
    before = numpy.asarray(lengths[:-1])[when.year]
    own = numpy.asarray(lengths[1:])[when.year]
    day = numpy.where(when.day < 0, when.day + before, when.day)
    return numpy.where(when.day >= own, when.day - own, day) + 1


def _share(numpy: Any, sine: Any, cosine: Any) -> Any:
    """Returns the progress in [0, 1) of which these are sine and cosine."""
    return (numpy.arctan2(sine, cosine) / np.float32(2 * np.pi)) % 1
