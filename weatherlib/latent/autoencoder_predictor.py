"""Stage A as a predictor that is trained: frames to latent fields and back."""

from __future__ import annotations

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import xarray as xr
from jaxtyping import Array, Float

from weatherlib import predictor_base, stacking
from weatherlib.data_utils import check_call
from weatherlib.latent import codec, forecast_frames
from weatherlib.latent.autoencoder_config import LatentAutoencoderConfig
from weatherlib.nn import lifting
from weatherlib.task import TaskConfig
from weatherlib.typing import PyTree

__all__ = ["LatentAutoencoder", "reconstruct"]


class LatentAutoencoder(predictor_base.Predictor):
    """Trains an autoencoder on all frames of samples, each for itself.

    Inputs are expected normalised to mean 0 and standard deviation 1. It makes no
    forecasts.
    """

    predicts_changes = False

    def __init__(
        self,
        model_config: LatentAutoencoderConfig,
        task_config: TaskConfig | None = None,
        *,
        remat: bool = False,
    ) -> None:
        """Takes the settings.

        Args:
          model_config: Sizes; `channels` has to be known.
          task_config: What is read, if that is to be checked.
          remat: Whether the backward pass computes blocks again, which takes less
            memory and more time.

        Raises:
          ValueError: Sizes do not fit each other.
        """
        self._config, self._task = model_config, task_config
        self._codec = codec.make(model_config, remat=remat)
        self.frames_per_step = model_config.output_length

    def __call__(
        self,
        inputs: xr.Dataset,
        targets_template: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = False,
    ) -> xr.Dataset:
        """Raises, as an autoencoder makes no forecasts.

        Raises:
          ValueError: Always.
        """
        del inputs, targets_template, forcings, is_training
        raise ValueError(
            "an autoencoder makes no forecasts; weatherlib reconstruct shows what it "
            "keeps of fields, and latent_unet and latent_diffusion forecast with its "
            "file as model.vae_pretrained_path"
        )

    def loss(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = True,
    ) -> predictor_base.LossAndDiagnostics:
        """Returns how badly the frames of each batch member come back.

        Args:
          inputs: Normalised frames.
          targets: Further frames.
          forcings: Without variables.
          is_training: Whether latent fields are drawn, and noise is added to them.

        Raises:
          ValueError: The datasets do not fit the task or the model.
        """
        self._check(inputs, targets, forcings)
        parts = [forecast_frames.read(data, self._config) for data in (inputs, targets)]
        frames = jnp.concatenate(parts, axis=1)
        batch, count = frames.shape[:2]
        flat = frames.reshape(batch * count, *frames.shape[2:])

        def init(key: Array) -> PyTree:
            return self._codec.init(key)

        params = lifting.lifted(init)
        key = hk.next_rng_key() if is_training else None
        found = _errors(self._codec, self._config, params, flat, key)
        of_members = {
            name: value.reshape(batch, count).mean(1) for name, value in found.items()
        }
        loss = of_members.pop("loss")
        return predictor_base.batch_losses(loss, of_members, inputs)

    def loss_and_predictions(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        **optional_kwargs: Any,
    ) -> tuple[predictor_base.LossAndDiagnostics, xr.Dataset]:
        """Raises, as an autoencoder makes no forecasts.

        Raises:
          ValueError: Always.
        """
        raise ValueError(
            "an autoencoder is trained on single steps: set rollout to 1, and "
            "output_length to the frames that a sample shall have"
        )

    def _check(
        self, inputs: xr.Dataset, targets: xr.Dataset, forcings: xr.Dataset
    ) -> None:
        config = self._config
        check_call.check_call(
            inputs,
            targets,
            forcings,
            self._task,
            config.resolution,
            frames=config.output_length,
        )
        names = {str(name) for name in (*inputs, *forcings)}
        if others := sorted(names ^ {str(name) for name in targets}):
            raise ValueError(
                f"{', '.join(others)}: an autoencoder sees what it reconstructs and "
                "nothing else; let the task have the same input_variables and "
                "target_variables, and no forcings"
            )
        found = sum(stacking.level_count(targets[name]) for name in targets)
        if found != config.channels:
            raise ValueError(
                f"the data have {found} channel(s), {', '.join(map(str, targets))} "
                f"with all levels, and the autoencoder {config.channels} (channels)"
            )


def reconstruct(
    model: codec.Codec, params: PyTree, frames: Float[Array, "batch channel lat lon"]
) -> tuple[
    Float[Array, "batch channel lat lon"], Float[Array, "batch latent rows columns"]
]:
    """Returns frames in [-1, 1] after encoding and decoding, and their latent fields.

    Args:
      model: The autoencoder.
      params: Of it.
      frames: In [-1, 1].

    Raises:
      ValueError: Frames have the wrong size or channels.
    """
    latents = model.encode(params, frames)
    size = (frames.shape[2], frames.shape[3])
    return model.decode(params, latents, size), latents


def _errors(
    model: codec.Codec,
    config: LatentAutoencoderConfig,
    params: PyTree,
    frames: Float[Array, "frame channel lat lon"],
    key: Array | None,
) -> dict[str, Float[Array, " frame"]]:
    """Returns the loss of each frame, and its parts."""
    for_draw, for_noise = (None, None) if key is None else jax.random.split(key)
    draws = config.sample_latents or config.kl_weight > 0
    divergence = None
    if config.kl_weight:
        assert isinstance(model, codec.ConvolutionCodec)
        distribution = model.distribution(params, frames)
        numbers = distribution.mean[0].size
        divergence = distribution.kl().astype(jnp.float32) / numbers
        latents = model.scaled(params, distribution, for_draw)
    else:
        latents = model.encode(params, frames, for_draw if draws else None)
    if config.noise_tau and for_noise is not None:
        latents = _noisy(latents, config.noise_tau, for_noise)
    size = (frames.shape[2], frames.shape[3])
    made = model.decode(params, latents, size)
    difference = made.astype(jnp.float32) - frames.astype(jnp.float32)
    axes = (1, 2, 3)
    square = jnp.square(difference).mean(axes)
    absolute = jnp.abs(difference).mean(axes)
    found = {"mse": square, "l1": absolute}
    loss = found[config.loss]
    if config.l1_weight:
        loss = loss + jnp.asarray(config.l1_weight, loss.dtype) * absolute
    if divergence is not None:
        found["kl"] = divergence
        loss = loss + jnp.asarray(config.kl_weight, loss.dtype) * divergence
    return {"loss": loss, **found}


def _noisy(latents: Array, tau: float, key: Array) -> Array:
    """Returns latent fields with noise of a size that is drawn for each frame."""
    for_size, for_noise = jax.random.split(key)
    shape = (len(latents), 1, 1, 1)
    size = jax.random.uniform(for_size, shape, latents.dtype)
    noise = jax.random.normal(for_noise, latents.shape, latents.dtype)
    return latents + jnp.asarray(tau, latents.dtype) * size * noise
