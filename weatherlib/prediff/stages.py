"""The files of PreDiff's stages, and what makes them belong together."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from weatherlib import checkpoint
from weatherlib.nn.autoencoder_config import DECODER, ENCODER
from weatherlib.prediff import stage_config
from weatherlib.prediff.config import ALIGNMENT, EARTHFORMER_UNET
from weatherlib.typing import PathLike

__all__ = [
    "digest",
    "latent_spread",
    "open_alignment",
    "open_autoencoder",
    "open_denoiser",
    "published",
]

digest = checkpoint.digest

_TITLES = {
    stage_config.PREDIFF_AUTOENCODER: "the autoencoder (stage 1)",
    stage_config.PREDIFF_DENOISER: "the forecast model (stage 2)",
    stage_config.PREDIFF_ALIGNMENT: "an alignment network (stage 3)",
}
_PUBLISHED = {
    stage_config.PREDIFF_AUTOENCODER: (ENCODER, DECODER),
    stage_config.PREDIFF_DENOISER: (ENCODER, DECODER, EARTHFORMER_UNET),
    stage_config.PREDIFF_ALIGNMENT: (ALIGNMENT,),
}


def open_autoencoder(path: PathLike) -> stage_config.AutoencoderCheckPoint:
    """Returns a trained autoencoder.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It cannot be read.
      ValueError: It is of another stage or model, or damaged.
    """
    _require(path, stage_config.PREDIFF_AUTOENCODER)
    return checkpoint.open_checkpoint(path, stage_config.AutoencoderCheckPoint)


def open_denoiser(path: PathLike) -> stage_config.PreDiffCheckPoint:
    """Returns a forecast model.

    Raises:
      ValueError: As for `open_autoencoder`; so are other errors.
    """
    _require(path, stage_config.PREDIFF_DENOISER)
    return checkpoint.open_checkpoint(path, stage_config.PreDiffCheckPoint)


def open_alignment(path: PathLike) -> stage_config.AlignmentCheckPoint:
    """Returns an alignment network.

    Raises:
      ValueError: As for `open_autoencoder`; so are other errors.
    """
    _require(path, stage_config.PREDIFF_ALIGNMENT)
    return checkpoint.open_checkpoint(path, stage_config.AlignmentCheckPoint)


def published(architecture: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters that the file of a stage holds.

    Args:
      architecture: Name of the stage.
      params: All of a training run, by path.
    """
    roots = _PUBLISHED[architecture]
    return {m: v for m, v in params.items() if m.split("/")[0] in roots}


def latent_spread(
    config: stage_config.LatentConfig, params: Mapping[str, Any], frames: xr.Dataset
) -> float:
    """Returns the standard deviation of the likeliest latent fields of frames.

    Args:
      config: Of a stage, with the sizes of its autoencoder.
      params: Of the autoencoder.
      frames: Variables [batch, time, lat, lon] in the units of the data.

    Raises:
      ValueError: They are all alike, or not finite.
    """
    import jax

    from weatherlib.prediff import latent_stage, stage_frames

    coder = latent_stage.autoencoder_of(config)
    encode = jax.jit(lambda params, frames: coder.encode(params, frames).mode())
    deviations = []
    fields = np.asarray(stage_frames.read(frames, config.value_range))
    for sample in fields:
        deviations.append(np.asarray(encode(params, sample), np.float64))
    spread = float(np.std(deviations))
    if not (np.isfinite(spread) and spread > 0):
        raise ValueError(
            f"scale_factor: the latent fields of the training data have a standard "
            f"deviation of {spread}; the autoencoder is not trained, or the data do "
            "not vary"
        )
    return spread


def _require(path: PathLike, architecture: str) -> None:
    """Makes sure that a file is of a stage.

    Raises:
      ValueError: It is of another, or of none.
    """
    file = pathlib.Path(path)
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist")
    said = checkpoint.read_text(file, "architecture")
    if said == architecture:
        return
    held = _TITLES.get(said, f"a {said}" if said else "no checkpoint of PreDiff")
    held = f"holds {held}" if said in _TITLES else f"is {held}"
    raise ValueError(
        f"{file}: {held}; {_TITLES[architecture]} of PreDiff is needed, a checkpoint "
        f"of the family {architecture}"
    )
