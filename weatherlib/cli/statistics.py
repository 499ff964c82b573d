"""Statistics of a training run: from a folder, or of its own training period."""

from __future__ import annotations

import json
import pathlib
import shutil
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray

from weatherlib import normalization, training
from weatherlib.cli import models
from weatherlib.data_utils import statistics

__all__ = ["prepare"]

_SOURCE = "source.json"
# File systems over a network show new files seconds late.
_APPEARS_WITHIN = 60.0


def prepare(
    config: training.TrainConfig,
    frames: training.Frames,
    placement: training.Placement,
    *,
    say: Callable[[str], None],
) -> dict[str, xarray.Dataset]:
    """Returns the statistics of a run, which then lie in `stats/` of its folder.

    Args:
      config: Names a folder of statistics, or none.
      frames: Of which they are computed where no folder is named.
      placement: Of several processes, the main one computes and writes, and the others
        read what it wrote.
      say: Told what is done.

    Raises:
      FileNotFoundError: The folder lacks a file, or the processes have no folder in
        common.
      ValueError: They are of another grid, period, or set of variables.
    """
    if placement.is_main:
        found = _prepare(config, frames, say=say, write=True)
        placement.wait("statistics")
        return found
    placement.wait("statistics")
    if config.data.statistics is None:
        _await(config.output / "stats" / _SOURCE)
    return _prepare(config, frames, say=say, write=False)


def _await(path: pathlib.Path) -> None:
    """Returns when a file that another process has written can be seen.

    Raises:
      FileNotFoundError: It does not appear.
    """
    end = time.monotonic() + _APPEARS_WITHIN
    while not path.exists():
        if time.monotonic() > end:
            raise FileNotFoundError(
                f"{path}: written by the main process but not to be seen here; the "
                "output must lie on a file system that all processes share"
            )
        time.sleep(0.1)


def _prepare(
    config: training.TrainConfig,
    frames: training.Frames,
    *,
    say: Callable[[str], None],
    write: bool,
) -> dict[str, xarray.Dataset]:
    folder = config.output / "stats"
    given = config.data.statistics
    source = _describe(frames, config)
    if given is None and not (folder / _SOURCE).exists():
        say("computing statistics of the training period")
        computed = statistics.compute_statistics(frames.period(config.data.train))
        computed.save(folder)
        _write_source(folder, source)
    loaded = models.load_statistics(given or folder)
    found = {name: getattr(loaded, name) for name in models.STATISTICS_FILES}
    _require_same_source(given or folder, source, own=given is None)
    normalization.check_statistics(config.data.task_config(), **found)
    if given is not None and given.resolve() != folder.resolve() and write:
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(given.glob("*_by_level.nc")):
            shutil.copy(path, folder / path.name.removeprefix("stats_"))
        if (given / _SOURCE).exists():
            shutil.copy(given / _SOURCE, folder / _SOURCE)
    return found


def _describe(frames: training.Frames, config: training.TrainConfig) -> dict[str, Any]:
    """Returns what statistics depend on."""
    dataset, period = frames.dataset, config.data.train
    return {
        "grid": {
            name: [len(dataset[name]), *map(float, dataset[name].values[[0, -1]])]
            for name in ("lat", "lon")
        },
        "time_step": str(np.timedelta64(frames.step, "m")),
        "train": {"start": period.start, "end": period.end},
    }


def _write_source(folder: pathlib.Path, source: dict[str, Any]) -> None:
    partial = folder / f"{_SOURCE}.partial"
    partial.write_text(json.dumps(source, indent=1), encoding="utf8")
    partial.replace(folder / _SOURCE)


def _require_same_source(
    folder: pathlib.Path, expected: dict[str, Any], *, own: bool
) -> None:
    """Checks where statistics come from, as far as it is written down.

    Raises:
      ValueError: They are of another grid or step; or, where they were computed for
        this folder, of another period.
    """
    path = folder / _SOURCE
    if not path.exists():
        return
    found = json.loads(path.read_text(encoding="utf8"))
    for name in ("grid", "time_step", *(["train"] if own else [])):
        if name in found and found[name] != expected[name]:
            remedy = "delete the folder" if own else "name others in data.statistics"
            raise ValueError(
                f"{folder}: statistics of another {name.replace('_', ' ')}: they are "
                f"of {found[name]}, this run has {expected[name]}; {remedy} to compute "
                "them anew"
            )
