"""The third stage of PreDiff as a predictor that is trained: knowledge from noise."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import xarray as xr
from jaxtyping import Array, Float

from weatherlib import diffusion, predictor_base
from weatherlib.diffusion import losses
from weatherlib.prediff import (
    alignment,
    latent_diffusion,
    latent_stage,
    predictor,
    stage_frames,
    stage_predictor,
)
from weatherlib.prediff.config import ALIGNMENT
from weatherlib.prediff.stage_config import PreDiffAlignmentConfig
from weatherlib.typing import PyTree

__all__ = ["QUANTITIES", "AlignmentPredictor", "first_params"]

Frames = Float[Array, "batch time lat lon channel"]

QUANTITIES: dict[str, Callable[[Array], Array]] = {
    "avg_x": alignment.frame_intensity,
    "max_x": lambda frames: frames.max((2, 3, 4))[..., jnp.newaxis],
}
"""What can be read from frames, by name; [batch, time, 1] each."""


class AlignmentPredictor(stage_predictor.StagePredictor):
    """Trains a network to read a quantity of the future from its noisy latent fields.

    It makes no forecasts. The autoencoder gets no gradient. The loss is the mean
    squared error of the quantity over all frames.
    """

    no_forecasts = (
        "an alignment network of PreDiff makes no forecasts; it guides those of the "
        "family prediff"
    )
    one_step = predictor.ONE_STEP

    def loss(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = True,
    ) -> predictor_base.LossAndDiagnostics:
        """Returns how badly the quantity of the targets is read, as a mean.

        Args:
          inputs: Past frames, whose values are not read.
          targets: Frames.
          forcings: Without variables.
          is_training: Whether dropout is on.

        Raises:
          ValueError: The datasets do not fit the task or the model.
        """
        config = self._config
        self._check(inputs, targets, forcings, config.sizes.in_channels)
        stage_frames.check_grid(inputs.sizes["lat"], inputs.sizes["lon"], config)
        dtype = latent_stage.computing_dtype(next(iter(inputs.values())).dtype)
        frames = stage_frames.read(targets, config.value_range)
        params = latent_stage.lifted(lambda key: first_params(config, key))
        loss = self._loss(params, frames, hk.next_rng_key(), dtype, is_training)
        return predictor_base.batch_losses(loss, {"rmse": jnp.sqrt(loss)}, inputs)

    def _loss(
        self,
        params: PyTree,
        frames: Frames,
        key: Array,
        dtype: Any,
        is_training: bool,
    ) -> Array:
        config = self._config
        space = latent_stage.space_of(config, dtype=dtype)
        schedule = diffusion.make_schedule(config.diffusion.schedule)
        frozen = jax.lax.stop_gradient(latent_stage.part(params, *latent_stage.HELD))
        target = space.encode_target(frozen, frames, jax.random.fold_in(key, 0))
        read = functools.partial(
            latent_diffusion.alignment_reader(config.network, remat=self._remat),
            latent_stage.cast(latent_stage.part(params, ALIGNMENT), dtype),
        )

        def reader(noisy: Array, t: Array, dropout: Array | None) -> Array:
            return read(latent_stage.cast(noisy, dtype), t, dropout)

        wanted = QUANTITIES[config.quantity](frames)
        if is_training:
            own = jax.random.fold_in(key, 1)
            return latent_diffusion.alignment_loss(
                schedule, reader, target, wanted, own
            )
        drawn_t, drawn_noise = (jax.random.fold_in(key, i) for i in (1, 2))
        return latent_diffusion.alignment_loss(
            schedule,
            reader,
            target,
            wanted,
            t=losses.draw_timesteps(drawn_t, len(target), schedule),
            noise=jax.random.normal(drawn_noise, target.shape, target.dtype),
        )


def first_params(config: PreDiffAlignmentConfig, key: Array) -> PyTree:
    """Returns first parameters of all parts, by path; zeros for the autoencoder.

    Args:
      config: Sizes.
      key: Draws them.
    """
    found = latent_stage.blank(config)
    sizes = config.network

    def run() -> Array:
        noisy = jnp.zeros((1, *sizes.input_shape))
        return alignment.AlignmentNetwork(sizes)(noisy, jnp.zeros(1, jnp.int32))

    return found | hk.transform(run).init(key)
