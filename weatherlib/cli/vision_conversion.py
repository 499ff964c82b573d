"""Folders of vision encoders and autoencoders: described, checked, converted."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from weatherlib.cli import console, weights
    from weatherlib.weights import folders

__all__ = ["convert", "describe", "export", "is_folder", "is_own"]

_CONFIG = "config.json"
_STATISTICS = "latent_statistics.npz"
_DECODER = "decoder"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Held:
    """What a folder holds, after it was checked.

    Attributes:
      folder: Arrays as they are, and `config.json`.
      title: What it is, in a few words.
      facts: Sizes, as names and values.
      parameters: How many numbers belong to the networks that are named.
      outside: Names of arrays of other networks.
    """

    folder: folders.ModelFolder
    title: str
    facts: list[tuple[str, str]]
    parameters: int
    outside: tuple[str, ...]


def is_folder(path: pathlib.Path) -> bool:
    """Whether a path is a folder of a published model."""
    return path.is_dir() and (path / _CONFIG).is_file()


def describe(out: console.Console, path: pathlib.Path) -> None:
    """Prints what a folder holds, after comparing its weights with `config.json`.

    Raises:
      FileNotFoundError: Weights, or a shard of them, are missing.
      OSError: A file cannot be read.
      ValueError: The weights are not those of `config.json`, or of another model.
    """
    held = _open(path)
    arrays = held.folder.arrays.values()
    types = sorted({str(array.dtype) for array in arrays})
    size = sum(array.nbytes for array in arrays)
    out.heading(f"Weights: {path}")
    facts = [
        ("model", held.title),
        ("parameters", f"{held.parameters:,}"),
        *held.facts,
        ("files", ", ".join((_CONFIG, *held.folder.files))),
        (
            "arrays",
            f"{len(held.folder.arrays)}, {size / 1e6:.1f} MB of {', '.join(types)}",
        ),
    ]
    if held.outside:
        facts.append(("beside", f"{len(held.outside)} arrays of other networks"))
    out.facts(facts)


def convert(
    out: console.Console, source: pathlib.Path, options: weights.Options
) -> None:
    """Writes the weights of a folder as another folder, or as one file.

    Their names and numbers stay as they are.

    Args:
      out: Told what was done.
      source: The folder.
      options: Say where to, and in which format.

    Raises:
      FileNotFoundError: Weights, or a shard of them, are missing.
      OSError: A file cannot be read or written.
      ValueError: The weights are not those of `config.json`, or the options do not go
        together.
    """
    from weatherlib.weights import flat, folders

    target, kind = _target(options, source)
    held = _open(source, verify=not options.unchecked)
    arrays = held.folder.arrays
    if target.suffix:
        metadata = {"format": "pt"} if kind == "safetensors" else None
        flat.write(target, arrays, format=kind, metadata=metadata)
        more = f"; {_CONFIG} stays behind, so readers need to be told sizes"
    else:
        stem = _stem(held.folder)
        folders.write(target, held.folder.config, arrays, stem=stem, format=kind)
        more = ""
    out.print(f"{target}: {held.title}, {len(arrays)} arrays as {kind}{more}")


def is_own(path: pathlib.Path) -> bool:
    """Whether a file is a checkpoint of ours that holds an autoencoder of fields."""
    from weatherlib import checkpoint

    return path.is_file() and checkpoint.read_text(path, "architecture") in (
        "latent_autoencoder",
        "latent_unet",
        "latent_diffusion",
    )


def export(
    out: console.Console, source: pathlib.Path, options: weights.Options
) -> None:
    """Writes the autoencoder of a checkpoint of ours as published ones are.

    That of Stable Diffusion becomes a folder for diffusers; of a representation
    autoencoder, the encoder becomes a folder, and the decoder a file inside of it.

    Args:
      out: Told what was done.
      source: The checkpoint.
      options: Say where to.

    Raises:
      OSError: A file cannot be read or written.
      ValueError: The target is no folder.
    """
    from weatherlib.cli import models
    from weatherlib.latent import codec, latent_statistics, representation
    from weatherlib.nn import autoencoder_config, lifting
    from weatherlib.weights import autoencoder_kl, flat, vision

    target, kind = _target(options, source)
    if target.suffix or kind != "safetensors":
        raise ValueError(
            f"{target}: the autoencoder of a checkpoint becomes a folder of "
            "safetensors; give a name without a suffix"
        )
    model = models.load_model(source)
    params: Any = model.params
    made = codec.make(model.model_config)
    if isinstance(made, codec.ConvolutionCodec):
        roots = (autoencoder_config.ENCODER, autoencoder_config.DECODER)
        held = lifting.part(params, *roots)
        autoencoder_kl.write_folder(target, held, made.sizes)
        said = "the autoencoder as diffusers reads it"
    else:
        assert isinstance(made, codec.RepresentationCodec)
        sizes = made.sizes
        encoder = representation.part(params, "encoder")
        vision.write_encoder_folder(target, encoder, sizes.encoder)
        decoder = representation.part(params, "decoder")
        flat.write(
            target / f"{_DECODER}.safetensors",
            vision.export_decoder(decoder, sizes.decoder),
            format="safetensors",
            metadata={"format": "pt"},
        )
        said = f"the encoder, and {_DECODER}.safetensors"
    if latent_statistics.STATISTICS in params:
        held = params[latent_statistics.STATISTICS]
        flat.write(
            target / _STATISTICS, latent_statistics.to_published(held), format="npz"
        )
        said += f", and {_STATISTICS}"
    out.print(f"{target}: {said}")
    if made.adapts_channels:
        out.print("  left out, for no published layout has it: channel_adapter")


def _open(path: pathlib.Path, *, verify: bool = True) -> _Held:
    """Returns what a folder holds, each of its networks compared with its sizes."""
    from weatherlib.weights import autoencoder_kl, folders, vision, vision_sizes

    folder = folders.read(path, verify=verify)
    if folder.config.get("_class_name") == "AutoencoderKL":
        loaded = autoencoder_kl.load(path, verify=False)
        sizes = loaded.config
        return _Held(
            folder=folder,
            title="KL autoencoder, as in Stable Diffusion",
            facts=[
                ("channels", f"{sizes.in_channels} to {sizes.latent_channels}"),
                ("reduction", f"{sizes.reduction} times along each side"),
                ("widths", " ".join(map(str, sizes.block_out_channels))),
                ("scale", f"{sizes.scaling_factor:g}"),
                ("attention names", loaded.naming),
            ],
            parameters=_count(loaded.params),
            outside=loaded.outside,
        )
    encoder = vision.load_encoder(path, verify=False)
    facts = _encoder_facts(encoder.config)
    parameters, title = _count(encoder.params), "vision encoder"
    if vision_sizes.is_representation(folder.config):
        decoder = vision.load_decoder(path, verify=False)
        inner = decoder.config
        title = "representation autoencoder: vision encoder and decoder"
        parameters += _count(decoder.params)
        facts.append(
            (
                "decoder",
                f"width {inner.decoder_hidden_size}, {inner.decoder_num_hidden_layers} "
                f"blocks, images of {inner.image_size[0]}x{inner.image_size[1]}",
            )
        )
        return _Held(
            folder=folder, title=title, facts=facts, parameters=parameters, outside=()
        )
    return _Held(
        folder=folder,
        title=title,
        facts=facts,
        parameters=parameters,
        outside=encoder.outside,
    )


def _encoder_facts(sizes: Any) -> list[tuple[str, str]]:
    registers = sizes.num_register_tokens
    more = f", {registers} registers" if registers else ""
    return [
        ("layout", sizes.layout),
        (
            "tokens",
            f"{sizes.hidden_size} channels, patches of {sizes.patch_size}{more}",
        ),
        ("blocks", f"{sizes.num_hidden_layers}, {sizes.num_attention_heads} heads"),
        ("images", f"{sizes.image_size}x{sizes.image_size}"),
    ]


def _target(
    options: weights.Options, source: pathlib.Path
) -> tuple[pathlib.Path, Literal["npz", "safetensors"]]:
    """Returns where to write, and the format.

    Raises:
      ValueError: There is no target, it is the source, or does not fit the format.
    """
    from weatherlib.cli import files
    from weatherlib.weights import flat

    if options.output is None:
        raise ValueError(
            "weights convert: needs a folder or a file to write, such as vae_npz or "
            "vae.safetensors"
        )
    if options.family is not None or options.grid is not None:
        raise ValueError("--family and --grid: do not go with a folder; leave them out")
    target = pathlib.Path(options.output)
    if target.suffix not in ("", ".npz", ".safetensors"):
        raise ValueError(
            f"{target}: weights are written as .npz or .safetensors, or into a folder"
        )
    own = target.suffix.removeprefix(".") or options.format or "safetensors"
    if own != (options.format or own) or own == "weatherlib":
        raise ValueError(f"{target}: its suffix is not that of {options.format}")
    if target.exists() and target.samefile(source):
        raise ValueError(f"{target}: is what is to be converted; choose another name")
    files.writable_folder(target.parent)
    return target, flat.as_format(own)


def _stem(folder: folders.ModelFolder) -> str:
    """Returns the name that the file of weights has in its folder, without ending."""
    from weatherlib.weights import folders

    for stem in folders.STEMS:
        if folder.files[0].startswith(stem):
            # Files of torch and of others have names of their own.
            return "model" if stem == "pytorch_model" else stem
    return folders.STEMS[0]


def _count(params: Any) -> int:
    return sum(np.size(array) for held in params.values() for array in held.values())
