"""The three stages of PreDiff as families of `weatherlib train`."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from weatherlib import prediff
from weatherlib.cli import families
from weatherlib.prediff import config as networks
from weatherlib.prediff import stage_config
from weatherlib.task import TaskConfig

__all__ = ["alignment", "autoencoder", "denoiser"]

_SAMPLES = 16  # Of which the size of latent fields is measured.

Params = Mapping[str, Any]
Batch = Callable[[int, int], Any]


def autoencoder() -> families.Family:
    """Returns the first stage."""

    def network(
        model_config: stage_config.PreDiffAutoencoderConfig,
        task_config: TaskConfig,
        remat: bool,
    ) -> Any:
        from weatherlib.prediff import autoencoder_predictor

        return autoencoder_predictor.AutoencoderPredictor(
            model_config, task_config, remat=remat
        )

    return families.Family(
        title="autoencoder of PreDiff",
        config_class=stage_config.PreDiffAutoencoderConfig,
        network=network,
        save=_saver(
            stage_config.AutoencoderCheckPoint, stage_config.PREDIFF_AUTOENCODER
        ),
        load=lambda path: _open(path, "autoencoder").params,
        read=lambda path: _open(path, "autoencoder"),
        start=_start_autoencoder,
        own_loss=True,
        counts_updates=True,
        forecasts=False,
    )


def denoiser() -> families.Family:
    """Returns the second stage, which is the forecast model."""

    def network(
        model_config: stage_config.PreDiffConfig, task_config: TaskConfig, remat: bool
    ) -> Any:
        return prediff.PreDiff(model_config, task_config, remat=remat)

    return families.Family(
        title="PreDiff",
        config_class=stage_config.PreDiffConfig,
        network=network,
        save=_saver(stage_config.PreDiffCheckPoint, stage_config.PREDIFF_DENOISER),
        load=lambda path: _open(path, "denoiser").params,
        read=lambda path: _open(path, "denoiser"),
        start=functools.partial(_start_network, networks.EARTHFORMER_UNET, "denoiser"),
        complete=_complete,
        own_loss=True,
        is_generative=True,
    )


def alignment() -> families.Family:
    """Returns the third stage."""

    def network(
        model_config: stage_config.PreDiffAlignmentConfig,
        task_config: TaskConfig,
        remat: bool,
    ) -> Any:
        from weatherlib.prediff import alignment_predictor

        return alignment_predictor.AlignmentPredictor(
            model_config, task_config, remat=remat
        )

    return families.Family(
        title="alignment network of PreDiff",
        config_class=stage_config.PreDiffAlignmentConfig,
        network=network,
        save=_saver(stage_config.AlignmentCheckPoint, stage_config.PREDIFF_ALIGNMENT),
        load=lambda path: _open(path, "alignment").params,
        read=lambda path: _open(path, "alignment"),
        start=functools.partial(_start_network, networks.ALIGNMENT, "network"),
        complete=_complete,
        own_loss=True,
        forecasts=False,
    )


def _saver(kind: Any, architecture: str) -> Callable[..., None]:
    """Returns how a stage is saved: without what only training needs."""
    from weatherlib.prediff import stages

    save = families.saver(kind, architecture)

    def published(path: pathlib.Path, params: Params, *rest: Any, **texts: str) -> None:
        save(path, stages.published(architecture, params), *rest, **texts)

    return published


def _open(path: pathlib.Path, stage: str) -> Any:
    from weatherlib.prediff import stages

    return getattr(stages, f"open_{stage}")(path)


def _complete(
    model_config: stage_config.LatentConfig, batch: Batch
) -> tuple[stage_config.LatentConfig, dict[str, Any]]:
    """Returns a configuration with what its autoencoder says, and its parameters.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It cannot be read.
      ValueError: It is no autoencoder, or does not fit.
    """
    from weatherlib.prediff import stages

    if not model_config.autoencoder:
        raise ValueError(
            "model.autoencoder: missing; name the checkpoint of a trained "
            f"{stage_config.PREDIFF_AUTOENCODER}, such as runs/autoencoder/"
            "checkpoint.npz"
        )
    path = pathlib.Path(model_config.autoencoder)
    if not path.exists():
        raise FileNotFoundError(f"model.autoencoder: {path} does not exist")
    params, sizes, own_range = _read_autoencoder(path, model_config)
    try:
        completed = model_config.replace(
            autoencoder="",
            latent=sizes,
            value_range=own_range,
            digest=stages.digest(params),
        )
    except ValueError as error:
        raise ValueError(f"model.autoencoder: {path}: {error}") from error
    if completed.scale_factor is None and completed.value_range is None:
        raise ValueError(
            "model.scale_factor: without value_range, data are normalised by "
            "statistics later; give a number, such as 1"
        )
    if completed.scale_factor is None:
        targets = batch(completed.output_length, _SAMPLES)[1]
        spread = stages.latent_spread(completed, params, targets)
        completed = completed.replace(scale_factor=float(np.float32(1 / spread)))
    return completed, params


def _read_autoencoder(
    path: pathlib.Path, model_config: stage_config.LatentConfig
) -> tuple[dict[str, Any], Any, Any]:
    """Returns parameters, sizes and range of values of a trained autoencoder."""
    from weatherlib.prediff import stages
    from weatherlib.weights import autoencoder_kl

    if path.is_dir() or path.suffix != ".npz":
        loaded = autoencoder_kl.load(path, model_config.latent)
        return loaded.params, loaded.config, model_config.value_range
    held = stages.open_autoencoder(path)
    sizes = held.model_config
    return held.params, sizes.autoencoder, sizes.value_range


def _start_autoencoder(
    path: pathlib.Path,
    model_config: stage_config.PreDiffAutoencoderConfig,
    params: Params,
    init: Any,
) -> tuple[dict[str, Any], list[str]]:
    """Returns parameters to start from; what only training needs begins anew."""
    from weatherlib.prediff import stages
    from weatherlib.weights import autoencoder_kl

    _require_plain(init)
    if path.is_dir() or path.suffix != ".npz":
        found = autoencoder_kl.load(path, model_config.autoencoder).params
    else:
        found = stages.open_autoencoder(path).params
    return _with_fresh(found, params)


def _start_network(
    root: str,
    field: str,
    path: pathlib.Path,
    model_config: Any,
    params: Params,
    init: Any,
) -> tuple[dict[str, Any], list[str]]:
    """Returns parameters to start from; those of the autoencoder come by themselves."""
    from weatherlib.prediff import latent_stage
    from weatherlib.weights import prediff_networks

    _require_plain(init)
    if path.suffix != ".npz":
        found = prediff_networks.load(path, model_config[field]).params
    else:
        stage = "denoiser" if field == "denoiser" else "alignment"
        found = latent_stage.part(_open(path, stage).params, root)
    return _with_fresh(found, params)


def _with_fresh(
    found: Mapping[str, Any], params: Params
) -> tuple[dict[str, Any], list[str]]:
    roots = {module.split("/")[0] for module in found}
    fresh = {m: v for m, v in params.items() if m.split("/")[0] not in roots}
    named = sorted({module.split("/")[0] for module in fresh})
    lines = [f"not in the file, begins anew: {name}" for name in named]
    return {**found, **fresh}, lines


def _require_plain(init: Any) -> None:
    if init.adapt or init.variables:
        raise ValueError(
            "init_from: PreDiff carries no weights over; leave out adapt and "
            "variables, and name what starts fresh in skip"
        )
