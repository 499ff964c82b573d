"""The conditional latent diffusion model as a predictor: drawn futures of past frames.

Source: Rombach et al. (2022), arXiv 2112.10752; Ho et al. (2020), arXiv 2006.11239.
"""

from __future__ import annotations

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import xarray as xr
from jaxtyping import Array, Float

from weatherlib import diffusion, predictor_base
from weatherlib.diffusion import forward, losses, sampler_config, sampling
from weatherlib.latent import codec, forecast_frames, forecast_network
from weatherlib.latent.forecast_config import LatentDiffusionConfig
from weatherlib.nn import lifting
from weatherlib.task import TaskConfig
from weatherlib.typing import PyTree

__all__ = ["LatentDiffusion", "first_params"]

_ONE_STEP = (
    "the latent diffusion model is trained on single steps: set rollout to 1; for "
    "longer futures raise output_length"
)


class LatentDiffusion(predictor_base.Predictor):
    """Draws the latent fields of future frames, given those of past ones.

    Built inside the function given to `hk.transform`, like any Haiku module. Inputs are
    expected normalised to mean 0 and standard deviation 1. Every call draws from the
    Haiku key stream. For more than one step put it into `autoregressive.Predictor`. It
    sees past frames of what it predicts and nothing else.
    """

    predicts_changes = False

    def __init__(
        self,
        model_config: LatentDiffusionConfig,
        task_config: TaskConfig | None = None,
        *,
        sampler: sampler_config.SamplerConfig | None = None,
        members: int | None = None,
        remat: bool = False,
    ) -> None:
        """Takes the settings.

        Args:
          model_config: Sizes; `channels` has to be known.
          task_config: What is read and predicted, if that is to be checked.
          sampler: How futures are drawn; None is as the configuration says.
          members: Futures of each past, along a new first dimension `sample`; None
            draws one without it.
          remat: Whether the backward pass computes blocks again, which takes less
            memory and more time.

        Raises:
          ValueError: `members` is not positive, or sizes do not fit.
        """
        if members is not None and members < 1:
            raise ValueError(f"members must be at least 1, found {members}")
        self._config, self._task = model_config, task_config
        self._codec = codec.make(model_config, remat=remat)
        self._sampler = sampler or model_config.sampler
        self._schedule = diffusion.make_schedule(model_config.diffusion.schedule)
        self._members, self._remat = members, remat
        self.frames_per_step = model_config.output_length

    def __call__(
        self,
        inputs: xr.Dataset,
        targets_template: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = False,
        members: int | None = None,
    ) -> xr.Dataset:
        """Returns a future of each past, or several along `sample`.

        Args:
          inputs: Normalised past frames.
          targets_template: Variables and coordinates to predict; values are not read.
          forcings: Without variables.
          is_training: Without effect: there is no dropout.
          members: In place of the number given before.

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
        members = self._members if members is None else members
        frames = self._draw(params, past, hk.next_rng_key(), members or 1)
        return forecast_frames.write(
            frames[0] if members is None else frames, targets_template, self._config
        )

    def loss(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = True,
    ) -> predictor_base.LossAndDiagnostics:
        """Returns how badly the denoiser restores the targets, in the batch mean.

        Where a part of the autoencoder is trained, the mean squared error of
        reconstructed targets is added, and only that trains it.

        Args:
          inputs: Normalised past frames.
          targets: Normalised frames to restore.
          forcings: Without variables.
          is_training: Without effect.

        Raises:
          ValueError: As for `__call__`.
        """
        del is_training
        forecast_frames.check(inputs, targets, forcings, self._task, self._config)
        past, future = (
            forecast_frames.read(data, self._config) for data in (inputs, targets)
        )
        params = self._params(past.dtype)
        batch, key = len(past), hk.next_rng_key()
        of_latents, of_steps, of_noise = (jax.random.fold_in(key, n) for n in range(3))
        kept = jax.lax.stop_gradient(params)
        condition = forecast_network.encode_frames(self._codec, kept, past)
        wanted = forecast_network.encode_frames(self._codec, kept, future, of_latents)
        wanted = wanted.astype(jnp.float32)
        t = losses.draw_timesteps(of_steps, batch, self._schedule)
        noise = jax.random.normal(of_noise, wanted.shape)
        found = self._denoising_loss(params, condition, wanted, t, noise)
        loss, parts = found.loss, {"simple": found.simple}
        weight = self._config.reconstruction_weight
        if self._codec.trains and weight:
            error = forecast_network.reconstruction_error(self._codec, params, future)
            loss = loss + jnp.asarray(weight, loss.dtype) * error
            parts["reconstruction"] = error
        return predictor_base.batch_losses(loss, parts, inputs)

    def loss_and_predictions(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        **optional_kwargs: Any,
    ) -> tuple[predictor_base.LossAndDiagnostics, xr.Dataset]:
        """Raises, as the loss makes no forecast that a next step could start from.

        Raises:
          ValueError: Always.
        """
        raise ValueError(_ONE_STEP)

    def _params(self, dtype: jnp.dtype) -> PyTree:
        def init(key: Array) -> PyTree:
            return first_params(self._config, key)

        return lifting.cast(lifting.lifted(init), dtype)

    def _denoise(
        self, params: PyTree, noisy: Array, condition: Array, t: Array
    ) -> Array:
        """Returns what the network predicts, in the dtype of the noisy fields.

        It computes in that of the condition, while samples stay float32.
        """

        def run(*given: Array) -> Array:
            network = forecast_network.make_denoiser(self._config, remat=self._remat)
            return network(*given)

        apply = hk.without_apply_rng(hk.transform(run)).apply
        found = apply(params, noisy.astype(condition.dtype), condition, t)
        return found.astype(noisy.dtype)

    def _denoising_loss(
        self, params: PyTree, condition: Array, wanted: Array, t: Array, noise: Array
    ) -> losses.DenoisingLoss:
        settings = self._config.diffusion
        noisy = forward.add_noise(self._schedule, wanted, t, noise)
        output = self._denoise(params, noisy, condition, t)
        target = losses.target(self._schedule, settings.prediction, wanted, t, noise)
        return losses.denoising_loss(self._schedule, settings, output, target, t)

    def _draw(
        self,
        params: PyTree,
        past: Float[Array, "batch time channel lat lon"],
        key: Array,
        count: int,
    ) -> Float[Array, "member batch time channel lat lon"]:
        """Returns futures of each past; a member does not depend on how many there are.

        Its key comes from its number and its place in the batch.
        """
        prediction = self._config.diffusion.prediction
        sampler = diffusion.make_sampler(self._sampler, self._schedule, prediction)
        condition = forecast_network.encode_frames(self._codec, params, past)
        at_once, batch = min(self._config.members_at_once, count), len(past)
        given = jnp.tile(condition, (at_once, 1, 1, 1))
        channels = self._config.output_length * self._codec.latent_channels
        shape = (len(given), channels, *given.shape[2:])
        size = (past.shape[3], past.shape[4])

        def denoise(noisy: Array, t: Array) -> Array:
            return self._denoise(params, noisy, given, t)

        def some(first: Array) -> Array:
            of_members = sampling.member_keys(key, first, at_once)
            keys = jnp.concatenate(
                [sampling.member_keys(one, 0, batch) for one in of_members]
            )
            start = sampling.first_noise(keys, shape)
            latents = sampling.sample(sampler, denoise, start, keys).x
            return forecast_network.to_frames(
                self._codec, params, latents.astype(given.dtype), size
            )

        firsts = jnp.arange(0, count, at_once)
        if len(firsts) == 1:
            frames = some(firsts[0])
        else:
            frames = jax.lax.map(some, firsts)
        return frames.reshape(-1, batch, *frames.shape[-4:])[:count]


def first_params(config: LatentDiffusionConfig, key: Array) -> PyTree:
    """Returns first parameters of the autoencoder and of the denoiser, by path.

    Args:
      config: Sizes.
      key: Draws them.
    """
    model = codec.make(config)
    of_codec, of_network = jax.random.split(key)
    side, latent = 2**config.depth, model.latent_channels
    noisy = jnp.zeros((1, config.output_length * latent, side, side))
    condition = jnp.zeros((1, config.input_length * latent, side, side))

    def run(*given: Array) -> Array:
        return forecast_network.make_denoiser(config)(*given)

    drawn = hk.transform(run).init(
        of_network, noisy, condition, jnp.zeros(1, jnp.int32)
    )
    return {**model.init(of_codec), **drawn}
