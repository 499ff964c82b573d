"""Make the statistics that normalisation needs, or a climatology, from any archive.

Means, standard deviations, minima and standard deviations of the change over a step,
for every variable and level, go to mean_by_level.nc, stddev_by_level.nc,
min_by_level.nc and diffs_stddev_by_level.nc. The archive is read once, a block at a
time, on all cores or on a dask cluster. Give the training period: statistics that have
seen the test period make its scores look better than they are.

With --climatology, the usual weather of each hour and day of the year is written, which
`weatherlib evaluate` compares with.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    import xarray

    from weatherlib.cli import console
    from weatherlib.data_utils import series

__all__ = ["EXAMPLES", "Options", "run"]

EXAMPLES = (
    "weatherlib stats era5.zarr --train-start 1979 --train-end 2015 --output stats",
    "weatherlib stats era5.zarr --train-end 2015 --step 12h --task TASK_13",
    "weatherlib stats era5.zarr --train-end 2015 --climatology climatology.zarr",
    "weatherlib stats short.nc --climatology climatology.nc --harmonics 3",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to compute, and from what."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """Archive: NetCDF, Zarr or GRIB."""

    output: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder of the statistics, `stats` by default; with --climatology, none."""

    train_start: Annotated[str | None, tyro.conf.arg(metavar="DATE")] = None
    """First date of the training period, such as 1979 or 1979-01-02T06."""

    train_end: Annotated[str | None, tyro.conf.arg(metavar="DATE")] = None
    """Last date, included: 2015 is all of that year."""

    step: Annotated[str | None, tyro.conf.arg(metavar="TIME")] = None
    """Time over which changes are taken, such as 6h; the spacing of the data by
    default. Also the spacing of shards that are no whole year."""

    variables: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    """Variables wanted; all by default."""

    task: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """A published task, such as TASK_13, for its variables, forcings and levels."""

    forcings: bool = False
    """Add the solar radiation at the top of the atmosphere, computed, to the progress
    of year and day."""

    weighting: Literal["none", "area"] = "none"
    """Whether grid points count the same, as in the published statistics, or by the
    area of their cells."""

    climatology: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the climatology by hour and day of the year, .nc or .zarr."""

    window: int = 61
    """Days over which the climatology is smoothed."""

    harmonics: int = 0
    """Fit so many waves a year instead, for records of a few years."""

    skip_corrupt: bool = False
    """Leave out damaged files among many, and say how many."""

    workers: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Threads; as many as processors by default."""

    scheduler: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS")] = None
    """A dask.distributed scheduler, such as tcp://10.0.0.1:8786, to compute there."""


def run(options: Options) -> None:
    """Computes and writes what the options ask for.

    Raises:
      ValueError: An option does not fit the data.
      FileNotFoundError: There is no such archive.
      OSError: It is damaged, or the results cannot be written.
    """
    from weatherlib.cli import console

    out = console.Console()
    dataset = _open(options, out)
    if options.train_end is None:
        print(
            "weatherlib: warning: no --train-end: the statistics see everything up to "
            "the last date, what is kept for tests included",
            file=sys.stderr,
        )
    if options.climatology is None or options.output is not None:
        _make_statistics(options, dataset, out)
    if options.climatology is not None:
        _make_climatology(options, dataset, out)


def _open(options: Options, out: console.Console) -> xarray.Dataset:
    """Returns the archive, nothing of it read yet, under our names."""
    from weatherlib import task, variables
    from weatherlib.cli import archives
    from weatherlib.data_utils import lexicon

    dataset, skipped = archives.open_dataset(
        options.source, skip_corrupt=options.skip_corrupt, time_step=options.step
    )
    source = dataset.encoding.get("source")
    dataset, _ = lexicon.rename(dataset, variables.names())
    dataset.encoding["source"] = source or options.source
    if skipped:
        out.print(f"files skipped: {archives.counted(skipped)}")
    if options.task is None:
        return dataset
    tasks = {n: t for n, t in vars(task).items() if isinstance(t, task.TaskConfig)}
    if options.task not in tasks:
        raise ValueError(
            f"--task: there is no task {options.task!r}; there are {', '.join(tasks)}"
        )
    chosen = tasks[options.task]
    if "level" in dataset.dims:
        levels = list(chosen.pressure_levels)
        lacking = sorted(set(levels) - set(dataset["level"].values.tolist()))
        if lacking:
            raise ValueError(
                f"{options.source}: lacks the levels {', '.join(map(str, lacking))} "
                f"hPa of {options.task}"
            )
        dataset = dataset.sel(level=levels)
    return dataset


def _wanted(options: Options) -> tuple[str, ...] | None:
    """Returns the variables that the options name, None for all."""
    from weatherlib import task
    from weatherlib.data_utils import lexicon

    if options.task is None:
        return options.variables or None
    named = lexicon.task_variables(getattr(task, options.task))
    return tuple(dict.fromkeys((*named, *options.variables)))


def _make_statistics(
    options: Options, dataset: xarray.Dataset, out: console.Console
) -> None:
    """Computes the statistics, writes them and prints them."""
    from weatherlib.cli import files
    from weatherlib.data_utils import progress, statistics

    folder = files.writable_folder(options.output or "stats")
    wanted = _wanted(options)
    forcings = None
    if options.forcings:
        named = set(wanted or ()) & progress.COMPUTABLE_FORCINGS
        forcings = tuple(sorted(named | set(progress.COMPUTABLE_FORCINGS)))
    config = statistics.StatisticsConfig(
        step=options.step,
        start=options.train_start,
        end=options.train_end,
        weighting=options.weighting,
        variables=wanted,
        forcings=forcings,
        workers=options.workers,
        scheduler=options.scheduler,
    )
    with _Meter(out, "Statistics") as meter:
        found = statistics.compute_statistics(dataset, config, report=meter.report)
    paths = found.save(folder)
    _print_statistics(found, out)
    meter.print_speed()
    for path in paths:
        out.print(str(path))


def _print_statistics(found: object, out: console.Console) -> None:
    """Prints one row for each variable, levels together."""
    from weatherlib.cli import describe
    from weatherlib.data_utils import statistics

    assert isinstance(found, statistics.Statistics)
    kinds = {
        "mean": found.mean,
        "stddev": found.stddev,
        "change": found.diffs_stddev,
        "min": found.min,
    }
    attrs = found.mean.attrs
    if "date_start" in attrs:
        out.print(
            f"{attrs['date_start']} to {attrs['date_end']} UTC, {attrs['frames']} "
            f"frames, changes over {attrs['timestep_hours']:g} h"
        )
    out.table(*describe.statistics_table(kinds))


def _make_climatology(
    options: Options, dataset: xarray.Dataset, out: console.Console
) -> None:
    """Computes the climatology and writes it."""
    from weatherlib.cli import climatology_file
    from weatherlib.data_utils import climatology

    assert options.climatology is not None, "checked by the caller"
    path = climatology_file.target(options.climatology)
    config = climatology.ClimatologyConfig(
        start=options.train_start,
        end=options.train_end,
        window=options.window,
        harmonics=options.harmonics,
        variables=options.variables or None,
        workers=options.workers,
        scheduler=options.scheduler,
    )
    with _Meter(out, "Climatology") as meter:
        found = climatology.climatology(dataset, config, report=meter.report)
    found.attrs["source"] = pathlib.Path(options.source).name
    climatology_file.write(found, path)
    meter.print_speed()
    out.print(f"{path}: {found.attrs['method']}, {found.attrs['frames']} frames")


class _Meter:
    """Shows how much has been read, and how fast."""

    def __init__(self, out: console.Console, what: str) -> None:
        self._out, self._what = out, what
        self._done = 0
        self._began = time.perf_counter()
        self._context = out.progress(f"{what}, MB", 1)
        self._show: Callable[[int, int, float], None] = lambda *_: None

    def __enter__(self) -> _Meter:
        self._show = self._context.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(*error)  # type: ignore[arg-type]
        self._spent = time.perf_counter() - self._began

    def report(self, piece: series.Piece, total: int) -> None:
        """Counts a piece that is done."""
        self._done += piece.nbytes
        spent = time.perf_counter() - self._began
        self._show(round(self._done / 1e6), max(1, round(total / 1e6)), spent)

    def print_speed(self) -> None:
        """Prints the time and the speed."""
        from weatherlib.cli import console

        size = self._done / 1e6
        self._out.print(
            f"{self._what}: {size:.3g} MB in {console.format_seconds(self._spent)}, "
            f"{size / self._spent:.3g} MB/s"
        )
