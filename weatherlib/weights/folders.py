"""Folders of published models: a `config.json` and weights, in one file or several."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from weatherlib import writing
from weatherlib.checkpoint import npz
from weatherlib.typing import PathLike
from weatherlib.weights import errors, flat

__all__ = ["ModelFolder", "read", "read_json", "write"]

CONFIG = "config.json"
STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_ENDINGS = (".safetensors", ".fp16.safetensors", ".npz", ".bin")
_LARGEST_JSON = 2**26


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """What a folder of a published model holds.

    Attributes:
      path: The folder.
      config: What its `config.json` says.
      files: Names of the files of weights, several if they are shards.
      arrays: By published name.
    """

    path: pathlib.Path
    config: Mapping[str, Any]
    files: tuple[str, ...]
    arrays: dict[str, np.ndarray]


def read(
    path: PathLike, *, stems: Sequence[str] = STEMS, verify: bool = True
) -> ModelFolder:
    """Returns what a folder holds, without torch and without running anything of it.

    Safetensors come before npz, npz before torch files, and whole files before shards.

    Args:
      path: The folder.
      stems: Names that files of weights may have, without endings.
      verify: As for `torch_zip.read`.

    Raises:
      FileNotFoundError: The folder, its `config.json`, its weights or one of their
        shards is missing.
      OSError: A file cannot be read.
      WeightsFileError: A file is damaged or of another kind.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: there is no such folder")
    if not (path / CONFIG).is_file():
        raise FileNotFoundError(
            f"{path}: a folder of a published model has a {CONFIG}; it holds "
            f"{_held(path)}"
        )
    config = read_json(path / CONFIG)
    files = _files(path, stems)
    arrays: dict[str, np.ndarray] = {}
    for name in files:
        for key, array in flat.read(path / name, verify=verify).arrays.items():
            if key in arrays:
                raise errors.DamagedError(f"{path / name}: {key} is in two shards")
            arrays[key] = array
    return ModelFolder(path=path, config=config, files=files, arrays=arrays)


def _files(path: pathlib.Path, stems: Sequence[str]) -> tuple[str, ...]:
    for stem in stems:
        for ending in _ENDINGS:
            if (path / f"{stem}{ending}").is_file():
                return (f"{stem}{ending}",)
            index = path / f"{stem}{ending}.index.json"
            if index.is_file():
                return _shards(index)
    raise FileNotFoundError(
        f"{path}: no weights; wanted {stems[0]}.safetensors, found {_held(path)}"
    )


def _shards(index: pathlib.Path) -> tuple[str, ...]:
    """Returns the files that an index names."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(
        isinstance(name, str) and name == pathlib.PurePath(name).name
        for name in places.values()
    ):
        raise errors.DamagedError(f"{index}: no weight_map of names to files")
    names = tuple(sorted(set(places.values())))
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing or not names:
        raise FileNotFoundError(
            f"{index}: {len(missing)} of {len(names)} shards are missing: "
            f"{npz.listed(map(errors.printable, missing), 6)}"
        )
    return names


def _held(path: pathlib.Path) -> str:
    names = sorted(child.name for child in path.iterdir())
    return npz.listed(map(errors.printable, names), 8) if names else "nothing"


def read_json(path: PathLike) -> dict[str, Any]:
    """Returns the object of a JSON file.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It cannot be read.
      DamagedError: It is none, or is far too long.
    """
    path = pathlib.Path(path)
    if path.stat().st_size > _LARGEST_JSON:
        raise errors.TooLargeError(f"{path}: longer than any description of a model")
    try:
        found = json.loads(path.read_text(encoding="utf8"))
    except (ValueError, RecursionError) as error:
        raise errors.DamagedError(
            f"{path}: no JSON ({errors.printable(str(error))})"
        ) from error
    if not isinstance(found, dict):
        raise errors.DamagedError(
            f"{path}: holds {type(found).__name__}, not an object"
        )
    return found


def write(
    path: PathLike,
    config: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    *,
    stem: str = STEMS[0],
    format: flat.Format = "safetensors",
) -> None:
    """Writes a folder of a model: weights first, then `config.json`.

    Args:
      path: The folder, which is made. Files of these names are replaced.
      config: What to say in `config.json`.
      arrays: By published name.
      stem: Name of the file of weights, without ending.
      format: Of that file; other programs read safetensors.

    Raises:
      ValueError: An array or a name cannot be stored.
      OSError: A file cannot be written.
    """
    path = pathlib.Path(path)
    path.mkdir(parents=True, exist_ok=True)
    text = json.dumps(config, indent=2, sort_keys=True)
    metadata = {"format": "pt"} if format == "safetensors" else None
    flat.write(path / f"{stem}.{format}", arrays, format=format, metadata=metadata)
    with writing.replacing(path / CONFIG) as partial:
        partial.write_text(f"{text}\n", encoding="utf8")
