"""Published weights of KL autoencoders: read, checked, exported.

Those of Stable Diffusion are folders in the layout of the diffusers package, those of
PreDiff single torch files with the same names. The attention in the middle has names of
old (`query`, `key`, `value`, `proj_attn`) or of today (`to_q`, ...); both are read.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from weatherlib import config as config_lib
from weatherlib.nn import autoencoder_config
from weatherlib.nn.autoencoder_config import DECODER, ENCODER, AutoencoderConfig
from weatherlib.typing import PathLike
from weatherlib.weights import errors, flat, folders, name_map

__all__ = [
    "Loaded",
    "Naming",
    "describe",
    "export",
    "infer_config",
    "load",
    "looks_like",
    "map_of",
    "read_config",
    "write_folder",
]

Naming = Literal["current", "legacy"]
Params = dict[str, dict[str, np.ndarray]]

_ATTENTION = {
    "query": ("to_q", "query"),
    "key": ("to_k", "key"),
    "value": ("to_v", "value"),
    "output": ("to_out.0", "proj_attn"),
}
# Where whole models and training programs keep the autoencoder.
_PREFIXES = ("first_stage_model.", "torch_nn_module.", "vae.", "module.")
_LAST = "decoder.conv_out.weight"
_LEVELS = "encoder.down_blocks."
_DOWN, _UP = "DownEncoderBlock2D", "UpDecoderBlock2D"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loaded:
    """Weights in our layout.

    Attributes:
      params: Haiku module path to parameter name to array.
      config: The architecture they are for.
      source: Where they are from.
      naming: How the file names the attention.
      outside: Names of arrays of the file that belong to other networks.
      beside: What else the file holds, one text each.
    """

    params: Params
    config: AutoencoderConfig
    source: str
    naming: Naming
    outside: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


def map_of(sizes: AutoencoderConfig, naming: Naming = "current") -> name_map.NameMap:
    """Returns the map between published names and parameters.

    Raises:
      ValueError: `naming` is unknown.
    """
    if naming not in ("current", "legacy"):
        raise ValueError(f"naming {naming!r} is neither current nor legacy")
    shapes = autoencoder_config.parameter_shapes(sizes)
    rules = []
    for module, held in shapes.items():
        source = _published(module, naming)
        for name, shape in held.items():
            last = "weight" if name in ("w", "scale") else "bias"
            transform = name_map.IDENTITY
            if len(shape) == 4:
                transform = name_map.convolution(2)
                shape = (shape[3], shape[2], *shape[:2])
            elif len(shape) == 2:
                transform = name_map.TRANSPOSE
                shape = shape[::-1]
            rules.append(
                name_map.Rule(
                    source=f"{source}.{last}",
                    source_shape=shape,
                    module=module,
                    name=name,
                    transform=transform,
                )
            )
    return name_map.NameMap(rules, shapes)


def _published(module: str, naming: Naming) -> str:
    """Returns the published name of a module."""
    root, *parts = module.split("/")
    last = parts[-1]
    if last in ("quant_conv", "post_quant_conv"):
        return last
    words = [{ENCODER: "encoder", DECODER: "decoder"}[root]]
    for part in parts:
        kind, _, number = part.partition("_")
        if part in _ATTENTION:
            words.append(_ATTENTION[part][naming == "legacy"])
        elif part == "norm" and "attention" in parts:
            words.append("group_norm")
        elif kind in ("down", "up"):
            words.append(f"{kind}_blocks.{number}")
        elif kind == "resnet":
            words.append(f"resnets.{number}")
        else:
            words.append(_WORDS.get(part, part))
    return ".".join(words)


_WORDS = {
    "attention": "attentions.0",
    "downsample": "downsamplers.0.conv",
    "mid": "mid_block",
    "norm_out": "conv_norm_out",
    "shortcut": "conv_shortcut",
    "upsample": "upsamplers.0.conv",
}


def looks_like(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether arrays by published name seem to be those of a KL autoencoder."""
    found, _ = _without_prefix(arrays)
    wanted = ("encoder.conv_in.weight", "decoder.conv_in.weight", _LAST)
    return all(name in found and found[name].ndim == 4 for name in wanted) and any(
        name.startswith(_LEVELS) for name in found
    )


def describe(arrays: Mapping[str, np.ndarray]) -> str:
    """Returns what a KL autoencoder is like, in a few words.

    Args:
      arrays: By published name, such that `looks_like` is true of them.
    """
    found, _ = _without_prefix(arrays)
    inputs = found["encoder.conv_in.weight"].shape[1]
    latent = found["decoder.conv_in.weight"].shape[1]
    levels = len({n.split(".")[2] for n in found if n.startswith(_LEVELS)})
    count = sum(array.size for array in found.values())
    return (
        f"KL autoencoder of {inputs} channels to {latent}, {2 ** (levels - 1)} times "
        f"smaller, {count:,} parameters"
    )


def load(
    path: PathLike,
    sizes: AutoencoderConfig | None = None,
    *,
    norm_num_groups: int | None = None,
    verify: bool = True,
) -> Loaded:
    """Returns published weights as parameters, of which none lacks and none is left.

    Args:
      path: A folder with `config.json` and weights, or a file of torch, safetensors or
        npz. Of a file with a whole model, the autoencoder is taken.
      sizes: The architecture. By default what `config.json` says, or what follows from
        the arrays of a file.
      norm_num_groups: Groups of the norms, which do not follow from arrays. 32 by
        default.
      verify: As for `torch_zip.read`.

    Raises:
      FileNotFoundError: There is no such file, or a folder lacks something.
      OSError: It cannot be read.
      MismatchError: Arrays are not those of the architecture.
      ValueError: It is damaged, would run something, or holds no such autoencoder.
    """
    path = pathlib.Path(path)
    beside: tuple[str, ...] = ()
    if path.is_dir():
        folder = folders.read(path, verify=verify)
        held = folder.arrays
        source = str(path)
        if sizes is None:
            sizes = read_config(folder.config, str(path / folders.CONFIG))
    else:
        file = flat.read(path, verify=verify)
        held, beside, source = file.arrays, file.beside, f"{path} ({file.format})"
    arrays, others = _without_prefix(held)
    if _LAST not in arrays:
        first = ", ".join(map(errors.printable, list(held)[:4]))
        raise errors.WrongFormatError(
            f"{path}: no KL autoencoder, for {_LAST} is lacking; it holds {first} and "
            f"{len(held)} arrays in all"
        )
    if sizes is None:
        try:
            sizes = infer_config(arrays, norm_num_groups=norm_num_groups or 32)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    arrays, naming = _current_names(arrays, str(path))
    names = map_of(sizes)
    names.check(arrays, str(path))
    return Loaded(
        params=names.to_params(arrays),
        config=sizes,
        source=source,
        naming=naming,
        outside=tuple(others),
        beside=beside,
    )


def _without_prefix(
    held: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns arrays of the autoencoder by name, and the names of all others."""
    for prefix in _PREFIXES:
        if f"{prefix}{_LAST}" in held:
            inside = {n for n in held if n.startswith(prefix)}
            found = {n.removeprefix(prefix): held[n] for n in held if n in inside}
            return found, [n for n in held if n not in inside]
    return dict(held), []


def _current_names(
    arrays: Mapping[str, np.ndarray], path: str
) -> tuple[dict[str, np.ndarray], Naming]:
    """Returns arrays by the names of today, attention as plain matrices."""
    found: dict[str, np.ndarray] = {}
    naming: Naming = "current"
    for name, array in arrays.items():
        present = name
        if ".attentions.0." in name:
            before, last, kind = _split_attention(name)
            for new, old in _ATTENTION.values():
                if last == old:
                    present, naming = f"{before}{new}.{kind}", "legacy"
            if array.ndim == 4 and array.shape[2:] == (1, 1):
                # The oldest files have 1x1 convolutions there.
                array = array[:, :, 0, 0]
        if present in found:
            raise errors.DamagedError(f"{path}: {present} is given under two names")
        found[present] = array
    return found, naming


def _split_attention(name: str) -> tuple[str, str, str]:
    """Returns what comes before a layer of the attention, the layer, and its part."""
    before, _, rest = name.partition(".attentions.0.")
    layer, _, kind = rest.rpartition(".")
    return f"{before}.attentions.0.", layer, kind


def infer_config(
    arrays: Mapping[str, np.ndarray], *, norm_num_groups: int = 32
) -> AutoencoderConfig:
    """Returns the architecture that published arrays belong to.

    Args:
      arrays: By published name.
      norm_num_groups: Groups of the norms, which do not follow from arrays.

    Raises:
      ValueError: Arrays are lacking, or the groups do not fit.
    """
    widths: list[int] = []
    layers = 0
    try:
        while (key := f"encoder.down_blocks.{len(widths)}.resnets.0") and (
            f"{key}.conv1.weight" in arrays
        ):
            widths.append(arrays[f"{key}.conv1.weight"].shape[0])
        while f"encoder.down_blocks.0.resnets.{layers}.conv1.weight" in arrays:
            layers += 1
        inputs = arrays["encoder.conv_in.weight"].shape[1]
        outputs = arrays[_LAST].shape[0]
        latent = arrays["decoder.conv_in.weight"].shape[1]
    except (KeyError, IndexError) as error:
        raise ValueError(f"no KL autoencoder: {error} is lacking") from error
    return AutoencoderConfig(
        in_channels=inputs,
        out_channels=outputs,
        latent_channels=latent,
        block_out_channels=tuple(widths),
        layers_per_block=layers,
        norm_num_groups=norm_num_groups,
        mid_block_add_attention=any(".attentions.0." in name for name in arrays),
        use_quant_conv="quant_conv.weight" in arrays,
        use_post_quant_conv="post_quant_conv.weight" in arrays,
        # Only Stable Diffusion's are scaled; a single channel is radar.
        scaling_factor=0.18215 if inputs == 3 else 1.0,
        sample_size=512 if inputs == 3 else 128,
    )


def read_config(
    held: Mapping[str, Any], where: str = "config.json"
) -> AutoencoderConfig:
    """Returns the architecture that a `config.json` of diffusers describes.

    Args:
      held: What it says.
      where: The file, for messages.

    Raises:
      ValueError: It describes another model, or one that is not made here.
    """
    name = held.get("_class_name", "AutoencoderKL")
    if name != "AutoencoderKL":
        raise ValueError(f"{where}: describes {name!r}, not an AutoencoderKL")
    for key, wanted in (("down_block_types", _DOWN), ("up_block_types", _UP)):
        others = set(held.get(key) or ()) - {wanted}
        if others:
            raise ValueError(
                f"{where}: {key} has {sorted(map(str, others))[0]}, of which only "
                f"{wanted} is made here"
            )
    for key in ("latents_mean", "latents_std"):
        if held.get(key) is not None:
            raise ValueError(f"{where}: {key} is set, which is not made here")
    known = {field.name for field in dataclasses.fields(AutoencoderConfig)}
    chosen = {k: v for k, v in held.items() if k in known and v is not None}
    try:
        return config_lib.from_dict(AutoencoderConfig, chosen)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def export(
    params: Mapping[str, Mapping[str, Any]],
    sizes: AutoencoderConfig,
    *,
    naming: Naming = "current",
) -> dict[str, np.ndarray]:
    """Returns parameters under their published names, bit by bit.

    Raises:
      MismatchError: They are not those of the architecture.
      ValueError: `naming` is unknown.
    """
    return map_of(sizes, naming).to_sources(params)


def write_folder(
    path: PathLike,
    params: Mapping[str, Mapping[str, Any]],
    sizes: AutoencoderConfig,
    *,
    naming: Naming = "current",
) -> None:
    """Writes a folder that the diffusers package and `load` read.

    Raises:
      MismatchError: Parameters are not those of the architecture.
      ValueError: `naming` is unknown.
      OSError: A file cannot be written.
    """
    levels = len(sizes.block_out_channels)
    held = {name: value for name, value in sizes.items() if value is not None}
    held |= {
        "_class_name": "AutoencoderKL",
        "block_out_channels": list(sizes.block_out_channels),
        "down_block_types": [_DOWN] * levels,
        "up_block_types": [_UP] * levels,
        "shift_factor": sizes.shift_factor or None,
    }
    folders.write(path, held, export(params, sizes, naming=naming))
