"""What is left of the training of direct forecasts: errors, maps, and their parts."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray

from weatherlib import plotting, training
from weatherlib.cli import field_errors, models, pictures

__all__ = ["METRICS", "PICTURE", "Judged", "draw", "judge", "write_metrics"]

METRICS = "metrics_stage1_direct.json"
PICTURE = "spatial_examples_stage1.png"

_MOST_ROWS = 6

Progress = Callable[[int, int, float], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """Forecasts of one step, compared with what happened.

    Attributes:
      errors: As `FieldErrors.results`.
      persistence: Those of the last past frame, likewise.
      samples: How many forecasts.
      first: Start of the first, UTC.
      last: Start of the last, UTC.
      truth: Frames of one of them.
      forecast: What was forecast for them.
      start: Its start, UTC.
    """

    errors: dict[str, dict[str, Any]]
    persistence: dict[str, dict[str, Any]]
    samples: int
    first: np.datetime64
    last: np.datetime64
    truth: xarray.Dataset
    forecast: xarray.Dataset
    start: np.datetime64


def judge(
    model: models.Model,
    statistics: models.Statistics,
    frames: training.Frames,
    starts: np.ndarray,
    *,
    batch_size: int = 4,
    precision: str = "auto",
    progress: Progress | None = None,
) -> Judged:
    """Returns how good forecasts of one step are.

    Args:
      model: Trained.
      statistics: What it normalises with.
      frames: The series.
      starts: First frames of the samples.
      batch_size: Forecasts at a time.
      precision: As for `models.resolve_precision`.
      progress: Is told forecasts made, all of them, and seconds since the last.

    Raises:
      ValueError: Model and data do not go together.
    """
    import jax

    def make_predictor() -> Any:
        return models.build_predictor(
            model.model_config, model.task_config, statistics, precision=precision
        )

    objective = training.Objective(make_predictor)
    forecast = jax.jit(objective.forecast)
    placement = training.Placement()
    targets = model.frames_per_step
    errors, persistence = field_errors.FieldErrors(), field_errors.FieldErrors()
    shown: Any = None
    middle = len(starts) // 2
    for begin in range(0, len(starts), batch_size):
        numbers = _padded(starts[begin : begin + batch_size], batch_size)
        count = min(batch_size, len(starts) - begin)
        inputs, truth, forcings = frames.batch(numbers, targets)
        key = jax.random.fold_in(jax.random.PRNGKey(0), begin)
        blank = truth.map(np.zeros_like)
        placed = placement.place_shared((inputs, blank, forcings))
        made = placement.fetch(forecast(model.params, {}, key, placed))
        real = slice(count)
        truth, made = truth.isel(batch=real), made.isel(batch=real)
        errors.add(made, truth)
        before = {
            name: inputs[name].isel(batch=real, time=-1, drop=True)
            if name in inputs
            else xarray.zeros_like(truth[name].isel(time=0, drop=True))
            for name in truth
        }
        persistence.add(before, truth)
        if begin <= middle < begin + count:
            one = middle - begin
            shown = (truth.isel(batch=[one]), made.isel(batch=[one]))
        if progress is not None:
            progress(begin + count, len(starts), 0.0)
    dates = frames.datetimes[starts + _last_input(frames)]
    return Judged(
        errors=errors.results(),
        persistence=persistence.results(),
        samples=len(starts),
        first=dates[0],
        last=dates[-1],
        truth=shown[0],
        forecast=shown[1],
        start=dates[middle],
    )


def write_metrics(judged: Judged, path: pathlib.Path, **facts: Any) -> None:
    """Writes errors as JSON.

    Args:
      judged: From `judge`.
      path: Where to.
      **facts: What to say beside.

    Raises:
      OSError: It cannot be written.
    """
    variables = {
        name: {
            **row,
            "persistence": dict(judged.persistence[name]),
        }
        for name, row in judged.errors.items()
    }
    found = {
        **facts,
        "samples": judged.samples,
        "first_start": str(np.datetime_as_string(judged.first, unit="m")),
        "last_start": str(np.datetime_as_string(judged.last, unit="m")),
        "weighting": "area",
        "variables": variables,
    }
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf8")


def draw(judged: Judged, path: pathlib.Path) -> pathlib.Path:
    """Draws truth, forecast and difference of one forecast, and returns the path.

    A row for each frame of the first variable; with several variables, a row for the
    last frame of each, at the level next to 500 hPa.

    Raises:
      OSError: It cannot be written.
    """
    names = list(judged.truth)
    count = judged.truth.sizes["time"]
    wanted: list[tuple[Any, int]] = [(names[0], step) for step in range(count)]
    if len(names) > 1:
        wanted = [(name, count - 1) for name in names]
    pairs, labels = [], []
    for name, step in wanted[:_MOST_ROWS]:
        both = [
            pictures.select(data, str(name), _level(data, str(name))).isel(time=step)
            for data in (judged.truth, judged.forecast)
        ]
        hours = both[0]["time"].values / np.timedelta64(1, "h")
        pairs.append((both[0], both[1]))
        title = pictures.file_title(both[0]).replace("_", " ")
        labels.append(f"+{hours:g} h" if len(names) == 1 else f"{title}\n+{hours:g} h")
    stamp = np.datetime_as_string(judged.start, unit="h").replace("T", " ")
    head = f"{pictures.file_title(pairs[0][0]).replace('_', ' ')}, " * (len(names) == 1)
    figure = plotting.draw_pairs(
        pairs, labels, title=f"{head}direct forecast from {stamp} UTC"
    )
    return plotting.save_figure(figure, path)


def _level(dataset: xarray.Dataset, name: str) -> float | None:
    """Returns the level next to 500 hPa of a variable that has several."""
    field = dataset[name]
    if "level" not in field.dims:
        return None
    levels = field["level"].values
    return float(levels[np.abs(levels - 500).argmin()])


def _padded(starts: np.ndarray, size: int) -> np.ndarray:
    """Returns starts, the last one repeated, so that each batch compiles the same."""
    return np.pad(starts, (0, size - len(starts)), mode="edge")


def _last_input(frames: training.Frames) -> int:
    """Returns how many places after its first a sample's last input frame lies."""
    stride = round(frames.step / np.diff(frames.datetimes).min())
    return (frames.inputs - 1) * max(stride, 1)
