"""Published weights of PreDiff as checkpoints, by the configuration they belong to."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from weatherlib import checkpoint, task
from weatherlib.cli import families
from weatherlib.data import radar
from weatherlib.prediff import stage_config
from weatherlib.weights import errors, prediff_networks

__all__ = ["as_checkpoint", "is_checkpoint"]

_MINUTES = 10  # From frame to frame of SEVIR-LR, which published weights are of.


def as_checkpoint(
    place: str,
    source: str | pathlib.Path,
    model: Mapping[str, Any],
    folder: str | pathlib.Path,
) -> pathlib.Path:
    """Returns a checkpoint of a denoiser or alignment network.

    Checkpoints and folders of runs are returned as they are. Of anything else, such as
    a published `.pt` file, a checkpoint is made, of the sizes of the configuration and
    with its autoencoder.

    Args:
      place: What names the file, for messages.
      source: The file.
      model: Section `model` of the stage, with `family` and `autoencoder`.
      folder: Where the checkpoint is written.

    Raises:
      FileNotFoundError: The file, or that of the autoencoder, does not exist.
      OSError: A file cannot be read or written.
      ValueError: The weights are not those of the configuration.
    """
    source = pathlib.Path(source)
    if not source.exists():
        raise FileNotFoundError(f"{place}: {source} does not exist")
    if is_checkpoint(source):
        return source
    family, config = families.find_family(model)
    name = str(model["family"])
    coder = pathlib.Path(config.autoencoder or "AUTOENCODER.pt")
    convert = (
        f"weatherlib weights convert {source} {name}.npz --family {name} "
        f"--autoencoder {coder}"
    )
    if not coder.exists():
        raise FileNotFoundError(
            f"{place}: {source} holds one network, and the autoencoder that belongs to "
            f"it, {coder}, does not exist; name its file as "
            f"model.vae.pretrained_ckpt_path, or give the checkpoint that {convert} "
            "makes"
        )
    if config.scale_factor is None:
        raise ValueError(
            f"{place}: {source} does not say what latent fields are multiplied by, and "
            "scale_by_std measures it in training; give scale_factor"
        )
    assert family.complete is not None
    try:
        config, held = family.complete(config, _no_batch)
        is_denoiser = name == stage_config.PREDIFF_DENOISER
        network = config["denoiser" if is_denoiser else "network"]
        loaded = prediff_networks.load(source, network)
    except errors.MismatchError as error:
        raise ValueError(
            f"{place}: {source} is not of the sizes of the configuration: {error}. "
            f"{convert} takes the sizes from the file"
        ) from error
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    target = pathlib.Path(folder) / f"{name}.npz"
    params = {**held, **loaded.params} if is_denoiser else loaded.params
    _save(target, name, params, config, source)
    return target


def is_checkpoint(path: str | pathlib.Path) -> bool:
    """Whether a path is that of a checkpoint, or of a run's folder, by its name."""
    path = pathlib.Path(path)
    return path.suffix == ".npz" or path.is_dir()


def _save(
    target: pathlib.Path,
    name: str,
    params: Mapping[str, Any],
    config: Any,
    source: pathlib.Path,
) -> None:
    kinds = {
        stage_config.PREDIFF_DENOISER: stage_config.PreDiffCheckPoint,
        stage_config.PREDIFF_ALIGNMENT: stage_config.AlignmentCheckPoint,
    }
    frames = getattr(config, "input_length", config.output_length)
    value = kinds[name](
        architecture=name,
        params=dict(params),
        model_config=config,
        task_config=task.TaskConfig(
            input_variables=(radar.NAME,),
            target_variables=(radar.NAME,),
            forcing_variables=(),
            pressure_levels=(),
            input_duration=f"{frames * _MINUTES}min",
        ),
        description=f"PreDiff, converted from {source.name}",
        license="as the converted file; published weights state none",
    )
    # Published weights do not say their step: whoever names the data has to know.
    checkpoint.save(target, value)


def _no_batch(targets: int, samples: int) -> Any:
    raise AssertionError("only scale_factor is found in data, and it is given")
