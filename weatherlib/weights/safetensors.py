"""Reads and writes safetensors files, mapped into memory.

The format is a header in JSON and the numbers behind it, so its own package is not
needed. Source: the format section of the safetensors documentation, version 0.6: eight
bytes with the length of the header, the header with type, shape and place of each
tensor, and the tensors without gaps.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from weatherlib import writing
from weatherlib.checkpoint import npz
from weatherlib.typing import PathLike
from weatherlib.weights import errors

__all__ = ["SafetensorsFile", "read", "write"]

_TYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype(np.bool_),
    "C64": np.dtype("<c8"),
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
# Of the format itself.
_LARGEST_HEADER = 100_000_000
_ALIGNMENT = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class SafetensorsFile:
    """What a safetensors file holds.

    Attributes:
      arrays: Read-only arrays on the mapped file, in the order of the header.
      metadata: Texts by name.
    """

    arrays: dict[str, np.ndarray]
    metadata: dict[str, str]


def read(path: PathLike) -> SafetensorsFile:
    """Returns the arrays of a file, of which nothing but the header is read yet.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It cannot be read.
      WeightsFileError: It is of another format, or is damaged. The message is one line
        that begins with the path.
    """
    path = pathlib.Path(path)
    try:
        return _read(path)
    except errors.WeightsFileError as error:
        raise type(error)(f"{path}: {errors.printable(str(error))}") from error


def _read(path: pathlib.Path) -> SafetensorsFile:
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(_ALIGNMENT + 1)
        length = int.from_bytes(start[:8], "little")
        if len(start) < 9 or start[8:] != b"{" or length > _LARGEST_HEADER:
            raise errors.WrongFormatError(
                f"no safetensors file but {npz.foreign_format(start)}"
            )
        if 8 + length > size:
            raise errors.DamagedError("cut short; fetch it again")
        stream.seek(8)
        text = stream.read(length)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise errors.DamagedError(f"its header is damaged ({error})") from error
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise errors.DamagedError("its metadata are no texts by name")
    content = np.memmap(path, np.uint8, "r") if size > 8 + length else np.zeros(0, "u1")
    content = content[8 + length :]
    arrays, places = {}, []
    for name, row in header.items():
        dtype, shape, begin, end = _described(name, row)
        places.append((begin, end))
        if end > len(content):
            raise errors.DamagedError(
                f"cut short: {name} ends at byte {end:,} of {len(content):,}; fetch "
                "the file again"
            )
        part = content[begin:end]
        arrays[name] = part.view(dtype).reshape(shape) if begin < end else _none(row)
    _require_gapless(places, len(content))
    return SafetensorsFile(arrays=arrays, metadata={**metadata})


def _described(name: str, row: Any) -> tuple[np.dtype, tuple[int, ...], int, int]:
    """Returns type, shape and place of a tensor.

    Raises:
      WeightsFileError: They contradict each other.
    """
    try:
        kind, shape = row["dtype"], tuple(row["shape"])
        begin, end = row["data_offsets"]
        numbers = [*shape, begin, end]
    except (KeyError, TypeError, ValueError) as error:
        raise errors.DamagedError(f"{name} is described incompletely") from error
    if kind not in _TYPES:
        raise errors.UnsupportedError(f"{name} has numbers of type {kind!r}")
    if not all(type(n) is int and 0 <= n < 2**62 for n in numbers) or len(shape) > 32:
        raise errors.DamagedError(f"{name} has the shape {shape} at {begin} to {end}")
    wanted = math.prod(shape) * _TYPES[kind].itemsize
    if end - begin != wanted:
        raise errors.DamagedError(
            f"{name} of shape {list(shape)} needs {wanted:,} bytes and has "
            f"{end - begin:,}"
        )
    return _TYPES[kind], shape, begin, end


def _none(row: Mapping[str, Any]) -> np.ndarray:
    return np.zeros(tuple(row["shape"]), _TYPES[row["dtype"]])


def _require_gapless(places: list[tuple[int, int]], length: int) -> None:
    reached = 0
    for begin, end in sorted(places):
        if begin != reached:
            raise errors.DamagedError(f"its tensors leave or share byte {begin:,}")
        reached = end
    if reached != length:
        raise errors.DamagedError(f"{length - reached:,} bytes follow the last tensor")


def write(
    path: PathLike,
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes arrays to a file, which appears only when it is complete.

    Equal arrays give equal bytes: the widest types come first, so that all are
    aligned, and among them the order is that of the names.

    Args:
      path: Where to. An existing file is replaced.
      arrays: By name.
      metadata: Texts by name.

    Raises:
      ValueError: An array is of a type that the format lacks.
      OSError: The file cannot be written. What was there before stays.
    """
    path = pathlib.Path(path)
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    unknown = [n for n, a in arrays.items() if a.dtype.newbyteorder("<") not in _NAMES]
    if unknown:
        raise ValueError(
            f"{path}: safetensors has no type for {unknown[0]} of "
            f"{arrays[unknown[0]].dtype}"
        )
    order = sorted(arrays, key=lambda n: (-arrays[n].dtype.itemsize, n))
    place = 0
    for name in order:
        array = arrays[name]
        header[name] = {
            "dtype": _NAMES[array.dtype.newbyteorder("<")],
            "shape": list(array.shape),
            "data_offsets": [place, place + array.nbytes],
        }
        place += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode("utf8")
    text += b" " * (-len(text) % _ALIGNMENT)
    with writing.replacing(path, shared=True) as partial, partial.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            array = arrays[name]
            plain = array.astype(array.dtype.newbyteorder("<"), copy=False)
            stream.write(np.ascontiguousarray(plain).view(np.uint8).data)
        stream.flush()
        os.fsync(stream.fileno())
