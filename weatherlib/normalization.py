"""A predictor wrapper that normalises what goes in and predicts changes.

Names, signatures and semantics are those of the published GraphCast package (version
0.2, module `normalization`). Beyond it, statistics that lack a level of the data or
that cannot scale anything are an error, what does not vary is scaled by 1, and a step
may fill several frames.
"""

from __future__ import annotations

import logging
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr

from weatherlib import predictor_base, task, xarray_jax, xarray_tree
from weatherlib.data_utils import needed_statistics

__all__ = ["InputsAndResiduals", "check_statistics", "normalize", "unnormalize"]

_logger = logging.getLogger(__name__)


def normalize(
    values: xr.Dataset, scales: xr.Dataset, locations: xr.Dataset | None
) -> xr.Dataset:
    """Returns `(values - locations) / scales`, variable by variable.

    Statistics are matched to the data by the labels of their coordinates, in any
    order, and cast to the dtype of the data. A variable without statistics is left as
    it is, and a warning is logged. So it is where a scale is 0: what does not vary is
    divided by 1.

    Args:
      values: Fields in their own units, as a Dataset, a mapping or a named DataArray.
      scales: Standard deviations, for example of shape [level].
      locations: Means, or None to subtract nothing.

    Raises:
      ValueError: An array has no name, the statistics lack a level of the data or have
        a dimension that the data lack, or a scale is negative or not finite.
    """
    return _normalize(values, scales, locations, set())


def unnormalize(
    values: xr.Dataset, scales: xr.Dataset, locations: xr.Dataset | None
) -> xr.Dataset:
    """Returns `values * scales + locations`, the inverse of `normalize`.

    Args:
      values: Normalised fields, as a Dataset, a mapping or a named DataArray.
      scales: As for `normalize`.
      locations: As for `normalize`.

    Raises:
      ValueError: As for `normalize`.
    """
    return _unnormalize(values, scales, locations, set())


def check_statistics(
    task_config: task.TaskConfig,
    stddev_by_level: xr.Dataset,
    mean_by_level: xr.Dataset,
    diffs_stddev_by_level: xr.Dataset,
) -> None:
    """Checks that statistics hold all that `InputsAndResiduals` needs for a task.

    Warns of a variable that does not vary, which is scaled by 1.

    Raises:
      ValueError: Something is missing, or a value cannot normalise anything. The
        message lists every such problem.
    """
    needed_statistics.check(
        task_config,
        {
            "stddev_by_level": stddev_by_level,
            "mean_by_level": mean_by_level,
            "diffs_stddev_by_level": diffs_stddev_by_level,
        },
    )


class InputsAndResiduals(predictor_base.Predictor):
    """Gives the wrapped predictor normalised data and takes normalised changes.

    Inputs and forcings are normalised by mean and standard deviation. A target that is
    among the inputs is predicted as its difference from the last input frame, divided
    by the standard deviation of such differences. Any other target is normalised like
    an input. Predictions are brought back to their own units.

    The loss is that of the wrapped predictor on the normalised targets, so that the
    statistics set the relative weight of variables and levels.
    """

    def __init__(
        self,
        predictor: predictor_base.Predictor,
        stddev_by_level: xr.Dataset,
        mean_by_level: xr.Dataset,
        diffs_stddev_by_level: xr.Dataset,
        *,
        residuals: bool = True,
    ) -> None:
        """Wraps a predictor.

        Args:
          predictor: Sees and returns normalised data.
          stddev_by_level: Standard deviation of each variable, shape [level] or [].
          mean_by_level: Mean of each variable, likewise.
          diffs_stddev_by_level: Standard deviation of the change over one step.
          residuals: Whether targets among the inputs are predicted as changes. False
            normalises every target like an input, for models that predict states.
        """
        self._residuals = residuals
        self._predictor = predictor
        self._scales = stddev_by_level
        self._locations = mean_by_level
        self._residual_scales = diffs_stddev_by_level
        self._reported: set[str] = set()
        self.frames_per_step = predictor.frames_per_step
        self.crop = predictor.crop

    def __call__(
        self,
        inputs: xr.Dataset,
        targets_template: xr.Dataset,
        forcings: xr.Dataset,
        **kwargs: Any,
    ) -> xr.Dataset:
        """Returns predictions in the units of the inputs.

        Raises:
          ValueError: As for `normalize`, or the template does not hold one step.
        """
        self._check_one_step(targets_template)
        predictions = self._predictor(
            self._normalize(inputs),
            targets_template,
            forcings=self._normalize(forcings),
            **kwargs,
        )
        return self._to_predictions(inputs, predictions)

    def loss(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        **kwargs: Any,
    ) -> predictor_base.LossAndDiagnostics:
        """Returns the loss of the wrapped predictor on normalised targets.

        Raises:
          ValueError: As for `__call__`.
        """
        self._check_one_step(targets)
        return self._predictor.loss(
            self._normalize(inputs),
            self._to_normalized_targets(inputs, targets),
            forcings=self._normalize(forcings),
            **kwargs,
        )

    def loss_and_predictions(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        **kwargs: Any,
    ) -> tuple[predictor_base.LossAndDiagnostics, xr.Dataset]:
        """Returns the normalised loss and predictions in the units of the inputs.

        Raises:
          ValueError: As for `__call__`.
        """
        self._check_one_step(targets)
        loss_and_diagnostics, predictions = self._predictor.loss_and_predictions(
            self._normalize(inputs),
            self._to_normalized_targets(inputs, targets),
            forcings=self._normalize(forcings),
            **kwargs,
        )
        return loss_and_diagnostics, self._to_predictions(inputs, predictions)

    def _normalize(self, values: Any) -> Any:
        if values is None:
            return None
        return _normalize(values, self._scales, self._locations, self._reported)

    def _check_one_step(self, targets: xr.Dataset) -> None:
        for name, target in targets.items():
            frames = target.sizes.get("time")
            if frames != self.frames_per_step:
                raise ValueError(
                    f"{name}: InputsAndResiduals predicts one step of "
                    f"{self.frames_per_step} frame(s) at a time, found {frames}; put "
                    "autoregressive.Predictor around it for more"
                )

    def _to_normalized_targets(self, inputs: xr.Dataset, targets: xr.Dataset) -> Any:
        def convert(target: xr.DataArray) -> xr.DataArray:
            if not self._residuals or target.name not in inputs:
                return self._normalize(target)
            change = target - _last_frame(inputs, target)
            return _normalize(change, self._residual_scales, None, self._reported)

        return xarray_tree.map_structure(convert, targets)

    def _to_predictions(self, inputs: xr.Dataset, predictions: xr.Dataset) -> Any:
        def convert(prediction: xr.DataArray) -> xr.DataArray:
            if not self._residuals or prediction.name not in inputs:
                return _unnormalize(
                    prediction, self._scales, self._locations, self._reported
                )
            change = _unnormalize(
                prediction, self._residual_scales, None, self._reported
            )
            return change + _last_frame(inputs, prediction)

        return xarray_tree.map_structure(convert, predictions)


def _normalize(values: Any, scales: Any, locations: Any, reported: set[str]) -> Any:
    def convert(array: xr.DataArray) -> xr.DataArray:
        location = _location(array, locations, reported)
        scale = _scale(array, scales, reported)
        if location is not None:
            array = _floating(array) - location
        if scale is not None:
            array = _floating(array) / scale
        return array

    return xarray_tree.map_structure(convert, values)


def _unnormalize(values: Any, scales: Any, locations: Any, reported: set[str]) -> Any:
    def convert(array: xr.DataArray) -> xr.DataArray:
        location = _location(array, locations, reported)
        scale = _scale(array, scales, reported)
        if scale is not None:
            array = _floating(array) * scale
        if location is not None:
            array = _floating(array) + location
        return array

    return xarray_tree.map_structure(convert, values)


def _location(array: xr.DataArray, locations: Any, reported: set[str]) -> Any:
    if locations is None:
        return None
    return _statistic(array, locations, "location", reported)


def _scale(array: xr.DataArray, scales: Any, reported: set[str]) -> Any:
    scale = _statistic(array, scales, "scale", reported)
    if scale is not None:
        useless = _useless_values(scale)
        if useless:
            raise ValueError(
                f"{array.name}: normalization scales must be finite and not negative, "
                f"found {useless}"
            )
        if _is_still(scale):
            _report(
                f"{array.name} does not vary by its normalization scale of 0, and is "
                "scaled by 1",
                reported,
            )
        scale = _without_zeros(scale)
    return scale


def _without_zeros(scale: xr.DataArray) -> xr.DataArray:
    """Returns a scale with 1 in place of 0, known or traced."""
    data = xarray_jax.unwrap_data(scale)
    if isinstance(data, np.ndarray | np.generic):
        return scale.copy(data=np.where(data == 0, data.dtype.type(1), data))
    return scale.copy(data=xarray_jax.wrap(jnp.where(data == 0, 1, data)))


def _is_still(scale: xr.DataArray) -> bool:
    """Returns whether a known scale is 0 somewhere."""
    data = xarray_jax.unwrap_data(scale)
    return isinstance(data, np.ndarray | np.generic) and bool((data == 0).any())


def _report(message: str, reported: set[str]) -> None:
    """Logs a warning that was not logged yet."""
    if message not in reported:
        reported.add(message)
        _logger.warning(message)


def _statistic(
    array: xr.DataArray, statistics: Any, kind: str, reported: set[str]
) -> xr.DataArray | None:
    """Returns the statistic of a variable in its dtype and level order, or None."""
    if array.name is None:
        raise ValueError("an array without a name has no normalization statistics")
    if array.name not in statistics:
        _report(f"No normalization {kind} found for {array.name}", reported)
        return None
    statistic = _matching(statistics[array.name], array, f"normalization {kind}")
    return statistic.astype(_floating_dtype(array))


def _matching(values: xr.DataArray, array: xr.DataArray, what: str) -> xr.DataArray:
    """Returns `values` at the labels of `array`, without coordinates of its own."""
    foreign = [dim for dim in values.dims if dim not in array.dims]
    if foreign:
        raise ValueError(
            f"{array.name}: {what} has the dimension(s) {foreign}, the data only "
            f"{list(array.dims)}"
        )
    selection = {}
    for dim in values.dims:
        if dim in values.indexes and dim in array.indexes:
            have, want = values.indexes[dim], array.indexes[dim]
            if have.equals(want):
                continue
            if not have.is_unique:
                raise ValueError(f"{array.name}: {what} repeats labels of {dim!r}")
            selection[dim] = have.get_indexer(want)
            lacking = want[selection[dim] < 0]
            if len(lacking):
                raise ValueError(
                    f"{array.name}: {what} lacks {dim} {lacking.tolist()}; it has "
                    f"{have.tolist()}"
                )
        elif values.sizes[dim] != array.sizes[dim]:
            raise ValueError(
                f"{array.name}: {what} has {values.sizes[dim]} values along {dim!r}, "
                f"the data {array.sizes[dim]}, and there are no labels to match them"
            )
    return values.isel(selection).drop_vars(list(values.coords))


def _last_frame(inputs: xr.Dataset, like: xr.DataArray) -> xr.DataArray:
    """Returns the last input frame of a target at the coordinates of the target."""
    frames = inputs[like.name]
    if "time" not in frames.dims:
        raise ValueError(f"{like.name} is a target, so as an input it needs a time")
    return _matching(frames.isel(time=-1, drop=True), like, "the last input frame")


def _floating_dtype(array: xr.DataArray) -> np.dtype:
    is_whole = np.issubdtype(array.dtype, np.integer) or array.dtype == np.bool_
    return np.dtype(np.float32) if is_whole else array.dtype


def _floating(array: xr.DataArray) -> xr.DataArray:
    dtype = _floating_dtype(array)
    return array if array.dtype == dtype else array.astype(dtype)


def _useless_values(scale: xr.DataArray) -> list[float]:
    """Returns the values that cannot divide; none while they are traced by JAX."""
    data = xarray_jax.unwrap_data(scale)
    if not isinstance(data, np.ndarray | np.generic):
        return []
    values = np.atleast_1d(np.asarray(data, np.float64))
    return values[~((values >= 0) & np.isfinite(values))].tolist()
