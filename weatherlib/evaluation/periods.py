"""Periods of a series: the times in them, and how messages name them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from weatherlib.evaluation import reading

__all__ = [
    "OPEN_PERIOD",
    "Period",
    "describe_held",
    "describe_length",
    "describe_period",
    "describe_time",
    "describe_times",
    "period_times",
    "shortfall",
]

Period = tuple[np.datetime64, np.datetime64]

# The ends of a period that has none, within what datetime64[ns] holds.
OPEN_PERIOD: Period = (
    np.datetime64("1678-01-01", "ns"),
    np.datetime64("2262-01-01", "ns"),
)


def period_times(truth: reading.TruthReader, period: Period | None) -> np.ndarray:
    """Returns the times of a period, both ends included.

    Args:
      truth: What happened.
      period: First and last date; None for all times.

    Returns:
      Ascending, datetime64[ns], shape [time].

    Raises:
      ValueError: There is none.
    """
    moments = truth.times
    if period is None:
        return moments
    chosen = moments[(moments >= period[0]) & (moments <= period[1])]
    if not chosen.size:
        raise ValueError(
            f"{truth.name} has no time in {describe_period(period)}; it has "
            f"{describe_times(moments)}"
        )
    return chosen


def shortfall(truth: reading.TruthReader, period: Period) -> str:
    """Returns which part of a period a series has, empty where it reaches both ends.

    An end is reached where less than a usual step of the series is missing to it.

    Args:
      truth: What happened.
      period: First and last date.

    Raises:
      ValueError: The series has no time of it.
    """
    held, every = period_times(truth, period), truth.times
    step = np.timedelta64(1, "D")
    if every.size > 1:
        step = np.median(np.diff(every).astype(np.int64)).astype("timedelta64[ns]")
    first, last = period
    early = first != OPEN_PERIOD[0] and held[0] - first >= step
    late = last != OPEN_PERIOD[1] and last - held[-1] >= step
    if not (early or late):
        return ""
    return (
        f"only a part of the period {describe_period(period)} is there: "
        f"{describe_held(truth, held)}"
    )


def describe_period(period: Period) -> str:
    """Returns a period for a message, an end that is open in words."""
    words = ("the beginning", "the end")
    named = [
        word if end == limit else describe_time(end)
        for word, end, limit in zip(words, period, OPEN_PERIOD, strict=True)
    ]
    return " to ".join(named)


def describe_held(truth: reading.TruthReader, moments: np.ndarray) -> str:
    """Returns what a series holds of a period, for a message.

    Args:
      truth: What happened.
      moments: Its times in the period, shape [time].
    """
    many = f"{moments.size} time{'' if moments.size == 1 else 's'}"
    return f"{truth.name} has {many} in the period, {describe_times(moments)}"


def describe_times(moments: np.ndarray) -> str:
    """Returns the first and last of some dates for a message."""
    if not moments.size:
        return "none"
    return f"{describe_time(moments.min())} to {describe_time(moments.max())}"


def describe_time(moment: np.datetime64) -> str:
    """Returns a date for a message, to the minute."""
    return f"{pd.Timestamp(moment):%Y-%m-%d %H:%M}"


def describe_length(length: np.timedelta64) -> str:
    """Returns a length of time for a message, in hours."""
    return f"{length / np.timedelta64(1, 'h'):g} h"
