"""PreDiff as a predictor: past frames in, drawn futures out."""

from __future__ import annotations

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import xarray as xr
from jaxtyping import Array, Float

from weatherlib import diffusion, predictor_base
from weatherlib.diffusion import losses, sampler_config, sampling
from weatherlib.prediff import (
    ensembles,
    guide_config,
    latent_diffusion,
    latent_stage,
    network,
    stage_frames,
)
from weatherlib.prediff.config import EARTHFORMER_UNET
from weatherlib.prediff.stage_config import PreDiffConfig
from weatherlib.task import TaskConfig
from weatherlib.typing import PyTree

__all__ = ["LOG_VARIANCE", "ONE_STEP", "PreDiff", "first_params"]

LOG_VARIANCE = "diffusion"
"""Path of the expected errors, which only training needs."""

ONE_STEP = (
    "PreDiff is trained on single steps: set rollout to 1; for longer futures "
    "give the denoiser more target frames"
)


class PreDiff(predictor_base.Predictor):
    """Draws futures of the past frames by latent diffusion.

    Built inside the function given to `hk.transform`, like any Haiku module. With a
    `value_range` it takes data in their own units, else normalised ones. Every call
    draws from the Haiku key stream. For more than one step put it into
    `autoregressive.Predictor`.

    The loss is that of the denoiser. The autoencoder gets no gradient.
    """

    predicts_changes = False

    def __init__(
        self,
        model_config: PreDiffConfig,
        task_config: TaskConfig | None = None,
        *,
        sampler: sampler_config.SamplerConfig | None = None,
        guide: sampling.Guides | guide_config.Guide | None = None,
        members: int | None = None,
        members_at_once: int = 4,
        remat: bool = False,
    ) -> None:
        """Takes the settings.

        Args:
          model_config: Sizes.
          task_config: What is read and predicted, if that is to be checked.
          sampler: How futures are drawn; None is as the configuration says.
          guide: What they are drawn towards: one of `guide_config`, whose functions
            are then traced, or guidance with an entry for each context.
          members: Futures of each context, along a new first dimension `sample`; None
            draws one without it.
          members_at_once: Members that are denoised and decoded together.
          remat: Whether the backward pass computes blocks again, which takes less
            memory and more time.

        Raises:
          ValueError: A number is not positive, or the sampler does not fit.
        """
        for name, value in (("members", members), ("members_at_once", members_at_once)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, found {value}")
        self._config, self._task = model_config, task_config
        self._sampler = sampler or model_config.sampler
        self._guide = guide
        self._members, self._at_once = members, members_at_once
        self._remat = remat
        self.frames_per_step = model_config.output_length
        self.normalizes_itself = model_config.normalizes_itself

    def __call__(
        self,
        inputs: xr.Dataset,
        targets_template: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = False,
        members: int | None = None,
    ) -> xr.Dataset:
        """Returns a future of each context, or several along `sample`.

        Guidance that is not finite makes the whole forecast missing, as a traced
        function cannot raise.

        Args:
          inputs: Past frames.
          targets_template: Variables and coordinates to predict; values are not read.
          forcings: Without variables.
          is_training: Without effect: forecasts are drawn without dropout.
          members: In place of the number given before.

        Raises:
          ValueError: The datasets do not fit the task or the model.
        """
        del is_training
        self._check(inputs, targets_template, forcings)
        context = stage_frames.read(inputs, self._config.value_range)
        dtype = next(iter(inputs.values())).dtype
        model = self._model(dtype)
        params, _ = self._params(model)
        frames = self._draw(
            model,
            params,
            context,
            hk.next_rng_key(),
            self._members if members is None else members,
        )
        return stage_frames.write(
            frames,
            targets_template,
            self._config.value_range,
            clip=self._config.clip,
        )

    def loss(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = True,
    ) -> predictor_base.LossAndDiagnostics:
        """Returns how badly the denoiser restores the targets, as a mean of the batch.

        Args:
          inputs: Past frames.
          targets: Frames to restore.
          forcings: Without variables.
          is_training: Whether dropout is on.

        Raises:
          ValueError: As for `__call__`.
        """
        self._check(inputs, targets, forcings)
        context, wanted = (
            stage_frames.read(data, self._config.value_range)
            for data in (inputs, targets)
        )
        model = self._model(next(iter(inputs.values())).dtype)
        params, log_variance = self._params(model)
        found = _loss(
            model, params, context, wanted, hk.next_rng_key(), log_variance, is_training
        )
        parts = {"simple": found.simple}
        if self._config.diffusion.learn_log_variance:
            parts["log_variance"] = found.log_variance
        return predictor_base.batch_losses(found.loss, parts, inputs)

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
        raise ValueError(ONE_STEP)

    def _check(
        self, inputs: xr.Dataset, targets: xr.Dataset, forcings: xr.Dataset
    ) -> None:
        config = self._config
        stage_frames.check(
            inputs,
            targets,
            forcings,
            self._task,
            config,
            frames=config.output_length,
            channels=config.sizes.in_channels,
            input_length=config.input_length,
        )
        stage_frames.check_grid(inputs.sizes["lat"], inputs.sizes["lon"], config)

    def _model(self, dtype: Any) -> latent_diffusion.LatentDiffusion:
        return latent_stage.forecast_model(
            self._config,
            dtype=latent_stage.computing_dtype(dtype),
            remat=self._remat,
        )

    def _params(
        self, model: latent_diffusion.LatentDiffusion
    ) -> tuple[latent_diffusion.Params, Array | None]:
        """Returns the parameters, and the expected errors where they are trained."""
        config = self._config

        def init(key: Array) -> PyTree:
            return first_params(config, key)

        held = latent_stage.lifted(init)
        params = latent_diffusion.Params(
            autoencoder=latent_stage.part(held, *latent_stage.HELD),
            denoiser=latent_stage.part(held, EARTHFORMER_UNET),
        )
        errors = held.get(LOG_VARIANCE, {}).get("log_variance")
        return params, errors

    def _draw(
        self,
        model: latent_diffusion.LatentDiffusion,
        params: latent_diffusion.Params,
        context: Float[Array, "batch time lat lon channel"],
        key: Array,
        members: int | None,
    ) -> Array:
        """Returns frames of the futures, [(member,) batch, time, lat, lon, channel]."""
        sampler = diffusion.make_sampler(
            self._sampler, model.schedule, model.settings.prediction
        )
        count = 1 if members is None else members
        at_once, batch = min(self._at_once, count), len(context)
        guide = self._guide
        if isinstance(guide, guide_config.Guide):
            guide = guide.bind(self._config, model, params.autoencoder)(context)
        if guide is not None:
            guide = ensembles.for_members(guide, batch, at_once)
        given = model.space.encode_context(params.autoencoder, context)
        given = jnp.tile(given, (at_once, 1, 1, 1, 1))
        shape = (len(given), *self._config.target_shape)

        def some(first: Array) -> Array:
            keys = ensembles.row_keys(key, first, at_once, batch)
            samples = latent_diffusion.sample_latents(
                model,
                sampler,
                params.denoiser,
                given,
                sampling.first_noise(keys, shape, given.dtype),
                keys,
                guidance=guide,
            )
            frames = model.space.decode_target(params.autoencoder, samples.x)
            return jnp.where(samples.failed_step < 0, frames, jnp.nan)

        firsts = jnp.arange(0, count, at_once)
        if len(firsts) == 1:
            frames = some(firsts[0])
        else:
            frames = jax.lax.map(some, firsts)
        frames = frames.reshape(-1, batch, *frames.shape[-4:])[:count]
        return frames[0] if members is None else frames


def first_params(config: PreDiffConfig, key: Array) -> PyTree:
    """Returns first parameters of all parts, by path; zeros for the autoencoder.

    Args:
      config: Sizes.
      key: Draws them.
    """
    found = latent_stage.blank(config)
    sizes = config.denoiser

    def run() -> Array:
        context, noisy = (
            jnp.zeros((1, *shape)) for shape in (sizes.input_shape, sizes.target_shape)
        )
        return network.EarthformerUNet(sizes)(noisy, jnp.zeros(1, jnp.int32), context)

    found |= hk.transform(run).init(key)
    settings = config.diffusion
    if settings.learn_log_variance:
        start = jnp.full(settings.schedule.steps, settings.log_variance_start)
        found[LOG_VARIANCE] = {"log_variance": start}
    return found


def _loss(
    model: latent_diffusion.LatentDiffusion,
    params: latent_diffusion.Params,
    context: Array,
    target: Array,
    key: Array,
    log_variance: Array | None,
    is_training: bool,
) -> losses.DenoisingLoss:
    if is_training:
        return latent_diffusion.training_loss(
            model, params, context, target, key, log_variance=log_variance
        )
    frozen = params.autoencoder
    wanted = model.space.encode_target(frozen, target, jax.random.fold_in(key, 0))
    drawn_t, drawn_noise = (jax.random.fold_in(key, i) for i in (1, 2))
    return latent_diffusion.denoising_loss(
        model,
        params.denoiser,
        model.space.encode_context(frozen, context),
        wanted,
        log_variance=log_variance,
        t=losses.draw_timesteps(drawn_t, len(target), model.schedule),
        noise=jax.random.normal(drawn_noise, wanted.shape, wanted.dtype),
    )
