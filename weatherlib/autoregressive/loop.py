"""What moves between the steps of an autoregressive forecast."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import xarray as xr

from weatherlib import xarray_jax
from weatherlib.autoregressive import checks

__all__ = ["Arrays", "Loop"]

Arrays: TypeAlias = dict[Hashable, jax.Array]
"""Bare arrays by variable; JAX cannot loop over datasets that gain an axis."""


@dataclasses.dataclass
class Loop:
    """What all steps of one call have in common, and how data move between them.

    Inside the loop data are bare arrays by name: window, targets and forcings with the
    dimensions of their templates, predictions with time first.
    """

    steps: int
    frames_per_step: int
    constants: xr.Dataset
    window_template: xr.Dataset
    targets_template: xr.Dataset
    forcings_template: xr.Dataset
    # Found while a step is traced: the dimensions of each prediction, and the
    # coordinates of those that the template lacks, such as `sample`.
    predicted_dims: dict[Hashable, tuple[Hashable, ...]] = dataclasses.field(
        default_factory=dict
    )
    predicted_coords: dict[Hashable, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def make(
        cls,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset | None,
        frames_per_step: int,
    ) -> Loop:
        """Returns the loop for these data.

        Raises:
          ValueError: They do not fit together.
        """
        forcings = xr.Dataset() if forcings is None else forcings
        checks.check_roles(inputs, targets, forcings)
        checks.check_times(targets, forcings, frames_per_step)
        steps = targets.sizes["time"] // frames_per_step
        if steps > 1:
            checks.check_spacing(inputs, targets)
        moving = [name for name in inputs if name in targets or name in forcings]
        for name in moving:
            checks.check_feedback(
                inputs[name], targets[name] if name in targets else forcings[name]
            )
        first = {"time": slice(0, frames_per_step)}
        return cls(
            steps=steps,
            frames_per_step=frames_per_step,
            constants=_without_time_labels(inputs.drop_vars(moving)).drop_vars(
                "time", errors="ignore"
            ),
            window_template=_without_time_labels(inputs[moving]),
            targets_template=_without_time_labels(targets.isel(first)),
            forcings_template=_without_time_labels(
                forcings.isel(first, missing_dims="ignore")
            ),
        )

    def window(self, inputs: xr.Dataset) -> Arrays:
        """Returns the first window."""
        return {name: _array(inputs[name]) for name in self.window_template}

    def split(self, data: xr.Dataset | None) -> Arrays:
        """Returns each variable cut into steps, along a new first axis."""
        arrays = {}
        for name, values in (data or {}).items():
            array, axis = _array(values), values.get_axis_num("time")
            shape = array.shape
            shape = (*shape[:axis], -1, self.frames_per_step, *shape[axis + 1 :])
            arrays[name] = jnp.moveaxis(array.reshape(shape), axis, 0)
        return arrays

    def inputs(self, window: Arrays) -> xr.Dataset:
        """Returns the inputs of a step."""
        moving = _filled(self.window_template, window)
        return self.constants.merge(moving, compat="override", join="exact")

    def targets(self, arrays: Arrays) -> xr.Dataset:
        """Returns the targets of a step."""
        return _filled(self.targets_template, arrays)

    def forcings(self, arrays: Arrays) -> xr.Dataset:
        """Returns the forcings of a step."""
        return _filled(self.forcings_template, arrays)

    def frames(self, predictions: xr.Dataset) -> Arrays:
        """Returns the predictions of a step, time first.

        Returns:
          Arrays by name, shape [frame, ...].

        Raises:
          ValueError: A target is missing, or has another number of frames.
        """
        arrays = {}
        for name in self.targets_template:
            if name not in predictions:
                raise ValueError(f"the wrapped predictor returned no {name!r}")
            prediction = predictions[name]
            if prediction.sizes.get("time") != self.frames_per_step:
                raise ValueError(
                    f"{name}: the wrapped predictor returned "
                    f"{prediction.sizes.get('time', 'no')} time(s) a step instead of "
                    f"{self.frames_per_step}"
                )
            prediction = prediction.transpose("time", ...)
            self.predicted_dims[name] = prediction.dims
            for dim in prediction.dims:
                if dim in prediction.indexes and dim not in self.targets_template.dims:
                    self.predicted_coords[dim] = prediction.indexes[dim]
            arrays[name] = _array(prediction)
        return arrays

    def moved(self, window: Arrays, new: Arrays) -> Arrays:
        """Returns the window of the next step, which ends with the `new` frames.

        Args:
          window: Arrays by name, with the dimensions of the window's template.
          new: Predictions, as from `frames`, and forcings of a step.

        Returns:
          Arrays by name, shaped as those of `window`.

        Raises:
          ValueError: Dimensions of inputs and predictions differ.
        """
        moved = {}
        for name, old in window.items():
            dims = self.window_template[name].dims
            if name in self.predicted_dims:
                new_dims = self.predicted_dims[name]
            else:
                new_dims = self.forcings_template[name].dims
            if set(dims) != set(new_dims):
                raise ValueError(
                    f"{name}: predictions have the dimensions {new_dims}, inputs "
                    f"{dims}; they must be the same to be fed back"
                )
            frames = new[name].transpose([new_dims.index(dim) for dim in dims])
            axis = dims.index("time")
            length = old.shape[axis]
            moved[name] = jax.lax.slice_in_dim(
                jnp.concatenate([old, frames.astype(old.dtype)], axis),
                frames.shape[axis],
                frames.shape[axis] + length,
                axis=axis,
            )
        return moved

    def joined(self, predicted: Arrays, template: xr.Dataset) -> xr.Dataset:
        """Returns the predictions of all steps with the coordinates of the template."""
        variables = {
            name: (self.predicted_dims[name], array.reshape(-1, *array.shape[2:]))
            for name, array in predicted.items()
        }
        coords = {**template.coords, **self.predicted_coords}
        return xarray_jax.Dataset(variables, coords=coords)


def _array(values: xr.DataArray) -> jax.Array:
    return jnp.asarray(xarray_jax.unwrap_data(values))


def _filled(template: xr.Dataset, arrays: Arrays) -> xr.Dataset:
    return template.copy(
        data={name: xarray_jax.wrap(arrays[name]) for name in template}
    )


def _without_time_labels(data: xr.Dataset) -> xr.Dataset:
    """Returns the data with no coordinate along time but the lead time.

    Dates differ from step to step, and in the loop a coordinate cannot change.
    """
    return data.drop_vars(
        [n for n, c in data.coords.items() if "time" in c.dims and n != "time"]
    )
