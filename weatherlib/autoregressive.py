"""A predictor wrapper that feeds predictions back to predict many steps.

Names, signatures and semantics are those of the published GraphCast package (version
0.2, module `autoregressive`). Beyond it, a step may fill several frames, times are
checked, and `loss_and_predictions` exists.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import xarray as xr

from weatherlib import predictor_base, xarray_jax

__all__ = ["Predictor"]

_logger = logging.getLogger(__name__)

_Arrays = dict[str, jax.Array]
_Dims = tuple[str, ...]
_Step = Callable[[_Arrays, Any], tuple[_Arrays, Any]]


class Predictor(predictor_base.Predictor):
    """Applies a one-step predictor again and again, each time to its own predictions.

    The inputs are a window of past frames. After each step the window moves on: the
    new frames of a variable are the predicted ones if it is a target, or those of the
    forcings if it is a forcing. Inputs without a time stay as they are. Targets that
    are not inputs are returned, but not fed back.

    Every step sees the lead times of the first one and no other coordinate along time,
    so that the step is compiled once. Predictions have the dimension `time` first.
    """

    def __init__(
        self,
        predictor: predictor_base.Predictor,
        noise_level: float | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        """Wraps a predictor.

        Args:
          predictor: Predicts one step of `frames_per_step` frames.
          noise_level: Standard deviation of the normal noise that losses over several
            steps add to the time-dependent inputs of the first step. One number for
            all variables, in the units of the data this wrapper sees.
          gradient_checkpointing: Whether each step is computed again in the backward
            pass instead of being kept, which takes less memory and more time. Has no
            use, and logs a warning, for a single step.
        """
        self._predictor = predictor
        self._noise_level = noise_level
        self._gradient_checkpointing = gradient_checkpointing
        self.frames_per_step = predictor.frames_per_step

    def __call__(
        self,
        inputs: xr.Dataset,
        targets_template: xr.Dataset,
        forcings: xr.Dataset,
        **kwargs: Any,
    ) -> xr.Dataset:
        """Returns the predictions for all times of the template.

        Args:
          inputs: A window of past frames, and static fields.
          targets_template: What to predict, a whole number of steps long.
          forcings: Known variables, at exactly the times of the template.
          **kwargs: Handed to the wrapped predictor at each step.

        Raises:
          ValueError: A time-dependent input is neither target nor forcing, a target or
            forcing has no time or the wrong times, or several steps would be fed back
            at uneven times.
        """
        loop = _Loop.make(inputs, targets_template, forcings, self.frames_per_step)

        def step(window: _Arrays, forced: _Arrays) -> tuple[_Arrays, _Arrays]:
            predictions = self._predictor(
                loop.inputs(window),
                loop.targets_template,
                forcings=loop.forcings(forced),
                **kwargs,
            )
            predicted = loop.frames(predictions)
            return loop.moved(window, predicted | forced), predicted

        predicted = self._run(step, loop.window(inputs), loop.split(forcings), loop)
        return loop.joined(predicted, targets_template)

    def loss(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        **kwargs: Any,
    ) -> predictor_base.LossAndDiagnostics:
        """Returns the mean over all steps of the loss of the wrapped predictor.

        Targets of one step are handed to the wrapped predictor as they are, without
        noise; it then needs no `loss_and_predictions`.

        Raises:
          ValueError: As for `__call__`.
        """
        if targets.sizes["time"] == self.frames_per_step:
            return self._predictor.loss(inputs, targets, forcings, **kwargs)
        losses, _ = self._losses(inputs, targets, forcings, kwargs, False)
        return losses

    def loss_and_predictions(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        **kwargs: Any,
    ) -> tuple[predictor_base.LossAndDiagnostics, xr.Dataset]:
        """Returns the mean loss over all steps, and the predictions of all of them.

        Raises:
          ValueError: As for `__call__`.
        """
        if targets.sizes["time"] == self.frames_per_step:
            return self._predictor.loss_and_predictions(
                inputs, targets, forcings, **kwargs
            )
        return self._losses(inputs, targets, forcings, kwargs, True)

    def _losses(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        kwargs: dict[str, Any],
        keep_predictions: bool,
    ) -> Any:
        """Returns `(loss, diagnostics)` and the predictions, or None for them."""
        loop = _Loop.make(inputs, targets, forcings, self.frames_per_step)
        # Filled while the step is traced: the labels that bare arrays cannot carry.
        labels: list[Any] = []

        def step(
            window: _Arrays, known: tuple[_Arrays, _Arrays]
        ) -> tuple[_Arrays, Any]:
            target, forced = known
            losses, predictions = self._predictor.loss_and_predictions(
                loop.inputs(window),
                loop.targets(target),
                forcings=loop.forcings(forced),
                **kwargs,
            )
            loss, diagnostics = losses
            labels[:] = [loss.dims, diagnostics]
            values = (
                xarray_jax.unwrap_data(loss),
                {n: xarray_jax.unwrap_data(d) for n, d in diagnostics.items()},
            )
            predicted = loop.frames(predictions)
            kept = predicted if keep_predictions else {}
            return loop.moved(window, predicted | forced), (values, kept)

        window = self._with_noise(loop.window(inputs))
        known = (loop.split(targets), loop.split(forcings))
        values, predicted = self._run(step, window, known, loop)
        loss, diagnostics = jax.tree_util.tree_map(lambda x: jnp.mean(x, 0), values)
        dims, like = labels
        named = {
            name: xarray_jax.DataArray(diagnostics[name], dims=like[name].dims)
            for name in like
        }
        if isinstance(like, xr.Dataset):
            named = xr.Dataset(named)
        losses = (xarray_jax.DataArray(loss, dims=dims), named)
        return losses, loop.joined(predicted, targets) if keep_predictions else None

    def _with_noise(self, window: _Arrays) -> _Arrays:
        if not self._noise_level:
            return window
        # One key for each variable in order of name, as published.
        return {
            name: frames
            + self._noise_level
            * jax.random.normal(hk.next_rng_key(), frames.shape).astype(frames.dtype)
            for name, frames in sorted(window.items())
        }

    def _run(self, step: _Step, window: _Arrays, known: Any, loop: _Loop) -> Any:
        """Returns the outputs of all steps, stacked along a new first axis."""
        if loop.steps == 1:
            if self._gradient_checkpointing:
                _logger.warning("A single step needs no gradient checkpointing")
            first = jax.tree_util.tree_map(lambda x: x[0], known)
            _, outputs = step(window, first)
            return jax.tree_util.tree_map(lambda x: x[None], outputs)
        if self._gradient_checkpointing:
            step = hk.remat(step)
        _, outputs = hk.scan(step, window, known, length=loop.steps)
        return outputs


@dataclasses.dataclass
class _Loop:
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
    predicted_dims: dict[str, _Dims] = dataclasses.field(default_factory=dict)
    predicted_coords: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def make(
        cls,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset | None,
        frames_per_step: int,
    ) -> _Loop:
        """Returns the loop for these data.

        Raises:
          ValueError: They do not fit together.
        """
        forcings = xr.Dataset() if forcings is None else forcings
        _check_roles(inputs, targets, forcings)
        _check_times(targets, forcings, frames_per_step)
        steps = targets.sizes["time"] // frames_per_step
        if steps > 1:
            _check_spacing(inputs, targets)
        moving = [name for name in inputs if name in targets or name in forcings]
        for name in moving:
            _check_feedback(
                inputs[name], targets[name] if name in targets else forcings[name]
            )
        first = {"time": slice(0, frames_per_step)}
        return cls(
            steps=steps,
            frames_per_step=frames_per_step,
            constants=inputs.drop_vars([*moving, "time"], errors="ignore"),
            window_template=_without_time_labels(inputs[moving]),
            targets_template=_without_time_labels(targets.isel(first)),
            forcings_template=_without_time_labels(
                forcings.isel(first, missing_dims="ignore")
            ),
        )

    def window(self, inputs: xr.Dataset) -> _Arrays:
        """Returns the first window."""
        return {name: _array(inputs[name]) for name in self.window_template}

    def split(self, data: xr.Dataset | None) -> _Arrays:
        """Returns each variable cut into steps, along a new first axis."""
        arrays = {}
        for name, values in (data or {}).items():
            array, axis = _array(values), values.get_axis_num("time")
            shape = array.shape
            shape = (*shape[:axis], -1, self.frames_per_step, *shape[axis + 1 :])
            arrays[name] = jnp.moveaxis(array.reshape(shape), axis, 0)
        return arrays

    def inputs(self, window: _Arrays) -> xr.Dataset:
        """Returns the inputs of a step."""
        return self.constants.merge(_filled(self.window_template, window))

    def targets(self, arrays: _Arrays) -> xr.Dataset:
        """Returns the targets of a step."""
        return _filled(self.targets_template, arrays)

    def forcings(self, arrays: _Arrays) -> xr.Dataset:
        """Returns the forcings of a step."""
        return _filled(self.forcings_template, arrays)

    def frames(self, predictions: xr.Dataset) -> _Arrays:
        """Returns the predictions of a step, time first."""
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

    def moved(self, window: _Arrays, new: _Arrays) -> _Arrays:
        """Returns the window of the next step, which ends with the `new` frames."""
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

    def joined(self, predicted: _Arrays, template: xr.Dataset) -> xr.Dataset:
        """Returns the predictions of all steps with the coordinates of the template."""
        variables = {
            name: (self.predicted_dims[name], array.reshape(-1, *array.shape[2:]))
            for name, array in predicted.items()
        }
        coords = {**template.coords, **self.predicted_coords}
        return xarray_jax.Dataset(variables, coords=coords)


def _array(values: xr.DataArray) -> jax.Array:
    return jnp.asarray(xarray_jax.unwrap_data(values))


def _filled(template: xr.Dataset, arrays: _Arrays) -> xr.Dataset:
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


def _check_roles(inputs: xr.Dataset, targets: xr.Dataset, forcings: xr.Dataset) -> None:
    """Checks that each variable can play its part at every step."""
    both = sorted(str(name) for name in targets if name in forcings)
    if both:
        raise ValueError(f"{both} cannot be both targets and forcings")
    for role, data in (("target", targets), ("forcing", forcings)):
        for name, array in data.items():
            if "time" not in array.dims:
                raise ValueError(
                    f"the {role} {name!r} must have the dimension 'time', found "
                    f"{array.dims}"
                )
    for name, array in inputs.items():
        if "time" in array.dims and name not in targets and name not in forcings:
            raise ValueError(
                f"the time-dependent input {name!r} must also be a target or a "
                "forcing, so that later steps have values for it"
            )


def _check_times(
    targets: xr.Dataset, forcings: xr.Dataset, frames_per_step: int
) -> None:
    """Checks that targets fill whole steps and forcings are known at their times."""
    frames = targets.sizes.get("time", 0)
    if not frames or frames % frames_per_step:
        raise ValueError(
            f"targets must be a multiple of {frames_per_step} frame(s) long, as one "
            f"step is; found {frames}"
        )
    if not len(forcings):
        return
    if "time" in targets.indexes and "time" in forcings.indexes:
        want, have = targets.indexes["time"], forcings.indexes["time"]
        if not have.equals(want):
            raise ValueError(
                f"forcings must have the times of the targets; missing "
                f"{_list(want.difference(have))}, beyond them "
                f"{_list(have.difference(want))}"
            )
    elif forcings.sizes["time"] != frames:
        raise ValueError(
            f"forcings have {forcings.sizes['time']} times, targets {frames}"
        )


def _check_spacing(inputs: xr.Dataset, targets: xr.Dataset) -> None:
    """Checks that a moved window has the spacing of the first one."""
    if "time" not in inputs.indexes or "time" not in targets.indexes:
        return
    times = [*inputs.indexes["time"], *targets.indexes["time"]]
    steps = {later - earlier for earlier, later in itertools.pairwise(times)}
    if len(steps) > 1:
        raise ValueError(
            "several steps need evenly spaced times from the first input to the last "
            f"target, found {_list(times)}"
        )


def _check_feedback(window: xr.DataArray, source: xr.DataArray) -> None:
    """Checks that frames of `source` can take the place of frames of the window."""
    name = window.name
    if "time" not in window.dims:
        raise ValueError(
            f"the input {name!r} has no time but is predicted or forced over time"
        )
    for dim in window.dims:
        if dim == "time":
            continue
        if dim not in source.dims or window.sizes[dim] != source.sizes[dim]:
            raise ValueError(
                f"{name}: inputs have the shape {dict(window.sizes)}, the values of "
                f"later times {dict(source.sizes)}"
            )
        labelled = dim in window.indexes and dim in source.indexes
        if labelled and not window.indexes[dim].equals(source.indexes[dim]):
            raise ValueError(
                f"{name}: inputs and the values of later times differ in {dim!r}"
            )


def _list(labels: Iterable[Any]) -> str:
    return ", ".join(map(str, labels)) or "none"
