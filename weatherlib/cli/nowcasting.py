"""Scores, tables and pictures of nowcasts: what `weatherlib nowcast` is made of.

`examples/nowcast.py` and the command call the same functions:

    samples = nowcasting.find_samples(config.data, period, targets=6)
    found = nowcasting.collect(models, ("persistence",), samples, options)
    scores = evaluation.evaluate_nowcasts(found, samples)
    nowcasting.write_scores(scores, folder)
"""

from __future__ import annotations

import csv
import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray

from weatherlib import config as configs
from weatherlib import optional, training, writing
from weatherlib.cli import nowcasters, radar_frames, settings
from weatherlib.data import radar_sequences, radar_units
from weatherlib.evaluation import nowcast_references, tables
from weatherlib.evaluation.nowcast_scores import OVER_LEADS
from weatherlib.evaluation.nowcasts import Nowcaster

__all__ = [
    "REFERENCES",
    "choose",
    "collect",
    "find_period",
    "find_samples",
    "rainiest",
    "read_data",
    "score_table",
    "write_scores",
]

REFERENCES = ("persistence", "extrapolation", "pysteps", "steps")
"""Nowcasts that need no training. The last two need the extra `nowcast`."""

_TABLE = ("rmse", "crps", "ensemble_spread")


def read_data(
    config: str | os.PathLike[str] | None,
    path: str | None = None,
    changes: Sequence[str] = (),
) -> training.DataConfig:
    """Returns what nowcasts are judged on, from the configuration of a run.

    Args:
      config: YAML file as `weatherlib train` takes and writes it; None for none.
      path: Of the data, in place of what the file says.
      changes: `key=value`, such as "data.radar.tile=64".

    Raises:
      FileNotFoundError: There is no such file.
      ValueError: It is no YAML, or a setting of the data is wrong or missing.
    """
    values: dict[str, Any] = {"data": {"radar": {}}}
    if config is not None:
        values = settings.read_values(config)
    for word in changes:
        settings.change(values, word)
    section = values.get("data")
    if not isinstance(section, dict):
        raise ValueError(f"{config}: data: missing; name the radar pictures there")
    if path is not None:
        section["path"] = path
    if section.get("path") is None:
        raise ValueError("no radar pictures are named; give --data FILE")
    try:
        return configs.from_dict(training.DataConfig, section)
    except ValueError as error:
        where = "" if config is None else f"{config}: "
        raise ValueError(f"{where}data: {error}") from error


def find_period(
    data: training.DataConfig,
    split: str | None = None,
    *,
    start: str | None = None,
    end: str | None = None,
) -> training.Period:
    """Returns the period that nowcasts are judged on.

    Args:
      data: Has the periods of a run.
      split: "train", "validation" or "test"; None is the test, or else the validation,
        or for SEVIR without either the published test.
      start: First time, in place of a part of the settings.
      end: First time after it.

    Raises:
      ValueError: There is no such part, none is named, or times make no sense.
    """
    is_sevir = data.radar is not None and data.radar.kind == "sevir"
    if start or end:
        if split is not None or is_sevir:
            raise ValueError(
                "start and end: choose by split for SEVIR, and by one of the two for a "
                "series"
            )
        return training.Period(start=start, end=end)
    if split is not None:
        found = data[split]
        if found is None and is_sevir:
            return configs.from_dict(training.Period, {"split": split})
        if found is None:
            raise ValueError(f"data.{split}: has no times; give --start and --end")
        return found
    for found in (data.test, data.validation):
        if found is not None:
            return found
    if is_sevir:
        return training.Period(split="test")
    raise ValueError(
        "data.test and data.validation: neither has times, so there is nothing to "
        "judge on; give --start or --end"
    )


def find_samples(
    data: training.DataConfig, period: training.Period, targets: int
) -> radar_sequences.Sequences:
    """Returns the samples that nowcasts are judged on, neither turned nor mirrored.

    Args:
      data: With `radar`.
      period: Holds them with all their frames.
      targets: Frames to nowcast.

    Raises:
      ValueError: The data are no radar pictures, or have no sample in the period.
      FileNotFoundError: A file is missing.
      OSError: A file is damaged or cut short.
    """
    if data.radar is None:
        raise ValueError(
            "data.radar: missing; nowcasts are of radar pictures. Add it to the "
            "configuration, such as --set data.radar.tile=64"
        )
    # Only the period is needed, so that training data need not be there.
    judged = data.replace(train=period, validation=None, test=None)
    return radar_frames.RadarFrames(judged).sequences(period, targets=targets)


def collect(
    models: Mapping[str, str | os.PathLike[str]],
    references: Sequence[str],
    samples: radar_sequences.Sequences,
    options: nowcasters.Options,
) -> dict[str, Nowcaster]:
    """Returns models and references by name, the models first.

    Args:
      models: Checkpoints or folders of runs by name.
      references: Some of `REFERENCES`.
      samples: Say how large a cell and how long a step is.
      options: How members are drawn. A model that is guided is there without a guide
        too, and called "NAME, guided" with it.

    Raises:
      ValueError: A name is unknown or occurs twice, or there is none; or what is asked
        for no model can do.
      FileNotFoundError: A checkpoint is missing.
      OSError: A file is damaged.
      ImportError: pysteps is asked for and not installed.
    """
    unknown = [name for name in references if name not in REFERENCES]
    if unknown:
        hint = configs.closest_hint(unknown[0], REFERENCES)
        raise ValueError(f"references: there is no {unknown[0]!r}{hint}")
    both = sorted(set(models) & set(references))
    if both:
        raise ValueError(f"{', '.join(both)}: is the name of a reference; take another")
    found: dict[str, Nowcaster] = {}
    for name, path in models.items():
        found |= _model(name, path, options)
    if options.guide is not None and len(found) == len(models):
        raise ValueError(
            "guide: none of the models can be guided; those of the family prediff can"
        )
    for name in references:
        found[name] = _reference(name, samples, options)
    if not found:
        raise ValueError("there is neither a model nor a reference to judge")
    for name, nowcaster in found.items():
        step = getattr(nowcaster, "step", None) or samples.step
        if step != samples.step:
            raise ValueError(
                f"{name}: trained on frames {_minutes(step):g} min apart, the samples "
                f"have {_minutes(samples.step):g} min; set data.radar.every"
            )
    return found


def choose(samples: radar_sequences.Sequences, count: int | None) -> np.ndarray:
    """Returns the numbers of so many samples, spread evenly; all of them for None.

    Raises:
      ValueError: The count is below 1.
    """
    if count is None or count >= len(samples):
        return np.arange(len(samples))
    if count < 1:
        raise ValueError(f"samples is at least 1, found {count}")
    return np.unique(np.linspace(0, len(samples) - 1, count).round().astype(int))


def rainiest(
    samples: radar_sequences.Sequences,
    numbers: Sequence[int] | np.ndarray,
    count: int,
) -> list[int]:
    """Returns so many samples, those with the most that follows first.

    Raises:
      OSError: A file cannot be read.
    """
    if count < 1:
        return []
    first = samples.config.inputs
    amounts = [float(np.nanmean(samples.pixels(int(n))[first:])) for n in numbers]
    order = np.argsort(amounts, kind="stable")[::-1][:count]
    return [int(numbers[place]) for place in order]


def write_scores(scores: xarray.Dataset, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes `scores.nc` and `scores.csv`, each whole or not at all.

    The table has a line for each score of each model and lead time, and where there are
    scores over all leads, one for those, whose lead time is "all".

    Raises:
      OSError: A file cannot be written.
    """
    path = tables.write_results(scores, folder / "scores.nc")
    csv_path = folder / "scores.csv"
    with (
        writing.replacing(csv_path) as partial,
        partial.open("w", encoding="utf8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["score", "model", "lead_minutes", "at", "value"])
        for name, array in scores.data_vars.items():
            writer.writerows(_lines(str(name), array))
    return [path, csv_path]


def score_table(
    scores: xarray.Dataset, *, leads: int = 4
) -> list[tuple[str, list[str], list[list[str]]]]:
    """Returns titles, headings and rows of tables for people, by lead time.

    CSI of the first two thresholds, on average over those that have one for every model
    and lead time, and over all of them as published; the error, the CRPS, and where
    there is an ensemble its spread. The last column is of all lead times together,
    where there are such scores.

    Args:
      scores: From `evaluation.evaluate_nowcasts`.
      leads: Most lead times shown; the first and the last are among them.
    """
    places = np.unique(
        np.linspace(0, scores.sizes["lead_time"] - 1, leads).round().astype(int)
    )
    minutes = scores["lead_time"].values[places] / np.timedelta64(1, "m")
    heading = ["", *(f"{m:g} min" for m in minutes)]
    shown, whole = _shown(scores, ""), {}
    if f"csi{OVER_LEADS}" in scores:
        heading.append("all")
        whole = _shown(scores, OVER_LEADS)
    found = []
    for title, array in shown.items():
        rows = []
        for model in array["model"].values:
            values = array.sel(model=model).transpose("lead_time").values[places]
            if whole:
                values = [*values, whole[title].sel(model=model).item()]
            if np.isfinite(values).any():
                cells = [f"{v:.3g}" if np.isfinite(v) else "-" for v in values]
                rows.append([str(model), *cells])
        found.append((title, heading, rows))
    return found


def _shown(scores: xarray.Dataset, ending: str) -> dict[str, xarray.DataArray]:
    """Returns what tables show by title: scores whose names have an ending."""
    pool = scores["pool"].min()
    # Without an event there is no score, and means of different thresholds differ.
    defined = scores["csi"].sel(pool=pool).dropna("threshold")["threshold"].values
    csi = scores[f"csi{ending}"].sel(pool=pool)
    shown = {
        f"CSI, pixels of {limit:g} and more": csi.sel(threshold=limit)
        for limit in scores["threshold"].values[:2]
    }
    if len(defined) > 1:
        limits = ", ".join(f"{limit:g}" for limit in defined)
        shown[f"CSI, mean of {limits}"] = csi.sel(threshold=defined).mean("threshold")
    if len(defined) < scores.sizes["threshold"]:
        title = "CSI, mean of all thresholds, 0 without an event"
        shown[title] = scores[f"csi_mean{ending}"].sel(pool=pool)
    titles = {"rmse": "RMSE, pixels", "crps": "CRPS, pixels"}
    for name in _TABLE:
        if name in scores:
            shown[titles.get(name, "spread, pixels")] = scores[f"{name}{ending}"]
    return shown


def _model(
    name: str, path: str | os.PathLike[str], options: nowcasters.Options
) -> dict[str, Nowcaster]:
    """Returns a model by name, and guided too where it can be."""
    plain = dataclasses.replace(options, guide=None)
    if not nowcasters.draws_members(path):
        plain = dataclasses.replace(plain, sampler=None)
        return {name: nowcasters.open_nowcaster(path, plain)}
    found = {name: nowcasters.open_nowcaster(path, plain)}
    if options.guide is not None:
        found[f"{name}, guided"] = nowcasters.open_nowcaster(path, options)
    return found


def _reference(
    name: str, samples: radar_sequences.Sequences, options: nowcasters.Options
) -> Nowcaster:
    if name in ("pysteps", "steps"):
        optional.require("pysteps", extra="nowcast")
    makers: dict[str, Callable[[], Nowcaster]] = {
        "persistence": lambda: nowcast_references.persistence,
        "extrapolation": nowcast_references.Extrapolation,
        "pysteps": nowcast_references.PystepsExtrapolation,
        "steps": lambda: nowcast_references.PystepsSteps(
            members=options.members,
            minutes=_minutes(samples.step),
            cell_km=float(samples.cell_km),
            to_rain=radar_units.pixels_to_rain,
            from_rain=radar_units.rain_to_pixels,
            seed=options.seed,
        ),
    }
    return makers[name]()


def _lines(name: str, array: xarray.DataArray) -> list[list[Any]]:
    """Returns the lines of a score, one for each place that has a value."""
    dims = [d for d in ("model", "lead_time") if d in array.dims]
    others = [d for d in array.dims if d not in dims]
    ordered = array.transpose(*dims, *others)
    score = name.removesuffix(OVER_LEADS)
    found = []
    for place, value in np.ndenumerate(ordered.values):
        if not np.isfinite(value):
            continue
        minutes = "all"
        if len(dims) > 1:
            lead = ordered["lead_time"].values[place[1]]
            minutes = f"{lead / np.timedelta64(1, 'm'):g}"
        at = " ".join(
            f"{dim}={_label(ordered, dim, where)}"
            for dim, where in zip(others, place[len(dims) :])
        )
        model = ordered["model"].values[place[0]]
        found.append([score, model, minutes, at, f"{value:.7g}"])
    return found


def _label(array: xarray.DataArray, dim: Any, place: int) -> str:
    value = array[dim].values[place] if dim in array.coords else place
    return f"{value:g}"


def _minutes(step: Any) -> float:
    return float(np.timedelta64(step) / np.timedelta64(1, "m"))
