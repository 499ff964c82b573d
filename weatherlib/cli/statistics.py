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

from weatherlib import climatology_removal, normalization, training, writing
from weatherlib.cli import models, radar_frames
from weatherlib.data_utils import harmonics, statistics

__all__ = ["prepare"]

_SOURCE = "source.json"
# File systems over a network show new files seconds late.
_APPEARS_WITHIN = 60.0
_CLIMATOLOGY = "climatology"

# What has to agree with the run, and in words; and what only where they were computed
# for it.
_MUST_SUIT = {"grid": "grid", "time_step": "time step", "scale": "scale"}
_MUST_BE_OWN = {
    "train": "train period",
    "path": "source of data",
    "extent": "stretch of data",
}


def prepare(
    config: training.TrainConfig,
    frames: training.Frames | radar_frames.RadarFrames,
    placement: training.Placement,
    *,
    say: Callable[[str], None],
) -> dict[str, xarray.Dataset]:
    """Returns the statistics of a run, which then lie in `stats/` of its folder.

    Where the configuration takes a climatology away, its amplitudes are among them as
    `climatology`, and the others describe what is left.

    Args:
      config: Names a folder of statistics, or none.
      frames: Of which they are computed where no folder is named.
      placement: Of several processes, the main one computes and writes, and the others
        read what it wrote.
      say: Told what is done.

    Raises:
      FileNotFoundError: The folder lacks a file, or the processes have no folder in
        common.
      ValueError: They are of another grid, period, or set of variables, or were made
        with another climatology.
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
    frames: training.Frames | radar_frames.RadarFrames,
    *,
    say: Callable[[str], None],
    write: bool,
) -> dict[str, xarray.Dataset]:
    folder = config.output / "stats"
    waves = config.wrappers.climatology
    if waves is not None:
        climatology_removal.check_task(frames.task, waves)
    given = config.data.statistics
    source = _describe(frames, config)
    if given is None and not (folder / _SOURCE).exists():
        say("computing statistics of the training period")
        if isinstance(frames, radar_frames.RadarFrames):
            computed, amplitudes = frames.statistics(config.data.train), None
        else:
            computed, amplitudes = _compute(frames.period(config.data.train), config)
        computed.save(folder)
        if amplitudes is not None:
            harmonics.save(amplitudes, folder)
        _write_source(folder, source)
    loaded = models.load_statistics(given or folder)
    found = loaded.by_level
    _require_same_source(given or folder, source, own=given is None)
    normalization.check_statistics(frames.task, **found)
    _require_same_climatology(given or folder, loaded.climatology, waves)
    if given is not None and given.resolve() != folder.resolve() and write:
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(given.glob("*_by_level.nc")):
            shutil.copy(path, folder / path.name.removeprefix("stats_"))
        for name in (_SOURCE, harmonics.FILE):
            if (given / name).exists():
                shutil.copy(given / name, folder / name)
    if loaded.climatology is not None:
        found[_CLIMATOLOGY] = loaded.climatology
    return found


def _compute(
    dataset: xarray.Dataset, config: training.TrainConfig
) -> tuple[statistics.Statistics, xarray.Dataset | None]:
    """Returns the statistics, and the climatology where one is taken away."""
    waves = config.wrappers.climatology
    if waves is None:
        return statistics.compute_statistics(dataset), None
    targets = config.data.task_config().target_variables
    amplitudes = harmonics.fit_departures(dataset, targets, waves)
    computed = statistics.compute_statistics(harmonics.remove(dataset, amplitudes))
    # Says to whoever reads the statistics that the file is part of them.
    computed.mean.attrs[models.CLIMATOLOGY_MARK] = harmonics.FILE
    return computed, amplitudes


def _require_same_climatology(
    folder: pathlib.Path,
    amplitudes: xarray.Dataset | None,
    waves: harmonics.HarmonicsConfig | None,
) -> None:
    """Checks that statistics were made as the configuration asks for.

    Raises:
      ValueError: They were not.
    """
    found = None if amplitudes is None else dict(amplitudes.attrs)
    wanted = None if waves is None else dict(waves)
    if found is None and wanted is None:
        return
    if (
        found is None
        or wanted is None
        or any(int(found[name]) != wanted[name] for name in wanted)
    ):
        held = "no climatology" if found is None else f"waves {_numbers(found)}"
        asked = "none" if wanted is None else _numbers(wanted)
        raise ValueError(
            f"{folder}: statistics made with {held}, while wrappers.climatology asks "
            f"for {asked}; delete the folder to compute them anew, or change the "
            "configuration"
        )


def _numbers(attrs: dict[str, Any]) -> str:
    return ", ".join(f"{int(attrs[name])} {name}" for name in ("years", "days"))


def _describe(
    frames: training.Frames | radar_frames.RadarFrames, config: training.TrainConfig
) -> dict[str, Any]:
    """Returns what statistics depend on."""
    dataset, period, path = frames.dataset, config.data.train, config.data.path
    found: dict[str, Any] = {
        "path": path if isinstance(path, str) else list(path),
        "extent": frames.extent(period),
        "grid": {
            name: [len(dataset[name]), *map(float, dataset[name].values[[0, -1]])]
            for name in ("lat", "lon")
        },
        "time_step": str(np.timedelta64(frames.step, "m")),
        "train": {"start": period.start, "end": period.end},
    }
    if period.split is not None:
        found["train"]["split"] = period.split
    if config.data.radar is not None:
        found["scale"] = config.data.radar.scale
    return found


def _write_source(folder: pathlib.Path, source: dict[str, Any]) -> None:
    with writing.replacing(folder / _SOURCE) as partial:
        partial.write_text(json.dumps(source, indent=1), encoding="utf8")


def _require_same_source(
    folder: pathlib.Path, expected: dict[str, Any], *, own: bool
) -> None:
    """Checks where statistics come from, as far as it is written down.

    Raises:
      ValueError: They are of another grid or step; or, where they were computed for
        this folder, of another source, period or number of frames.
    """
    path = folder / _SOURCE
    if not path.exists():
        return
    found = json.loads(path.read_text(encoding="utf8"))
    for name in _MUST_SUIT:
        if name in found and found[name] != expected.get(name):
            remedy = "delete the folder" if own else "name others in data.statistics"
            raise _other(
                folder, name, found, expected, f"{remedy} to compute them anew"
            )
    for name in _MUST_BE_OWN if own else ():
        if name not in found:
            continue  # Written before this was kept.
        is_same = found[name] == expected[name]
        if name == "path" and not is_same:
            is_same = _absolute(found[name]) == _absolute(expected[name])
        if not is_same:
            remedy = (
                "delete the folder to compute them anew, or use them all the same with "
                f"data.statistics={folder}"
            )
            raise _other(folder, name, found, expected, remedy)


def _other(
    folder: pathlib.Path,
    name: str,
    found: dict[str, Any],
    expected: dict[str, Any],
    remedy: str,
) -> ValueError:
    """Returns the error for statistics of something else than this run has."""
    what = {**_MUST_SUIT, **_MUST_BE_OWN}[name]
    return ValueError(
        f"{folder}: statistics of another {what}: they are of {found[name]}, this run "
        f"has {expected.get(name)}; {remedy}"
    )


def _absolute(path: str | list[str]) -> str | list[str]:
    """Returns a path from the root, and an address as it is; or a list of these."""
    if isinstance(path, list):
        return [str(_absolute(entry)) for entry in path]
    if ":" in path:
        return path
    return str(pathlib.Path(path).expanduser().absolute())
