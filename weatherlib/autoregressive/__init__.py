"""A predictor wrapper that feeds predictions back to predict many steps.

Names, signatures and semantics are those of the published GraphCast package (version
0.2, module `autoregressive`). Beyond it, a step may fill several frames, times are
checked, and `loss_and_predictions` exists.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import xarray as xr

from weatherlib import predictor_base, xarray_jax
from weatherlib.autoregressive.loop import Arrays, Loop

__all__ = ["Predictor"]

_logger = logging.getLogger(__name__)

_Step = Callable[[Arrays, Any], tuple[Arrays, Any]]


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
        self.crop = predictor.crop

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
            at uneven times or from a part of the grid.
        """
        if self._is_one_part(inputs, targets_template):
            found = self._predictor(
                inputs, targets_template, forcings=forcings, **kwargs
            )
            return found.transpose("time", ...)
        loop = Loop.make(inputs, targets_template, forcings, self.frames_per_step)

        def step(window: Arrays, forced: Arrays) -> tuple[Arrays, Arrays]:
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
        self._is_one_part(inputs, targets)
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
        self._is_one_part(inputs, targets)
        return self._losses(inputs, targets, forcings, kwargs, True)

    def _is_one_part(self, inputs: xr.Dataset, targets: xr.Dataset) -> bool:
        """Returns whether the one step to make fills a part of the grid.

        Raises:
          ValueError: Several steps are to be made of such parts.
        """
        if not predictor_base.predicts_part(self.crop, inputs):
            return False
        if targets.sizes["time"] != self.frames_per_step:
            raise ValueError(predictor_base.ONE_PART)
        return True

    def _losses(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        kwargs: dict[str, Any],
        keep_predictions: bool,
    ) -> Any:
        """Returns `(loss, diagnostics)` and the predictions, or None for them."""
        loop = Loop.make(inputs, targets, forcings, self.frames_per_step)
        # Filled while the step is traced: the labels that bare arrays cannot carry.
        labels: list[Any] = []

        def step(window: Arrays, known: tuple[Arrays, Arrays]) -> tuple[Arrays, Any]:
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

    def _with_noise(self, window: Arrays) -> Arrays:
        if not self._noise_level:
            return window
        # One key for each variable in order of name, as published.
        return {
            name: frames
            + self._noise_level
            * jax.random.normal(hk.next_rng_key(), frames.shape).astype(frames.dtype)
            for name, frames in sorted(window.items())
        }

    def _run(self, step: _Step, window: Arrays, known: Any, loop: Loop) -> Any:
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
