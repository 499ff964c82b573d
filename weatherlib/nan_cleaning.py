"""A predictor wrapper that keeps NaNs away from the model.

Names, signatures and semantics are those of the published GraphCast package (version
0.2, module `nan_cleaning`). Beyond it, the fill value may be a plain number, and it
takes the dtype of the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from weatherlib import predictor_base

__all__ = ["NaNCleaner"]


class NaNCleaner(predictor_base.Predictor):
    """Fills the NaNs of one variable before the wrapped predictor sees them.

    Made for fields that exist only in places, such as the temperature of the sea
    surface: the wrapped predictor sees inputs, targets and forcings without NaNs.
    """

    def __init__(
        self,
        predictor: predictor_base.Predictor,
        var_to_clean: str,
        fill_value: xr.Dataset | Mapping[str, xr.DataArray] | float,
        reintroduce_nans: bool = False,
    ) -> None:
        """Wraps a predictor.

        Args:
          predictor: What must not see NaNs.
          var_to_clean: Name of the variable. Where a dataset lacks it, nothing is done.
          fill_value: What to put in place of NaN: a number, or a dataset that holds
            the value under the name of the variable.
          reintroduce_nans: Whether predictions become NaN again where any input frame
            was NaN.

        Raises:
          ValueError: `fill_value` is a dataset without the variable.
        """
        if isinstance(fill_value, Mapping) and var_to_clean not in fill_value:
            raise ValueError(
                f"the fill values lack {var_to_clean!r}; they hold "
                f"{sorted(map(str, fill_value))}"
            )
        self._predictor = predictor
        self._var_to_clean = var_to_clean
        self._fill_value = (
            fill_value[var_to_clean] if isinstance(fill_value, Mapping) else fill_value
        )
        self._reintroduce_nans = reintroduce_nans
        self.frames_per_step = predictor.frames_per_step
        self.crop = predictor.crop

    def __call__(
        self,
        inputs: xr.Dataset,
        targets_template: xr.Dataset,
        forcings: xr.Dataset | None = None,
        **kwargs: Any,
    ) -> xr.Dataset:
        """Returns the predictions for cleaned inputs.

        Raises:
          ValueError: NaNs are to be put back into a variable that is not an input.
        """
        predictions = self._predictor(
            self._clean(inputs), targets_template, self._clean(forcings), **kwargs
        )
        return self._restore(inputs, predictions)

    def loss(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset | None = None,
        **kwargs: Any,
    ) -> predictor_base.LossAndDiagnostics:
        """Returns the loss for cleaned inputs and targets."""
        return self._predictor.loss(
            self._clean(inputs), self._clean(targets), self._clean(forcings), **kwargs
        )

    def loss_and_predictions(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset | None = None,
        **kwargs: Any,
    ) -> tuple[predictor_base.LossAndDiagnostics, xr.Dataset]:
        """Returns loss and predictions for cleaned inputs and targets.

        Raises:
          ValueError: As for `__call__`.
        """
        loss_and_diagnostics, predictions = self._predictor.loss_and_predictions(
            self._clean(inputs), self._clean(targets), self._clean(forcings), **kwargs
        )
        return loss_and_diagnostics, self._restore(inputs, predictions)

    def _clean(self, dataset: Any) -> Any:
        if dataset is None or self._var_to_clean not in dataset:
            return dataset
        field = dataset[self._var_to_clean]
        # Not `fillna`: xarray cannot look for NaNs in bfloat16. And a float64 fill
        # value would raise the whole field to float64.
        filled = field.where(field == field, self._fill_value_for(field))
        return dataset.assign({self._var_to_clean: filled.transpose(*field.dims)})

    def _fill_value_for(self, field: xr.DataArray) -> Any:
        if not isinstance(self._fill_value, xr.DataArray):
            return np.asarray(self._fill_value, field.dtype)[()]
        fill = self._fill_value
        for dim in fill.dims:
            if dim in fill.indexes and dim in field.indexes:
                lacking = field.indexes[dim].difference(fill.indexes[dim])
                if len(lacking):
                    raise ValueError(
                        f"{self._var_to_clean}: no fill value for {dim} "
                        f"{lacking.tolist()}"
                    )
                fill = fill.sel({dim: field[dim]})
        return fill.astype(field.dtype).reset_coords(drop=True)

    def _restore(self, inputs: xr.Dataset, predictions: xr.Dataset) -> xr.Dataset:
        name = self._var_to_clean
        if not self._reintroduce_nans or name not in predictions:
            return predictions
        if name not in inputs:
            raise ValueError(
                f"{name}: NaNs cannot be put back, because it is not among the inputs"
            )
        missing = inputs[name] != inputs[name]
        if "time" in missing.dims:
            missing = missing.any("time")
        missing = missing.reset_coords(drop=True)
        prediction = predictions[name]
        nan = np.asarray(np.nan, prediction.dtype)[()]
        restored = prediction.where(~missing, nan).transpose(*prediction.dims)
        return predictions.assign({name: restored})
