"""How good a predictor is: its loss, and its errors beside those of persistence."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import xarray

from weatherlib.geometry import sphere
from weatherlib.training.config import Period, ValidationConfig
from weatherlib.training.frames import Frames, Loader
from weatherlib.training.objective import Objective
from weatherlib.training.placement import Placement
from weatherlib.typing import PyTree

__all__ = ["LeadValidator", "Validator"]


class _Judge:
    """Fixed samples and the compiled functions that judge them."""

    def __init__(
        self,
        objective: Any,
        samples: Sequence[int] | np.ndarray,
        settings: ValidationConfig,
        placement: Placement | None,
    ) -> None:
        self._objective, self._settings = objective, settings
        self._placement = placement or Placement()
        self._samples, self._size = _chosen(samples, settings)
        self._loss = jax.jit(lambda *args: objective.loss(*args)[0])
        self._forecast = jax.jit(objective.forecast)
        self._key = jax.random.PRNGKey(0)

    @property
    def count(self) -> int:
        """How many samples are judged, of each lead time where there are several."""
        return len(self._samples)


class Validator(_Judge):
    """Judges parameters on fixed samples, compiled once.

    The loss is that of `rollout` steps. Errors are root-mean-square errors in the units
    of each target, weighted by area, at some leads; those of persistence stand beside
    them. Targets that are no inputs have no persistence; zero is taken, which for
    precipitation is the dry forecast.
    """

    def __init__(
        self,
        objective: Objective,
        load: Callable[[int], Loader],
        samples: Sequence[int] | np.ndarray,
        settings: ValidationConfig,
        *,
        placement: Placement | None = None,
    ) -> None:
        """Chooses the samples; nothing is read yet.

        Args:
          objective: Loss and forecast, without the randomness of training.
          load: Returns the loader of samples with so many target frames.
          samples: First frames of all samples there are, long enough for all leads.
          settings: How many samples, which leads and levels.
          placement: Devices and processes. All processes read all samples.
        """
        super().__init__(objective, samples, settings, placement)
        self._load = load

    def __call__(self, params: PyTree, model_state: PyTree) -> dict[str, Any]:
        """Returns `metric`, `loss`, and by variable and lead `rmse` and `persistence`.

        Variables on levels appear as `name@level`.
        """
        steps = self._objective.frames_per_step
        losses = []
        for index, batch in enumerate(self._batches(self._settings.rollout * steps)):
            key = jax.random.fold_in(self._key, index)
            batch = self._placement.place_shared(batch)
            losses.append(self._loss(params, model_state, key, batch))
        loss = float(np.mean(self._placement.fetch(losses)))
        record: dict[str, Any] = {"metric": loss, "loss": loss, "samples": self.count}
        if self._settings.leads:
            record |= self._errors(params, model_state)
        if self._settings.metric == "rmse":
            record["metric"] = record["relative_rmse"]
        return record

    def _batches(self, targets: int) -> Iterator[Any]:
        load = self._load(targets)
        for first in range(0, len(self._samples), self._size):
            yield load(self._samples[first : first + self._size])

    def _errors(self, params: PyTree, model_state: PyTree) -> dict[str, Any]:
        steps = self._objective.frames_per_step
        leads = self._settings.leads
        sums: dict[str, Any] = collections.defaultdict(
            lambda: np.zeros((2, len(leads)))
        )
        batches = 0
        whole = -(-max(leads) // steps) * steps
        for index, batch in enumerate(self._batches(whole)):
            inputs, targets, forcings = batch
            blank = targets.map(np.zeros_like)
            key = jax.random.fold_in(self._key, index)
            placed = self._placement.place_shared((inputs, blank, forcings))
            found = self._forecast(params, model_state, key, placed)
            found = self._placement.fetch(found)
            frames = np.asarray(leads) - 1
            place = {dim: found[dim].values for dim in ("lat", "lon")}
            for name, whole in targets.items():
                truth, last = whole.sel(place), 0.0
                if name in inputs:
                    last = inputs[name].isel(time=-1, drop=True).sel(place)
                for row, guess in enumerate((found[name], last)):
                    for label, square in _squares(
                        str(name), guess - truth, frames, self._settings.levels
                    ):
                        sums[label][row] += square
            batches += 1
        errors = {name: np.sqrt(squares / batches) for name, squares in sums.items()}
        ratios = [
            (rows[0] / np.maximum(rows[1], 1e-30)).mean() for rows in errors.values()
        ]
        labels = [str(lead) for lead in leads]
        return {
            "rmse": {
                n: dict(zip(labels, rows[0].tolist())) for n, rows in errors.items()
            },
            "persistence": {
                n: dict(zip(labels, rows[1].tolist())) for n, rows in errors.items()
            },
            "relative_rmse": float(np.mean(ratios)),
        }


class LeadValidator(_Judge):
    """Judges forecasts of one step at some lead times, compiled once for all of them.

    The loss is the mean over the lead times, of which `losses` has each. Errors are as
    those of `Validator`, labelled by lead times such as "24h".
    """

    def __init__(
        self,
        objective: Any,
        frames: Frames,
        leads: Sequence[int],
        settings: ValidationConfig,
        *,
        period: Period | None = None,
        placement: Placement | None = None,
    ) -> None:
        """Chooses the samples; nothing is read yet.

        Args:
          objective: Loss and forecast, without the randomness of training.
          frames: The series.
          leads: Lead times in steps.
          settings: How many samples of each lead time, and which levels.
          period: Holds all samples.
          placement: Devices and processes. All processes read all samples.

        Raises:
          ValueError: The period has no sample of the longest lead time.
        """
        starts = frames.starts(period, targets=max(leads))
        super().__init__(objective, starts, settings, placement)
        self._frames, self._leads, self._period = frames, tuple(leads), period

    def __call__(self, params: PyTree, model_state: PyTree) -> dict[str, Any]:
        """Returns what `Validator` does, and `losses` by lead time.

        Variables on levels appear as `name@level`.
        """
        losses: dict[str, float] = {}
        errors: dict[str, dict[str, np.ndarray]] = collections.defaultdict(dict)
        for lead in self._leads:
            hours = lead * (self._frames.step / np.timedelta64(1, "h"))
            label = f"{hours:g}h"
            loss, squares = self._judge(params, model_state, lead)
            losses[label] = loss
            for name, pair in squares.items():
                errors[name][label] = np.sqrt(pair)
        loss = float(np.mean(list(losses.values())))
        ratios = [
            float(pair[0] / np.maximum(pair[1], 1e-30))
            for by_lead in errors.values()
            for pair in by_lead.values()
        ]
        relative = float(np.mean(ratios))
        record = {
            "metric": relative if self._settings.metric == "rmse" else loss,
            "loss": loss,
            "samples": self.count,
            "losses": losses,
            "relative_rmse": relative,
        }
        for index, name in enumerate(("rmse", "persistence")):
            record[name] = {
                variable: {label: float(pair[index]) for label, pair in found.items()}
                for variable, found in errors.items()
            }
        return record

    def _judge(
        self, params: PyTree, model_state: PyTree, lead: int
    ) -> tuple[float, dict[str, np.ndarray]]:
        """Returns the loss, and mean squares of the forecast and of persistence."""
        losses, last = [], np.zeros(1, int)
        sums: dict[str, np.ndarray] = collections.defaultdict(lambda: np.zeros(2))
        batches = range(0, len(self._samples), self._size)
        for index, first in enumerate(batches):
            starts = self._samples[first : first + self._size]
            leads = np.full(len(starts), lead)
            batch = self._frames.batch_at(starts, leads, self._period)
            inputs, targets, forcings = batch
            key = jax.random.fold_in(self._key, index)
            placed = self._placement.place_shared(batch)
            losses.append(self._loss(params, model_state, key, placed))
            blank = targets.map(np.zeros_like)
            placed = self._placement.place_shared((inputs, blank, forcings))
            found = self._forecast(params, model_state, key, placed)
            found = self._placement.fetch(found)
            place = {dim: found[dim].values for dim in ("lat", "lon")}
            for name, whole in targets.items():
                truth, before = whole.sel(place), 0.0
                if name in inputs:
                    before = inputs[name].isel(time=-1, drop=True).sel(place)
                for row, guess in enumerate((found[name], before)):
                    for label, square in _squares(
                        str(name), guess - truth, last, self._settings.levels
                    ):
                        sums[label][row] += square.item() / len(batches)
        return float(np.mean(self._placement.fetch(losses))), dict(sums)


def _chosen(
    samples: Sequence[int] | np.ndarray, settings: ValidationConfig
) -> tuple[np.ndarray, int]:
    """Returns samples spread evenly, and how many of them are judged at a time."""
    count = min(settings.samples, len(samples))
    count -= count % min(settings.batch_size, count)
    chosen = np.linspace(0, len(samples) - 1, count).round().astype(int)
    return np.asarray(samples)[chosen], min(settings.batch_size, count)


def _squares(
    name: str, error: xarray.DataArray, frames: np.ndarray, levels: Sequence[int]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the mean squared error at the leads, for each level that counts."""
    lat = np.asarray(error["lat"].values, np.float64)
    weights = xarray.DataArray(sphere.latitude_weights(lat), dims="lat")
    square = (error.isel(time=frames).astype(np.float64) ** 2) * weights
    others = [dim for dim in square.dims if dim not in ("time", "level")]
    means = square.mean(others, skipna=True)
    if "level" not in means.dims:
        yield name, means.values
        return
    held = means["level"].values
    near = [int(np.abs(held - level).argmin()) for level in levels or held[:1]]
    for at in dict.fromkeys(near):
        yield f"{name}@{held[at]:g}", means.isel(level=at).values
