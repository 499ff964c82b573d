"""The scores of the published ClimaX, with its definitions and their quirks.

They reproduce published numbers. For forecasts of your own `weatherlib evaluate` is
the better judge; `docs/explanation/climax.md` says where its definitions differ. Arrays
are NumPy, [batch, variable, lat, lon]; results are floats by name. Nothing here imports
JAX or xarray.

What is peculiar about them:

- Rows are weighted by the cosine of latitude divided by its mean over the rows at hand,
  computed in float64 and rounded to the dtype of the fields. A row on a pole counts as
  nothing, and a region has weights of its own.
- `w_mse` compares normalised fields, the other scores denormalised ones.
- `w_rmse` is the mean over the batch of the root of the mean square over the globe. The
  root of the mean over both, which others report, is never smaller.
- `acc` removes the climatology and then the mean over batch and globe, unweighted, and
  correlates over batch and globe together: many forecasts give one number, not the mean
  of theirs.
- A total such as `w_rmse` is the plain mean over variables, of whatever units.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

__all__ = [
    "denormalize",
    "evaluate",
    "lat_weighted_acc",
    "lat_weighted_mse",
    "lat_weighted_mse_val",
    "lat_weighted_nrmse",
    "lat_weighted_rmse",
    "log_postfix",
    "mse",
]

Fields = Float[np.ndarray, "batch variable lat lon"]
Mask = Float[np.ndarray, "batch lat lon"]


def mse(
    predictions: Fields,
    targets: Fields,
    variables: Sequence[str],
    mask: Mask | None = None,
) -> dict[str, float]:
    """Returns the mean squared error of each variable, and of all as `loss`.

    Args:
      predictions: Normalised.
      targets: Normalised.
      variables: Their names.
      mask: Weight of each point; errors are divided by its sum. Its batch axis must be
        that of the fields.

    Raises:
      ValueError: Shapes do not go together.
    """
    return _masked(_errors(predictions, targets, variables), variables, mask)


def lat_weighted_mse(
    predictions: Fields,
    targets: Fields,
    variables: Sequence[str],
    lat: Float[np.ndarray, " lat"],
    mask: Mask | None = None,
) -> dict[str, float]:
    """Returns the training loss: `mse` with rows weighted by latitude.

    Args:
      predictions: Normalised.
      targets: Normalised.
      variables: Their names.
      lat: Degrees north.
      mask: As for `mse`; the weights of rows do not enter the divisor.

    Raises:
      ValueError: Shapes do not go together.
    """
    errors = _errors(predictions, targets, variables)
    return _masked(errors * _row_weights(lat, errors), variables, mask)


def lat_weighted_mse_val(
    predictions: Fields,
    targets: Fields,
    variables: Sequence[str],
    lat: Float[np.ndarray, " lat"],
    postfix: str,
) -> dict[str, float]:
    """Returns `w_mse_<variable>_<postfix>` and their mean `w_mse`, on normalised data.

    Args:
      predictions: Normalised.
      targets: Normalised.
      variables: Their names.
      lat: Degrees north.
      postfix: From `log_postfix`.

    Raises:
      ValueError: Shapes do not go together.
    """
    errors = _errors(predictions, targets, variables)
    errors = (errors * _row_weights(lat, errors)).mean((0, 2, 3))
    return _named("w_mse", variables, postfix, errors)


def lat_weighted_rmse(
    predictions: Fields,
    targets: Fields,
    variables: Sequence[str],
    lat: Float[np.ndarray, " lat"],
    postfix: str,
) -> dict[str, float]:
    """Returns `w_rmse_<variable>_<postfix>` and their mean `w_rmse`.

    The root is taken for each batch member, then the mean.

    Args:
      predictions: In units, from `denormalize`.
      targets: In units.
      variables: Their names.
      lat: Degrees north.
      postfix: From `log_postfix`.

    Raises:
      ValueError: Shapes do not go together.
    """
    errors = _errors(predictions, targets, variables)
    errors = (errors * _row_weights(lat, errors)).mean((2, 3))
    return _named("w_rmse", variables, postfix, np.sqrt(errors).mean(0))


def lat_weighted_acc(
    predictions: Fields,
    targets: Fields,
    variables: Sequence[str],
    lat: Float[np.ndarray, " lat"],
    climatology: Float[np.ndarray, "variable lat lon"],
    postfix: str,
) -> dict[str, float]:
    """Returns `acc_<variable>_<postfix>` and their mean `acc`.

    Args:
      predictions: In units.
      targets: In units.
      variables: Their names.
      lat: Degrees north.
      climatology: One field for each variable, in units, the same at all times.
      postfix: From `log_postfix`.

    Raises:
      ValueError: Shapes do not go together.
    """
    _errors(predictions, targets, variables)
    weights = _row_weights(lat, targets)
    anomalies = []
    for fields in (predictions, targets):
        anomaly = fields - climatology[np.newaxis]
        anomalies.append(anomaly - anomaly.mean((0, 2, 3), keepdims=True))
    ours, theirs = anomalies
    axes = (0, 2, 3)
    joint = (weights * ours * theirs).sum(axes)
    spread = (weights * ours**2).sum(axes) * (weights * theirs**2).sum(axes)
    return _named("acc", variables, postfix, joint / np.sqrt(spread))


def lat_weighted_nrmse(
    predictions: Fields,
    targets: Fields,
    variables: Sequence[str],
    lat: Float[np.ndarray, " lat"],
    normalization: float,
) -> dict[str, float]:
    """Returns the scores of climate projections, those of ClimateBench.

    `w_nrmses_` is the error of the mean field over the batch, `w_nrmseg_` that of the
    global mean of each batch member, both divided by `normalization`; `w_nrmse_` is the
    first plus five times the second.

    Args:
      predictions: In units.
      targets: In units.
      variables: Their names.
      lat: Degrees north.
      normalization: Usually the mean of the targets over globe and time.

    Raises:
      ValueError: Shapes do not go together.
    """
    _errors(predictions, targets, variables)
    weights = _row_weights(lat, targets)
    mean_errors = (predictions.mean(0) - targets.mean(0)) ** 2
    of_fields = np.sqrt((mean_errors * weights[0]).mean((1, 2))) / normalization
    means = [(fields * weights).mean((2, 3)) for fields in (predictions, targets)]
    of_globe = np.sqrt(((means[0] - means[1]) ** 2).mean(0)) / normalization
    found = {}
    for i, variable in enumerate(variables):
        found[f"w_nrmses_{variable}"] = float(of_fields[i])
        found[f"w_nrmseg_{variable}"] = float(of_globe[i])
        found[f"w_nrmse_{variable}"] = float(of_fields[i] + 5 * of_globe[i])
    return found


def evaluate(
    predictions: Fields,
    targets: Fields,
    variables: Sequence[str],
    lat: Float[np.ndarray, " lat"],
    *,
    mean: Float[np.ndarray, " variable"],
    std: Float[np.ndarray, " variable"],
    climatology: Float[np.ndarray, "variable lat lon"],
    lead_hours: float,
) -> dict[str, float]:
    """Returns all scores of a weather forecast, as published evaluations log them.

    Args:
      predictions: Normalised.
      targets: Normalised.
      variables: Their names.
      lat: Degrees north.
      mean: Of each variable, in units.
      std: Of each variable, in units.
      climatology: In units.
      lead_hours: For the names of the scores.

    Raises:
      ValueError: Shapes do not go together.
    """
    postfix = log_postfix(lead_hours)
    found = lat_weighted_mse_val(predictions, targets, variables, lat, postfix)
    predictions = denormalize(predictions, mean, std)
    targets = denormalize(targets, mean, std)
    found |= lat_weighted_rmse(predictions, targets, variables, lat, postfix)
    found |= lat_weighted_acc(
        predictions, targets, variables, lat, climatology, postfix
    )
    return found


def denormalize(
    fields: Fields,
    mean: Float[np.ndarray, " variable"],
    std: Float[np.ndarray, " variable"],
) -> Fields:
    """Returns normalised fields in units, rounded as the published code rounds them.

    It subtracts `-mean / std` and divides by `1 / std`, each rounded to the dtype of
    the fields.
    """
    shape = (1, -1, 1, 1)
    mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    offset = (-mean / std).astype(fields.dtype).reshape(shape)
    scale = (1 / std).astype(fields.dtype).reshape(shape)
    return (fields - offset) / scale


def log_postfix(lead_hours: float) -> str:
    """Returns the end of the names of scores: hours below a day, else whole days."""
    if lead_hours < 24:
        return f"{int(lead_hours)}_hours"
    return f"{int(lead_hours / 24)}_days"


def _errors(
    predictions: Fields, targets: Fields, variables: Sequence[str]
) -> np.ndarray:
    """Returns squared errors.

    Raises:
      ValueError: Shapes do not go together.
    """
    if predictions.shape != targets.shape or predictions.ndim != 4:
        raise ValueError(
            "predictions and targets must be of one shape [batch, variable, lat, lon], "
            f"found {predictions.shape} and {targets.shape}"
        )
    if len(variables) != targets.shape[1]:
        raise ValueError(
            f"{len(variables)} names are given for {targets.shape[1]} variables"
        )
    return (predictions - targets) ** 2


def _row_weights(lat: np.ndarray, fields: np.ndarray) -> np.ndarray:
    """Returns weights of mean 1 in the dtype of the fields, shape [1, 1, lat, 1]."""
    if len(lat) != fields.shape[2]:
        raise ValueError(f"{len(lat)} latitudes are given for {fields.shape[2]} rows")
    weights = np.cos(np.deg2rad(np.asarray(lat, np.float64)))
    weights = weights / weights.mean()
    return weights.astype(fields.dtype)[np.newaxis, np.newaxis, :, np.newaxis]


def _masked(
    errors: np.ndarray, variables: Sequence[str], mask: np.ndarray | None
) -> dict[str, float]:
    def mean(error: np.ndarray) -> float:
        if mask is None:
            return float(error.mean())
        return float((error * mask).sum() / mask.sum())

    found = {name: mean(errors[:, i]) for i, name in enumerate(variables)}
    return {**found, "loss": mean(errors.mean(1))}


def _named(
    kind: str, variables: Sequence[str], postfix: str, values: np.ndarray
) -> dict[str, float]:
    """Returns a score of each variable, and their mean."""
    found = {f"{kind}_{name}_{postfix}": float(v) for name, v in zip(variables, values)}
    return {**found, kind: float(np.mean(values))}
