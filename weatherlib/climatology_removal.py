"""A predictor wrapper that takes the usual weather away and puts it back.

What is left, the anomaly, is easier to predict from few data: a network need not learn
the seasons, nor the daily tides of pressure.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from weatherlib import predictor_base
from weatherlib.data_utils import harmonics
from weatherlib.task import TaskConfig

__all__ = ["WithoutClimatology", "check_task"]

# Part of the grid spacing by which coordinates of the same place may differ.
_SAME_PLACE = 1e-2


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
            places = self._amplitudes.indexes["lon"].get_indexer(
                amplitudes.indexes["lon"]
            )
            when = when.isel(lon=places, missing_dims="ignore")
        return self._on_levels(field, amplitudes), when

    def _on_levels(self, field: xr.DataArray, amplitudes: xr.Dataset) -> xr.Dataset:
        """Returns amplitudes on the levels of a field."""
        if "level" not in field.dims or "level" not in field.coords:
            return amplitudes
        wanted = field["level"].values
        held = amplitudes["level"].values
        lacking = sorted(set(wanted.tolist()) - set(held.tolist()))
        if lacking:
            raise ValueError(
                f"{field.name}: the climatology lacks the levels {lacking} hPa"
            )
        return amplitudes.sel(level=wanted)

    def _check(self, inputs: xr.Dataset, forcings: xr.Dataset) -> None:
        amplitudes = self._amplitudes
        for axis in ("lat", "lon"):
            ours, theirs = amplitudes[axis].values, inputs[axis].values
            spacing = np.abs(np.diff(ours)).min() if ours.size > 1 else 1.0
            if ours.shape != theirs.shape or (
                np.abs(ours - theirs).max() > _SAME_PLACE * spacing
            ):
                raise ValueError(
                    f"{axis}: the climatology was fitted on {ours.size} values from "
                    f"{ours[0]:g} to {ours[-1]:g}, the data have {theirs.size} from "
                    f"{theirs[0]:g} to {theirs[-1]:g}; use data on the grid of training"
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
    return harmonics.progress_names(
        harmonics.HarmonicsConfig(
            years=int(amplitudes.attrs["years"]), days=int(amplitudes.attrs["days"])
        )
    )
