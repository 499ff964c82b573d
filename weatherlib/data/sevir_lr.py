"""SEVIR at a third of its resolution and half of its frames: SEVIR-LR."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import time
from collections.abc import Callable

import h5py
import numpy as np

from weatherlib import writing
from weatherlib.data import sevir_catalogue, sevir_files
from weatherlib.data.sevir_catalogue import Table

__all__ = ["DownsampleReport", "downsample", "write_sevir_lr"]

Progress = Callable[[int, int, float], None]

_TIME = 2
_SPACE = 3
_EVENTS_AT_ONCE = 8
_CATALOGUE = "CATALOG.csv"
_FOLDER = "data"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DownsampleReport:
    """What was written.

    Attributes:
      folder: Where to.
      written: New files.
      kept: Files that were there already.
      events: Events in all of them.
    """

    folder: pathlib.Path
    written: int
    kept: int
    events: int


def downsample(
    vil: np.ndarray, *, time: int = _TIME, space: int = _SPACE
) -> np.ndarray:
    """Returns every second frame with the largest of 3 x 3 pixels, as published.

    A missing pixel (255) makes the one that it falls into missing.

    Args:
      vil: Pixels, shape [..., row, column, time].
      time: Frames of which one is kept, the first first.
      space: Rows and columns that become one.

    Returns:
      The type of `vil`, shape [..., row / space, column / space, kept frames].

    Raises:
      ValueError: `space` does not divide the picture.
    """
    *others, rows, columns, _ = vil.shape
    if time < 1 or space < 1 or rows % space or columns % space:
        raise ValueError(
            f"space {space} and time {time}: {space} does not divide the picture of "
            f"{rows} x {columns}, or one of them is below 1"
        )
    kept = vil[..., ::time]
    shape = (*others, rows // space, space, columns // space, space, kept.shape[-1])
    return kept.reshape(shape).max(axis=(-4, -2))


def write_sevir_lr(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
) -> DownsampleReport:
    """Writes SEVIR-LR of SEVIR; goes on where an earlier run ended.

    A few events are in memory at a time. Each file appears when it is complete, the
    catalogue, with the rows of these files, after all of them.

    Args:
      source: Folder of SEVIR.
      folder: Where to.
      progress: Is told the events done, those in all, and the seconds.

    Raises:
      FileNotFoundError: The catalogue, or a file that it names, is missing.
      OSError: A file is damaged, or cannot be written.
      ValueError: A file holds something else, or is small already.
    """
    source, folder = pathlib.Path(source).expanduser(), pathlib.Path(folder)
    if source.resolve() == folder.expanduser().resolve():
        raise ValueError(f"{folder}: is the folder of SEVIR itself; give another one")
    catalogue = sevir_catalogue.read_catalogue(source / _CATALOGUE)
    rows = catalogue[catalogue["img_type"] == "vil"].reset_index(drop=True)
    if not len(rows):
        raise ValueError(f"{source / _CATALOGUE}: has no row of vil")
    distinct = rows[~rows["id"].duplicated(keep=False)]
    info = sevir_files.check_files(source / _FOLDER, distinct)
    downsample(np.zeros((*info.shape, 1), np.uint8))
    names = list(dict.fromkeys(rows["file_name"]))
    held = {name: sevir_files.inspect(source / _FOLDER / name) for name in names}
    total, done, written = sum(i.events for i in held.values()), 0, 0
    began = time.perf_counter()

    def tell(part: int) -> None:
        if progress is not None:
            progress(done + part, total, time.perf_counter() - began)

    for name in names:
        target = folder / _FOLDER / name
        if not _stands(target, held[name]):
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(source / _FOLDER / name, target, tell)
            written += 1
        tell(held[name].events)
        done += held[name].events
    _write_catalogue(rows, info, folder / _CATALOGUE)
    return DownsampleReport(
        folder=folder, written=written, kept=len(names) - written, events=total
    )


def _write(
    source: pathlib.Path, target: pathlib.Path, tell: Callable[[int], None]
) -> None:
    """Writes one file, whole or not at all; `tell` is told how many events are done."""
    info = sevir_files.inspect(source)
    size = _small(info)
    with writing.replacing(target) as partial, h5py.File(partial, "w") as out:
        data = out.create_dataset(
            "vil",
            (info.events, *size),
            np.uint8,
            chunks=(1, *size),
            compression="gzip",
            compression_opts=4,
            shuffle=True,
        )
        if info.ids is not None:
            out["id"] = np.array(info.ids, dtype="S")
        for begin in range(0, info.events, _EVENTS_AT_ONCE):
            end = min(begin + _EVENTS_AT_ONCE, info.events)
            data[begin:end] = downsample(sevir_files.read_events(source, begin, end))
            tell(end)


def _small(info: sevir_files.FileInfo) -> tuple[int, int, int]:
    """Returns rows, columns and frames of what becomes of a file."""
    rows, columns = info.shape
    return rows // _SPACE, columns // _SPACE, -(-info.frames // _TIME)


def _stands(target: pathlib.Path, info: sevir_files.FileInfo) -> bool:
    """Whether a file is there already, whole."""
    if not target.exists():
        return False
    try:
        found = sevir_files.inspect(target)
    except (OSError, ValueError):
        return False
    rows, columns, frames = _small(info)
    wanted = (info.events, (rows, columns), frames)
    return (found.events, found.shape, found.frames) == wanted


def _write_catalogue(
    rows: Table, info: sevir_files.FileInfo, path: pathlib.Path
) -> None:
    """Writes the rows of the files, with the size of the smaller pictures."""
    small = _small(info)
    table = rows.copy()
    for name, size in (("size_y", small[0]), ("size_x", small[1])):
        if name in table:
            table[name] = size
    with writing.replacing(path) as partial:
        table.to_csv(partial, index=False)
