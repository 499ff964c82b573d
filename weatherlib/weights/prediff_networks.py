"""Published weights of PreDiff's denoiser and alignment network: read and exported.

Files hold arrays by name; checkpoints of the published training program hold them with
a prefix, beside settings, a moving average and arrays of other networks. They are read
without running anything of theirs, and what is loaded is complete and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from weatherlib.prediff import config as prediff_config
from weatherlib.typing import PathLike
from weatherlib.weights import errors, flat, prediff_names, prediff_sizes
from weatherlib.weights.prediff_names import Config

__all__ = ["Loaded", "describe", "export", "load", "looks_like", "network_arrays"]

_TRAINED = "torch_nn_module."
_AVERAGE = "model_ema."
_INDEX = "relative_position_index"

Params = dict[str, dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loaded:
    """Weights in our layout.

    Attributes:
      params: Haiku module path to parameter name to array.
      config: The sizes they are for.
      source: The file and its format.
      prefix: What published names begin with there.
      outside: Names of arrays of the file that belong to no part of the network.
      beside: What else the file holds.
    """

    params: Params
    config: Config
    source: str
    prefix: str = ""
    outside: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    def __str__(self) -> str:
        count = sum(len(names) for names in self.params.values())
        lines = [f"{self.source}: {count} arrays loaded"]
        if self.prefix:
            lines.append(f"named with {self.prefix!r} in front")
        if self.outside:
            lines.append(f"{len(self.outside)} arrays of other parts left out")
        return "\n".join([*lines, *(f"not weights: {line}" for line in self.beside)])


def looks_like(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether arrays by published name seem to be those of one of these networks."""
    return any(
        prediff_sizes.kind_of(_below(arrays, prefix)) for prefix in _prefixes(arrays)
    )


def describe(arrays: Mapping[str, np.ndarray]) -> str:
    """Returns a few words about the network that arrays belong to.

    Args:
      arrays: Those of one of these networks; see `looks_like`.
    """
    found, _ = network_arrays(arrays, "the file")
    kind = prediff_sizes.kind_of(found)
    is_unet = kind == prediff_config.EARTHFORMER_UNET
    title = "denoiser" if is_unet else "alignment network"
    frames, width = found["pos_embed.T_embed.weight"].shape
    return f"PreDiff {title} of {frames} frames, width {width}"


def network_arrays(
    arrays: Mapping[str, np.ndarray], what: str
) -> tuple[dict[str, np.ndarray], str]:
    """Returns the arrays of the network by published name, and their prefix.

    Args:
      arrays: Of a file.
      what: The file, for the message.

    Raises:
      WrongFormatError: There is no such network, or there are several.
    """
    found = {prefix: _below(arrays, prefix) for prefix in _prefixes(arrays)}
    found = {p: held for p, held in found.items() if prediff_sizes.kind_of(held)}
    for prefix in ("", _TRAINED):
        if prefix in found:
            return found[prefix], prefix
    if len(found) > 1:
        raise errors.WrongFormatError(
            f"{what}: holds several networks of PreDiff, under {', '.join(found)}"
        )
    for prefix, held in found.items():
        return held, prefix
    raise errors.WrongFormatError(
        f"{what}: neither denoiser nor alignment network of PreDiff; it holds "
        f"{', '.join(list(arrays)[:4])} and {len(arrays)} arrays in all"
    )


def load(
    path: PathLike,
    sizes: Config | None = None,
    *,
    average: bool = False,
    verify: bool = True,
    **given: Any,
) -> Loaded:
    """Returns published weights as the parameters of a network.

    Args:
      path: A published `.pt` file, a checkpoint of the published training program, or
        an npz or safetensors file with the published names.
      sizes: The network; found by the shapes of the arrays by default.
      average: Take the moving average of the weights that training kept. The published
        program samples with the weights themselves.
      verify: As for `torch_zip.read`.
      given: Fields of the configuration that shapes do not tell; see
        `prediff_sizes.infer_config`.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It cannot be read.
      MismatchError: Arrays are lacking, too many or of other shapes.
      ValueError: It is damaged, would run something, holds no such network or no
        average, or its cuboids are others.
    """
    file = flat.read(path, verify=verify)
    held, prefix = network_arrays(file.arrays, str(path))
    if sizes is None:
        try:
            sizes = prediff_sizes.infer_config(held, **given)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    elif given:
        sizes = sizes.replace(**given)
    _require_kind(held, sizes, str(path))
    buffers = {n: a for n, a in held.items() if n.endswith(f".{_INDEX}")}
    _compare(buffers, sizes, str(path))
    arrays = {n: a for n, a in held.items() if n not in buffers}
    names = prediff_names.map_of(sizes)
    if average:
        arrays = _averages(file.arrays, arrays, str(path))
    names.check(arrays, str(path))
    used = {f"{prefix}{name}" for name in held}
    return Loaded(
        params=names.to_params(arrays),
        config=sizes,
        source=f"{file.path} ({file.format})",
        prefix=prefix,
        outside=tuple(name for name in file.arrays if name not in used),
        beside=file.beside,
    )


def export(
    params: Mapping[str, Mapping[str, Any]], sizes: Config, *, buffers: bool = True
) -> dict[str, np.ndarray]:
    """Returns parameters under their published names and in that order, bit by bit.

    Args:
      params: Haiku module path to parameter name to array.
      sizes: The network.
      buffers: Whether to add the tables of relative positions, without which the
        published code does not load a file.

    Raises:
      MismatchError: They are not those of the network.
    """
    sources = prediff_names.map_of(sizes).to_sources(params)
    if buffers:
        sources |= prediff_names.index_buffers(sizes)
    order = prediff_names.source_order(sizes)
    return {name: sources[name] for name in order if name in sources}


def _prefixes(arrays: Mapping[str, np.ndarray]) -> list[str]:
    first = prediff_sizes.FIRST_LAYER
    return [name.removesuffix(first) for name in arrays if name.endswith(first)]


def _below(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _require_kind(held: Mapping[str, np.ndarray], sizes: Config, path: str) -> None:
    """Makes sure that a file is of the network that is asked for."""
    kind = prediff_sizes.kind_of(held)
    is_unet = isinstance(sizes, prediff_config.EarthformerUNetConfig)
    if (kind == prediff_config.EARTHFORMER_UNET) != is_unet:
        raise errors.WrongFormatError(
            f"{path}: holds the {kind} of PreDiff, and {type(sizes).__name__} "
            "describes another network"
        )


def _compare(buffers: Mapping[str, np.ndarray], sizes: Config, path: str) -> None:
    """Makes sure that tables of relative positions are those of the cuboids."""
    wanted = prediff_names.index_buffers(sizes)
    for name, found in buffers.items():
        if name in wanted and not np.array_equal(found, wanted[name]):
            raise errors.MismatchError(
                f"{path}: {name} of shape {list(found.shape)} belongs to other cuboids "
                "than those of block_attn_patterns, which are of "
                f"{wanted[name].shape[0]} points",
                misshapen={name: (found.shape, wanted[name].shape)},
            )


def _averages(
    arrays: Mapping[str, np.ndarray], held: Mapping[str, np.ndarray], path: str
) -> dict[str, np.ndarray]:
    """Returns the moving average, which is stored under names without dots."""
    found = {
        name: arrays.get(f"{_AVERAGE}{name.replace('.', '')}", None) for name in held
    }
    there = {name: array for name, array in found.items() if array is not None}
    if not there:
        raise ValueError(f"{path}: holds no moving average of the weights")
    return there
