"""Files of weights of any format as arrays by name, and back."""

from __future__ import annotations

import dataclasses
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np

from weatherlib import checkpoint
from weatherlib.checkpoint import npz
from weatherlib.typing import PathLike
from weatherlib.weights import errors, safetensors, torch_zip

__all__ = ["FORMATS", "FlatWeights", "Format", "is_npz", "read", "state_dict", "write"]

Format = Literal["npz", "safetensors"]
FORMATS: tuple[Format, ...] = get_args(Format)

# Where training programs put the arrays of a model in what they save.
_PLACES = ("state_dict", "model_state_dict", "model", "module", "ema", "net", "params")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlatWeights:
    """Arrays of a file by name.

    Attributes:
      path: The file.
      format: "torch", "npz" or "safetensors".
      arrays: Read-only where they lie on the mapped file.
      place: Key under which they were saved; empty for the file itself.
      beside: What else the file holds, and what was left out, one text each.
      metadata: Texts that a safetensors file holds.
    """

    path: pathlib.Path
    format: str
    arrays: dict[str, np.ndarray]
    place: str = ""
    beside: tuple[str, ...] = ()
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)


def as_format(name: str) -> Format:
    """Returns the format of a name.

    Raises:
      ValueError: There is none.
    """
    for known in FORMATS:
        if known == name:
            return known
    raise ValueError(f"format {name!r}: there are {', '.join(FORMATS)}")


def read(
    path: PathLike, *, place: str | None = None, verify: bool = True
) -> FlatWeights:
    """Returns the arrays of a torch, npz or safetensors file, told by its content.

    Args:
      path: The file.
      place: Key under which a torch file holds the arrays; found by itself otherwise.
      verify: As for `torch_zip.read`.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It cannot be read.
      WeightsFileError: It is of no such format, is damaged, would run something, or
        holds no arrays by name.
      ValueError: An npz file is damaged.
    """
    path = pathlib.Path(path)
    with path.open("rb") as stream:
        head = stream.read(9)
    if head[8:] == b"{" and not head.startswith(b"PK"):
        file = safetensors.read(path)
        return FlatWeights(
            path=path,
            format="safetensors",
            arrays=file.arrays,
            metadata=file.metadata,
        )
    if head.startswith(b"PK") and is_npz(path):
        return FlatWeights(path=path, format="npz", arrays=_npz_arrays(path))
    torch_file = torch_zip.read(path, verify=verify)
    found, arrays, beside = state_dict(torch_file, place)
    if torch_file.stand_ins:
        beside += (f"objects that were not made: {', '.join(torch_file.stand_ins)}",)
    return FlatWeights(
        path=path, format="torch", arrays=arrays, place=found, beside=beside
    )


def write(
    path: PathLike,
    arrays: Mapping[str, np.ndarray],
    *,
    format: Format,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes arrays by name to a file, which appears only when it is complete.

    An npz file has one member for each array, as `numpy.savez` writes; bfloat16, which
    NumPy lacks, is stored as float32 and comes back as it was.

    Args:
      path: Where to. An existing file is replaced.
      arrays: By name.
      format: "npz" or "safetensors".
      metadata: Texts for a safetensors file.

    Raises:
      ValueError: An array or a name cannot be stored in the format.
      OSError: The file cannot be written. What was there before stays.
    """
    if format == "safetensors":
        safetensors.write(path, arrays, metadata)
    else:
        checkpoint.save(path, dict(arrays))


def state_dict(
    file: torch_zip.TorchFile, place: str | None = None
) -> tuple[str, dict[str, np.ndarray], tuple[str, ...]]:
    """Returns where the arrays of a model are, them, and what else there is.

    Args:
      file: As read.
      place: Key under which they are; found by itself otherwise.

    Raises:
      WrongFormatError: There are none, or none under that key.
    """
    contents = file.contents
    if not isinstance(contents, dict):
        raise errors.WrongFormatError(
            f"{file.path}: holds {_kind(contents)}, not arrays by name"
        )
    if place is None:
        candidates = [p for p in _PLACES if _holds_arrays(contents.get(p))]
        if not candidates and _holds_arrays(contents):
            candidates = [""]
        place = candidates[0] if candidates else None
    elif place and not _holds_arrays(contents.get(place)):
        place = None
    if place is None:
        raise errors.WrongFormatError(
            f"{file.path}: no arrays by name were found; it holds "
            f"{npz.listed(map(str, contents), 12)}"
        )
    held = contents[place] if place else contents
    arrays = {str(k): v for k, v in held.items() if isinstance(v, np.ndarray)}
    others = [f"{k}: {_kind(v)}" for k, v in contents.items() if place and k != place]
    others += [
        f"{k}: {_kind(v)}" for k, v in held.items() if not isinstance(v, np.ndarray)
    ]
    return place, arrays, tuple(map(errors.printable, others))


def _holds_arrays(value: Any) -> bool:
    return isinstance(value, dict) and any(
        isinstance(item, np.ndarray) for item in value.values()
    )


def _kind(value: Any) -> str:
    """Returns what a value is, in a few words."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, dict | list | tuple | set):
        return f"{type(value).__name__} of {len(value)}"
    if value is None or isinstance(value, bool | int | float | str):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:57]}..."
    return repr(value) if type(value).__name__ == "StandIn" else type(value).__name__


def is_npz(path: PathLike) -> bool:
    """Returns whether a file is a zip archive of NumPy arrays.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            return bool(names) and all(name.endswith(".npy") for name in names)
    except (zipfile.BadZipFile, OverflowError, RuntimeError, ValueError):
        return False


def _npz_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    tree = checkpoint.open_checkpoint(path, dict[str, Any])
    return dict(_leaves(tree, ""))


def _leaves(tree: Mapping[str, Any], prefix: str) -> list[tuple[str, np.ndarray]]:
    """Returns arrays by their paths, with `:` between the parts."""
    leaves = []
    for name, value in tree.items():
        if isinstance(value, dict):
            leaves += _leaves(value, f"{prefix}{name}:")
        else:
            leaves.append((f"{prefix}{name}", np.asarray(value)))
    return leaves
