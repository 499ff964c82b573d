"""Trains a GraphCast on any dataset and task, with one loop around optax.

    python examples/train_graphcast.py --config examples/configs/simulation.yaml \
        data=archive.nc output=runs/simulation

Settings come from the YAML file and from `key=value` words after it; nested keys are
dotted, as in `model.latent_size=96`. The folder `output` receives

    checkpoint.npz     averaged weights in the published layout, for every other script
    state.npz          all that is needed to go on; the same command resumes
    stats/             statistics of the training period
    metrics.jsonl      loss, rate and validation errors

The dataset is opened by `weatherlib.data` (NetCDF, Zarr, GRIB), fitted to the task
and kept in memory.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import json
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import xarray
import yaml

from weatherlib import (
    autoregressive,
    checkpoint,
    config,
    data,
    data_utils,
    graphcast,
    normalization,
    xarray_jax,
)
from weatherlib.data_utils import statistics
from weatherlib.graphcast import message_graph


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of training with one length of rollout.

    Attributes:
      updates: Steps of the optimiser.
      rollout: Forecast steps in the loss.
      batch_size: Forecasts in an update.
      learning_rate: Peak, reached after `warmup` updates and followed by a cosine.
      final_learning_rate: At the end of the stage.
      warmup: Updates of linear rise.
    """

    updates: int
    rollout: int = 1
    batch_size: int = 2
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-6
    warmup: int = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run.

    Attributes:
      data: Dataset to learn from.
      output: Folder of the results.
      model: Architecture.
      task: Name of a published task, such as TASK_13, or its fields.
      stages: One after the other.
      train_end: First time that is not trained on; None trains on everything.
      validation_start: First time of validation; None validates on nothing.
      validation_starts: How many forecasts are validated.
      validation_steps: Their length.
      validate_every: Updates between validations, each with a new checkpoint.
      weight_decay: On weights, not on offsets and scales.
      clip: Largest norm of a gradient.
      average: Decay of the running average of the weights, which is what is kept.
      seed: Of the first weights and of the order of samples.
      description: Goes into the checkpoint.
      license: Goes into the checkpoint.
    """

    data: pathlib.Path
    output: pathlib.Path
    model: graphcast.ModelConfig
    task: str | dict[str, Any]
    stages: tuple[Stage, ...]
    train_end: str | None = None
    validation_start: str | None = None
    validation_starts: int = 8
    validation_steps: int = 12
    validate_every: int = 500
    weight_decay: float = 0.05
    clip: float = 1.0
    average: float = 0.998
    seed: int = 0
    description: str = "GraphCast trained by examples/train_graphcast.py"
    license: str = "CC0-1.0"

    def task_config(self) -> graphcast.TaskConfig:
        """Returns the task as an object."""
        if isinstance(self.task, str):
            return getattr(graphcast, self.task)
        return config.from_dict(graphcast.TaskConfig, self.task)


class Frames:
    """Frames in memory, from which batches are cut."""

    def __init__(self, dataset: xarray.Dataset, task: graphcast.TaskConfig) -> None:
        """Loads what the task needs, forcings that follow from time included."""
        wanted = {
            *task.input_variables,
            *task.target_variables,
            *task.forcing_variables,
        }
        if wanted & {"toa_incident_solar_radiation"}:
            data_utils.add_tisr_var(dataset)
        data_utils.add_derived_vars(dataset)
        self.dataset = dataset[sorted(wanted)].isel(batch=0).load()
        self.task = task
        self.step = np.diff(self.dataset["time"].values[:2])[0]
        self.inputs = int(pd.Timedelta(task.input_duration) / self.step)
        self._arrays = {
            str(name): (array.dims, np.ascontiguousarray(array.values, np.float32))
            for name, array in self.dataset.data_vars.items()
        }

    def starts(self, rollout: int, *, before: str | None, after: str | None) -> range:
        """Returns the first input frames of the samples that lie in a period."""
        times = self.dataset["datetime"].values
        first = 0 if after is None else int((times < np.datetime64(after)).sum())
        last = (
            len(times) if before is None else int((times < np.datetime64(before)).sum())
        )
        stop = last - self.inputs - rollout + 1
        if stop <= first:
            raise ValueError(
                f"the period from {after} to {before} has {last - first} frames, a "
                f"sample needs {self.inputs + rollout}"
            )
        return range(first, stop)

    def batch(self, starts: np.ndarray, rollout: int) -> tuple[xarray.Dataset, ...]:
        """Returns inputs, targets and forcings of samples that begin at `starts`."""
        task, inputs = self.task, self.inputs
        past = (np.arange(inputs) - inputs + 1) * self.step
        future = np.arange(1, rollout + 1) * self.step
        before = functools.partial(self._cut, starts, 0, inputs, past)
        after = functools.partial(self._cut, starts, inputs, rollout, future)
        return (
            before(task.input_variables),
            after(task.target_variables),
            after(task.forcing_variables),
        )

    def _cut(
        self,
        starts: np.ndarray,
        offset: int,
        count: int,
        times: np.ndarray,
        names: tuple[str, ...],
    ) -> xarray.Dataset:
        found = {}
        for name in names:
            dims, values = self._arrays[name]
            if "time" in dims:
                parts = [values[s + offset : s + offset + count] for s in starts]
                found[name] = (("batch", *dims), np.stack(parts))
            else:
                found[name] = (dims, values)
        coords = {
            key: self.dataset.coords[key].values
            for key in ("lat", "lon", "level")
            if key in self.dataset.coords
        }
        return xarray.Dataset(found, coords={**coords, "time": times})


class Model:
    """Loss and forecast of GraphCast with its wrappers."""

    def __init__(self, settings: TrainConfig, folder: pathlib.Path) -> None:
        self._settings = settings
        self._statistics = {
            f"{kind}_by_level": xarray.load_dataset(folder / f"{kind}_by_level.nc")
            for kind in ("mean", "stddev", "diffs_stddev")
        }

    def _predictor(self) -> autoregressive.Predictor:
        predictor = graphcast.GraphCast(
            self._settings.model, self._settings.task_config()
        )
        predictor = normalization.InputsAndResiduals(predictor, **self._statistics)
        return autoregressive.Predictor(predictor)

    @functools.cached_property
    def loss(self) -> hk.Transformed:
        """The mean loss of a batch."""

        def loss(*batch: xarray.Dataset) -> jax.Array:
            values, _ = self._predictor().loss(*batch)
            return xarray_jax.unwrap_data(values.mean(), require_jax=True)

        return hk.without_apply_rng(hk.transform(loss))

    @functools.cached_property
    def forecast(self) -> Callable[..., xarray.Dataset]:
        """The compiled forecast, from parameters, inputs, template and forcings."""

        def forecast(*batch: xarray.Dataset) -> xarray.Dataset:
            return self._predictor()(*batch)

        return jax.jit(hk.without_apply_rng(hk.transform(forecast)).apply)


Leaves = collections.namedtuple("Leaves", ["params", "average", "optimizer"])


def make_optimizer(settings: TrainConfig, stage: Stage) -> optax.GradientTransformation:
    """Returns clipped AdamW with a warm-up and a cosine, no decay on vectors."""
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=stage.learning_rate / max(stage.warmup, 1),
        peak_value=stage.learning_rate,
        warmup_steps=min(stage.warmup, max(stage.updates // 4, 1)),
        decay_steps=stage.updates,
        end_value=stage.final_learning_rate,
    )
    return optax.chain(
        optax.clip_by_global_norm(settings.clip),
        optax.adamw(
            schedule,
            b2=0.95,
            weight_decay=settings.weight_decay,
            mask=lambda params: jax.tree.map(lambda x: x.ndim > 1, params),
        ),
    )


def make_update(
    model: Model, optimizer: optax.GradientTransformation, average: float
) -> Callable[..., tuple[Leaves, jax.Array]]:
    """Returns the compiled step of the optimiser."""

    @functools.partial(jax.jit, donate_argnums=0)
    def update(
        leaves: Leaves, decay: jax.Array, *batch: xarray.Dataset
    ) -> tuple[Leaves, jax.Array]:
        loss, gradient = jax.value_and_grad(model.loss.apply)(leaves.params, *batch)
        changes, state = optimizer.update(gradient, leaves.optimizer, leaves.params)
        params = optax.apply_updates(leaves.params, changes)
        averaged = optax.incremental_update(params, leaves.average, 1 - decay)
        return Leaves(params, averaged, state), loss

    # The average forgets the first weights at once.
    return lambda leaves, count, *batch: update(
        leaves, jnp.float32(min(average, (1 + count) / (10 + count))), *batch
    )


def validate(
    model: Model, frames: Frames, params: Any, settings: TrainConfig
) -> dict[str, dict[str, list[float]]]:
    """Returns the RMSE of forecast and persistence for each variable and step.

    Variables on levels are judged at the level nearest to 500 hPa.
    """
    steps = settings.validation_steps
    starts = frames.starts(steps, before=None, after=settings.validation_start)
    spread = np.linspace(starts[0], starts[-1], settings.validation_starts)
    weights = np.cos(np.deg2rad(frames.dataset["lat"]))
    errors: dict[str, dict[str, Any]] = collections.defaultdict(
        lambda: {"forecast": 0.0, "persistence": 0.0}
    )
    for start in spread.astype(int):
        inputs, targets, forcings = frames.batch(np.array([start]), steps)
        found = model.forecast(params, inputs, targets * np.nan, forcings)
        found = jax.device_get(found)
        for name, truth in targets.items():
            last = inputs[name].isel(time=-1, drop=True) if name in inputs else 0.0
            for kind, guess in (("forecast", found[name]), ("persistence", last)):
                error = (guess - truth) ** 2
                if "level" in error.dims:
                    error = error.sel(level=500, method="nearest")
                mean = error.weighted(weights).mean(("batch", "lat", "lon"))
                errors[str(name)][kind] += mean.transpose("time").values / len(spread)
    return {
        name: {kind: np.sqrt(value).tolist() for kind, value in kinds.items()}
        for name, kinds in errors.items()
    }


def load_frames(settings: TrainConfig) -> Frames:
    """Returns the dataset of a run in memory."""
    task = settings.task_config()
    dataset = data.open_dataset(settings.data)
    dataset, _ = data.conform(dataset, task)
    return Frames(dataset, task)


def make_statistics(settings: TrainConfig, frames: Frames) -> pathlib.Path:
    """Returns the folder of the statistics of the training period, made if absent."""
    folder = settings.output / "stats"
    if not (folder / "diffs_stddev_by_level.nc").exists():
        times = frames.dataset["datetime"].values
        end = settings.train_end
        count = len(times) if end is None else (times < np.datetime64(end)).sum()
        part = frames.dataset.isel(time=slice(0, int(count)))
        statistics.compute_statistics(part).save(folder)
    return folder


class Run:
    """A training run: its weights, how far it is, and where it is kept."""

    def __init__(self, settings: TrainConfig) -> None:
        self.settings = settings
        self.frames = load_frames(settings)
        self.model = Model(settings, make_statistics(settings, self.frames))
        grid = self.frames.dataset
        self._topology = message_graph.build_geometry(
            grid["lat"].values, grid["lon"].values, settings.model
        ).topology.to_arrays()
        self._state = settings.output / "state.npz"
        self._metrics = settings.output / "metrics.jsonl"

    def train(self) -> None:
        """Trains all stages, or what is left of them."""
        done_stages, done, leaves = self._restore()
        for index in range(done_stages, len(self.settings.stages)):
            stage = self.settings.stages[index]
            optimizer = make_optimizer(self.settings, stage)
            if leaves is None:
                leaves = self._first(optimizer)
            elif done == 0:
                leaves = leaves._replace(optimizer=optimizer.init(leaves.params))
            leaves = self._train_stage(index, done, leaves, optimizer)
            done = 0

    def _train_stage(
        self,
        index: int,
        done: int,
        leaves: Leaves,
        optimizer: optax.GradientTransformation,
    ) -> Leaves:
        settings, stage = self.settings, self.settings.stages[index]
        update = make_update(self.model, optimizer, settings.average)
        starts = self.frames.starts(
            stage.rollout, before=settings.train_end, after=None
        )
        began, first, losses = time.monotonic(), done, []
        for count in range(done, stage.updates):
            # One generator per update, so that a resumed run sees the same samples.
            random = np.random.default_rng([settings.seed, index, count])
            chosen = random.choice(len(starts), stage.batch_size) + starts[0]
            leaves, loss = update(
                leaves, count, *self.frames.batch(chosen, stage.rollout)
            )
            losses.append(loss)
            if (count + 1) % 50 == 0 or count + 1 == stage.updates:
                rate = (count + 1 - first) / (time.monotonic() - began)
                self._log(index, count + 1, float(np.mean(losses)), rate)
                losses = []
            if (count + 1) % settings.validate_every == 0 or count + 1 == stage.updates:
                self._keep(index, count + 1, leaves)
        return leaves

    def _first(self, optimizer: optax.GradientTransformation) -> Leaves:
        batch = self.frames.batch(np.array([0]), 1)
        params = jax.jit(self.model.loss.init)(
            jax.random.key(self.settings.seed), *batch
        )
        average = jax.tree.map(jnp.copy, params)
        return Leaves(params, average, optimizer.init(params))

    def _keep(self, index: int, count: int, leaves: Leaves) -> None:
        """Writes the checkpoint and the state, and prints how good the forecast is."""
        settings = self.settings
        host = jax.device_get(leaves)
        checkpoint.save(
            settings.output / "checkpoint.npz",
            graphcast.CheckPoint(
                params=host.average,
                model_config=settings.model,
                task_config=settings.task_config(),
                description=settings.description,
                license=settings.license,
            ),
            extras={"topology": self._topology},
        )
        state = {"leaves": jax.tree.leaves(host), "stage": index, "count": count}
        checkpoint.save(self._state, state)
        if settings.validation_start is not None:
            errors = validate(self.model, self.frames, leaves.average, settings)
            self._write({"stage": index, "update": count, "rmse": errors})
            for name, kinds in errors.items():
                parts = [
                    f"{kinds['forecast'][at]:.4g}/{kinds['persistence'][at]:.4g}"
                    for at in (0, len(kinds["forecast"]) // 3, -1)
                ]
                print(f"    {name:32s} {'   '.join(parts)}", flush=True)

    def _restore(self) -> tuple[int, int, Leaves | None]:
        """Returns the stage and update to go on from, and the weights there."""
        if not self._state.exists():
            return 0, 0, None
        state: Mapping[str, Any] = checkpoint.open_checkpoint(
            self._state, dict[str, Any]
        )
        index, count = int(state["stage"]), int(state["count"])
        optimizer = make_optimizer(self.settings, self.settings.stages[index])
        like = jax.eval_shape(lambda: self._first(optimizer))
        leaves = [state["leaves"][str(i)] for i in range(len(state["leaves"]))]
        leaves = jax.tree.unflatten(jax.tree.structure(like), leaves)
        print(f"resumed at stage {index}, update {count}")
        if count >= self.settings.stages[index].updates:
            return index + 1, 0, leaves
        return index, count, leaves

    def _log(self, index: int, count: int, loss: float, rate: float) -> None:
        left = (self.settings.stages[index].updates - count) / rate
        print(
            f"stage {index} update {count} loss {loss:.4f} {rate:.2f} updates/s "
            f"{left / 60:.1f} min left",
            flush=True,
        )
        self._write({"stage": index, "update": count, "loss": loss, "rate": rate})

    def _write(self, record: Mapping[str, Any]) -> None:
        with self._metrics.open("a", encoding="utf8") as file:
            file.write(json.dumps(record) + "\n")


class _Loader(yaml.SafeLoader):
    """Reads YAML and leaves dates as text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the parent class has it
        key: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
        for key, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_settings(path: str, overrides: list[str]) -> TrainConfig:
    """Returns the settings of a YAML file changed by words `key=value`.

    Raises:
      ValueError: A word has no `=`, a key is unknown, or a value is wrong.
    """
    with pathlib.Path(path).open(encoding="utf8") as file:
        values = yaml.load(file, _Loader)  # noqa: S506 - a safe loader
    for word in overrides:
        key, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"expected key=value, found {word!r}")
        *parents, last = key.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = yaml.load(value, _Loader)  # noqa: S506 - a safe loader
    return config.from_dict(TrainConfig, values)


def main() -> None:
    """Trains with the settings of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="YAML file of settings")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    words = parser.parse_args()
    settings = read_settings(words.config, words.overrides)
    settings.output.mkdir(parents=True, exist_ok=True)
    Run(settings).train()


if __name__ == "__main__":
    main()
