"""Skill of a GraphCast checkpoint against persistence and climatology.

    python benchmarks/skill.py --data archive.nc --train-end 2003-09-28 \
        --held-out 2003-10-18 --climatology climatology.nc --json skill.json

or, for weather of another seed, with the climatology that the first command kept:

    weatherlib simulate other.nc --days 60 --seed 3 --start 2005-06-10
    python benchmarks/skill.py --data other.nc --train-end 2005-06-10 \
        --held-out 2005-06-10 --climatology climatology.nc

Root-mean-square errors, weighted by area, over forecasts that start at even distances
in the held-out period. Climatology is the mean of the training period at each grid
point and hour of the day. A variable passes at a lead time when its error is at most
`--ratio` times that of the better reference. Without `--checkpoint` the bundled one is
judged. The exit status is 1 when a headline entry fails.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import haiku as hk
import jax
import numpy as np
import pandas as pd
import xarray

from weatherlib import (
    autoregressive,
    bundled,
    checkpoint,
    data,
    data_utils,
    evaluation,
    graphcast,
    normalization,
)
from weatherlib.evaluation import deterministic, reading
from weatherlib.geometry import sphere

# Variable and level (hPa) of the entries that must pass.
HEADLINES = (
    ("geopotential", 500),
    ("temperature", 850),
    ("2m_temperature", None),
    ("mean_sea_level_pressure", None),
    ("10m_u_component_of_wind", None),
)
_GRAVITY = 9.80665


@dataclasses.dataclass(frozen=True)
class Score:
    """Errors of one variable at one lead time, in the units of the variable."""

    name: str
    level: int | None
    hours: int
    forecast: float
    persistence: float
    climatology: float

    @property
    def ratio(self) -> float:
        """The error of the forecast over that of the better reference."""
        return self.forecast / min(self.persistence, self.climatology)


def load_forecast(path: pathlib.Path, stats: pathlib.Path) -> tuple[Any, Any]:
    """Returns the task of a checkpoint and its compiled forecast."""
    model = checkpoint.open_checkpoint(path, graphcast.CheckPoint)
    kinds = {
        f"{kind}_by_level": xarray.load_dataset(stats / f"{kind}_by_level.nc")
        for kind in ("mean", "stddev", "diffs_stddev")
    }

    def forecast(
        inputs: xarray.Dataset, template: xarray.Dataset, forcings: xarray.Dataset
    ) -> xarray.Dataset:
        predictor = graphcast.GraphCast(model.model_config, model.task_config)
        predictor = normalization.InputsAndResiduals(predictor, **kinds)
        return autoregressive.Predictor(predictor)(inputs, template, forcings)

    apply = jax.jit(hk.without_apply_rng(hk.transform(forecast)).apply)
    return model.task_config, lambda *batch: jax.device_get(apply(model.params, *batch))


def climatology(dataset: xarray.Dataset) -> xarray.Dataset:
    """Returns the mean at each grid point and hour of the day, as `hour`."""
    names = list(map(str, dataset.data_vars))
    times = dataset["datetime"].values.ravel()
    if not times.size:
        raise ValueError("the data has no frames before --train-end for a climatology")
    series = dataset.drop_vars("datetime").assign_coords(time=times)
    truth = reading.TruthReader(series)
    fitted = evaluation.fit_climatology(truth, names, harmonics=0, by_hour=True)
    levels = series["level"].values if "level" in series.dims else None
    found = {}
    for name in names:
        dims = (
            ("level", "lat", "lon") if "level" in series[name].dims else ("lat", "lon")
        )
        held = levels if "level" in dims else None
        days = [np.datetime64(f"2000-01-01T{hour:02d}", "ns") for hour in fitted.hours]
        mean = fitted.at(name, np.array(days), held).astype(np.float32)
        mean = mean if "level" in dims else mean[:, 0]
        found[name] = (("hour", *dims), mean)
    coords = {d: series[d] for d in ("level", "lat", "lon") if d in series.coords}
    return xarray.Dataset(found, {**coords, "hour": list(fitted.hours)})


def samples(
    dataset: xarray.Dataset, task: Any, steps: int, starts: int
) -> Iterator[tuple[Any, tuple[xarray.Dataset, ...]]]:
    """Yields the valid times, and inputs, targets and forcings, of each forecast."""
    step = data_utils.infer_time_step(dataset["time"])
    frames = round(pd.Timedelta(task.input_duration) / step)
    last = dataset.sizes["time"] - frames - steps
    if last < starts - 1:
        raise ValueError(
            f"{dataset.sizes['time']} held-out frames are too few for {starts} starts"
        )
    for start in np.linspace(0, last, starts).astype(int):
        window = dataset.isel(time=slice(start, start + frames + steps))
        window = window.compute()
        valid = pd.DatetimeIndex(window["datetime"].values.ravel()[frames:])
        leads = slice(step, steps * step)
        yield (
            valid,
            data_utils.extract_inputs_targets_forcings(
                window,
                target_lead_times=leads,
                **dataclasses.asdict(task),
            ),
        )


def mean_square(error: xarray.Dataset) -> xarray.Dataset:
    """Returns the area-weighted mean of the squares for each lead time and level."""
    weights = sphere.latitude_weights(error["lat"].values)

    def mean(array: xarray.DataArray) -> xarray.DataArray:
        over = ("batch", "lat", "lon")
        rest = [dim for dim in array.dims if dim not in over]
        values = array.transpose(*rest, *over).values
        found = deterministic.mse(values, 0.0, weights[:, None], axis=(-3, -2, -1))
        return xarray.DataArray(found, {d: array[d] for d in rest}, rest)

    return error.map(mean)


def evaluate(
    forecast: Any,
    task: Any,
    held_out: xarray.Dataset,
    normal: xarray.Dataset,
    steps: int,
    starts: int,
) -> list[Score]:
    """Returns the scores of every target variable, level and lead time."""
    sums: dict[str, Any] = collections.defaultdict(float)
    names = list(task.target_variables)
    for valid, (inputs, targets, forcings) in samples(held_out, task, steps, starts):
        found = forecast(inputs, targets * np.nan, forcings)
        expected = normal[names].sel(hour=xarray.DataArray(valid.hour, dims="time"))
        expected = expected.drop_vars("hour").assign_coords(time=targets["time"])
        guesses = {"forecast": found, "climatology": expected}
        known = [name for name in names if name in inputs]
        guesses["persistence"] = inputs[known].isel(time=-1, drop=True)
        for kind, guess in guesses.items():
            sums[kind] = sums[kind] + mean_square(guess - targets[list(guess)]) / starts
    return list(_scores({kind: np.sqrt(value) for kind, value in sums.items()}))


def _scores(errors: dict[str, xarray.Dataset]) -> Iterator[Score]:
    """Yields the entries of datasets of errors."""
    forecast = errors["forecast"]
    for name, array in forecast.items():
        for level in array["level"].values if "level" in array.dims else [None]:
            for lead in array["time"].values:
                place = {"time": lead} | ({} if level is None else {"level": level})
                values = [
                    float(errors[kind][name].sel(place))
                    if name in errors[kind]
                    else np.inf
                    for kind in ("forecast", "persistence", "climatology")
                ]
                hours = int(lead / np.timedelta64(1, "h"))
                level_number = None if level is None else int(level)
                yield Score(str(name), level_number, hours, *values)


def report(scores: list[Score], ratio: float) -> bool:
    """Prints a table of the headline entries; returns whether all of them pass."""
    passed = True
    print(f"{'':32s} hours  forecast  persist.   climat.  ratio")
    for name, level in HEADLINES:
        for score in scores:
            if (score.name, score.level) != (name, level):
                continue
            unit = _GRAVITY if name == "geopotential" else 1.0
            label = name if level is None else f"{name} {level}"
            good = score.ratio <= ratio
            passed &= good
            print(
                f"{label:32s} {score.hours:5d} {score.forecast / unit:9.3f} "
                f"{score.persistence / unit:9.3f} {score.climatology / unit:9.3f} "
                f"{score.ratio:6.3f} {'pass' if good else 'FAIL'}"
            )
    return passed


def main() -> int:
    """Judges the checkpoint of the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="archive of weather")
    parser.add_argument("--train-end", required=True, help="end of the climatology")
    parser.add_argument("--held-out", required=True, help="first time of the test")
    parser.add_argument("--checkpoint", type=pathlib.Path, default=None)
    parser.add_argument("--stats", type=pathlib.Path, default=None)
    parser.add_argument("--starts", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--ratio", type=float, default=0.9)
    parser.add_argument(
        "--climatology",
        type=pathlib.Path,
        help="file to keep the climatology in, or to read it from",
    )
    parser.add_argument("--json", type=pathlib.Path, help="file of all scores")
    words = parser.parse_args()
    began = time.monotonic()
    path = words.checkpoint or bundled.checkpoint_path()
    stats = words.stats or (
        bundled.statistics_path() if words.checkpoint is None else path.parent / "stats"
    )
    task, forecast = load_forecast(path, stats)
    dataset, _ = data.conform(data.open_dataset(words.data), task)
    times = dataset["datetime"].values.ravel()
    names = list(task.target_variables)
    if words.climatology is not None and words.climatology.exists():
        normal = xarray.load_dataset(words.climatology)
    else:
        train = dataset[names].isel(
            batch=0, time=times < np.datetime64(words.train_end)
        )
        normal = climatology(train)
        if words.climatology is not None:
            normal.to_netcdf(words.climatology)
    held_out = dataset.isel(time=times >= np.datetime64(words.held_out))
    scores = evaluate(forecast, task, held_out, normal, words.steps, words.starts)
    passed = report(scores, words.ratio)
    print(f"{words.starts} starts, {time.monotonic() - began:.0f} s")
    if words.json is not None:
        rows = [dataclasses.asdict(score) | {"ratio": score.ratio} for score in scores]
        words.json.write_text(json.dumps(rows, indent=1), encoding="utf8")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
