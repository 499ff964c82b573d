"""Statistics of a training run: from a folder, or of its own training period."""

from __future__ import annotations

import json
import pathlib
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import xarray

from weatherlib import climatology_removal, normalization, training, writing
from weatherlib.cli import models, radar_frames
from weatherlib.data_utils import harmonics, statistics
from weatherlib.training import checkpoints

__all__ = ["prepare"]

_SOURCE = "source.json"
# Periods leave out their end.
_INSTANT = pd.Timedelta("1ns")
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
    run: pathlib.Path | None = None,
) -> dict[str, xarray.Dataset]:
    """Returns the statistics of a run, which then lie in `stats/` of its folder.

    Those that lie there already, of a run that has begun, are taken as they are; others
    are computed anew where they do not suit.

    Where the configuration takes a climatology away, its amplitudes are among them as
    `climatology`, and the others describe what is left.

    Args:
      config: Names a folder of statistics, or none.
      frames: Of which they are computed where no folder is named.
      placement: Of several processes, the main one computes and writes, and the others
        read what it wrote.
      say: Told what is done.
      run: Folder of the run, if its output for these data is only a part of that.

    Raises:
      FileNotFoundError: The folder lacks a file, or the processes have no folder in
        common.
      ValueError: They are of another grid, period, or set of variables, or were made
        with another climatology.
    """
    if placement.is_main:
        if config.data.statistics is None:
            _drop_stale(config, frames, run or config.output, say)
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
    if given is not None:
        _require_stated(given, loaded, frames)
        _warn_of_later_dates(given, loaded, config.data)
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


def _drop_stale(
    config: training.TrainConfig,
    frames: training.Frames | radar_frames.RadarFrames,
    run: pathlib.Path,
    say: Callable[[str], None],
) -> None:
    """Forgets statistics that a dry run, or one that did not begin, has left.

    Only where they are not those that this run needs.
    """
    folder, waves = config.output / "stats", config.wrappers.climatology
    if checkpoints.holds_run(run) or not (folder / _SOURCE).exists():
        return
    path = folder / harmonics.FILE
    held = dict(harmonics.read(path).attrs) if path.is_file() else None
    found = json.loads((folder / _SOURCE).read_text(encoding="utf8"))
    names = [*_differing(found, _describe(frames, config), own=True)]
    what = [{**_MUST_SUIT, **_MUST_BE_OWN}[name] for name in names]
    if not _same_climatology(held, None if waves is None else dict(waves)):
        what.append("climatology")
    if what:
        say(f"{folder}: statistics of another {what[0]} are replaced")
        path.unlink(missing_ok=True)
        (folder / _SOURCE).unlink()


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
    if not _same_climatology(found, wanted):
        held = "no climatology" if found is None else f"waves {_numbers(found)}"
        asked = "none" if wanted is None else _numbers(wanted)
        raise ValueError(
            f"{folder}: statistics made with {held}, while wrappers.climatology asks "
            f"for {asked}; delete the folder to compute them anew, or change the "
            "configuration"
        )


def _same_climatology(
    found: dict[str, Any] | None, wanted: dict[str, Any] | None
) -> bool:
    """Returns whether the waves of two climatologies, or of none, are the same."""
    if found is None or wanted is None:
        return found is wanted
    return all(int(found[name]) == wanted[name] for name in wanted)


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
    for name in _differing(found, expected, own=own):
        if name in _MUST_SUIT:
            remedy = "delete the folder" if own else "name others in data.statistics"
            remedy = f"{remedy} to compute them anew"
        else:
            remedy = (
                "delete the folder to compute them anew, or use them all the same with "
                f"data.statistics={folder}"
            )
        raise _other(folder, name, found, expected, remedy)


def _differing(
    found: dict[str, Any], expected: dict[str, Any], *, own: bool
) -> Iterator[str]:
    """Yields the names in which what is written of statistics is not what is needed.

    What was not kept yet when they were written does not count.
    """
    for name in (*_MUST_SUIT, *(_MUST_BE_OWN if own else ())):
        if name not in found or found[name] == expected.get(name):
            continue
        if name == "path" and _absolute(found[name]) == _absolute(expected[name]):
            continue
        yield name


def _require_stated(
    folder: pathlib.Path,
    loaded: models.Statistics,
    frames: training.Frames | radar_frames.RadarFrames,
) -> None:
    """Checks what statistics of `weatherlib stats` say of themselves.

    Raises:
      ValueError: They are of another grid or step.
    """
    remedy = (
        "make them of these data with `weatherlib stats`, or leave data.statistics out"
    )
    differs = statistics.other_grid(loaded.mean_by_level.attrs, frames.dataset)
    if differs is not None:
        name, found, expected = differs
        theirs, ours = (
            {"grid": f"{name.removeprefix('grid_')} {int(n)} points, {a:g} to {b:g}"}
            for n, a, b in (found, expected)
        )
        raise _other(folder, "grid", theirs, ours, remedy)
    hours = loaded.diffs_stddev_by_level.attrs.get("timestep_hours")
    step = float(frames.step / np.timedelta64(1, "h"))
    if hours is not None and abs(float(hours) - step) > 1e-6:
        theirs, ours = ({"time_step": f"{float(n):g} h"} for n in (hours, step))
        raise _other(folder, "time_step", theirs, ours, remedy)


def _warn_of_later_dates(
    folder: pathlib.Path, loaded: models.Statistics, settings: training.DataConfig
) -> None:
    """Warns where statistics have seen what a run is judged on."""
    attrs = loaded.mean_by_level.attrs
    if not {"date_start", "date_end"} <= set(attrs):
        return
    first, last = (str(attrs[name]) for name in ("date_start", "date_end"))
    seen = training.Period(start=first, end=str(pd.Timestamp(last) + _INSTANT))
    for name in ("validation", "test"):
        period = settings[name]
        if period is not None and period.split is None and period.overlaps(seen):
            warnings.warn(
                f"{folder}: statistics of {first} to {last}, which overlaps the period "
                f"{name} ({period}); scores on it look a little too good",
                stacklevel=5,
            )


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
