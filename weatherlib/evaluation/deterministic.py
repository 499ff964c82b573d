"""Scores of single forecasts, on arrays.

Every function takes the axes to average over and weights that broadcast against the
data. Points where either field is NaN are left out together with their weight; a mean
over nothing is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = [
    "activity",
    "anomaly_correlation",
    "bias",
    "mae",
    "mse",
    "rmse",
    "weighted_mean",
]

Axis = int | Sequence[int] | None


def weighted_mean(
    values: np.ndarray, weights: np.ndarray | float = 1.0, axis: Axis = None
) -> np.ndarray:
    """Returns the weighted mean over some axes, NaN left out with its weight.

    Args:
      values: Any shape.
      weights: Not negative, of a shape that broadcasts to that of `values`.
      axis: Axes to average over. Default: all of them.

    Returns:
      float64 without those axes. NaN where no weight is left.
    """
    values = np.asarray(values, np.float64)
    axes = tuple(axis) if isinstance(axis, Sequence) else axis
    valid = ~np.isnan(values)
    held = np.broadcast_to(weights, values.shape) * valid
    # Weight 0 must also keep out an infinite value.
    total = np.multiply(held, values, out=np.zeros_like(values), where=held > 0)
    weight = held.sum(axes)
    return total.sum(axes) / np.where(weight > 0, weight, np.nan)


def mse(
    forecast: np.ndarray,
    truth: np.ndarray,
    weights: np.ndarray | float = 1.0,
    axis: Axis = None,
) -> np.ndarray:
    """Returns the weighted mean squared error over some axes.

    Args:
      forecast: Any shape.
      truth: Of a shape that broadcasts against it.
      weights: As for `weighted_mean`.
      axis: Axes to average over. Default: all of them.
    """
    error = np.asarray(forecast, np.float64) - np.asarray(truth, np.float64)
    return weighted_mean(error**2, weights, axis)


def rmse(
    forecast: np.ndarray,
    truth: np.ndarray,
    weights: np.ndarray | float = 1.0,
    axis: Axis = None,
) -> np.ndarray:
    """Returns the root of `mse`: over time, take the root last, as WeatherBench 2."""
    return np.sqrt(mse(forecast, truth, weights, axis))


def mae(
    forecast: np.ndarray,
    truth: np.ndarray,
    weights: np.ndarray | float = 1.0,
    axis: Axis = None,
) -> np.ndarray:
    """Returns the weighted mean absolute error; arguments as for `mse`."""
    error = np.asarray(forecast, np.float64) - np.asarray(truth, np.float64)
    return weighted_mean(np.abs(error), weights, axis)


def bias(
    forecast: np.ndarray,
    truth: np.ndarray,
    weights: np.ndarray | float = 1.0,
    axis: Axis = None,
) -> np.ndarray:
    """Returns the weighted mean of forecast minus truth; arguments as for `mse`."""
    error = np.asarray(forecast, np.float64) - np.asarray(truth, np.float64)
    return weighted_mean(error, weights, axis)


def anomaly_correlation(
    forecast: np.ndarray,
    truth: np.ndarray,
    climatology: np.ndarray,
    weights: np.ndarray | float = 1.0,
    axis: Axis = None,
) -> np.ndarray:
    """Returns the correlation of anomalies about a climatology, uncentred.

    sum w f' o' / sqrt(sum w f'^2 sum w o'^2) with f' and o' the departures of forecast
    and truth from the climatology.

    Args:
      forecast: Any shape.
      truth: Of a shape that broadcasts against it, as those below.
      climatology: Its value at the same time.
      weights: As for `weighted_mean`.
      axis: Axes to sum over, latitude and longitude for the usual score.

    Source: WeatherBench 2, doi:10.1029/2023MS004019, equation 9.
    """
    ours = np.asarray(forecast, np.float64) - climatology
    theirs = np.asarray(truth, np.float64) - climatology
    missing = np.isnan(ours) | np.isnan(theirs)
    ours, theirs = np.where(missing, np.nan, ours), np.where(missing, np.nan, theirs)
    product = weighted_mean(ours * theirs, weights, axis)
    scale = weighted_mean(ours**2, weights, axis) * weighted_mean(
        theirs**2, weights, axis
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return product / np.sqrt(scale)


def activity(
    field: np.ndarray,
    climatology: np.ndarray,
    weights: np.ndarray | float = 1.0,
    axis: Axis = None,
) -> np.ndarray:
    """Returns the standard deviation of the anomaly over some axes.

    A forecast less active than the truth is too smooth.

    Args:
      field: Forecast or truth.
      climatology: Its value at the same time.
      weights: As for `weighted_mean`.
      axis: Axes of the deviation, latitude and longitude for the usual score.

    Source: activity of the ECMWF scorecards and WeatherBench 2.
    """
    anomaly = np.asarray(field, np.float64) - climatology
    mean = weighted_mean(anomaly, weights, axis)
    variance = weighted_mean(anomaly**2, weights, axis) - mean**2
    return np.sqrt(np.maximum(variance, 0.0))
