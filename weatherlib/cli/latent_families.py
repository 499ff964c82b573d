"""Forecast models in a latent space as families of `weatherlib train`."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from weatherlib import stacking
from weatherlib.cli import families, latent_weights, training_samples
from weatherlib.latent import (
    autoencoder_config,
    field_codec_config,
    forecast_config,
    ranges,
)
from weatherlib.task import TaskConfig

__all__ = ["complete", "diffusion", "frozen", "unet"]

_OfFrames = (
    forecast_config.LatentForecastConfig | autoencoder_config.LatentAutoencoderConfig
)
_SAMPLES = 16  # Of which the size of latent fields is measured.
_STATISTICS_SAMPLES = 64  # For numbers of each place.


def unet() -> families.Family:
    """Returns the latent U-Net."""

    def network(
        model_config: forecast_config.LatentUNetConfig,
        task_config: TaskConfig,
        remat: bool,
    ) -> Any:
        from weatherlib.latent import latent_unet

        return latent_unet.LatentUNet(model_config, task_config, remat=remat)

    kind = forecast_config.LatentUNetCheckPoint
    return families.Family(
        title="latent U-Net",
        config_class=forecast_config.LatentUNetConfig,
        network=network,
        save=families.saver(kind, forecast_config.LATENT_UNET),
        load=lambda path: _open(path, kind).params,
        read=lambda path: _open(path, kind),
        complete=complete,
        frozen=frozen,
        check_data=_check_data,
    )


def diffusion() -> families.Family:
    """Returns the latent diffusion model."""

    def network(
        model_config: forecast_config.LatentDiffusionConfig,
        task_config: TaskConfig,
        remat: bool,
    ) -> Any:
        from weatherlib.latent import latent_diffusion

        return latent_diffusion.LatentDiffusion(model_config, task_config, remat=remat)

    kind = forecast_config.LatentDiffusionCheckPoint
    return families.Family(
        title="latent diffusion",
        config_class=forecast_config.LatentDiffusionConfig,
        network=network,
        save=families.saver(kind, forecast_config.LATENT_DIFFUSION),
        load=lambda path: _open(path, kind).params,
        read=lambda path: _open(path, kind),
        complete=complete,
        frozen=frozen,
        check_data=_check_data,
        own_loss=True,
        is_generative=True,
    )


def _open(path: pathlib.Path, kind: type) -> Any:
    from weatherlib import checkpoint

    return checkpoint.open_checkpoint(path, kind)


def frozen(model_config: field_codec_config.FieldCodecConfig, module: str) -> bool:
    """Returns whether the parameters of a module are never trained."""
    from weatherlib.latent import codec

    return codec.make(model_config).frozen(module)


def _check_data(
    model_config: field_codec_config.FieldCodecConfig,
    task_config: TaskConfig,
    statistics: Any,
    dataset: Any,
) -> None:
    """Makes sure that weather lies in the range of the training period.

    Raises:
      ValueError: It does not.
    """
    ranges.require_data(
        dataset,
        model_config,
        task_config.target_variables,
        statistics.mean_by_level,
        statistics.stddev_by_level,
    )


def complete(
    model_config: _OfFrames,
    samples: training_samples.TrainingSamples,
) -> tuple[Any, dict[str, Any]]:
    """Returns a configuration with what weights and data say, and these weights.

    Raises:
      FileNotFoundError: A file is missing.
      OSError: A file cannot be read.
      ValueError: Files, sizes and data do not fit each other.
    """
    targets = samples(model_config.output_length, 1)[1]
    channels = sum(stacking.level_count(targets[name]) for name in targets)
    completed, params = latent_weights.complete(model_config, channels)
    if completed.normalization == "minmax" and not completed.lowest:
        lowest, highest = samples.extremes()
        completed = completed.replace(lowest=lowest, highest=highest)
    if completed.measure_scale:
        spread = _spread(completed, params, samples)
        scale = float(np.float32(1 / spread))
        completed = completed.replace(scale_factor=scale, measure_scale=False)
    return completed, _with_statistics(completed, params, samples)


def _spread(
    model_config: _OfFrames,
    params: dict[str, Any],
    samples: training_samples.TrainingSamples,
) -> float:
    """Returns the standard deviation of latent fields before they are scaled.

    Raises:
      ValueError: It is not known because weights are yet to be drawn, or they give
        nothing that could be scaled.
    """
    from weatherlib.latent import codec

    made = codec.make(model_config.replace(scale_factor=1.0))
    latents = _latents(made, model_config, params, samples, _SAMPLES, "measure_scale")
    spread = float(np.std(latents))
    if not (np.isfinite(spread) and spread > 0):
        raise ValueError(
            f"model.measure_scale: latent fields have the standard deviation {spread}; "
            "give scale_factor"
        )
    return spread


def _with_statistics(
    model_config: _OfFrames,
    params: dict[str, Any],
    samples: training_samples.TrainingSamples,
) -> dict[str, Any]:
    """Returns weights with measured statistics, where some are wanted and lack.

    Raises:
      ValueError: Weights of the encoder are yet to be drawn, or latent fields are not
        finite.
    """
    from weatherlib.latent import codec, latent_statistics

    kind = model_config.latent_statistics
    if kind == "none" or latent_statistics.STATISTICS in params:
        return params
    plain = model_config.replace(latent_statistics="none", scale_factor=1.0)
    made = codec.make(plain)
    latents = _latents(
        made, plain, params, samples, _STATISTICS_SAMPLES, "latent_statistics"
    )
    try:
        found = latent_statistics.moments(latents, kind)
    except ValueError as error:
        raise ValueError(f"model.latent_statistics: {error}") from error
    return {**params, latent_statistics.STATISTICS: found}


def _latents(
    made: Any,
    model_config: _OfFrames,
    params: dict[str, Any],
    samples: training_samples.TrainingSamples,
    count: int,
    setting: str,
) -> np.ndarray:
    """Returns latent fields of the training period.

    Args:
      made: The autoencoder.
      model_config: Its settings.
      params: Its weights.
      samples: The data.
      count: Samples.
      setting: What they are for, for messages.

    Raises:
      ValueError: Weights that make them are yet to be drawn.
    """
    import jax

    from weatherlib.latent import forecast_frames

    needed = jax.eval_shape(made.init, jax.random.key(0))
    decoder = made.roots[1]
    # A decoder may begin at random: it makes no latent fields.
    if any(m not in params for m in needed if m.split("/")[0] != decoder):
        raise ValueError(
            f"model.{setting}: needs trained weights of the whole autoencoder up to "
            "latent fields; name a checkpoint as model.vae_pretrained_path"
        )
    targets = samples.normalized(samples(model_config.output_length, count)[1])
    frames = forecast_frames.read(targets, model_config)
    flat = frames.reshape(-1, *frames.shape[2:])
    encode: Callable[..., Any] = jax.jit(made.encode)
    return np.asarray(encode(params, flat), np.float64)
