"""SEVIR and SEVIR-LR: storm events over the United States, in the published order.

A folder of either holds `CATALOG.csv` and `data/vil/YEAR/*.h5`:

    from weatherlib.data import radar_sequences, sevir

    settings = radar_sequences.SequenceConfig(augment="flips_rotations")
    train = sevir.open_sevir("sevirlr", settings, split="train")
    test = sevir.open_sevir("sevirlr", split="test")

SEVIR (Veillette et al. 2020) has 49 frames of 384 x 384 km every 5 minutes for an
event, SEVIR-LR, on which PreDiff was trained, 25 of 128 x 128 cells every 10. Both are
public: `aws s3 cp --no-sign-request --recursive s3://sevir/data/vil data/vil` with
`s3://sevir/CATALOG.csv`, and https://deep-earth.s3.amazonaws.com/datasets/sevir_lr.zip;
`sevir_lr.write_sevir_lr` makes the second of the first.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any, Literal, final

import numpy as np
import xarray

from weatherlib.data import (
    radar_sequences,
    radar_units,
    sevir_catalogue,
    sevir_files,
)
from weatherlib.data.radar import NAME
from weatherlib.data.sevir_catalogue import Table

__all__ = ["SEVIR_KM", "open_event", "open_sevir"]

SEVIR_KM = 384.0
"""Side of the picture of an event, km."""

_CATALOGUE = "CATALOG.csv"
_FOLDER = "data"


def open_sevir(
    root: str | os.PathLike[str],
    config: radar_sequences.SequenceConfig | None = None,
    *,
    split: sevir_catalogue.Split = "train",
    shuffled: bool = False,
    missing_files: Literal["raise", "skip"] = "raise",
    **selection: Any,
) -> radar_sequences.Sequences:
    """Returns the samples of SEVIR or SEVIR-LR, event by event; nothing is read yet.

    With the defaults, `Sequences.arrays` of the splits "train_validation" and "test" is
    what the published loader yields, to the bit and in its order.

    Args:
      root: Folder of `CATALOG.csv` and `data`.
      config: How samples are cut; as PreDiff does by default.
      split: Which events, see `sevir_catalogue.split_events`.
      shuffled: Whether events come in the published shuffled order.
      missing_files: Whether events whose file is not there are an error or left out.
      **selection: `date`, `after`, `until`, `validation_share`, `key` and
        `max_pct_missing` of `sevir_catalogue.split_events`.

    Raises:
      FileNotFoundError: The catalogue, or a file that it names, is missing.
      OSError: A file is damaged or cut short.
      ValueError: The catalogue lacks a column, a file holds something else or does not
        fit the catalogue, or no event is left.
    """
    config = config or radar_sequences.SequenceConfig()
    root = pathlib.Path(root).expanduser()
    catalogue = sevir_catalogue.read_catalogue(root / _CATALOGUE)
    try:
        events = sevir_catalogue.split_events(catalogue, split, **selection)
    except TypeError as error:
        raise ValueError(
            f"{error}; the options are date, after, until, validation_share, key and "
            "max_pct_missing"
        ) from error
    if missing_files == "skip":
        events = _with_files(events, root / _FOLDER)
    if shuffled:
        events = sevir_catalogue.shuffle(events)
    info = sevir_files.check_files(root / _FOLDER, events)
    if config.reach > info.frames:
        raise ValueError(
            f"a sample of {config.frames} frames, {config.every} apart, does not fit "
            f"into the {info.frames} frames of an event"
        )
    return radar_sequences.Sequences(
        _SevirSource(root / _FOLDER, events, info, config), config
    )


def open_event(root: str | os.PathLike[str], event: str) -> xarray.Dataset:
    """Returns all frames of one event with their dates, as `radar.open_radar` does.

    Args:
      root: As for `open_sevir`.
      event: Its id, such as "S814547".

    Raises:
      FileNotFoundError: The catalogue or the file is missing.
      OSError: The file is damaged or cut short.
      ValueError: There is no such event, or it is listed more than once.
    """
    root = pathlib.Path(root).expanduser()
    catalogue = sevir_catalogue.read_catalogue(root / _CATALOGUE)
    events = sevir_catalogue.select(catalogue, max_pct_missing=100.0)
    events = events[events["id"] == event].reset_index(drop=True)
    if not len(events):
        raise ValueError(
            f"{root / _CATALOGUE}: there is no event {event!r} of {NAME}, or several"
        )
    info = sevir_files.check_files(root / _FOLDER, events)
    config = radar_sequences.SequenceConfig(
        inputs=1, targets=info.frames - 1, max_missing=1.0
    )
    source = _SevirSource(root / _FOLDER, events, info, config)
    found = radar_sequences.Sequences(source, config).dataset(0)
    return found.assign_attrs(event=event)


@final
class _SevirSource:
    """Samples of events; see `radar_sequences.Source`."""

    def __init__(
        self,
        folder: pathlib.Path,
        events: Table,
        info: sevir_files.FileInfo,
        config: radar_sequences.SequenceConfig,
    ) -> None:
        self._folder, self._config = folder, config
        self._events, self._info = events, info
        self._each = 1 + (info.frames - config.reach) // (config.stride * config.every)
        self.shape = info.shape
        self.cell_km = SEVIR_KM / info.shape[0]
        offsets = [sevir_catalogue.offsets(row, info.frames) for row in self._rows()]
        self._times = events["time_utc"].to_numpy("datetime64[ns]")[:, np.newaxis]
        self._times = self._times + np.stack(offsets)
        self.step = np.median(np.diff(self._times[0])) * config.every

    def __len__(self) -> int:
        return len(self._events) * self._each

    def read(self, number: int) -> np.ndarray:
        event, frames = self._place(number)
        row = self._events.iloc[event]
        path = self._folder / row["file_name"]
        values = sevir_files.read_frames(path, int(row["file_index"]), frames)
        pixels = values.astype(np.float32)
        # A byte of 255 is a missing pixel only in events that have some.
        if row["pct_missing"] > 0:
            pixels[values == radar_units.MISSING] = np.nan
        return pixels

    def times(self, number: int) -> np.ndarray:
        event, frames = self._place(number)
        return self._times[event, frames]

    def label(self, number: int) -> str:
        event, frames = self._place(number)
        return f"event {self._events['id'].iloc[event]}, frame {frames.start} on"

    def _place(self, number: int) -> tuple[int, slice]:
        event, part = divmod(number, self._each)
        begin = part * self._config.stride * self._config.every
        return event, slice(begin, begin + self._config.reach, self._config.every)

    def _rows(self) -> list[Any]:
        return [row for _, row in self._events.iterrows()]


def _with_files(events: Table, folder: pathlib.Path) -> Table:
    """Returns the events whose file is there.

    Raises:
      FileNotFoundError: None is.
    """
    held = {name: (folder / name).is_file() for name in set(events["file_name"])}
    if not any(held.values()):
        raise FileNotFoundError(
            f"{folder}: none of the {len(held)} files that the catalogue names is there"
        )
    return events[events["file_name"].map(held)].reset_index(drop=True)
