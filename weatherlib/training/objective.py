"""Loss and forecast of any predictor as plain functions of parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import xarray

from weatherlib import autoregressive, predictor_base, xarray_jax
from weatherlib.nn import reverse_mode
from weatherlib.training import running_statistics
from weatherlib.training.frames import Sample
from weatherlib.typing import PyTree

__all__ = ["Objective"]

MakePredictor = Callable[[], predictor_base.Predictor]


class Objective:
    """A predictor as functions of parameters, Haiku state, random key and batch.

    Targets are on the grid of the inputs; what a predictor does not predict of it is
    cut off.
    """

    def __init__(
        self,
        make_predictor: MakePredictor,
        *,
        noise_level: float | None = None,
        remat: bool = False,
    ) -> None:
        """Takes the predictor; nothing is traced yet.

        Args:
          make_predictor: Returns a predictor of one step with all its wrappers but
            `autoregressive.Predictor`, as for `rollout.Forecaster`. Called inside a
            Haiku transformation.
          noise_level: As for `autoregressive.Predictor`.
          remat: Whether rollouts compute each step again in the backward pass.
        """
        self._make = make_predictor
        self._noise_level = noise_level
        self._remat = remat

    @functools.cached_property
    def frames_per_step(self) -> int:
        """Frames that one step predicts."""
        found: list[int] = []

        def probe() -> None:
            found.append(self._make().frames_per_step)

        jax.eval_shape(hk.transform_with_state(probe).init, jax.random.PRNGKey(0))
        return found[0]

    def init(self, key: jax.Array, batch: Sample) -> tuple[PyTree, PyTree]:
        """Returns first parameters and Haiku state."""
        # It runs once: without optimisation it compiles in a quarter of the time.
        options = {"xla_backend_optimization_level": 0}
        init = jax.jit(self._loss.init, compiler_options=options)
        return init(key, *self._one_step(batch))

    def shapes(self, batch: Sample) -> tuple[PyTree, PyTree]:
        """Returns what `init` would, as shapes and types; nothing is computed."""
        key = jax.random.PRNGKey(0)
        return jax.eval_shape(self._loss.init, key, *self._one_step(batch))

    def loss(
        self,
        params: PyTree,
        state: PyTree,
        key: jax.Array,
        batch: Sample,
        **options: Any,
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], PyTree]]:
        """Returns the mean loss of a batch, and named diagnostics and the new state.

        Args:
          params: Parameters.
          state: Haiku state.
          key: Of all noise.
          batch: Inputs, targets and forcings.
          **options: For the loss of the predictor, such as `teacher_forcing_ratio`.
        """
        steps = batch[1].sizes["time"] // self.frames_per_step
        params = running_statistics.shared(params, steps)
        with reverse_mode.use():
            found = self._loss.apply(params, state, key, *batch, **options)
        (loss, diagnostics), state = found
        return loss, (diagnostics, state)

    def forecast(
        self, params: PyTree, state: PyTree, key: jax.Array, batch: Sample
    ) -> xarray.Dataset:
        """Returns predictions for the times of the targets, whose values are unread.

        A predictor of a part of the grid fills that part.
        """
        predictions, _ = self._forecast.apply(params, state, key, *batch)
        return predictions

    @functools.cached_property
    def _loss(self) -> hk.TransformedWithState:
        def loss(*batch: xarray.Dataset, **options: Any) -> Any:
            remat = self._remat and batch[1].sizes["time"] > self.frames_per_step
            predictor = self._predictor(remat)
            inputs, targets, forcings = batch
            values, diagnostics = predictor.loss(
                inputs, predictor.crop(targets), forcings, **options
            )
            means = {str(name): _mean(diagnostics[name]) for name in diagnostics}
            return _mean(values), means

        return hk.transform_with_state(loss)

    @functools.cached_property
    def _forecast(self) -> hk.TransformedWithState:
        def forecast(
            inputs: xarray.Dataset, targets: xarray.Dataset, forcings: xarray.Dataset
        ) -> xarray.Dataset:
            predictor = self._predictor(False)
            return predictor(inputs, predictor.crop(targets), forcings)

        return hk.transform_with_state(forecast)

    def _one_step(self, batch: Sample) -> Sample:
        steps = slice(self.frames_per_step)
        inputs, targets, forcings = batch
        if "time" in forcings.dims:
            forcings = forcings.isel(time=steps)
        return inputs, targets.isel(time=steps), forcings

    def _predictor(self, remat: bool) -> autoregressive.Predictor:
        return autoregressive.Predictor(
            self._make(), self._noise_level, gradient_checkpointing=remat
        )


def _mean(values: xarray.DataArray) -> Any:
    return xarray_jax.unwrap_data(values.mean(skipna=False), require_jax=True)
