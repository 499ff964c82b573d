"""Published weights of PreDiff as checkpoints of its stages, and back."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from weatherlib import checkpoint, task
from weatherlib.data import radar
from weatherlib.data_utils import times
from weatherlib.nn.autoencoder_config import DECODER, ENCODER
from weatherlib.prediff import stage_config, stages
from weatherlib.prediff.config import EARTHFORMER_UNET, EarthformerUNetConfig
from weatherlib.weights import autoencoder_kl, flat, prediff_networks, prediff_sizes

if TYPE_CHECKING:
    from weatherlib.cli import console, weights

__all__ = ["STAGES", "convert", "export", "held_stage"]

STAGES = (
    stage_config.PREDIFF_AUTOENCODER,
    stage_config.PREDIFF_DENOISER,
    stage_config.PREDIFF_ALIGNMENT,
)

_STEP = "10min"
_HELD = (ENCODER, DECODER)
_KINDS = {
    stage_config.PREDIFF_AUTOENCODER: stage_config.AutoencoderCheckPoint,
    stage_config.PREDIFF_DENOISER: stage_config.PreDiffCheckPoint,
    stage_config.PREDIFF_ALIGNMENT: stage_config.AlignmentCheckPoint,
}


def held_stage(path: pathlib.Path) -> str | None:
    """Returns the stage whose checkpoint of ours a file is, or None."""
    name = checkpoint.read_text(path, "architecture")
    return name if name in STAGES else None


def convert(
    out: console.Console,
    source: pathlib.Path,
    target: pathlib.Path,
    options: weights.Options,
) -> None:
    """Writes published weights of a stage as its checkpoint.

    Args:
      out: Told what was done.
      source: The file of the stage's network.
      target: The file to write.
      options: Say the stage, the file of the autoencoder that belongs to it, and what
        files do not.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: A file cannot be read or written.
      ValueError: A file is missing, is of something else, or does not fit.
    """
    stage = str(options.family)
    if options.format not in (None, "weatherlib"):
        raise ValueError(
            f"--family {stage}: makes a checkpoint; leave --family out to write arrays "
            f"as {options.format}"
        )
    if stage == stage_config.PREDIFF_AUTOENCODER:
        config, params, said = _autoencoder(source, options)
        frames = 1
    else:
        config, params, frames, said = _network(stage, source, options)
    for line in said:
        out.print(line)
    step = times.as_timedelta(options.time_step or _STEP).total_seconds() / 60
    names = options.variables or (radar.NAME,)
    value = _KINDS[stage](
        architecture=stage,
        params=params,
        model_config=config,
        task_config=task.TaskConfig(
            input_variables=names,
            target_variables=names,
            forcing_variables=(),
            pressure_levels=(),
            input_duration=f"{frames * step:g}min",
        ),
        description=f"PreDiff, converted from {source.name}",
        license="as the converted file; published weights state none",
    )
    checkpoint.save(target, value, extras={"time_step": f"{step:g}min"})
    out.print(f"{target}: a checkpoint of {stage}")


def _autoencoder(
    source: pathlib.Path, options: weights.Options
) -> tuple[Any, dict[str, Any], list[str]]:
    loaded = autoencoder_kl.load(
        source, norm_num_groups=options.norm_groups, verify=not options.unchecked
    )
    config = stage_config.PreDiffAutoencoderConfig(autoencoder=loaded.config)
    return config, loaded.params, [f"{loaded.source}: the autoencoder"]


def _network(
    stage: str, source: pathlib.Path, options: weights.Options
) -> tuple[Any, dict[str, Any], int, list[str]]:
    """Returns configuration, parameters, past frames, and lines on what was read."""
    if options.autoencoder is None:
        raise ValueError(
            f"--family {stage}: works on the latent fields of an autoencoder; name its "
            "file with --autoencoder"
        )
    sizes, coder, said = _coder(pathlib.Path(options.autoencoder), options)
    is_denoiser = stage == stage_config.PREDIFF_DENOISER
    file = flat.read(source, verify=not options.unchecked)
    arrays, _ = prediff_networks.network_arrays(file.arrays, str(source))
    if is_denoiser != (prediff_sizes.kind_of(arrays) == EARTHFORMER_UNET):
        other = STAGES[2] if is_denoiser else STAGES[1]
        raise ValueError(
            f"{source}: holds another network than {stage} needs; it is one of {other}"
        )
    known: dict[str, Any] = {}
    if options.num_heads is not None:
        known["num_heads"] = options.num_heads
    if options.frames is not None and is_denoiser:
        known["input_shape"] = _context_shape(
            arrays, options.frames[0], sizes.latent_channels
        )
    loaded = prediff_networks.load(source, verify=not options.unchecked, **known)
    shared = {"latent": sizes, "digest": stages.digest(coder)}
    try:
        if isinstance(loaded.config, EarthformerUNetConfig):
            config: Any = stage_config.PreDiffConfig(denoiser=loaded.config, **shared)
        else:
            config = stage_config.PreDiffAlignmentConfig(
                network=loaded.config, **shared
            )
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    params = {**coder, **loaded.params} if is_denoiser else loaded.params
    return config, params, loaded.config.input_shape[0], [str(loaded), said]


def _context_shape(
    arrays: Mapping[str, np.ndarray], past: int, channels: int
) -> tuple[int, int, int, int]:
    """Returns the shape of the latent context of a denoiser with so many frames."""
    if "pos_embed.HW_embed.weight" in arrays:
        rows = columns = math.isqrt(len(arrays["pos_embed.HW_embed.weight"]))
    else:
        rows, columns = (len(arrays[f"pos_embed.{a}_embed.weight"]) for a in "HW")
    return past, rows, columns, channels


def _coder(
    path: pathlib.Path, options: weights.Options
) -> tuple[Any, dict[str, Any], str]:
    """Returns sizes and parameters of an autoencoder, published or of ours."""
    if held_stage(path) is not None:
        held = stages.open_autoencoder(path)
        return held.model_config.autoencoder, held.params, f"{path}: the autoencoder"
    config, params, said = _autoencoder(path, options)
    return config.autoencoder, params, said[0]


def export(
    out: console.Console, source: pathlib.Path, target: pathlib.Path, kind: str
) -> None:
    """Writes the network of a stage under its published names.

    Of a forecast model that is the denoiser. Its autoencoder is the one that it was
    trained with, whose own checkpoint is exported by itself.

    Args:
      out: Told what was done.
      source: The checkpoint.
      target: The file to write.
      kind: "npz" or "safetensors".

    Raises:
      OSError: A file cannot be read or written.
      ValueError: The file is damaged.
    """
    stage = str(held_stage(source))
    held: Any = checkpoint.open_checkpoint(source, _KINDS[stage])
    config = held.model_config
    if stage == stage_config.PREDIFF_AUTOENCODER:
        # The published file has the names that attention had then.
        arrays = autoencoder_kl.export(held.params, config.autoencoder, naming="legacy")
    else:
        own = {m: v for m, v in held.params.items() if m.split("/")[0] not in _HELD}
        sizes = config["denoiser" if "denoiser" in config else "network"]
        arrays = prediff_networks.export(own, sizes)
    metadata = {"format": "pt"} if kind == "safetensors" else None
    flat.write(target, arrays, format=flat.as_format(kind), metadata=metadata)
    out.print(f"{target}: {len(arrays)} arrays under their published names, as {kind}")
