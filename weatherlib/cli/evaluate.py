"""Score forecasts against what happened, beside references and one another.

FORECASTS are hindcast sets (time, prediction_timedelta, ...), written by `weatherlib
predict --init START:END:STEP` or held by WeatherBench 2, or single forecast files;
several, each as NAME=PATH, are compared on the starts and lead times that all of
them have. Written are the scores as NetCDF and CSV, curves by lead time and a picture
that compares the models.

Work is done in blocks, so that nothing has to fit into memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    import xarray

    from weatherlib import evaluation
    from weatherlib.cli import console

__all__ = ["EXAMPLES", "Options", "run"]

EXAMPLES = (
    "weatherlib evaluate hindcasts.zarr --truth era5.zarr",
    "weatherlib evaluate new=run2.zarr old=run1.zarr --truth era5.zarr "
    "--climatology climatology.nc --regions global europe",
    "weatherlib evaluate hindcasts.zarr --truth era5.nc --references persistence ridge "
    "--period 2000-01-01:2006-12-31",
    "weatherlib evaluate hindcasts.nc --truth later.nc --reference-data archive.nc "
    "--references persistence climatology ridge",
    "weatherlib evaluate ensemble.zarr --truth era5.zarr --metrics crps_fair "
    "spread_skill_ratio rank_histogram",
    "weatherlib evaluate nowcasts.zarr --truth radar.nc --thresholds rain=0.1,1,5 "
    "--metrics csi pod sucr fss",
)

_Path = Annotated[str, tyro.conf.arg(metavar="PATH")]
_OptionalPath = Annotated[str | None, tyro.conf.arg(metavar="PATH")]
_Words = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")]

# Metrics shown on the terminal where nothing else is asked for.
_SHOWN = (
    "rmse",
    "bias",
    "acc",
    "crps",
    "crps_fair",
    "spread_skill_ratio",
    "csi",
    "fss",
    "brier_score",
    "brier_score_fair",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to score, and how."""

    forecasts: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="FORECASTS",
            help="PATH, or NAME=PATH for several.",
            help_behavior_hint="(at least one)",
        ),
    ]
    """Forecasts: PATH, or NAME=PATH for several."""

    truth: _Path
    """What happened: any weather file that `weatherlib info` reads."""

    climatology: _OptionalPath = None
    """Climatology by hour and day of year, as `weatherlib stats --climatology` writes.
    """

    metrics: _Words = ()
    """Scores, such as rmse acc crps_fair power_spectrum. Default: what suits the data.
    """

    variables: _Words = ()
    """Variables to score. Default: all that forecasts and truth share."""

    levels: Annotated[tuple[float, ...], tyro.conf.arg(metavar="HPA ...")] = ()
    """Pressure levels. Default: all in common."""

    regions: _Words = ()
    """Regions of WeatherBench, such as tropics europe, or land sea, or boxes of your
    own: name=south,north,west,east. Default: global, tropics and extratropics."""

    land_sea_mask: _OptionalPath = None
    """File with the share of land, for the regions land and sea."""

    weighting: Literal["area", "cosine", "none"] = "area"
    """How much each point counts."""

    references: _Words = ("persistence", "climatology")
    """Of persistence climatology damped-persistence ridge, or none."""

    reference_data: Annotated[str | None, tyro.conf.arg(metavar="SOURCE")] = None
    """Archive that references, quantiles, and the climatology where none is given, are
    fitted to, such as that of the years before the truth. Default: the truth."""

    period: Annotated[str | None, tyro.conf.arg(metavar="START:END")] = None
    """Period of --reference-data, or of the truth, that they are fitted to; an end left
    empty is that of the data. Default: all of --reference-data."""

    harmonics: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Waves of the year of the fitted climatology. Default: 3 from two years on."""

    thresholds: Annotated[tuple[str, ...], tyro.conf.arg(metavar="VAR=A,B ...")] = ()
    """Events, such as total_precipitation_6hr=0.001,0.01 or 2m_temperature=q0.01,q0.99;
    their scores are printed and drawn by threshold."""

    neighbourhoods: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N ...")] = (
        1,
        3,
        5,
        9,
    )
    """Sides of squares of the fractions skill score, in grid points."""

    confidence: float = 0.95
    """Probability of the confidence intervals; 0 for none."""

    resamples: int = 1000
    """Samples of the block bootstrap."""

    block: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Consecutive starts kept together by the bootstrap. Default: those of five days.
    """

    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Of the samples of the bootstrap, and of ranks drawn where members tie with the
    truth."""

    skip_corrupt: bool = False
    """Leave out damaged files among many of forecasts, truth, reference data or
    climatology, and say how many."""

    by_start: bool = False
    """Also write the scores of every start by itself."""

    out_dir: _Path = "."
    """Folder for the scores and pictures, made if it is missing."""

    name: Annotated[str, tyro.conf.arg(metavar="NAME")] = "scores"
    """What the files are called."""

    memory: Annotated[int, tyro.conf.arg(metavar="MB")] = 256
    """Megabytes that fields may take while at work."""

    workers: Annotated[int, tyro.conf.arg(metavar="N")] = 2
    """Threads."""

    scheduler: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS")] = None
    """Address of a dask scheduler, such as tcp://10.0.0.1:8786, to work on instead."""


def run(options: Options) -> None:
    """Scores the forecasts, prints tables and writes files.

    Raises:
      ValueError: The data do not go together, or an option is wrong.
      FileNotFoundError: A file is missing.
      OSError: A file is damaged, cannot be written, or the scheduler not be reached.
    """
    from weatherlib import evaluation
    from weatherlib.cli import archives, console, files, score_pictures

    out = console.Console()
    _check_name(options.name)
    out_dir = files.writable_folder(options.out_dir)
    settings = _settings(options)
    with out.stage("open"):
        skipped: dict[str, str] = {}
        open_each = functools.partial(_open, options=options, skipped=skipped)
        forecasts = {
            name: open_each(path, by_start=True)
            for name, path in _named(options).items()
        }
        with _overlap_noted():
            truth = open_each(options.truth)
        archive = None
        if options.reference_data is not None:
            archive = open_each(options.reference_data)
        climatology = open_each(options.climatology) if options.climatology else None
        mask = _mask(options, truth)
    with out.stage("scores"), out.progress("Blocks", 1) as progress:
        sums = evaluation.accumulate(
            forecasts,
            truth,
            settings,
            climatology=climatology,
            reference_data=archive,
            land_sea_mask=mask,
            execution=evaluation.Execution(
                memory=options.memory * 2**20,
                workers=options.workers,
                scheduler=options.scheduler,
                progress=progress,
            ),
        )
        found = sums.results()
    if skipped:
        found.attrs["notes"] += f"\nfiles skipped: {archives.counted(skipped)}"
    _print(out, found, options)
    path = out_dir / options.name
    with out.stage("files"):
        written = [
            evaluation.write_results(found, path.with_name(f"{path.name}.nc")),
            evaluation.write_csv(found, path.with_name(f"{path.name}.csv")),
        ]
    with out.stage("pictures"):
        notes: list[str] = []
        written += score_pictures.draw(found, path, say=notes.append)
    out.heading("Files")
    for each in written:
        out.print(f"  {each}")
    for note in notes:
        out.print(f"  {note}")
    out.print()
    out.print_times()


def _check_name(name: str) -> None:
    """Raises a ValueError where the files cannot be called so in --out-dir."""
    if name in ("", "..") or pathlib.PurePath(name).name != name:
        raise ValueError(
            f"--name {name!r}: the files' name without a folder, such as scores; the "
            "folder is --out-dir"
        )


def _settings(options: Options) -> evaluation.Settings:
    """Returns the options in the form of the library."""
    from weatherlib import evaluation

    boxes = dict(evaluation.parse_box(r) for r in options.regions if "=" in r)
    named = tuple(r for r in options.regions if "=" not in r)
    references = tuple(r for r in options.references if r != "none")
    period = None
    if options.period is not None:
        period = tuple(options.period.split(":", 1))
        if len(period) != 2:
            raise ValueError(
                f"--period {options.period}: write START:END, such as "
                "2000-01-01:2006-12-31"
            )
    return evaluation.Settings(
        metrics=options.metrics,
        variables=options.variables,
        levels=options.levels,
        regions=named if options.regions else None,
        boxes=boxes,
        weighting=options.weighting,
        thresholds=_thresholds(options.thresholds),
        neighbourhoods=options.neighbourhoods,
        references=references,
        period=period,
        harmonics=options.harmonics,
        confidence=options.confidence,
        resamples=options.resamples,
        block=options.block,
        seed=options.seed,
        by_start=options.by_start,
    )


def _thresholds(
    texts: tuple[str, ...],
) -> Mapping[str, tuple[evaluation.Threshold, ...]]:
    """Returns the thresholds of each variable from VARIABLE=A,B."""
    from weatherlib import evaluation

    found = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name or not values:
            raise ValueError(
                f"--thresholds {text}: write VARIABLE=VALUE,VALUE, such as "
                "total_precipitation_6hr=0.001,0.01 or 2m_temperature=q0.99"
            )
        found[name] = tuple(evaluation.parse_threshold(v) for v in values.split(","))
    return found


def _named(options: Options) -> dict[str, str]:
    """Returns the path of each forecast by name."""
    found: dict[str, str] = {}
    for text in options.forecasts:
        name, equals, path = text.partition("=")
        if not equals or pathlib.Path(text).exists():
            name, path = pathlib.Path(text).name.split(".")[0] or "forecast", text
        if name in found:
            raise ValueError(f"two forecasts are called {name}; name them as NAME=PATH")
        found[name] = path
    if not found:
        raise ValueError(
            "FORECASTS: name at least one file of forecasts, as PATH or NAME=PATH"
        )
    return found


def _open(
    path: str, options: Options, skipped: dict[str, str], *, by_start: bool = False
) -> xarray.Dataset:
    """Returns an archive; `skipped` takes the files that are left out."""
    from weatherlib.cli import archives

    dataset, found = archives.open_dataset(
        path, skip_corrupt=options.skip_corrupt, by_start=by_start
    )
    skipped.update(found)
    return dataset


@contextlib.contextmanager
def _overlap_noted() -> Iterator[None]:
    """Adds to the error of files that overlap how an archive and later days go in."""
    try:
        yield
    except ValueError as error:
        if "overlap=" in str(error):
            error.add_note(
                "on the command line: the file of the days to score as --truth, the "
                "archive before it as --reference-data"
            )
        raise


def _mask(options: Options, truth: xarray.Dataset) -> xarray.DataArray | None:
    """Returns the land-sea mask of its file, or of the truth where it is asked for."""
    from weatherlib import data
    from weatherlib.data_utils import lexicon

    asked = {"land", "sea"} & set(options.regions)
    if options.land_sea_mask is None and not asked:
        return None
    source = truth
    if options.land_sea_mask is not None:
        source = data.open_dataset(options.land_sea_mask)
    where = options.land_sea_mask or options.truth
    name = "land_sea_mask"
    held = name if name in source else lexicon.find_source(name, source)
    if held is None:
        raise ValueError(
            f"{where}: has no variable land_sea_mask for the regions land and sea; "
            "name a file that has one with --land-sea-mask"
        )
    mask = source[held]
    return mask.isel({d: 0 for d in mask.dims if d in ("time", "batch")}, drop=True)


def _print(out: console.Console, found: xarray.Dataset, options: Options) -> None:
    """Prints what was scored, and a table of each of the chief metrics."""
    from weatherlib import evaluation
    from weatherlib.cli import score_pictures

    out.heading("Scored")
    for note in found.attrs["notes"].splitlines():
        out.print(f"  {note}")
    held = score_pictures.metric_names(found)
    shown = [m for m in held if m in _SHOWN] if not options.metrics else held
    region = next(iter(found["region"].values)) if "region" in found.dims else "domain"
    starred = False
    for metric in shown:
        heading, rows = evaluation.score_rows(found, metric)
        if not rows:
            continue
        title = evaluation.METRICS[metric].long_name
        out.heading(f"{title[:1].upper()}{title[1:]} ({metric}), {region}")
        out.table(heading, rows)
        starred |= any("*" in cell for row in rows for cell in row)
    if starred:
        out.print()
        out.print(
            f"  * differs from {found.attrs['baseline']} beyond the "
            f"{float(found.attrs['confidence']):.0%} confidence interval"
        )
