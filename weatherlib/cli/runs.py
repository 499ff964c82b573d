"""A training run from its settings: data, statistics, model, stages, and results."""

from __future__ import annotations

import functools
import pathlib
import time
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from weatherlib import data, data_utils, predictor_base, training
from weatherlib.cli import (
    console,
    families,
    models,
    settings,
    starting,
    statistics,
)
from weatherlib.training import (
    optimizers,
    records,
    report,
    schedules,
    wrapping,
)

__all__ = ["Run"]


class Run:
    """Everything that a configuration describes, made ready.

    Attributes:
      settings: The configuration.
      family: The kind of model.
      frames: The data.
      objective: Loss and forecast.
      stages: As the trainer takes them.
    """

    def __init__(
        self,
        config: training.TrainConfig,
        *,
        placement: training.Placement | None = None,
        out: console.Console | None = None,
    ) -> None:
        """Opens the data, makes statistics where there are none, and plans stages.

        Args:
          config: The configuration. Its output folder is made.
          placement: Devices and processes.
          out: Told what is done; None prints nothing.

        Raises:
          ValueError: Settings, data and statistics do not fit each other.
          OSError: Data cannot be read, or the folder cannot be written.
        """
        self.settings = config
        self._placement = placement or training.Placement()
        self._say = out.print if out is not None else (lambda text: None)
        self.family, self._model = families.find_family(config.model)
        self._task = config.data.task_config()
        _warn_overlaps(config.data)
        self.frames = self._open()
        self._statistics = statistics.prepare(
            config, self.frames, self._placement, say=self._say
        )
        self.objective = self._objective(is_training=True)
        self._check_data()
        self._lengths: list[int] = []
        self.stages = self._make_stages()
        self._check_part()

    @property
    def folder(self) -> pathlib.Path:
        """Where results go."""
        return self.settings.output

    @functools.cached_property
    def abstract_params(self) -> Any:
        """Names and shapes of the parameters, computing nothing."""
        batch = self.frames.batch(self._starts(1)[:1], self.objective.frames_per_step)
        return self.objective.shapes(batch)[0]

    def train(
        self, *, resume: bool = False, observers: Sequence[Any] = ()
    ) -> training.Result:
        """Trains, exports the best weights, and writes the report.

        Args:
          resume: Whether to continue from the last checkpoint, if any.
          observers: Are told what happens.

        Raises:
          As `training.Trainer.run`.
        """
        config, began = self.settings, time.time()
        trainer = training.Trainer(
            self.objective,
            self.stages,
            training.LoopConfig(
                checkpoint_every=config.checkpoint_every,
                keep=config.keep,
                log_every=config.log_every,
                validate_every=config.validation.every,
                patience=config.validation.patience,
                min_change=config.validation.min_change,
                ema=config.optimizer.ema,
                seed=config.seed,
            ),
            folder=self.folder,
            first_params=self._first_params,
            validate=self._validator(),
            export=self.export,
            observers=observers,
            placement=self._placement,
        )
        result = trainer.run(resume=resume)
        if self._placement.is_main:
            self._report(result, time.time() - began)
        return result

    def export(self, params: Any, model_state: Any, step: int) -> None:
        """Writes weights as the family's published file `checkpoint.npz`.

        Args:
          params: Arrays on the host.
          model_state: Has no place in the file.
          step: The update, for the description.
        """
        del model_state
        grid = families.Grid(
            lat=self.frames.dataset["lat"].values,
            lon=self.frames.dataset["lon"].values,
            step=self.frames.step,
        )
        name = self.settings.model["family"]
        description = self.settings.description or f"{name} trained by weatherlib train"
        self.family.save(
            self.folder / "checkpoint.npz",
            params,
            self._model,
            self._task,
            grid,
            description=f"{description} (update {step})",
            license=self.settings.license,
        )

    def plan(self) -> list[tuple[str, str]]:
        """Returns what will be done, as names and values."""
        leaves = jax.tree.leaves(self.abstract_params)
        count = sum(int(np.prod(leaf.shape)) for leaf in leaves)
        memory = "in memory" if self.frames.in_memory else "read as needed"
        facts = [
            ("data", f"{self.settings.data.path}, {len(self.frames.datetimes)} frames, "
             f"{memory}"),
            ("model", f"{self.settings.model['family']}, {count:,} parameters"),
        ]  # fmt: skip
        for index, stage in enumerate(self.stages):
            facts.append(
                (f"stage {index}", f"{stage.steps} updates, rollout {stage.rollout}")
            )
        return facts

    def _open(self) -> training.Frames:
        config = self.settings.data
        dataset, changes = data.conform(data.open_dataset(config.path), self._task)
        for change in changes:
            self._say(f"  {change}")
        return training.Frames(
            dataset,
            self._task,
            time_step=config.time_step,
            in_memory=config.in_memory,
            nan_allowed=config.nan_allowed,
            skip_corrupt=config.skip_corrupt,
            source=config.path,
        )

    def _check_data(self) -> None:
        """Compares the first sample with the task and the statistics."""
        first = int(self._starts(1)[0])
        count = self.frames.inputs + 1
        part = self.frames.dataset.isel(time=slice(first, first + count))
        datetimes = self.frames.datetimes[first : first + count]
        part = part.map(
            lambda array: array.expand_dims("batch") if "time" in array.dims else array
        )
        part = part.assign_coords(
            time=datetimes - datetimes[0], datetime=(("batch", "time"), datetimes[None])
        )
        data_utils.require(
            part,
            self._task,
            frames=1,
            statistics={n: self._statistics[n] for n in models.STATISTICS_FILES},
            resolution=getattr(self._model, "resolution", None),
            nan_allowed=self.settings.data.nan_allowed,
        )

    def _check_part(self) -> None:
        """Checks that a part of the grid is predicted in one step.

        Raises:
          ValueError: The grid does not hold it, or a rollout is longer.
        """
        crop = functools.partial(self.family.crop, self._model)
        if not predictor_base.predicts_part(crop, self.frames.dataset):
            return
        longest = {"stages.rollout": max(stage.rollout for stage in self.stages)}
        if self.settings.data.validation is not None:
            validation = self.settings.validation
            longest["validation.rollout"] = validation.rollout
            longest["validation.leads"] = max(validation.leads, default=1)
        for name, steps in longest.items():
            if steps > 1:
                raise ValueError(
                    f"{name} {steps}: {predictor_base.ONE_PART}; 1 would work"
                )

    def _objective(self, *, is_training: bool) -> training.Objective:
        config = self.settings
        precision = models.resolve_precision(config.precision)

        def make_predictor() -> Any:
            network = self.family.network(self._model, self._task, config.remat)
            return wrapping.wrap(
                network,
                self._statistics,
                config.wrappers,
                loss=config.loss,
                precision=precision,
                is_training=is_training,
            )

        return training.Objective(
            make_predictor,
            noise_level=config.wrappers.noise_level if is_training else None,
            remat=config.remat,
        )

    def _starts(self, steps: int, period: training.Period | None = None) -> np.ndarray:
        targets = steps * self.objective.frames_per_step
        return self.frames.starts(period or self.settings.data.train, targets=targets)

    def _make_stages(self) -> list[training.Stage]:
        config = self.settings
        expanded = [(stage, r) for stage in config.stages for r in stage.rollouts]
        epochs = []
        for stage, rollout in expanded:
            per_epoch = len(self._starts(rollout)) / stage.batch_size
            epochs.append(per_epoch)
            steps = stage.steps or max(round((stage.epochs or 0) * per_epoch), 1)
            self._lengths.append(steps)
        rate = self._rate(expanded, epochs)
        found, begin, origin = [], 0, 0
        for index, (stage, rollout) in enumerate(expanded):
            if stage.reset_optimizer:
                origin = begin
            found.append(
                training.Stage(
                    steps=self._lengths[index],
                    batches=self._feed(index, stage, rollout),
                    optimizer=self._optimizer(rate, origin),
                    reset_optimizer=stage.reset_optimizer and index > 0,
                    rate=rate,
                    rollout=rollout,
                )
            )
            begin += self._lengths[index]
        return found

    def _feed(
        self, index: int, stage: training.StageConfig, rollout: int
    ) -> training.Feed:
        config = self.settings
        return training.Feed(
            self.frames.loader(rollout * self.objective.frames_per_step),
            self._starts(rollout),
            batch_size=stage.batch_size,
            # Stages must not repeat each other's order.
            seed=int(np.random.SeedSequence([config.seed, index]).generate_state(1)[0]),
            accumulate=config.optimizer.accumulate,
            threads=config.data.threads,
            prefetch=config.data.prefetch,
            placement=self._placement,
        )

    def _rate(
        self,
        expanded: Sequence[tuple[training.StageConfig, int]],
        epochs: Sequence[float],
    ) -> schedules.Rate:
        """Returns the learning rate by updates of the whole run."""
        config, total = self.settings, sum(self._lengths)
        whole = None
        if config.schedule is not None:
            schedule = config.schedule
            if schedule.kind == "graphcast" and schedule.decay is None:
                single = sum(
                    n
                    for n, (_, rollout) in zip(self._lengths, expanded)
                    if rollout == 1
                )
                warmup = schedules.warmup_updates(schedule, epochs[0])
                schedule = schedule.replace(decay=max(single - warmup, 1))
            whole = schedules.make_schedule(schedule, total, epochs[0])
        parts, begin = [], 0
        for index, (stage, _) in enumerate(expanded):
            length = self._lengths[index]
            if stage.schedule is not None:
                part = schedules.make_schedule(stage.schedule, length, epochs[index])
            else:
                assert whole is not None
                part = functools.partial(_shifted, whole, begin)
            parts.append(part)
            begin += length
        return schedules.join(parts, self._lengths)

    def _optimizer(self, rate: schedules.Rate, origin: int) -> Any:
        optimizer = self.settings.optimizer
        if optimizer.layer_decay != 1 and not optimizer.layers:
            optimizer = optimizer.replace(layers=self.family.layers)
        shifted = functools.partial(_shifted, rate, origin)
        return optimizers.make_optimizer(optimizer, shifted, self.abstract_params)

    def _validator(self) -> training.Validator | None:
        config = self.settings
        if config.data.validation is None:
            return None
        longest = max((config.validation.rollout, *config.validation.leads))
        return training.Validator(
            self._objective(is_training=False),
            lambda targets: self.frames.loader(targets),
            self._starts(longest, config.data.validation),
            config.validation,
            placement=self._placement,
        )

    def _first_params(self, params: Any) -> Any:
        """Returns the parameters of `init_from` in place of fresh ones."""
        init = self.settings.init_from
        if init is None:
            return params
        assert not isinstance(init, str)
        return starting.take(init, self.family, params)

    def _report(self, result: training.Result, seconds: float) -> None:
        facts = [
            *self.plan(),
            ("updates", f"{result.step}, {result.ended}"),
            ("time in the loop", console.format_seconds(result.seconds)),
            ("of that compiling", console.format_seconds(result.compiling)),
            ("this call", console.format_seconds(seconds)),
            ("waiting for data", f"{100 * result.waited_share:.2g} %"),
        ]
        if result.best_step is not None:
            facts.append(
                ("best", f"{result.best_metric:.5g} at update {result.best_step}")
            )
        if self.frames.skipped:
            facts.append(("samples skipped", str(len(self.frames.skipped))))
        report.write(
            self.folder,
            title=self.settings.description or f"Training in {self.folder.name}",
            facts=facts,
            settings=settings.dump(self.settings),
            records=records.read_records(self.folder),
        )


def _shifted(rate: schedules.Rate, origin: int, count: Any) -> Any:
    return rate(count + origin)


def _warn_overlaps(config: training.DataConfig) -> None:
    periods = {
        name: config[name]
        for name in ("train", "validation", "test")
        if config[name] is not None
    }
    names = list(periods)
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            if periods[first].overlaps(periods[second]):
                warnings.warn(
                    f"data: the periods {first} ({periods[first]}) and {second} "
                    f"({periods[second]}) overlap; scores on the latter look too good",
                    stacklevel=4,
                )
