"""Cut an archive into the NumPy shards that ClimaX and its relatives are trained on.

SOURCE is a folder of WeatherBench with a folder of NetCDF files for each variable and
constants.nc, or any archive that weatherlib opens. OUT gets train, val and test with
shards YEAR_NUMBER.npz and climatology.npz, and normalize_mean.npz, normalize_std.npz,
lat.npy and lon.npy, as the published preprocessing writes them. Years have 365 days;
the last day of leap years is left out.

Our own training reads archives as they are; shards are for programs that need them, and
for data that others have cut. An interrupted run is continued by the same command.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import tyro

__all__ = ["EXAMPLES", "Options", "run"]

EXAMPLES = (
    "weatherlib shards 5.625deg 5.625deg_npz",
    "weatherlib shards 5.625deg 5.625deg_npz --gaps repeat --statistics published",
    "weatherlib shards era5.zarr shards --start-train-year 2000 --start-val-year 2015 "
    "--start-test-year 2016 --end-year 2018",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to cut, and how."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """Folder of WeatherBench, or any archive."""

    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder to write."""

    variables: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    """Variables wanted, constants included; all by default."""

    levels: Annotated[tuple[int, ...], tyro.conf.arg(metavar="HPA ...")] = ()
    """Levels taken of those there are, hPa; the 13 of WeatherBench by default."""

    start_train_year: int = 1979
    """First year of training."""

    start_val_year: int = 2016
    """First year of validation, where training ends."""

    start_test_year: int = 2017
    """First year of the test, where validation ends."""

    end_year: int = 2019
    """First year that is left out again."""

    num_shards: int = 8
    """Files for each year."""

    step: Annotated[str | None, tyro.conf.arg(metavar="TIME")] = None
    """Time between frames, such as 6h; that of the archive by default."""

    gaps: Literal["stop", "repeat", "nan"] = "stop"
    """What to do about frames that the archive lacks, as WeatherBench lacks radiation
    and precipitation of the first hours of 1979: stop, repeat the nearest, or nan."""

    statistics: Literal["train", "published"] = "train"
    """Normalise by all years of training, or as the published preprocessing does: on
    levels by the last of them alone."""


def run(options: Options) -> None:
    """Writes what the options ask for.

    Raises:
      ValueError: An option does not fit the archive, or OUT holds other shards.
      FileNotFoundError: There is no such archive, or a variable is missing in it.
      OSError: A file is damaged or cannot be written.
    """
    from weatherlib import task
    from weatherlib.cli import console, files
    from weatherlib.data import shard_sources, shard_writer

    out = console.Console()
    config = shard_writer.ShardConfig(
        start_train_year=options.start_train_year,
        start_val_year=options.start_val_year,
        start_test_year=options.start_test_year,
        end_year=options.end_year,
        shards_per_year=options.num_shards,
        gaps=options.gaps,
        statistics=options.statistics,
    )
    files.existing(options.source, "the archive")
    source = shard_sources.open_source(
        options.source,
        variables=options.variables,
        levels=options.levels or task.PRESSURE_LEVELS_WEATHERBENCH_13,
        step=options.step,
    )
    files.writable_folder(options.output)
    total = sum(map(len, config.splits.values())) * config.shards_per_year
    with out.progress("Shards", total) as progress:
        report = shard_writer.write_shards(
            source, options.output, config, progress=progress
        )
    for name, count in report.filled.items():
        out.print(f"{name}: {count} frames were not there; filled by {options.gaps}")
    hours = source.step.total_seconds() / 3600
    out.print(
        f"{report.folder}: {report.written} shards written, {report.kept} kept, of "
        f"{len(report.variables)} variables every {hours:g} h"
    )
