"""Losses on datasets, weighted by area, pressure level and variable.

Names, signatures and values are those of the published GraphCast package (version
0.2, module `losses`). Beyond it, latitudes that cover only a part of the globe are
accepted, and coordinates that disagree are an error instead of being intersected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np
import xarray as xr

from weatherlib import config
from weatherlib.geometry import sphere
from weatherlib.nn.edges import find_edges

__all__ = [
    "LossAndDiagnostics",
    "LossFunction",
    "gaussian_error",
    "neighbour_differences",
    "neighbour_means",
    "normalized_latitude_weights",
    "normalized_level_weights",
    "sum_per_variable_losses",
    "weighted_error",
    "weighted_mse_per_level",
]

LossAndDiagnostics: TypeAlias = tuple[xr.DataArray, Mapping[Any, xr.DataArray]]
"""The loss of each batch member, and by name what else to log, all of shape [batch]."""


class LossFunction(Protocol):
    """What a loss looks like to the code that calls it; a plain function will do."""

    def __call__(
        self, predictions: xr.Dataset, targets: xr.Dataset, **optional_kwargs: Any
    ) -> LossAndDiagnostics:
        """Returns the loss of each batch member, and diagnostics.

        Args:
          predictions: What the model said, normalised or not.
          targets: What was observed, with the same variables and coordinates.
          **optional_kwargs: Whatever else the loss needs, with defaults.

        Returns:
          The loss and a mapping of named diagnostics, each of shape [batch].
        """
        ...


def weighted_mse_per_level(
    predictions: xr.Dataset,
    targets: xr.Dataset,
    per_variable_weights: Mapping[str, float],
) -> LossAndDiagnostics:
    """Returns the squared error weighted by latitude, level and variable.

    Dimensions may be in any order. The arithmetic stays in the dtype of the data, so
    that bfloat16 fields give a bfloat16 loss, as published.

    Args:
      predictions: Dataset or mapping of arrays with dimensions batch, lat, lon and
        possibly time and level.
      targets: The same variables on the same coordinates.
      per_variable_weights: Weights of the variables that do not count as 1.

    Returns:
      The weighted sum over variables of shape [batch], and the unweighted loss of
      each variable.

    Raises:
      ValueError: Variables or coordinates of the two differ, or a weight names a
        variable that is not predicted.

    Source: GraphCast supplementary material, section 4.2, doi:10.1126/science.adi2336.
    """
    _check_pairs(predictions, targets)
    per_variable = {
        name: _weighted(_error(name, predictions[name], target), target)
        for name, target in targets.items()
    }
    if isinstance(targets, xr.Dataset):
        return sum_per_variable_losses(xr.Dataset(per_variable), per_variable_weights)
    return sum_per_variable_losses(per_variable, per_variable_weights)


def sum_per_variable_losses(
    per_variable_losses: Mapping[Any, xr.DataArray],
    weights: Mapping[str, float],
) -> LossAndDiagnostics:
    """Returns the weighted sum of the losses of all variables, and those losses.

    Args:
      per_variable_losses: Loss of each variable, shape [batch].
      weights: Weight by variable; variables that are not named count as 1.

    Raises:
      ValueError: There are no losses, or a weight names none of them.
    """
    if not per_variable_losses:
        raise ValueError("there are no per-variable losses to add up")
    names = list(per_variable_losses)
    stray = [name for name in weights if name not in names]
    if stray:
        found = "; ".join(
            f"{name!r}{config.closest_hint(name, names)}" for name in stray
        )
        raise ValueError(f"weight given for a variable that has no loss: {found}")
    weighted = [
        loss * float(weights[name]) if name in weights else loss
        for name, loss in per_variable_losses.items()
    ]
    # One reduction rather than a chain of additions: in bfloat16 a reduction
    # accumulates in float32, and published losses are rounded once.
    stacked = xr.concat(
        [loss.rename(None) for loss in weighted],
        dim="variable",
        join="exact",
        coords="minimal",
        compat="override",
    )
    return stacked.sum("variable", skipna=False), per_variable_losses


def normalized_level_weights(data: xr.DataArray) -> xr.DataArray:
    """Returns weights proportional to pressure with mean 1 over the levels of `data`.

    Raises:
      ValueError: `data` has no `level` coordinate.
    """
    level = _coordinate(data, "level")
    return level / level.mean(skipna=False)


def normalized_latitude_weights(data: xr.DataArray) -> xr.DataArray:
    """Returns weights proportional to cell area with mean 1 over the rows of `data`.

    Rows on a pole cover half a cell. Rows that cover only a part of the globe get the
    cosine of their latitude.

    Raises:
      ValueError: `data` has no `lat` coordinate, or its rows are not evenly spaced.
    """
    latitude = _coordinate(data, "lat")
    weights = sphere.latitude_weights(np.asarray(latitude.values, np.float64))
    dtype = np.result_type(latitude.dtype, np.float32)
    return latitude.copy(data=weights.astype(dtype))


def _coordinate(data: xr.DataArray, name: str) -> xr.DataArray:
    if name not in data.coords:
        raise ValueError(
            f"{data.name or 'the data'} needs a coordinate {name!r} for its loss "
            f"weights; found {sorted(map(str, data.coords))}"
        )
    return data.coords[name]


def weighted_error(
    predictions: xr.Dataset,
    targets: xr.Dataset,
    *,
    kind: str = "mse",
    variable_weights: Mapping[str, float] | None = None,
    level_weights: str | Mapping[int, float] = "pressure",
    latitude: bool = True,
    huber_delta: float = 1.0,
    skip_missing: bool = False,
) -> LossAndDiagnostics:
    """Returns an error weighted by variable, level and area, each as one likes.

    With nothing but `variable_weights` it is `weighted_mse_per_level`.

    Args:
      predictions: As for `weighted_mse_per_level`.
      targets: As for `weighted_mse_per_level`.
      kind: "mse", "mae", or "huber", which is half the square up to `huber_delta`.
      variable_weights: Weights of the variables that do not count as 1.
      level_weights: "pressure" for weights proportional to it, "uniform", or weights by
        level in hPa, 1 where not named. They are scaled to mean 1.
      latitude: Whether rows are weighted by their area.
      huber_delta: Error at which the Huber loss becomes linear.
      skip_missing: Whether points where a target is NaN are left out of the means; a
        batch member without any other has no error. Otherwise its loss is NaN.

    Returns:
      The weighted sum over variables of shape [batch], and the unweighted loss of
      each variable.

    Raises:
      ValueError: As for `weighted_mse_per_level`; or `kind` is unknown, or a weight is
        given for a level that no variable has.
    """
    _check_pairs(predictions, targets)
    _check_levels(targets, level_weights)
    per_variable = {}
    for name, target in targets.items():
        prediction, share = predictions[name], None
        if skip_missing:
            measured = target == target
            ones = measured.astype(prediction.dtype)
            share = _weighted(ones, target, level_weights, latitude)
            # What is compared with itself has neither an error nor a gradient.
            target = target.where(measured, prediction).transpose(*target.dims)
        error = _error(name, prediction, target, kind, huber_delta)
        error = _weighted(error, target, level_weights, latitude)
        if share is not None:
            error = error / share.where(share > 0, 1.0).astype(error.dtype)
        per_variable[name] = error
    return sum_per_variable_losses(per_variable, variable_weights or {})


def gaussian_error(
    predictions: xr.Dataset,
    targets: xr.Dataset,
    log_variances: xr.Dataset,
    *,
    variable_weights: Mapping[str, float] | None = None,
    level_weights: str | Mapping[int, float] = "pressure",
    latitude: bool = True,
) -> LossAndDiagnostics:
    """Returns how unlikely targets are by predictions and their expected errors.

    For each value that is the square of its error over the variance, plus the logarithm
    of the variance: twice the negative logarithm of a Gaussian, less a constant. What
    is expected to be wrong counts less than what is not.

    Args:
      predictions: As for `weighted_mse_per_level`.
      targets: As for `weighted_mse_per_level`.
      log_variances: Natural logarithms of the squares of the errors to expect, with the
        variables and coordinates of `targets`.
      variable_weights: As for `weighted_error`.
      level_weights: As for `weighted_error`.
      latitude: As for `weighted_error`.

    Returns:
      As `weighted_error`.

    Raises:
      ValueError: As for `weighted_error`.
    """
    _check_pairs(predictions, targets)
    _check_levels(targets, level_weights)
    per_variable = {}
    for name, target in targets.items():
        error = _error(name, predictions[name], target)
        error = error * np.exp(-log_variances[name]) + log_variances[name]
        per_variable[name] = _weighted(error, target, level_weights, latitude)
    return sum_per_variable_losses(per_variable, variable_weights or {})


def neighbour_differences(dataset: xr.Dataset) -> tuple[xr.Dataset, ...]:
    """Returns what neighbours along columns and along rows of a grid differ by.

    Their error, added to that of the values, takes wide errors for what they are: one
    that many points share is learned once, not once for each.

    Args:
      dataset: Of fields with dimensions lat and lon, in either order of latitude.

    Returns:
      One dataset for each dimension of more than one point, with differences at the
      first of their two points. Longitudes that go round have as many as points.

    Raises:
      ValueError: The grid is uneven.
    """
    return tuple(after - before for before, after in _neighbours(dataset))


def neighbour_means(dataset: xr.Dataset) -> tuple[xr.Dataset, ...]:
    """Returns the means of the neighbours whose `neighbour_differences` there are."""
    return tuple((before + after) * 0.5 for before, after in _neighbours(dataset))


def _neighbours(dataset: xr.Dataset) -> Iterator[tuple[xr.Dataset, xr.Dataset]]:
    """Yields each point and the next one, along columns and then along rows."""
    around = find_edges(dataset["lat"].values, dataset["lon"].values).columns
    for dim in ("lat", "lon"):
        if dim == "lon" and around == "around":
            yield dataset, dataset.roll(lon=-1)
        elif dataset.sizes[dim] > 1:
            after = dataset.isel({dim: slice(1, None)}).drop_vars(dim, errors="ignore")
            yield dataset.isel({dim: slice(None, -1)}), after


def _check_pairs(predictions: Any, targets: Any) -> None:
    """Raises ValueError where only one of the two has a variable."""
    unpaired = sorted(set(predictions) ^ set(targets), key=str)
    if unpaired:
        raise ValueError(
            f"predictions and targets must have the same variables; {unpaired} "
            "are in only one of them"
        )


def _error(
    name: Any,
    prediction: xr.DataArray,
    target: xr.DataArray,
    kind: str = "mse",
    delta: float = 1.0,
) -> xr.DataArray:
    try:
        prediction, target = xr.align(prediction, target, join="exact", copy=False)
    except ValueError as error:
        raise ValueError(
            f"{name}: predictions and targets are on different coordinates: {error}"
        ) from error
    error = prediction - target
    if kind == "mse":
        return error**2
    if kind == "mae":
        return abs(error)
    if kind == "huber":
        size = abs(error)
        inner = size.where(size < delta, delta)
        return 0.5 * inner**2 + delta * (size - inner)
    raise ValueError(f"kind {kind!r} is not known; use mse, mae or huber")


def _weighted(
    error: xr.DataArray,
    target: xr.DataArray,
    level_weights: str | Mapping[int, float] = "pressure",
    latitude: bool = True,
) -> xr.DataArray:
    """Returns the weighted mean of an error over all dimensions but the batch."""
    if latitude:
        error = error * normalized_latitude_weights(target).astype(error.dtype)
    if "level" in target.dims and level_weights != "uniform":
        weights = _level_weights(target, level_weights)
        error = error * weights.astype(error.dtype)
    return error.mean([dim for dim in error.dims if dim != "batch"], skipna=False)


def _check_levels(targets: Any, level_weights: str | Mapping[int, float]) -> None:
    if isinstance(level_weights, str):
        if level_weights not in ("pressure", "uniform"):
            raise ValueError(
                f"level_weights {level_weights!r} is not known; use pressure, uniform "
                "or weights by level"
            )
        return
    held: set[int] = set()
    for target in targets.values():
        if "level" in target.dims:
            held |= set(np.asarray(_coordinate(target, "level").values).tolist())
    stray = sorted(set(level_weights) - held)
    if stray:
        raise ValueError(
            f"weight given for levels {stray} hPa that no target has; they are on "
            f"{sorted(held)}"
        )


def _level_weights(
    target: xr.DataArray, level_weights: str | Mapping[int, float]
) -> xr.DataArray:
    if isinstance(level_weights, str):
        return normalized_level_weights(target)
    level = _coordinate(target, "level")
    values = [float(level_weights.get(int(p), 1)) for p in level.values]
    weights = level.copy(data=np.asarray(values, np.float32))
    return weights / weights.mean(skipna=False)
