"""Checkpoints as npz files: trees of dataclasses, dicts, lists and tuples of arrays.

The layout is that of the published GraphCast package (version 0.2, module
`checkpoint`): one npz member for each leaf, named by its path with `:` between the
parts, lists and tuples by index, None left out. Each package reads the other's files.

What that layout cannot say is kept under names that begin with `weatherlib:`, which the
published loader passes over: which containers are empty, which arrays are bfloat16
(stored as float32), and whatever the caller wants to add. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO, TypeVar

import numpy as np

from weatherlib import writing
from weatherlib.checkpoint import npz, schema
from weatherlib.typing import PathLike

__all__ = [
    "digest",
    "dump",
    "file_sha256",
    "holds",
    "load",
    "load_extras",
    "open_checkpoint",
    "read_text",
    "save",
]

_T = TypeVar("_T")

# Names that only the checkpoints of a family hold.
_FAMILIES = {
    "GenCast": "denoiser_architecture_config:",
    "WeatherNext 2 (FGN)": "params:multimodality_forward/",
    "GraphCast": "model_config:mesh_size",
    "a residual CNN": "model_config:dilations:",
}


def digest(params: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns 16 hexadecimal digits that tell weights from others.

    Args:
      params: Haiku module path to parameter name to array, compared in float32.
    """
    found = hashlib.sha256()
    for module in sorted(params):
        for name in sorted(params[module]):
            found.update(f"{module}/{name}".encode())
            values = np.ascontiguousarray(params[module][name], np.float32)
            found.update(values.tobytes())
    return found.hexdigest()[:16]


def dump(dest: BinaryIO, value: Any, extras: Mapping[str, Any] | None = None) -> None:
    """Writes a tree to a file object; equal trees give equal bytes.

    Args:
      dest: A file object that is open for writing bytes. It need not seek.
      value: A dataclass, dict, list or tuple that holds such, arrays, numbers and
        texts. None is possible only as a field of a dataclass.
      extras: A tree of further arrays, numbers and texts for `load_extras`.

    Raises:
      ValueError: A key holds `:`, or a leaf cannot be stored as an array.
    """
    npz.write(dest, schema.flatten(value, extras or {}))


def load(source: BinaryIO, typ: type[_T]) -> _T:
    """Returns the tree in a file object as the type it was written from.

    Args:
      source: A file object that is open for reading bytes and can seek.
      typ: A dataclass, or a generic such as `dict[str, Any]`, as the schema. Scalars
        come back as the Python type of their field; under `Any` everything stays a
        NumPy array and every container a dict. Names that the schema lacks are left
        out with a logged warning, as the published loader leaves them out.

    Raises:
      ValueError: The file is not a checkpoint, is damaged, belongs to another family
        of models, or does not match the schema.
      TypeError: The schema itself holds a type that cannot be read.
    """
    return _load(source, typ, "", strict=False)


def load_extras(source: BinaryIO) -> dict[str, Any]:
    """Returns what a file was given as `extras`: a tree of dicts of NumPy arrays.

    Raises:
      ValueError: The file is not a checkpoint or is damaged.
    """
    _, extras = schema.unflatten(npz.read(source))
    return extras


def save(path: PathLike, value: Any, extras: Mapping[str, Any] | None = None) -> None:
    """Writes a tree to a file, which appears only when it is complete.

    Args:
      path: Where to. An existing file is replaced.
      value: As for `dump`.
      extras: As for `dump`.

    Raises:
      ValueError: As for `dump`.
      OSError: The file cannot be written. What was there before stays.
    """
    with writing.replacing(path, shared=True) as partial, partial.open("wb") as file:
        dump(file, value, extras)
        file.flush()
        os.fsync(file.fileno())


def open_checkpoint(path: PathLike, typ: type[_T]) -> _T:
    """Returns the tree in a file, which must hold exactly what the schema names.

    Args:
      path: An npz file.
      typ: As for `load`.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It cannot be read.
      ValueError: As for `load`, or the file holds names that the schema lacks. The
        message begins with the path.
      TypeError: As for `load`.
    """
    with pathlib.Path(path).open("rb") as file:
        return _load(file, typ, f"{os.fspath(path)}: ", strict=True)


def holds(path: PathLike, name: str) -> bool:
    """Returns whether a file is a checkpoint with an entry of that name.

    Args:
      path: An npz file.
      name: Path of a leaf, with `:` between its parts.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return f"{name}.npy" in archive.namelist()
    except zipfile.BadZipFile:
        return False


def read_text(path: PathLike, name: str) -> str:
    """Returns a text of a checkpoint, empty where the file has none of that name.

    Args:
      path: Any file.
      name: Path of a leaf, with `:` between its parts.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It cannot be read.
      ValueError: The text is damaged.
    """
    value = npz.read_member(path, name)
    return "" if value is None or value.dtype.kind != "U" else str(value)


def file_sha256(path: PathLike) -> str:
    """Returns the SHA-256 of a file as 64 hexadecimal digits."""
    with pathlib.Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load(source: BinaryIO, typ: type[_T], label: str, *, strict: bool) -> _T:
    try:
        leaves = npz.read(source)
        tree, _ = schema.unflatten(leaves)
    except ValueError as error:
        raise ValueError(f"{label}{error}") from error
    try:
        return schema.convert(typ, tree, strict=strict)
    except ValueError as error:
        holds = _family(leaves) or f"it holds {npz.listed(tree)}"
        name = getattr(typ, "__name__", str(typ))
        raise ValueError(
            f"{label}the file does not match {name}: {error} ({holds})"
        ) from error


def _family(names: Iterable[str]) -> str | None:
    """Says which family of models the names belong to, if one is known."""
    for family, mark in _FAMILIES.items():
        if any(name.startswith(mark) for name in names):
            return f"it looks like a checkpoint of {family}"
    return None
