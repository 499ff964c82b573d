"""Autoencoders that fields are put through: of checkpoints and published weights."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np
import xarray

from weatherlib import task
from weatherlib.cli import backbones, files, latent_weights, models
from weatherlib.cli import reconstruct as command
from weatherlib.latent import codec
from weatherlib.latent import published as vision_names
from weatherlib.latent.field_codec_config import FieldCodecConfig

__all__ = ["Coder", "open_coder"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coder:
    """An autoencoder and how fields reach it.

    Attributes:
      config: Its settings; the range of fields is not known of published weights.
      params: By path.
      task: Which fields.
      mean: Of each variable, subtracted first; 0 for published weights.
      stddev: What they are divided by; 1 for published weights.
      is_published: Whether each variable and level is an image of its own.
      source: Where it is from.
      digest: SHA-256 of a checkpoint; empty else.
      climatology: Waves of day and year that are taken away first; None where there are
        none.
    """

    config: FieldCodecConfig
    params: dict[str, Any]
    task: task.TaskConfig
    mean: xarray.Dataset
    stddev: xarray.Dataset
    is_published: bool
    source: str
    digest: str = ""
    climatology: xarray.Dataset | None = None

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What it is, as names and values."""
        count = sum(np.size(leaf) for leaf in jax.tree.leaves(self.params))
        made = codec.make(self.config)
        return [
            ("autoencoder", f"{self.source}, {self.config.vae_type}"),
            ("parameters", f"{count:,}"),
            ("latent", f"{made.latent_channels} channels"),
            ("fields", ", ".join(self.task.target_variables)),
        ]


def open_coder(options: command.Options) -> Coder:
    """Returns the autoencoder that somebody means.

    Raises:
      FileNotFoundError: There is none.
      OSError: A file cannot be read.
      ValueError: It is something else.
    """
    path = pathlib.Path(options.model)
    if path.is_file() and path.suffix == ".npz":
        if options.variables or options.levels or options.decoder:
            raise ValueError(
                "--variables, --levels and --decoder are for published weights; "
                f"{path} knows its own"
            )
        return _of_checkpoint(path)
    return _of_folder(options)


def _of_checkpoint(path: pathlib.Path) -> Coder:
    model = models.load_model(path)
    config = model.model_config
    if not isinstance(config, FieldCodecConfig):
        raise ValueError(
            f"{path}: a {model.family} model has no autoencoder of fields; "
            "latent_autoencoder, latent_unet and latent_diffusion have"
        )
    statistics = models.find_statistics(model)
    return Coder(
        config=config,
        params=model.params,
        task=model.task_config,
        mean=statistics.mean_by_level,
        stddev=statistics.stddev_by_level,
        is_published=False,
        source=str(path),
        digest=model.digest,
        climatology=statistics.climatology,
    )


def _of_folder(options: command.Options) -> Coder:
    folder = backbones.find_folder(options.model, "MODEL")
    if folder.is_file():
        folder = folder.parent
    config, params = latent_weights.complete(_settings(folder, options), 1)
    wanted = codec.make(config)
    lacking = [
        m for m in jax.eval_shape(wanted.init, jax.random.key(0)) if m not in params
    ]
    if lacking:
        raise ValueError(
            f"{folder}: holds no decoder ({lacking[0]} is lacking); name one with "
            "--decoder"
        )
    names = options.variables or ("2m_temperature",)
    dataset = files.open_lazily(options.data)
    on_levels = [n for n in names if n in dataset and "level" in dataset[n].dims]
    levels = options.levels or (dataset["level"].values if on_levels else ())
    neutral = dict.fromkeys(names)
    return Coder(
        config=config,
        params=params,
        task=task.TaskConfig(
            input_variables=tuple(names),
            target_variables=tuple(names),
            forcing_variables=(),
            pressure_levels=tuple(int(p) for p in levels),
            input_duration="6h",
        ),
        mean=xarray.Dataset(dict.fromkeys(neutral, np.float32(0))),
        stddev=xarray.Dataset(dict.fromkeys(neutral, np.float32(1))),
        is_published=True,
        source=str(folder),
    )


def _settings(folder: pathlib.Path, options: command.Options) -> FieldCodecConfig:
    """Returns the settings of published weights, which their `config.json` tells."""
    from weatherlib.weights import folders, vision, vision_sizes

    file = folder / folders.CONFIG
    held = folders.read_json(file) if file.is_file() else {}
    if held.get("_class_name") == "AutoencoderKL" or not held:
        return FieldCodecConfig(
            vae_type="sd",
            vae_pretrained_path=str(folder),
            freeze_encoder=True,
            freeze_decoder=True,
            fill_up=options.fill_up,
        )
    sizes = vision.encoder_sizes_of_folder(folder)
    kinds = vision_names.ENCODER_CLASSES.items()
    name, kind = next((n, k) for n, k in kinds if sizes.layout in k.layouts)
    decoder = options.decoder
    if decoder is None and vision_sizes.is_representation(held):
        decoder = str(folder)
    inner = None
    if decoder is not None and pathlib.Path(decoder).is_dir():
        inner = vision.decoder_sizes_of_folder(decoder)
    side = options.encoder_input_size or min(kind.input_size, sizes.image_size)
    return FieldCodecConfig(
        vae_type="rae",
        rae_encoder_cls=name,
        rae_encoder_config_path=str(folder),
        rae_encoder_input_size=side,
        rae_decoder_config_path="vit_mae-base" if inner is None else str(decoder),
        rae_decoder_patch_size=16 if inner is None else inner.patch_size,
        vae_pretrained_path=decoder or "",
    )
