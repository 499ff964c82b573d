"""Settings of what a run learns from. Nothing here imports JAX or xarray."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import re
from typing import Any, Literal

from weatherlib import config, task
from weatherlib.training.radar_config import RadarConfig

__all__ = [
    "DataConfig",
    "Period",
    "SourceConfig",
    "require_from_zero",
    "require_positive",
]


_FILE_NAME = re.compile(r"[\w.-]*\w[\w.-]*")

Path = str | tuple[str, ...]
"""File, store, address, pattern or folder; or several files."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Period(config.Mapping):
    """A part of a time axis.

    Attributes:
      start: First time inside, such as "2015-01-01"; None begins with the data.
      end: First time outside; None ends with the data.
      split: Of SEVIR, a side of its published split in place of times.
    """

    start: str | None = None
    end: str | None = None
    split: Literal["train", "validation", "test"] | None = None

    def __post_init__(self) -> None:
        if self.split is not None and (self.start or self.end):
            raise ValueError(f"split {self.split} is given beside start or end")
        bounds = [_time(name, self[name]) for name in ("start", "end")]
        if None not in bounds and not bounds[0] < bounds[1]:
            raise ValueError(f"start {self.start} is not before end {self.end}")

    def overlaps(self, other: Period) -> bool:
        """Returns whether the two have a time in common."""
        if self.split is not None or other.split is not None:
            return self.split == other.split
        return _before(self.start, other.end) and _before(other.start, self.end)

    def __str__(self) -> str:
        if self.split is not None:
            return f"the split {self.split}"
        return f"{self.start or 'the beginning'} to {self.end or 'the end'}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceConfig(config.Mapping):
    """Further data that batches come from.

    Attributes:
      path: File, store, address or folder of shards, or a list, as for `DataConfig`.
      name: In file names and messages; None takes the last part of the (first) path.
      weight: How many batches come from here, beside `DataConfig.weight`.
      task: Name of a published task, or its fields; None takes that of `DataConfig`.
      train: Times that are trained on; None takes those of `DataConfig`.
      statistics: Folder of the statistics, or "shared" for those of `DataConfig`; None
        computes those of `train`.
      time_step: Length of a step; None takes that of the data.
      in_memory: Whether all values are read first; None decides by size.
      nan_allowed: Variables that may have missing values; None takes those of
        `DataConfig`.
      radar: How samples are cut out of radar pictures; None takes that of `DataConfig`.
    """

    path: Path
    name: str | None = None
    weight: float = 1.0
    task: str | dict[str, Any] | None = None
    train: Period | None = None
    statistics: str | None = None
    time_step: str | None = None
    in_memory: bool | None = None
    nan_allowed: tuple[str, ...] | None = None
    radar: RadarConfig | None = None

    def __post_init__(self) -> None:
        _require_files(self.path)
        require_positive(self, "weight")
        if self.time_step is not None:
            _check_step(self.time_step)
        if self.task is not None:
            _task_config(self.task)
        if not _FILE_NAME.fullmatch(self.label):
            raise ValueError(
                f"name: {self.label!r} cannot name a folder; give a name of letters, "
                "digits, dots, dashes and underscores"
            )

    @property
    def label(self) -> str:
        """The name, or else the last part of the path."""
        if self.name is not None:
            return self.name
        first = self.path if isinstance(self.path, str) else self.path[0]
        return pathlib.PurePath(first.rstrip("/")).stem

    @property
    def path_text(self) -> str:
        """The path in words."""
        return _words(self.path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig(config.Mapping):
    """What is learnt from.

    Attributes:
      path: File, store, address, pattern or folder, or a list of files, as
        `weatherlib.data.open_dataset` takes it.
      task: Name of a published task, such as TASK_13, or its fields. Radar pictures
        need none.
      train: Times that are trained on.
      validation: Times that are validated on; None validates on nothing.
      test: Times kept for a judgement later. Only compared with the other two.
      statistics: Folder of the statistics; None computes those of `train`.
      time_step: Length of a step, such as "12h"; None takes that of the data.
      in_memory: Whether all values are read first; None decides by size.
      nan_allowed: Variables that may have missing values.
      skip_corrupt: Whether samples that cannot be read are replaced by others. They
        are named and counted.
      threads: Threads that read batches.
      prefetch: Batches that wait for the device.
      weight: How many batches come from `path` where there are `sources`.
      sources: Further data. Every batch comes from one of them, in turn as the weights
        say. Validation, the task of the checkpoint and its statistics are those of
        `path`.
      radar: Makes `path` a radar series or a folder of SEVIR, and says how samples are
        cut; None for fields of weather.
    """

    path: Path
    task: str | dict[str, Any] | None = None
    train: Period = dataclasses.field(default_factory=Period)
    validation: Period | None = None
    test: Period | None = None
    statistics: pathlib.Path | None = None
    time_step: str | None = None
    in_memory: bool | None = None
    nan_allowed: tuple[str, ...] = ("sea_surface_temperature",)
    skip_corrupt: bool = False
    threads: int = 2
    prefetch: int = 4
    weight: float = 1.0
    sources: tuple[SourceConfig, ...] = ()
    radar: RadarConfig | None = None

    def __post_init__(self) -> None:
        _require_files(self.path)
        require_positive(self, "threads", "prefetch", "weight")
        if self.time_step is not None:
            _check_step(self.time_step)
        self._check_kind()
        labels = [source.label for source in self.sources]
        repeated = sorted({label for label in labels if labels.count(label) > 1})
        if repeated:
            raise ValueError(
                f"sources: {', '.join(repeated)} stands for several; give each a name"
            )

    @property
    def path_text(self) -> str:
        """The path in words."""
        return _words(self.path)

    def task_config(self) -> task.TaskConfig:
        """Returns the task as an object.

        Raises:
          ValueError: There is no task of that name, or a field is wrong; or the data
            are radar pictures, whose task follows from them.
        """
        if self.task is None:
            raise ValueError("task: missing; give the name of a task, or its fields")
        return _task_config(self.task)

    def of_source(self, source: SourceConfig) -> DataConfig:
        """Returns the settings of a source in the form of those of one data set."""
        own = {
            name: source[name]
            for name in ("task", "train", "nan_allowed", "radar")
            if source[name] is not None
        }
        folder = None
        if source.statistics not in (None, "shared"):
            folder = pathlib.Path(str(source.statistics))
        return self.replace(
            path=source.path,
            statistics=folder,
            time_step=source.time_step,
            in_memory=source.in_memory,
            weight=source.weight,
            validation=None,
            test=None,
            sources=(),
            **own,
        )

    def _check_kind(self) -> None:
        """Checks what radar pictures and fields of weather do not share.

        Raises:
          ValueError: A setting is of the other kind.
        """
        periods = {name: self[name] for name in ("train", "validation", "test")}
        for name, period in periods.items():
            if isinstance(period, dict):
                periods[name] = config.from_dict(Period, period)
                object.__setattr__(self, name, periods[name])
        if self.radar is None:
            self.task_config()
        else:
            taken = {
                "task": self.task is not None,
                "time_step": self.time_step is not None,
                "skip_corrupt": self.skip_corrupt,
            }
            wrong = [name for name, given in taken.items() if given]
            if wrong:
                raise ValueError(
                    f"{', '.join(wrong)}: not for radar pictures, whose samples follow "
                    "from radar.inputs, radar.every and radar.max_missing; leave it out"
                )
        if self.radar is not None and self.radar.kind == "sevir":
            if not isinstance(self.path, str):
                raise ValueError(
                    "path: events of SEVIR lie in one folder, found the list "
                    f"{self.path_text}"
                )
            for name, period in periods.items():
                if period == Period():
                    whole = config.from_dict(Period, {"split": name})
                    object.__setattr__(self, name, whole)
                elif period is not None and period.split is None:
                    raise ValueError(
                        f"{name}: events of SEVIR are chosen by split, such as "
                        f"{{split: {name}}}, found {period}; radar.date moves it"
                    )
            return
        for name, period in periods.items():
            if period is not None and period.split is not None:
                raise ValueError(
                    f"{name}: split {period.split} is one of SEVIR; give start or end"
                )


def require_positive(settings: Any, *names: str) -> None:
    """Raises a ValueError where a field is not positive and finite."""
    for name in names:
        if not 0 < settings[name] < math.inf:
            raise ValueError(f"{name} must be positive, found {settings[name]!r}")


def require_from_zero(settings: Any, *names: str) -> None:
    """Raises a ValueError where a field is given and is negative or not finite."""
    for name in names:
        if settings[name] is not None and not 0 <= settings[name] < math.inf:
            raise ValueError(
                f"{name} must be a number from 0 on, found {settings[name]!r}"
            )


def _check_step(value: str) -> None:
    """Raises a ValueError where a step is no length of time."""
    from weatherlib.data_utils import times

    try:
        times.as_timedelta(value)
    except ValueError as error:
        raise ValueError(f"time_step: {error}") from error


def _require_files(path: Path) -> None:
    """Raises a ValueError where a list holds nothing."""
    if not path:
        raise ValueError("path is empty; name a file, store or address, or several")


def _words(path: Path) -> str:
    return path if isinstance(path, str) else ", ".join(path)


def _time(name: str, value: str | None) -> Any:
    """Returns a time as a timestamp."""
    if value is None:
        return None
    import pandas as pd

    try:
        found = pd.Timestamp(value)
    except ValueError:
        found = pd.NaT
    if found is pd.NaT:
        raise ValueError(
            f"{name}: expected a time such as 2015-01-01 or 2015-01-01T06, found "
            f"{value!r}"
        )
    return found


def _before(first: str | None, second: str | None) -> bool:
    if first is None or second is None:
        return True
    return _time("start", first) < _time("end", second)


def _task_config(value: str | dict[str, Any]) -> task.TaskConfig:
    if not isinstance(value, str):
        return config.from_dict(task.TaskConfig, value)
    known = {
        name: entry
        for name, entry in vars(task).items()
        if isinstance(entry, task.TaskConfig)
    }
    if value not in known:
        hint = config.closest_hint(value, known)
        raise ValueError(f"task: there is no task {value!r}{hint}")
    return known[value]
