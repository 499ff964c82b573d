"""Weights of the autoencoders of latent models: folders, files, checkpoints."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import numpy as np

from weatherlib import checkpoint, hub
from weatherlib.latent import codec, latent_statistics
from weatherlib.latent import config as vision
from weatherlib.latent.codec_config import CodecConfig
from weatherlib.nn import autoencoder_config, lifting

__all__ = ["complete"]

_C = TypeVar("_C", bound=CodecConfig)

Params = dict[str, Any]


def complete(config: _C, channels: int) -> tuple[_C, Params]:
    """Returns settings that need no other file, and the weights that were found.

    Args:
      config: Of a model.
      channels: Of its frames.

    Returns:
      The settings with the sizes of the autoencoder and without paths, and parameters
      by path: none where it begins at random, and not those of adapters unless the
      file has them.

    Raises:
      FileNotFoundError: A file is missing.
      OSError: A file cannot be read.
      ValueError: Files, sizes and channels do not fit each other.
    """
    if config.channels not in (None, channels):
        raise ValueError(
            f"model.channels {config.channels}: the data have {channels} channel(s), "
            "all variables with their levels"
        )
    config = config.replace(channels=channels)
    if config.vae_type == "sd":
        config, params = _convolutional(config)
    else:
        config, params = _representation(config)
    config, params = _statistics_of_file(config, params)
    _require_shapes(config, params)
    return config.replace(vae_pretrained_path=""), params


def _statistics_of_file(config: _C, params: Params) -> tuple[_C, Params]:
    """Returns settings and weights with the statistics of the file that is named.

    Raises:
      OSError: The file cannot be read.
      ValueError: It holds something else, or they do not fit.
    """
    from weatherlib.weights import vision as reader

    path, kind = config.latent_statistics_path, config.latent_statistics
    if not path or kind == "none":
        return config, params
    where = f"model.latent_statistics_path: {path}"
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"{where} does not exist")
    shape = latent_shape(config)
    found = latent_statistics.as_params(
        reader.load_statistics(path), kind, shape, where
    )
    return config.replace(latent_statistics_path=""), params | found


def latent_shape(config: CodecConfig) -> tuple[int, int, int]:
    """Returns channels, rows and columns of latent fields, 1 and 1 where data tell.

    Raises:
      ValueError: The sizes do not fit each other.
    """
    made = codec.make(config)
    if isinstance(made, codec.RepresentationCodec):
        return made.sizes.latent_shape
    return made.latent_channels, 1, 1


def _own_statistics(config: _C, held: CodecConfig, params: Params) -> tuple[_C, Params]:
    """Returns settings that take over the statistics of a checkpoint, if they may.

    Others that are asked for come in place of them.
    """
    kind, kept = config.latent_statistics, held.latent_statistics
    others = config.scale_factor is not None or config.measure_scale
    wanted = kind == kept and not config.latent_statistics_path
    if kept != "none" and (wanted or (kind == "none" and not others)):
        if not config.is_encoder_frozen:
            raise ValueError(
                "model.freeze_encoder: the checkpoint has statistics of latent fields, "
                "which are those of an encoder that is kept; set it to true, or give "
                "scale_factor"
            )
        return config.replace(latent_statistics=kept), params
    root = latent_statistics.STATISTICS
    return config, {m: v for m, v in params.items() if m != root}


def _convolutional(config: _C) -> tuple[_C, Params]:
    """Returns settings and weights of an autoencoder as Stable Diffusion has it."""
    from weatherlib.weights import autoencoder_kl

    path = _path_of(config)
    if path is None:
        return config, {}
    label = f"model.vae_pretrained_path: {path}"
    if not path.exists():
        raise FileNotFoundError(f"{label} does not exist")
    if path.suffix == ".npz":
        held, params = _own_checkpoint(path)
        if held.autoencoder is None:
            raise ValueError(f"{label}: holds an RAE; set vae_type to rae")
        sizes = held.autoencoder
        config, params = _own_statistics(config, held, params)
        is_measured = config.latent_statistics != "none"
        if held.scale_factor and config.scale_factor is None and not is_measured:
            config = config.replace(scale_factor=held.scale_factor)
    else:
        loaded = autoencoder_kl.load(path, config.autoencoder)
        sizes, params = loaded.config, dict(loaded.params)
    if config.autoencoder is not None and config.autoencoder != sizes:
        raise ValueError(
            f"{label}: holds an autoencoder of other sizes than model.autoencoder; "
            "leave those out"
        )
    try:
        return config.replace(autoencoder=sizes), params
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error


def _path_of(config: CodecConfig) -> pathlib.Path | None:
    """Returns where weights lie; None where the network begins at random.

    Raises:
      FileNotFoundError: There are neither weights nor sizes.
    """
    if config.vae_pretrained_path:
        return pathlib.Path(config.vae_pretrained_path)
    if config.autoencoder is not None:
        return None
    name = config.vae_model_id
    found = _fetched(name)
    if found is not None:
        return found
    how = "name a folder as model.vae_pretrained_path"
    if name in hub.entries():
        how = f"run: weatherlib weights fetch {name} --yes; or {how}"
    raise FileNotFoundError(
        f"model.vae_model_id: the weights {name!r} are not on this machine, and none "
        f"are downloaded unasked; {how}, with config.json and "
        "diffusion_pytorch_model.safetensors, or give sizes as model.autoencoder to "
        "begin at random"
    )


def _fetched(name: str) -> pathlib.Path | None:
    """Returns where published weights of a name lie; None where they do not."""
    entry = hub.entries().get(name)
    if entry is None or not hub.is_fetched(entry):
        return None
    return hub.path_of(entry)


def _own_checkpoint(path: pathlib.Path) -> tuple[CodecConfig, Params]:
    """Returns settings and weights of the autoencoder in a checkpoint of this library.

    Raises:
      ValueError: It holds none.
    """
    from weatherlib.cli import families

    name = checkpoint.read_text(path, "architecture")
    read = families.FAMILIES[name]().read if name in families.FAMILIES else None
    held = read(path) if read is not None else None
    sizes = getattr(held, "model_config", None)
    roots = (
        autoencoder_config.ENCODER,
        autoencoder_config.DECODER,
        vision.ENCODER,
        vision.DECODER,
        vision.ADAPTER,
        latent_statistics.STATISTICS,
    )
    if held is not None and name == "prediff_autoencoder":
        sizes = CodecConfig(
            autoencoder=held.model_config.autoencoder,
            channels=held.model_config.autoencoder.in_channels,
        )
    if held is None or not isinstance(sizes, CodecConfig):
        raise ValueError(
            f"model.vae_pretrained_path: {path} holds no autoencoder of frames but a "
            f"model of the family {name!r}; give a checkpoint of latent_autoencoder, "
            "latent_unet, latent_diffusion or prediff_autoencoder, or published weights"
        )
    return sizes, lifting.part(held.params, *roots)


def _representation(config: _C) -> tuple[_C, Params]:
    """Returns settings and weights of a representation autoencoder."""
    from weatherlib.weights import vision as reader

    name = config.rae_encoder_config_path
    folder = _fetched(name) or pathlib.Path(name)
    decoder = pathlib.Path(config.vae_pretrained_path or "")
    if config.vae_pretrained_path and not decoder.exists():
        raise FileNotFoundError(f"model.vae_pretrained_path: {decoder} does not exist")
    if decoder.suffix == ".npz":
        held, params = _own_checkpoint(decoder)
        if held.representation is None:
            raise ValueError(
                f"model.vae_pretrained_path: {decoder} holds no representation "
                "autoencoder; set vae_type to sd"
            )
        config, params = _own_statistics(config, held, params)
        return config.replace(representation=held.representation), params
    params: Params = {}
    if config.representation is None:
        if not (name and folder.is_dir()):
            raise FileNotFoundError(
                f"model.rae_encoder_config_path: there is no folder {name!r} with "
                "weights of the encoder, and none are downloaded unasked; name one, or "
                "an entry of weatherlib weights list that was fetched, such as "
                "siglip2-base, or give sizes as model.representation to begin at random"
            )
        try:
            made = codec.make(config.replace(rae_encoder_config_path=str(folder)))
        except ValueError as error:
            is_setting = str(error).startswith(("encoder_", "decoder_"))
            label = "model.rae_" if is_setting else "model: "
            raise ValueError(f"{label}{error}") from error
        assert isinstance(made, codec.RepresentationCodec)
        config = config.replace(representation=made.sizes)
        params |= dict(reader.load_encoder(folder).params)
    if config.vae_pretrained_path:
        assert config.representation is not None
        sizes = config.representation.decoder
        params |= dict(reader.load_decoder(decoder, sizes).params)
        config, params = _statistics_of_folder(config, decoder, params)
    return config.replace(rae_encoder_config_path=""), params


def _statistics_of_folder(
    config: _C, folder: pathlib.Path, params: Params
) -> tuple[_C, Params]:
    """Returns settings and weights with what a whole published autoencoder brings.

    Raises:
      ValueError: The statistics do not fit.
    """
    from weatherlib.weights import vision as reader

    scaled = config.scale_factor is not None or config.measure_scale
    own = config.latent_statistics != "none" or not config.is_encoder_frozen
    if scaled or own or not folder.is_dir():
        return config, params
    found = reader.statistics_of_folder(folder)
    if found is None:
        return config, params
    kind = latent_statistics.kind_of(found["mean"])
    where = f"model.vae_pretrained_path: {folder}"
    held = latent_statistics.as_params(found, kind, latent_shape(config), where)
    return config.replace(latent_statistics=kind), params | held


def _require_shapes(config: CodecConfig, params: Mapping[str, Any]) -> None:
    """Makes sure that weights are those of the autoencoder.

    Raises:
      ValueError: Some lack, are left over or have other shapes.
    """
    if not params:
        return
    made = codec.make(config)
    wanted = jax.eval_shape(made.init, jax.random.key(0))
    for module, held in params.items():
        if module not in wanted:
            raise ValueError(
                f"model.vae_pretrained_path: {module} belongs to an autoencoder of "
                f"other channels than the {config.channels} of the data, or of others "
                "parts"
            )
        for name, like in wanted[module].items():
            found = np.shape(held[name]) if name in held else "nothing"
            if found != like.shape:
                raise ValueError(
                    f"model.vae_pretrained_path: {module}/{name} needs the shape "
                    f"{like.shape}, found {found}; is it for other variables?"
                )
