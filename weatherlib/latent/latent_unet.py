"""The latent U-Net as a predictor: past frames in, future frames out."""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp
import xarray as xr
from jaxtyping import Array, Float

from weatherlib import predictor_base
from weatherlib.latent import codec, forecast_frames, forecast_network
from weatherlib.latent.forecast_config import LatentUNetConfig
from weatherlib.nn import lifting
from weatherlib.task import TaskConfig
from weatherlib.typing import PyTree

__all__ = ["LatentUNet", "first_params"]


class LatentUNet(predictor_base.Predictor):
    """Encodes past frames, predicts the latent fields of future ones, decodes them.

    Built inside the function given to `hk.transform`, like any Haiku module. Inputs are
    expected normalised to mean 0 and standard deviation 1; for more than one step put
    it into `autoregressive.Predictor`. It sees past frames of what it predicts and
    nothing else.
    """

    predicts_changes = False

    def __init__(
        self,
        model_config: LatentUNetConfig,
        task_config: TaskConfig | None = None,
        *,
        remat: bool = False,
    ) -> None:
        """Takes the settings.

        Args:
          model_config: Sizes; `channels` has to be known.
          task_config: What is read and predicted, if that is to be checked.
          remat: Whether the backward pass computes blocks again, which takes less
            memory and more time.

        Raises:
          ValueError: A part is to be trained that the loss does not reach, or sizes do
            not fit.
        """
        self._config, self._task = model_config, task_config
        self._codec = codec.make(model_config, remat=remat)
        self._remat = remat
        self.frames_per_step = model_config.output_length
        if model_config.loss_on == "latents" and self._codec.trains:
            raise ValueError(
                f"loss_on latents does not train the layers between the "
                f"{model_config.channels} channels and the autoencoder; set loss_on to "
                "fields"
            )

    def __call__(
        self,
        inputs: xr.Dataset,
        targets_template: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = False,
    ) -> xr.Dataset:
        """Returns the predictions for the times of the template.

        Args:
          inputs: Normalised past frames.
          targets_template: Variables and coordinates to predict; values are not read.
          forcings: Without variables.
          is_training: Without effect: there is no dropout.

        Raises:
          ValueError: The datasets do not fit the task or the model, or values lie too
            far outside of those of the training period.
        """
        del is_training
        forecast_frames.check(
            inputs, targets_template, forcings, self._task, self._config
        )
        past = forecast_frames.read(inputs, self._config, is_start=True)
        params = self._params(past.dtype)
        frames = self._decoded(params, self._latents(params, past), past)
        return forecast_frames.write(frames, targets_template, self._config)

    def loss_and_predictions(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = True,
    ) -> tuple[predictor_base.LossAndDiagnostics, xr.Dataset]:
        """Returns `loss` and the predictions that it judges."""
        del is_training
        forecast_frames.check(inputs, targets, forcings, self._task, self._config)
        past = forecast_frames.read(inputs, self._config)
        params = self._params(past.dtype)
        latents = self._latents(params, past)
        frames = self._decoded(params, latents, past)
        predictions = forecast_frames.write(frames, targets, self._config)
        return self._loss(params, latents, frames, inputs, targets), predictions

    def loss(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = True,
    ) -> predictor_base.LossAndDiagnostics:
        """Returns the mean squared error of each batch member, in the range of images.

        With `reconstruction_weight`, that of reconstructed targets is added where a
        part of the autoencoder is trained.

        Args:
          inputs: As for `__call__`.
          targets: Normalised truth.
          forcings: As for `__call__`.
          is_training: Without effect.

        Raises:
          ValueError: As for `__call__`.
        """
        del is_training
        forecast_frames.check(inputs, targets, forcings, self._task, self._config)
        past = forecast_frames.read(inputs, self._config)
        params = self._params(past.dtype)
        latents = self._latents(params, past)
        frames = None
        if self._config.loss_on == "fields":
            frames = self._decoded(params, latents, past)
        return self._loss(params, latents, frames, inputs, targets)

    def _params(self, dtype: jnp.dtype) -> PyTree:
        def init(key: Array) -> PyTree:
            return first_params(self._config, key)

        return lifting.cast(lifting.lifted(init), dtype)

    def _latents(
        self, params: PyTree, past: Float[Array, "batch time channel lat lon"]
    ) -> Array:
        """Returns the latent fields of future frames, side by side."""
        seen = forecast_network.encode_frames(self._codec, params, past)
        outputs = self._config.output_length * self._codec.latent_channels

        def run(x: Array) -> Array:
            network = forecast_network.LatentUNetNetwork(
                self._config, remat=self._remat
            )
            return network(x, outputs)

        return hk.without_apply_rng(hk.transform(run)).apply(params, seen)

    def _decoded(self, params: PyTree, latents: Array, past: Array) -> Array:
        size = (past.shape[3], past.shape[4])
        return forecast_network.to_frames(self._codec, params, latents, size)

    def _loss(
        self,
        params: PyTree,
        latents: Array,
        frames: Array | None,
        inputs: xr.Dataset,
        targets: xr.Dataset,
    ) -> predictor_base.LossAndDiagnostics:
        """Returns the loss of each batch member and its parts."""
        config = self._config
        truth = forecast_frames.read(targets, config)
        found, wanted = frames, truth
        if config.loss_on == "latents":
            found = latents
            wanted = forecast_network.encode_frames(self._codec, params, truth)
        assert found is not None
        square = jnp.square(found.astype(jnp.float32) - wanted.astype(jnp.float32))
        loss = square.mean(tuple(range(1, square.ndim)))
        weight = config.reconstruction_weight
        if not weight or not self._codec.trains:
            return predictor_base.batch_losses(loss, {}, inputs)
        error = forecast_network.reconstruction_error(self._codec, params, truth)
        parts = {"forecast": loss, "reconstruction": error}
        total = loss + jnp.asarray(weight, loss.dtype) * error
        return predictor_base.batch_losses(total, parts, inputs)


def first_params(config: LatentUNetConfig, key: Array) -> PyTree:
    """Returns first parameters of the autoencoder and of the U-Net, by path.

    Args:
      config: Sizes.
      key: Draws them.
    """
    model = codec.make(config)
    of_codec, of_network = jax.random.split(key)
    side = 2**config.depth
    seen = jnp.zeros((1, config.input_length * model.latent_channels, side, side))
    outputs = config.output_length * model.latent_channels

    def run(x: Array) -> Array:
        return forecast_network.LatentUNetNetwork(config)(x, outputs)

    return {**model.init(of_codec), **hk.transform(run).init(of_network, seen)}
