"""A predictor wrapper that takes the usual weather away and puts it back.

What is left, the anomaly, is easier to predict from few data: a network need not learn
the seasons, nor the daily tides of pressure.
"""

from __future__ import annotations

from typing import Any

import xarray as xr

from weatherlib import predictor_base
from weatherlib.data_utils import harmonics, places
from weatherlib.task import TaskConfig

__all__ = ["WithoutClimatology", "check_task"]


class WithoutClimatology(predictor_base.Predictor):
    """Gives the wrapped predictor data without the waves of year and day.

    The departure of the climatology from the mean of the training period, evaluated at
    the date of each frame, is subtracted from inputs and targets and added to
    predictions. Dates come in through the forcings `year_progress_sin` and so on, so
    that a compiled program serves every start.

    It goes around `normalization.InputsAndResiduals`, with statistics of data from
    which the same departures were taken.
    """

    def __init__(
        self, predictor: predictor_base.Predictor, amplitudes: xr.Dataset
    ) -> None:
        """Wraps a predictor.

        Args:
          predictor: Sees and returns data without their climatology.
          amplitudes: From `data_utils.harmonics.fit_departures`.
        """
        self._predictor = predictor
        self._amplitudes = amplitudes
        self.frames_per_step = predictor.frames_per_step
        self.crop = predictor.crop

    def __call__(
        self,
        inputs: xr.Dataset,
        targets_template: xr.Dataset,
        forcings: xr.Dataset,
        **kwargs: Any,
    ) -> xr.Dataset:
        """Returns predictions with their climatology.

        Raises:
          ValueError: Grids differ, or a forcing that holds the date is missing.
        """
        self._check(inputs, forcings)
        predictions = self._predictor(
            self._shifted(inputs, inputs, -1), targets_template, forcings, **kwargs
        )
        return self._shifted(predictions, forcings, 1)

    def loss(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        **kwargs: Any,
    ) -> predictor_base.LossAndDiagnostics:
        """Returns the loss of the wrapped predictor on anomalies.

        Raises:
          ValueError: As for `__call__`.
        """
        self._check(inputs, forcings)
        return self._predictor.loss(
            self._shifted(inputs, inputs, -1),
            self._shifted(targets, forcings, -1),
            forcings,
            **kwargs,
        )

    def loss_and_predictions(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        **kwargs: Any,
    ) -> tuple[predictor_base.LossAndDiagnostics, xr.Dataset]:
        """Returns the loss on anomalies, and predictions with their climatology.

        Raises:
          ValueError: As for `__call__`.
        """
        self._check(inputs, forcings)
        loss, predictions = self._predictor.loss_and_predictions(
            self._shifted(inputs, inputs, -1),
            self._shifted(targets, forcings, -1),
            forcings,
            **kwargs,
        )
        return loss, self._shifted(predictions, forcings, 1)

    def _shifted(self, values: xr.Dataset, when: xr.Dataset, sign: int) -> xr.Dataset:
        changed = {}
        for name in self._amplitudes.data_vars:
            if name in values:
                field = values[name]
                amplitudes, progress = self._at(field, when)
                apart = harmonics.departure(amplitudes, str(name), progress)
                apart = apart.astype(field.dtype)
                changed[name] = (field + sign * apart).transpose(*field.dims)
        return values.assign(changed)

    def _at(
        self, field: xr.DataArray, when: xr.Dataset
    ) -> tuple[xr.Dataset, xr.Dataset]:
        """Returns the amplitudes of a field at its place, and the progress there."""
        amplitudes = self._amplitudes
        if any(field.sizes[dim] != amplitudes.sizes[dim] for dim in ("lat", "lon")):
            amplitudes = self.crop(amplitudes)
            columns = self._amplitudes.indexes["lon"].get_indexer(
                amplitudes.indexes["lon"]
            )
            when = when.isel(lon=columns, missing_dims="ignore")
        return places.on_levels(amplitudes, field, "the climatology"), when

    def _check(self, inputs: xr.Dataset, forcings: xr.Dataset) -> None:
        amplitudes = self._amplitudes
        places.require_same_grid(
            amplitudes,
            inputs,
            "the climatology was fitted",
            "use data on the grid of training",
        )
        for label, dataset in (("inputs", inputs), ("forcings", forcings)):
            missing = [n for n in _names(amplitudes) if n not in dataset]
            if missing:
                raise ValueError(
                    f"{label} lack {', '.join(missing)}, which hold the date that the "
                    "climatology needs"
                )


def check_task(task: TaskConfig, settings: harmonics.HarmonicsConfig) -> None:
    """Checks that a task reads the forcings which the climatology needs.

    Raises:
      ValueError: It does not; the message names them.
    """
    for label in ("input_variables", "forcing_variables"):
        names = harmonics.progress_names(settings)
        missing = [name for name in names if name not in task[label]]
        if missing:
            raise ValueError(
                f"task.{label} lacks {', '.join(missing)}, which hold the dates that "
                "wrappers.climatology needs"
            )


def _names(amplitudes: xr.Dataset) -> tuple[str, ...]:
    return harmonics.progress_names(harmonics.settings_of(amplitudes))
