"""Published weights of vision encoders and decoders: read, checked, exported."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from weatherlib.latent.config import DECODER, ENCODER, DecoderConfig, EncoderConfig
from weatherlib.nn import embedding
from weatherlib.typing import PathLike
from weatherlib.weights import (
    errors,
    flat,
    folders,
    name_map,
    vision_names,
    vision_sizes,
)

__all__ = [
    "LoadedDecoder",
    "LoadedEncoder",
    "decoder_sizes_of_folder",
    "encoder_sizes_of_folder",
    "export_decoder",
    "export_encoder",
    "load_decoder",
    "load_encoder",
    "load_statistics",
    "write_encoder_folder",
]

Params = dict[str, dict[str, np.ndarray]]

# An array that each layout has, after whatever stands before its names.
_ANCHORS = {
    "dinov2": "embeddings.cls_token",
    "timm": "cls_token",
    "siglip": "embeddings.patch_embedding.weight",
    "siglip2": "embeddings.patch_embedding.weight",
    "mae": "embeddings.cls_token",
}
# Parts of whole models beside the encoder: heads, texts, and decoders.
_OUTSIDE = re.compile(
    r"(.*\.)?(classifier|head|fc_norm|text_model|decoder|logit_scale|logit_bias)(\.|$)"
)
# What representation autoencoders of diffusers hold beside encoder and decoder.
_BUFFERS = ("encoder_mean", "encoder_std", "_latents_mean", "_latents_std")
# Both published programs keep clear of zero by it: one adds it to the variance.
_LEAST_SPREAD = np.float32(1e-5)
_DECODER_ANCHOR = "decoder_embed.weight"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedEncoder:
    """An encoder in our layout.

    Attributes:
      params: Haiku module path to parameter name to array.
      config: Its sizes.
      source: Where it is from.
      outside: Names of arrays that belong to other parts of the file's model.
    """

    params: Params
    config: EncoderConfig
    source: str
    outside: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedDecoder:
    """A decoder in our layout; see `LoadedEncoder`.

    Attributes:
      params: Haiku module path to parameter name to array.
      config: Its sizes.
      source: Where it is from.
      outside: Names of arrays that belong to other parts of the file's model.
    """

    params: Params
    config: DecoderConfig
    source: str
    outside: tuple[str, ...] = ()


def load_encoder(path: PathLike, *, verify: bool = True) -> LoadedEncoder:
    """Returns an encoder from a folder, of which nothing lacks and nothing is left.

    Args:
      path: With `config.json` and weights, in one file or in shards, as transformers
        and timm write them. Of a whole model, the encoder is taken.
      verify: As for `torch_zip.read`.

    Raises:
      FileNotFoundError: The folder, or a file of it, is missing.
      OSError: A file cannot be read.
      MismatchError: The arrays are not those that `config.json` describes.
      ValueError: A file is damaged, or describes another model.
    """
    path = pathlib.Path(path)
    folder = folders.read(path, verify=verify)
    sizes = vision_sizes.read_encoder_config(folder.config, str(path / folders.CONFIG))
    arrays, others = _own(folder.arrays, _ANCHORS[sizes.layout], str(path))
    inside = "head." if sizes.pooling_head else None
    outside = [n for n in others if _OUTSIDE.match(n)]
    outside += [
        n for n in arrays if _OUTSIDE.match(n) and not (inside and n.startswith(inside))
    ]
    kept = {n: a for n, a in arrays.items() if n not in outside}
    # What belongs to no known part of a model is an array too many.
    kept |= {n: folder.arrays[n] for n in others if n not in outside}
    kept.pop("embeddings.position_ids", None)
    names = vision_names.encoder_map(sizes)
    if vision_sizes.is_representation(folder.config):
        outside += [n for n in _BUFFERS if kept.pop(n, None) is not None]
        kept = _with_last_norm(kept, names)
    _check(names, kept, path)
    return LoadedEncoder(
        params=names.to_params(kept),
        config=sizes,
        source=str(path),
        outside=tuple(outside),
    )


def load_decoder(
    path: PathLike, sizes: DecoderConfig | None = None, *, verify: bool = True
) -> LoadedDecoder:
    """Returns a decoder from a file or a folder, of which nothing lacks.

    Args:
      path: A file of torch, safetensors or npz with a decoder as published ones of
        representation autoencoders are, or a folder with one or with a masked
        autoencoder, whose decoder is taken.
      sizes: Its sizes. By default what `config.json` says; a file alone needs them,
        for heads do not follow from arrays.
      verify: As for `torch_zip.read`.

    Raises:
      FileNotFoundError: The path, or a file of the folder, is missing.
      OSError: A file cannot be read.
      MismatchError: The arrays are not those of the sizes.
      ValueError: A file is damaged, holds no decoder, or there are no sizes.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        folder = folders.read(path, verify=verify)
        held = folder.arrays
        if sizes is None:
            where = str(path / folders.CONFIG)
            sizes = vision_sizes.read_decoder_config(folder.config, where)
    else:
        held = flat.read(path, verify=verify).arrays
        if sizes is None:
            raise ValueError(
                f"{path}: a file without config.json does not tell the sizes of a "
                "decoder; give them"
            )
    arrays, outside = _own(held, _DECODER_ANCHOR, str(path))
    naming: vision_names.DecoderNaming = "published"
    if any(".attention.to_q." in name for name in arrays):
        naming = "diffusers"
        arrays.pop("decoder_pos_embed", None)
    encoded = "mask_token" in arrays
    sizes = sizes.replace(class_source="encoded" if encoded else "trainable")
    names = vision_names.decoder_map(sizes, naming)
    _check(names, arrays, path)
    params = names.to_params(arrays)
    if naming == "diffusers":
        params[DECODER]["positions"] = _positions(sizes)
    return LoadedDecoder(
        params=params, config=sizes, source=str(path), outside=tuple(outside)
    )


def encoder_sizes_of_folder(path: PathLike) -> EncoderConfig:
    """Returns the sizes of the encoder in a folder, without reading its weights.

    Raises:
      FileNotFoundError: The folder has no `config.json`.
      ValueError: It describes another model.
    """
    file = _config_file(path)
    return vision_sizes.read_encoder_config(folders.read_json(file), str(file))


def decoder_sizes_of_folder(path: PathLike) -> DecoderConfig:
    """Returns the sizes of the decoder in a folder, without reading its weights.

    Raises:
      FileNotFoundError: The folder has no `config.json`.
      ValueError: It describes another model.
    """
    file = _config_file(path)
    return vision_sizes.read_decoder_config(folders.read_json(file), str(file))


def _config_file(path: PathLike) -> pathlib.Path:
    file = pathlib.Path(path) / folders.CONFIG
    if not file.is_file():
        raise FileNotFoundError(f"{path}: the folder has no {folders.CONFIG}")
    return file


def load_statistics(path: PathLike, *, verify: bool = True) -> dict[str, np.ndarray]:
    """Returns `mean` and `scale` of latent fields from a published file.

    Args:
      path: A file of torch, safetensors or npz that holds `mean` and `var`, or the
        weights of a representation autoencoder of diffusers.
      verify: As for `torch_zip.read`.

    Raises:
      OSError: The file cannot be read.
      ValueError: It is damaged or holds something else.
    """
    held = flat.read(path, verify=verify).arrays
    if "_latents_mean" in held and "_latents_std" in held:
        return _of_representation(held["_latents_mean"], held["_latents_std"])
    if set(held) != {"mean", "var"} or held["mean"].shape != held["var"].shape:
        raise errors.WrongFormatError(
            f"{path}: statistics of latent fields are mean and var of one shape; it "
            f"holds {', '.join(map(errors.printable, sorted(held)[:4]))}"
        )
    scale = np.sqrt(held["var"].astype(np.float32) + _LEAST_SPREAD)
    return {"mean": held["mean"].astype(np.float32), "scale": scale}


def statistics_of_folder(
    path: PathLike, *, verify: bool = True
) -> dict[str, np.ndarray] | None:
    """Returns `mean` and `scale` of latent fields that a published folder brings along.

    None where there are none: where it is no whole representation autoencoder, or one
    whose `config.json` has no `latents_mean`.

    Args:
      path: With `config.json` and weights.
      verify: As for `torch_zip.read`.

    Raises:
      FileNotFoundError: The folder, or a file of it, is missing.
      OSError: A file cannot be read.
      ValueError: A file is damaged.
    """
    folder = folders.read(path, verify=verify)
    if not vision_sizes.is_representation(folder.config):
        return None
    given = (folder.config.get(f"latents_{name}") for name in ("mean", "std"))
    if all(value is None for value in given):
        return None
    mean, std = (folder.arrays.get(f"_latents_{name}") for name in ("mean", "std"))
    if mean is None or std is None:
        raise errors.WrongFormatError(
            f"{path}: {folders.CONFIG} has statistics of latent fields, which the "
            "weights lack: _latents_mean and _latents_std"
        )
    return _of_representation(mean, std)


def _of_representation(mean: np.ndarray, std: np.ndarray) -> dict[str, np.ndarray]:
    wide = std.astype(np.float32) + _LEAST_SPREAD
    return {"mean": mean.astype(np.float32), "scale": wide}


def export_encoder(
    params: Mapping[str, Mapping[str, Any]], sizes: EncoderConfig
) -> dict[str, np.ndarray]:
    """Returns parameters of an encoder under their published names, bit by bit.

    Raises:
      MismatchError: They are not those of the sizes.
    """
    prefix = vision_names.encoder_prefix(sizes)
    found = vision_names.encoder_map(sizes).to_sources(params)
    return {f"{prefix}{name}": array for name, array in found.items()}


def export_decoder(
    params: Mapping[str, Mapping[str, Any]], sizes: DecoderConfig
) -> dict[str, np.ndarray]:
    """Returns parameters of a decoder under their published names, bit by bit.

    Raises:
      MismatchError: They are not those of the sizes.
    """
    return vision_names.decoder_map(sizes).to_sources(params)


def write_encoder_folder(
    path: PathLike, params: Mapping[str, Mapping[str, Any]], sizes: EncoderConfig
) -> None:
    """Writes a folder that transformers or timm, and `load_encoder`, read.

    Raises:
      MismatchError: Parameters are not those of the sizes.
      OSError: A file cannot be written.
      ValueError: No published type has such an encoder.
    """
    held = vision_sizes.to_config(sizes)
    folders.write(path, held, export_encoder(params, sizes), stem="model")


def _own(
    held: Mapping[str, np.ndarray], anchor: str, path: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns arrays of a network by their names without what stands before them.

    The second value are names of others.
    """
    found = [n for n in held if n == anchor or n.endswith(f".{anchor}")]
    if not found:
        first = ", ".join(map(errors.printable, list(held)[:4]))
        raise errors.WrongFormatError(
            f"{path}: {anchor} is lacking; it holds {first} and {len(held)} arrays in "
            "all"
        )
    prefix = min(found, key=len).removesuffix(anchor)
    inside = {
        n.removeprefix(prefix): a for n, a in held.items() if n.startswith(prefix)
    }
    return inside, [n for n in held if not n.startswith(prefix)]


def _with_last_norm(
    arrays: Mapping[str, np.ndarray], names: name_map.NameMap
) -> dict[str, np.ndarray]:
    """Returns arrays with scale and offset of the last norm, which do nothing.

    Representation autoencoders go without.
    """
    found = dict(arrays)
    for rule in names.rules:
        if rule.module == f"{ENCODER}/norm" and rule.source not in found:
            fill = np.ones if rule.name == "scale" else np.zeros
            found[rule.source] = fill(rule.source_shape, np.float32)
    return found


def _check(
    names: name_map.NameMap, arrays: Mapping[str, np.ndarray], path: pathlib.Path
) -> None:
    """Makes sure that arrays are those of the map; the message names the first."""
    try:
        names.check(arrays, str(path))
    except errors.MismatchError as error:
        raise errors.MismatchError(
            f"{error}; first {_first(error)}. Does {folders.CONFIG} belong to them?",
            missing=error.missing,
            extra=error.extra,
            misshapen=error.misshapen,
        ) from None


def _first(error: errors.MismatchError) -> str:
    for name, (found, wanted) in error.misshapen.items():
        return f"{errors.printable(name)} is {list(found)}, not {list(wanted)}"
    for name, shape in error.missing.items():
        return f"{name} {list(shape)} is missing"
    name, shape = next(iter(error.extra.items()))
    return f"{errors.printable(name)} {list(shape)} is unknown"


def _positions(sizes: DecoderConfig) -> np.ndarray:
    """Returns the fixed positions of a decoder, zeros for the class token first."""
    table = embedding.sincos_2d(sizes.decoder_hidden_size, *sizes.grid)
    return np.pad(table, ((1, 0), (0, 0))).astype(np.float32)
