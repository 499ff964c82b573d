"""The data of a training run, one source or several, with their statistics."""

from __future__ import annotations

import dataclasses
import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray

from weatherlib import data, data_utils, normalization, training
from weatherlib.cli import archives, models, radar_frames, statistics
from weatherlib.task import TaskConfig
from weatherlib.training.lead_config import lead_steps

__all__ = [
    "Frames",
    "Source",
    "check",
    "hours",
    "left_out",
    "open_sources",
    "warn_overlaps",
]

_SHARED = "shared"

Frames = training.Frames | radar_frames.RadarFrames
"""What batches are cut from: fields of weather, or radar pictures."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """One series that batches are cut from.

    Attributes:
      label: Names the source in messages.
      settings: What was asked for, `sources` left out.
      frames: The series.
      statistics: By which it is normalised.
      skipped: Damaged files that were left out, and what is wrong with each.
    """

    label: str
    settings: training.DataConfig
    frames: Frames
    statistics: Mapping[str, xarray.Dataset]
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def task(self) -> TaskConfig:
        """What is read and predicted."""
        return self.frames.task

    def lead_steps(self, lead: training.Lead) -> tuple[int, ...]:
        """Returns lead times as numbers of steps.

        Raises:
          ValueError: A lead time is no whole number of steps.
        """
        return lead_steps(lead, self.frames.step, label=f"lead, {self.label}")

    @property
    def fields(self) -> training.Frames:
        """The series, where it is one of weather.

        Raises:
          ValueError: It is one of radar pictures, which have no lead times.
        """
        if isinstance(self.frames, radar_frames.RadarFrames):
            raise ValueError(
                f"lead, {self.label}: samples of radar pictures are predicted frame by "
                "frame; leave lead out, and count frames in output_length and rollout"
            )
        return self.frames


def open_sources(
    config: training.TrainConfig,
    placement: training.Placement,
    *,
    say: Callable[[str], None],
) -> list[Source]:
    """Returns all sources, that of `data.path` first.

    The statistics of further sources lie in `sources/` of the output folder.

    Args:
      config: Settings of the run.
      placement: Devices and processes.
      say: Told what is done.

    Raises:
      ValueError: Settings, data and statistics do not fit each other.
      OSError: Data cannot be read, or the folder cannot be written.
    """
    main = config.data.replace(sources=())
    masked = config.loss.skip_missing
    try:
        frames, skipped = _open(main, say=say, masked=masked)
    except FileNotFoundError as error:
        if main.radar is not None:
            raise  # It says so itself, and `weatherlib nowcast` the same.
        raise FileNotFoundError(
            f"{error} (name the data with --set data.path=FILE)"
        ) from error
    found = statistics.prepare(config, frames, placement, say=say)
    sources = [
        Source(
            label=main.path_text,
            settings=main,
            frames=frames,
            statistics=found,
            skipped=skipped,
        )
    ]
    for source in config.data.sources:
        settings = config.data.of_source(source)
        say(f"  source {source.label}: {source.path_text}")
        try:
            frames, skipped = _open(settings, say=say, masked=masked)
            if source.statistics == _SHARED:
                normalization.check_statistics(
                    frames.task,
                    **{name: found[name] for name in models.STATISTICS_FILES},
                )
                own = found
            else:
                folder = pathlib.Path(config.output) / "sources" / source.label
                changed = config.replace(data=settings, output=folder)
                own = statistics.prepare(
                    changed, frames, placement, say=say, run=config.output
                )
        except ValueError as error:
            raise ValueError(f"data.sources, {source.label}: {error}") from error
        sources.append(
            Source(
                label=source.label,
                settings=settings,
                frames=frames,
                statistics=own,
                skipped=skipped,
            )
        )
    return sources


def left_out(sources: Sequence[Source]) -> list[tuple[str, str]]:
    """Returns how many files were left out and which, as names and values.

    Nothing where all could be read.
    """
    names = [name for source in sources for name in source.skipped]
    if not names:
        return []
    return [("files skipped", archives.counted(names))]


def check(source: Source, start: int, resolution: float | None) -> None:
    """Compares the first sample with the task and the statistics.

    Args:
      source: Data and statistics.
      start: First frame of the sample.
      resolution: Of the model, degrees; None for any.

    Raises:
      ValueError: They do not go together.
    """
    frames = source.frames
    if isinstance(frames, radar_frames.RadarFrames):
        # Its pictures were brought onto one scale and one grid when they were read.
        frames.batch(np.array([start]))
        return
    count = frames.inputs + 1
    part = frames.dataset.isel(time=slice(start, start + count))
    datetimes = frames.datetimes[start : start + count]
    part = part.map(
        lambda array: array.expand_dims("batch") if "time" in array.dims else array
    )
    part = part.assign_coords(
        time=datetimes - datetimes[0], datetime=(("batch", "time"), datetimes[None])
    )
    data_utils.require(
        part,
        source.task,
        frames=1,
        statistics={name: source.statistics[name] for name in models.STATISTICS_FILES},
        resolution=resolution,
        nan_allowed=source.settings.nan_allowed,
    )


def warn_overlaps(config: training.DataConfig) -> None:
    """Warns where two periods of the data have times in common."""
    periods = {
        name: config[name]
        for name in ("train", "validation", "test")
        if config[name] is not None
    }
    names = list(periods)
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            if periods[first].overlaps(periods[second]):
                warnings.warn(
                    f"data: the periods {first} ({periods[first]}) and {second} "
                    f"({periods[second]}) overlap; scores on the latter look too good",
                    stacklevel=4,
                )


def _open(
    settings: training.DataConfig, *, say: Callable[[str], None], masked: bool
) -> tuple[Frames, Mapping[str, str]]:
    """Returns the series, and the files that were left out of it with the reasons."""
    if settings.radar is not None:
        return radar_frames.RadarFrames(settings, mask_targets=masked), {}
    # Shards hold no dates, and tell their step only where a year of them is whole.
    dataset, skipped = archives.open_dataset(
        settings.path,
        skip_corrupt=settings.skip_corrupt,
        time_step=settings.time_step,
    )
    dataset, changes = data.conform(dataset, settings.task_config())
    for change in changes:
        say(f"  {change}")
    frames = training.Frames(
        dataset,
        settings.task_config(),
        time_step=settings.time_step,
        in_memory=settings.in_memory,
        nan_allowed=settings.nan_allowed,
        skip_corrupt=settings.skip_corrupt,
        source=settings.path_text,
    )
    return frames, skipped


def hours(source: Source, steps: int) -> float:
    """Returns a number of steps in hours."""
    return float(steps * (source.frames.step / np.timedelta64(1, "h")))
