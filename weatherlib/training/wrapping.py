"""The wrappers that a configuration puts around a network."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray

from weatherlib import (
    casting,
    climatology_removal,
    losses,
    nan_cleaning,
    normalization,
    predictor_base,
    xarray_jax,
)
from weatherlib.training import mirroring
from weatherlib.training.config import LossConfig, WrapperConfig
from weatherlib.training.forcing_config import TEACHER_FORCING_RATIO
from weatherlib.training.frames import LEAD_TIME

__all__ = ["WeightedLoss", "wrap"]

_NEUTRAL = {"mean_by_level": 0.0, "stddev_by_level": 1.0}


class WeightedLoss(predictor_base.Predictor):
    """Replaces the loss of the wrapped predictor by that of a `LossConfig`.

    One with nothing set keeps the predictor's own, which then is told of training.

    For deterministic predictors: the loss compares one prediction with the targets.
    """

    def __init__(
        self,
        predictor: predictor_base.Predictor,
        settings: LossConfig,
        training_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Wraps a predictor.

        Args:
          predictor: Sees the data as this wrapper does, so put it inside of
            normalisation.
          settings: Kind and weights.
          training_options: Handed to the predictor when a loss is computed.
        """
        self._predictor = predictor
        self._settings = settings
        self._options = dict(training_options or {})
        self.frames_per_step = predictor.frames_per_step
        self.crop = predictor.crop

    def __call__(
        self,
        inputs: xarray.Dataset,
        targets_template: xarray.Dataset,
        forcings: xarray.Dataset,
        **kwargs: Any,
    ) -> xarray.Dataset:
        """Returns the predictions of the wrapped predictor."""
        return self._predictor(inputs, targets_template, forcings, **kwargs)

    def loss(
        self,
        inputs: xarray.Dataset,
        targets: xarray.Dataset,
        forcings: xarray.Dataset,
        **kwargs: Any,
    ) -> predictor_base.LossAndDiagnostics:
        """Returns the weighted error of each batch member, and of each variable."""
        if self._settings.is_own:
            options = {**self._options, **kwargs}
            return self._predictor.loss(inputs, targets, forcings, **options)
        return self.loss_and_predictions(inputs, targets, forcings, **kwargs)[0]

    def loss_and_predictions(
        self,
        inputs: xarray.Dataset,
        targets: xarray.Dataset,
        forcings: xarray.Dataset,
        **kwargs: Any,
    ) -> tuple[predictor_base.LossAndDiagnostics, xarray.Dataset]:
        """Returns `loss` and the predictions that it judges."""
        options = {**self._options, **kwargs}
        if self._settings.is_own:
            return self._predictor.loss_and_predictions(
                inputs, targets, forcings, **options
            )
        log_variances = None
        if self._settings.kind == "gaussian":
            predictions, log_variances = self._predictor.predictions_and_log_variances(
                inputs, targets, forcings, **options
            )
            loss, each = losses.gaussian_error(
                predictions, targets, log_variances, **self._weights
            )
        else:
            predictions = self._predict(inputs, targets, forcings, options)
            loss, each = self._error(predictions, targets)
        if self._settings.differences:
            for error in self._errors_of_shape(predictions, targets, log_variances):
                loss = loss + self._settings.differences * error
        return (loss, each), predictions

    @property
    def _weights(self) -> dict[str, Any]:
        return {
            "variable_weights": self._settings.variables or {},
            "level_weights": self._settings.levels,
            "latitude": self._settings.latitude,
        }

    def _predict(
        self,
        inputs: xarray.Dataset,
        targets: xarray.Dataset,
        forcings: xarray.Dataset,
        options: dict[str, Any],
    ) -> xarray.Dataset:
        if TEACHER_FORCING_RATIO not in options:
            return self._predictor(inputs, targets, forcings, **options)
        # Only a loss hands over the truth; that of the predictor is not computed.
        return self._predictor.loss_and_predictions(
            inputs, self._without_gaps(targets), forcings, **options
        )[1]

    def _error(
        self, predictions: xarray.Dataset, targets: xarray.Dataset
    ) -> predictor_base.LossAndDiagnostics:
        settings = self._settings
        kind = None if settings.kind == "gaussian" else settings.kind
        return losses.weighted_error(
            predictions,
            targets,
            kind=kind or "mse",
            huber_delta=settings.huber_delta,
            skip_missing=settings.skip_missing,
            **self._weights,
        )

    def _errors_of_shape(
        self,
        predictions: xarray.Dataset,
        targets: xarray.Dataset,
        log_variances: xarray.Dataset | None,
    ) -> list[xarray.DataArray]:
        """Returns the errors of differences between neighbours, by dimension.

        With log variances a difference counts by how certain its two points are.
        """
        pairs = [*zip(*map(losses.neighbour_differences, (predictions, targets)))]
        if log_variances is not None:
            certain = xarray_jax.apply_ufunc(_certainty, log_variances)
            roots = [share**0.5 for share in losses.neighbour_means(certain)]
            pairs = [(p * root, t * root) for (p, t), root in zip(pairs, roots)]
        return [self._error(*pair)[0] for pair in pairs]

    def _without_gaps(self, targets: xarray.Dataset) -> xarray.Dataset:
        """Returns targets with zero, the mean, where they may be missing."""
        if not self._settings.skip_missing:
            return targets
        return targets.map(lambda field: field.where(field == field, 0.0))


def wrap(
    network: predictor_base.Predictor,
    statistics: Mapping[str, xarray.Dataset],
    settings: WrapperConfig,
    *,
    loss: LossConfig | None = None,
    precision: str = "float32",
    is_training: bool = True,
) -> predictor_base.Predictor:
    """Returns a network in its wrappers, of one step.

    From the inside out: the network, the cast, the weighted loss, normalisation with
    residuals (or without, for a network that predicts states; none for one that
    normalises by itself), mirrored samples of training, the removal of the
    climatology, and the cleaning of missing values. A network whose loss can do without
    dropout is wrapped even where it keeps its own loss.

    Args:
      network: Works on normalised data.
      statistics: `mean_by_level`, `stddev_by_level` and `diffs_stddev_by_level`; with
        `climatology`, the amplitudes of its waves, that is taken away.
      settings: Which wrappers.
      loss: Weights of the loss; None, or one with nothing set, keeps the network's.
      precision: "float32" or "bfloat16".
      is_training: Whether the weighted loss asks the network for its behaviour in
        training, such as dropout.

    Raises:
      ValueError: The loss needs what the network does not tell.
    """
    statistics = {name: _with_lead_time(name, v) for name, v in statistics.items()}
    takes_flag = "is_training" in inspect.signature(network.__call__).parameters
    predictor = network
    if precision == "bfloat16":
        predictor = casting.Bfloat16Cast(predictor)
    tells_training = "is_training" in inspect.signature(network.loss).parameters
    if loss is not None and loss.kind == "gaussian" and not predictor.estimates_error:
        raise ValueError(
            f"loss.kind: gaussian needs a model that estimates its errors, and "
            f"{type(network).__name__} does not; residual_cnn does with "
            "model.estimates_error: true, or use mse"
        )
    if loss is not None and (tells_training or not loss.is_own):
        options = {"is_training": is_training} if takes_flag else {}
        predictor = WeightedLoss(predictor, loss, options)
    if settings.residuals and not network.normalizes_itself:
        predictor = normalization.InputsAndResiduals(
            predictor,
            stddev_by_level=statistics["stddev_by_level"],
            mean_by_level=statistics["mean_by_level"],
            diffs_stddev_by_level=statistics["diffs_stddev_by_level"],
            residuals=network.predicts_changes,
        )
    if settings.mirror and is_training:
        predictor = mirroring.Mirrored(predictor)
    if "climatology" in statistics:
        predictor = climatology_removal.WithoutClimatology(
            predictor, statistics["climatology"]
        )
    for name in settings.nan_cleaning:
        predictor = nan_cleaning.NaNCleaner(
            predictor, name, statistics["mean_by_level"]
        )
    return predictor


def _certainty(log_variance: jax.Array) -> jax.Array:
    """Returns how much a value counts, which an estimate is not to learn from."""
    return jnp.exp(-jax.lax.stop_gradient(log_variance))


def _with_lead_time(name: str, statistics: xarray.Dataset) -> xarray.Dataset:
    """Returns statistics by which lead times, which are in hours, stay as they are."""
    if name not in _NEUTRAL or LEAD_TIME in statistics:
        return statistics
    return statistics.assign({LEAD_TIME: np.float32(_NEUTRAL[name])})
