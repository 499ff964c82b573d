"""The HDF5 files of SEVIR: opened, checked and read one sample at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np

from weatherlib.data.sevir_catalogue import Table

__all__ = ["FileInfo", "check_files", "inspect", "read_events", "read_frames"]

_NAME = "vil"


@dataclasses.dataclass(frozen=True)
class FileInfo:
    """What a file holds.

    Attributes:
      events: Number of events.
      shape: Rows and columns.
      frames: Frames of each event.
      ids: Of the events, None where the file does not say.
    """

    events: int
    shape: tuple[int, int]
    frames: int
    ids: tuple[str, ...] | None


def inspect(path: pathlib.Path) -> FileInfo:
    """Returns what a file holds.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It is damaged or cut short.
      ValueError: It holds no `vil` of (event, row, column, time) in bytes.
    """
    with _opened(path) as file:
        data = _vil(file, path)
        ids = None
        if "id" in file:
            names: Any = file["id"]
            ids = tuple(_text(name) for name in names[:])
        return FileInfo(data.shape[0], data.shape[1:3], data.shape[3], ids)


def check_files(folder: pathlib.Path, events: Table) -> FileInfo:
    """Returns what the files of some events hold, all alike.

    Args:
      folder: The names in the catalogue begin here.
      events: Rows of the catalogue.

    Raises:
      FileNotFoundError: A file is missing.
      OSError: One is damaged or cut short.
      ValueError: One holds something else, or lacks an event.
    """
    names = list(dict.fromkeys(events["file_name"]))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        rows = int(events["file_name"].isin(missing).sum())
        raise FileNotFoundError(
            f"{folder / missing[0]}: the catalogue names it, and it is not there; "
            f"{len(missing)} of {len(names)} files with {rows} events are missing. "
            "Fetch them, or go without their events: missing_files='skip'"
        )
    found: dict[str, FileInfo] = {}
    for name, rows in events.groupby("file_name", sort=False):
        path = folder / str(name)
        info = inspect(path)
        found[str(name)] = info
        _require_events(path, info, rows)
    first_name, first = next(iter(found.items()))
    for name, info in found.items():
        if (info.shape, info.frames) != (first.shape, first.frames):
            raise ValueError(
                f"{folder / name}: holds {_described(info)}, {first_name} "
                f"{_described(first)}; read one kind at a time"
            )
    return first


def read_frames(path: pathlib.Path, index: int, frames: slice) -> np.ndarray:
    """Returns frames of one event, uint8 of shape [time, lat, lon].

    Raises:
      FileNotFoundError: The file is gone.
      OSError: It is damaged or cut short.
    """
    with _opened(path) as file:
        data = _vil(file, path)
        # A step along the last axis is read whole: a chunk holds all frames anyway.
        part = data[index, :, :, frames.start : frames.stop]
    return np.moveaxis(part, -1, 0)[:: frames.step]


def read_events(path: pathlib.Path, begin: int, end: int) -> np.ndarray:
    """Returns consecutive events of a file, uint8 of shape [event, row, column, time].

    Raises:
      FileNotFoundError: The file is gone.
      OSError: It is damaged or cut short.
    """
    with _opened(path) as file:
        return _vil(file, path)[begin:end]


def _vil(file: h5py.File, path: pathlib.Path) -> h5py.Dataset:
    """Returns the pictures of an open file.

    Raises:
      ValueError: There are none, or of another form.
    """
    if _NAME not in file:
        held = ", ".join(map(str, file)) or "nothing"
        raise ValueError(f"{path}: there is no {_NAME}, but {held}")
    data = file[_NAME]
    if not isinstance(data, h5py.Dataset) or data.ndim != 4 or data.dtype != np.uint8:
        shape = getattr(data, "shape", "a group")
        raise ValueError(
            f"{path}: {_NAME} is {shape} of {getattr(data, 'dtype', 'nothing')}, "
            "expected bytes of (event, row, column, time)"
        )
    return data


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[h5py.File]:
    """Opens a file, and says of any damage in which file it is.

    It is opened for each sample: handles that stay open are lost in child processes,
    and opening takes a fraction of the time of reading.
    """
    try:
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file") from None
    except (OSError, RuntimeError, KeyError, EOFError) as error:
        raise OSError(
            f"{path}: damaged or cut short ({error}); fetch it again"
        ) from error


def _require_events(path: pathlib.Path, info: FileInfo, rows: Table) -> None:
    """Checks that a file holds what the catalogue says.

    Raises:
      ValueError: An index lies beyond its end, or is that of another event.
    """
    pairs: Sequence[Any] = list(zip(rows["id"], rows["file_index"], strict=True))
    for name, index in pairs:
        if not 0 <= index < info.events:
            raise ValueError(
                f"{path}: the catalogue has event {name} at index {index}, the file "
                f"holds {info.events} events"
            )
        if info.ids is not None and info.ids[index] != name:
            raise ValueError(
                f"{path}: the catalogue has event {name} at index {index}, the file "
                f"{info.ids[index]}; catalogue and files do not belong together"
            )


def _described(info: FileInfo) -> str:
    rows, columns = info.shape
    return f"{info.frames} frames of {rows} x {columns}"


def _text(name: Any) -> str:
    return name.decode("utf8", "replace") if isinstance(name, bytes) else str(name)
