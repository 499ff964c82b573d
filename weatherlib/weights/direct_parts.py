"""Decoder and first layer of direct forecasts as two files of half precision.

Their names are those of PyTorch: a decoder has the names of published ones, the layer
from fields to colours is a 1x1 convolution `in_adapter`.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from weatherlib.latent.config import DecoderConfig
from weatherlib.typing import PathLike
from weatherlib.weights import errors, flat, vision

__all__ = ["ADAPTER_STEM", "DECODER_STEM", "Parts", "find", "read", "write"]

DECODER_STEM = "decoder_fp16"
ADAPTER_STEM = "encoder_in_adapter_fp16"

_SUFFIXES = (".safetensors", ".npz", ".pt")
_MODULE = "in_adapter"
Params = dict[str, dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """Parameters of both files in our layout, float32.

    Attributes:
      params: By Haiku path; of what there was a file for.
      files: These files.
    """

    params: Params
    files: tuple[pathlib.Path, ...]


def write(
    folder: PathLike,
    params: Mapping[str, Mapping[str, Any]],
    sizes: DecoderConfig,
    *,
    format: flat.Format = "safetensors",
) -> list[pathlib.Path]:
    """Writes both files, rounded to half precision, and returns their paths.

    Args:
      folder: Where to; it must exist.
      params: Of a model of direct forecasts.
      sizes: Of its decoder.
      format: "safetensors" or "npz".

    Raises:
      MismatchError: The parameters are not those of the sizes.
      ValueError: A value is too large for half precision.
      OSError: A file cannot be written.
    """
    folder = pathlib.Path(folder)
    roots = {_MODULE: {}, "vision_decoder": {}}
    for module, held in params.items():
        root = module.split("/")[0]
        if root in roots:
            roots[root][module] = held
    layer = roots[_MODULE][_MODULE]
    adapter = {
        f"{_MODULE}.weight": np.asarray(layer["w"]).T[:, :, None, None],
        f"{_MODULE}.bias": np.asarray(layer["b"]),
    }
    decoder = vision.export_decoder(roots["vision_decoder"], sizes)
    written = []
    for stem, arrays in ((DECODER_STEM, decoder), (ADAPTER_STEM, adapter)):
        path = folder / f"{stem}.{format}"
        flat.write(path, _halved(arrays), format=format)
        written.append(path)
    return written


def find(folder: PathLike) -> dict[str, pathlib.Path]:
    """Returns the files of a folder by stem, of which there may be none.

    Safetensors come before npz, and these before files of torch.
    """
    found = {}
    for stem in (DECODER_STEM, ADAPTER_STEM):
        for suffix in _SUFFIXES:
            path = pathlib.Path(folder) / f"{stem}{suffix}"
            if path.is_file():
                found[stem] = path
                break
    return found


def read(folder: PathLike, sizes: DecoderConfig) -> Parts:
    """Returns the parameters of the files in a folder.

    Args:
      folder: Holds at least one of the two, as safetensors, npz or of torch.
      sizes: Of the decoder.

    Raises:
      FileNotFoundError: The folder holds neither.
      OSError: A file cannot be read.
      MismatchError: The decoder has other sizes.
      ValueError: A file is damaged or holds something else.
    """
    files = find(folder)
    if not files:
        raise FileNotFoundError(
            f"{folder}: there is no {DECODER_STEM} and no {ADAPTER_STEM}, ending in "
            f"{', '.join(_SUFFIXES)}"
        )
    params: Params = {}
    if DECODER_STEM in files:
        params |= vision.load_decoder(files[DECODER_STEM], sizes).params
    if ADAPTER_STEM in files:
        params[_MODULE] = _adapter(files[ADAPTER_STEM])
    wide = {
        module: {name: np.asarray(array, np.float32) for name, array in held.items()}
        for module, held in params.items()
    }
    return Parts(params=wide, files=tuple(files.values()))


def _adapter(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the layer of a file, whatever stands before its names."""
    held = flat.read(path).arrays
    found = {}
    for name, array in held.items():
        last = name.rsplit(".", 1)[-1]
        if last in ("weight", "bias"):
            found[last] = array
    weight = found.get("weight")
    if len(held) != 2 or len(found) != 2 or weight is None or weight.ndim not in (2, 4):
        first = ", ".join(map(errors.printable, sorted(held)[:4]))
        raise errors.WrongFormatError(
            f"{path}: a 1x1 convolution has a weight and a bias, found {first}"
        )
    matrix = weight[..., 0, 0] if weight.ndim == 4 else weight
    return {"w": matrix.T, "b": found["bias"]}


def _halved(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = {}
    for name, array in arrays.items():
        with np.errstate(over="ignore"):
            found[name] = np.asarray(array, np.float16)
        if not np.isfinite(found[name]).all():
            raise ValueError(f"{name}: has values that half precision does not hold")
    return found
