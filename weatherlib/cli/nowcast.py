"""Nowcast radar pictures with trained models, and score it beside references.

MODELS are runs of `weatherlib train` on radar pictures (folders or checkpoints), one or
several as NAME=PATH. Data, tiles and the period that is judged come from config.yaml of
the first run, or from --config. Written are scores by lead time and over all of
them (scores.nc and .csv), curves of the critical success index and of errors, spectra,
which make blur visible, and single cases as pictures, moving pictures and files.
Without a model, references alone are judged.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    import numpy as np
    import xarray

    from weatherlib import evaluation
    from weatherlib.cli import console, nowcasters
    from weatherlib.data import radar_sequences
    from weatherlib.evaluation.nowcasts import Nowcaster
    from weatherlib.training import sharding

__all__ = ["EXAMPLES", "Options", "run"]

EXAMPLES = (
    "weatherlib nowcast runs/radar_convlstm --output scores",
    "weatherlib nowcast convlstm=runs/radar_convlstm prediff=runs/prediff "
    "--data radar.nc --members 8 --start 2010-08-26T03:20 --end 2010-08-26T05",
    "weatherlib nowcast --data radar.nc --set data.radar.tile=128 "
    "--references persistence extrapolation pysteps --start 2010-08-26T03:00",
)

_MOST_LEADS = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to nowcast, and how to judge it."""

    models: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="MODELS", help="PATH, or NAME=PATH for several."),
    ] = ()
    """Trained models: PATH, or NAME=PATH for several."""

    config: Annotated[str | None, tyro.conf.arg(metavar="CONFIG.yaml")] = None
    """Settings of the data. Default: config.yaml beside the first model."""

    data: Annotated[str | None, tyro.conf.arg(metavar="PATH")] = None
    """Radar file, or folder of SEVIR, in place of what the settings name."""

    set: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="KEY=VALUE"),
    ] = ()
    """Change a setting, such as data.radar.tile=64. Can be given several times."""

    split: Annotated[
        Literal["train", "validation", "test"] | None,
        tyro.conf.arg(metavar="{train,validation,test}"),
    ] = None
    """Part of the data to judge on. Default: test, where the settings have one, or
    validation."""

    start: Annotated[str | None, tyro.conf.arg(metavar="TIME")] = None
    """First time to judge on, in place of a part, such as 2010-08-26T03:20."""

    end: Annotated[str | None, tyro.conf.arg(metavar="TIME")] = None
    """First time after those to judge on."""

    output: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "nowcasts"
    """Where results go."""

    leads: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Frames to nowcast. Default: what the models predict at once, or 6."""

    references: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = (
        "persistence",
        "extrapolation",
    )
    """Of persistence extrapolation pysteps steps, or none."""

    members: int = 8
    """Futures drawn by models that draw them, and by steps."""

    sampler: Annotated[
        str | None, tyro.conf.arg(metavar="KIND[:STEPS][:SETTING]...")
    ] = None
    """How they are drawn: ancestral, ddim:50 or dpm_solver:20, with settings such as
    dpm_solver:20:stochastic:spacing=log_snr, ddim:50:eta=1 or ancestral:100:truncated,
    as published. Default: as the model says."""

    guide: Annotated[
        str | None, tyro.conf.arg(metavar="SCALE[:FACTOR[:last|truth]]")
    ] = None
    """Also pull the mean intensity of diffusion models with this strength towards
    FACTOR times that of the last known frame; 50:1.5 is half as much rain again. With
    truth it is that of what follows: an experiment, as published with 50:2:truth."""

    alignment: Annotated[str | None, tyro.conf.arg(metavar="PATH")] = None
    """Run or checkpoint of the alignment network that reads the mean intensity."""

    sharding: Annotated[str | None, tyro.conf.arg(metavar="AXIS=N,...")] = None
    """Spread the work over all devices, such as data=8 or data=2,space=4: data shares
    samples and members, space the pixels of models without members; -1 takes the
    devices left. Default: one device."""

    samples: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Samples to score, spread evenly. Default: all of the period."""

    batch_size: int = 4
    """Samples at a time."""

    thresholds: Annotated[tuple[float, ...], tyro.conf.arg(metavar="PIXEL ...")] = ()
    """Pixels from which on there is an event. Default: those of SEVIR."""

    pools: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N ...")] = (1, 4, 16)
    """Sides of squares of which the largest pixel is compared."""

    neighbourhoods: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N ...")] = ()
    """Sides of squares of the fractions skill score. Default: without, for it takes
    the most time."""

    cases: int = 1
    """Single nowcasts that are drawn."""

    still: bool = False
    """Draw no moving pictures of them."""

    seed: int = 0
    """Of what is drawn."""


def run(options: Options) -> None:
    """Nowcasts and judges what the options ask for.

    Raises:
      ValueError: Models, data and options do not go together.
      FileNotFoundError: A file is missing.
      OSError: Something cannot be read or written.
      ImportError: pysteps is asked for and not installed.
    """
    from weatherlib import config, evaluation
    from weatherlib.cli import console, files, nowcast_pictures, nowcasting, spreading

    out = console.Console()
    models = _named(options.models)
    if options.leads is not None and options.leads < 1:
        raise ValueError(f"--leads is at least 1, found {options.leads}")
    config.require_seed(options.seed, "--seed")
    layout = None if options.sharding is None else spreading.layout(options.sharding)
    folder = files.writable_folder(options.output)
    with out.stage("preparation"):
        work = _prepare(options, models, layout, out)
    out.facts([*work.facts, *spreading.facts(layout)])
    with out.stage("nowcasts"), out.progress("Samples", len(work.numbers)) as progress:
        scores = evaluation.evaluate_nowcasts(
            work.nowcasters,
            work.samples,
            work.judged,
            numbers=work.numbers,
            batch_size=options.batch_size,
            over_leads="both",
            progress=progress,
        )
    with out.stage("files"):
        written = nowcasting.write_scores(scores, folder)
        written += nowcast_pictures.draw_scores(scores, folder)
        cases = nowcasting.rainiest(work.samples, work.numbers, options.cases)
        written += nowcast_pictures.draw_cases(
            work.nowcasters, work.samples, cases, folder, animate=not options.still
        )
    _print(out, scores)
    out.print(f"{folder}/{', '.join(path.name for path in written)}")
    out.print_times()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Work:
    """What is nowcast, by what, and how it is judged.

    Attributes:
      nowcasters: Models and references by name.
      samples: Those of the period.
      numbers: Which of them are judged.
      judged: How.
      facts: What there is to say of it.
    """

    nowcasters: dict[str, Nowcaster]
    samples: radar_sequences.Sequences
    numbers: np.ndarray
    judged: evaluation.NowcastConfig
    facts: list[tuple[str, str]]


def _prepare(
    options: Options,
    models: dict[str, str],
    layout: sharding.Layout | None,
    out: console.Console,
) -> _Work:
    """Opens data and models.

    Raises:
      ValueError: Models, data and options do not go together.
      OSError: A file cannot be read.
      ImportError: pysteps is asked for and not installed.
    """
    from weatherlib import evaluation
    from weatherlib.cli import nowcasters, nowcasting

    each = [nowcasters.frames_of(path) for path in models.values()]
    data = nowcasting.read_data(_config(options, models), options.data, options.set)
    period = nowcasting.find_period(
        data, options.split, start=options.start, end=options.end
    )
    leads = options.leads or max(each, default=_MOST_LEADS)
    samples = nowcasting.find_samples(data, period, leads)
    drawn = nowcasters.Options(
        members=options.members,
        seed=options.seed,
        cell_km=float(samples.cell_km),
        guide=_guide(options),
        sampler=options.sampler,
        layout=layout,
        progress=out.steps("Denoising"),
    )
    references = () if options.references == ("none",) else options.references
    found = nowcasting.collect(models, references, samples, drawn)
    numbers = nowcasting.choose(samples, options.samples)
    rows, columns = samples.shape
    return _Work(
        nowcasters=found,
        samples=samples,
        numbers=numbers,
        judged=evaluation.NowcastConfig(
            pools=options.pools,
            neighbourhoods=options.neighbourhoods,
            thresholds=options.thresholds or evaluation.NowcastConfig().thresholds,
        ),
        facts=[
            ("data", f"{data.path_text}, {period}"),
            ("samples", f"{len(numbers)} of {len(samples)}, {rows} x {columns} pixels"),
            ("nowcasts", ", ".join(found)),
        ],
    )


def _print(out: console.Console, scores: xarray.Dataset) -> None:
    """Prints the tables of the scores."""
    from weatherlib.cli import nowcasting

    for title, heading, lines in nowcasting.score_table(scores):
        out.print(title)
        out.table(heading, lines)
    if "notes" in scores.attrs:
        out.print(scores.attrs["notes"])


def _guide(options: Options) -> nowcasters.Guide | None:
    """Returns what members are guided by.

    Raises:
      ValueError: One of the two options is missing.
    """
    from weatherlib.cli import nowcasters

    if options.guide is None and options.alignment is None:
        return None
    if options.guide is None or options.alignment is None:
        raise ValueError(
            "--guide and --alignment go together: how much to pull, and the network "
            "that reads the mean intensity"
        )
    return nowcasters.Guide.parse(options.guide, options.alignment)


def _named(words: tuple[str, ...]) -> dict[str, str]:
    """Returns paths by name.

    Raises:
      ValueError: Two have one name.
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals:
            path = word
            plain = pathlib.Path(word)
            name = plain.parent.name if plain.suffix == ".npz" else plain.name
            name = name or "model"
        if name in found:
            raise ValueError(
                f"{word}: {name!r} stands for two models; name each as NAME=PATH"
            )
        found[name] = path
    return found


def _config(options: Options, models: dict[str, str]) -> pathlib.Path | None:
    """Returns the settings of the data: those named, or those of the first run."""
    if options.config is not None:
        return pathlib.Path(options.config)
    for path in models.values():
        folder = pathlib.Path(path)
        beside = (folder if folder.is_dir() else folder.parent) / "config.yaml"
        if beside.is_file():
            return beside
    return None
