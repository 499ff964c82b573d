"""A training run from its settings: data, statistics, model, stages, and results."""

from __future__ import annotations

import functools
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from weatherlib import predictor_base, training
from weatherlib.cli import (
    console,
    families,
    models,
    run_data,
    run_stages,
    settings,
    starting,
)
from weatherlib.training import (
    adapters,
    mixing,
    optimizers,
    patterns,
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
      sources: The data, those of `data.path` first.
      frames: The first of these.
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
        if not config.stages:
            raise ValueError("stages is empty; a run needs at least one")
        run_data.warn_overlaps(config.data)
        self.sources = run_data.open_sources(config, self._placement, say=self._say)
        self.frames = self.sources[0].frames
        self._task = self.frames.task
        self._model = run_stages.trained_leads(
            config.stages, self.sources, self.family, self._model, list(config.model)
        )
        run_stages.require_decoder(config.stages, self._model)
        self._model, self._held = run_stages.completed(
            config, self.sources[0], self.family, self._model
        )
        self._objectives = [
            self._objective(source, is_training=True) for source in self.sources
        ]
        self.objective = self._joined()
        self._check_data()
        self._lengths: list[int] = []
        self.stages = self._make_stages()
        crop = functools.partial(self.family.crop, self._model)
        if predictor_base.predicts_part(crop, self.frames.dataset):
            run_stages.require_single_steps(self.settings)
        self._judge = self._validator()

    @property
    def folder(self) -> pathlib.Path:
        """Where results go."""
        return self.settings.output

    def check_start(self) -> None:
        """Reads the weights to start from, as training will.

        Raises:
          FileNotFoundError: There is no such file.
          OSError: It cannot be read.
          ValueError: It does not fit the model.
        """
        fresh = jax.tree.map(
            lambda leaf: np.zeros(leaf.shape, leaf.dtype), self.abstract_params
        )
        self._first_params(fresh)

    @functools.cached_property
    def abstract_params(self) -> Any:
        """Names and shapes of the parameters, computing nothing."""
        params = self._shapes(0)
        adapted = self._adapted(self._objectives[0])
        if isinstance(adapted, adapters.Adapted):
            return jax.eval_shape(adapted.add, params, jax.random.PRNGKey(0))
        return params

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
            validate=self._judge,
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
        grid = families.Grid.of(self.frames)
        name = self.settings.model["family"]
        description = self.settings.description or f"{name} trained by weatherlib train"
        self.family.save(
            self.folder / "checkpoint.npz",
            self._plain(params),
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
        facts = [
            ("data", f"{self.settings.data.path_text}, {self.frames.description}"),
            ("model", f"{self.settings.model['family']}, {count:,} parameters"),
            ("license", self.settings.license or families.NO_LICENSE),
        ]  # fmt: skip
        if self._fixed:
            leaves = jax.tree.leaves(self._fixed)
            fixed = sum(int(np.prod(leaf.shape)) for leaf in leaves)
            origin = ", from another file" if self._held else ""
            facts.append(("held fixed", f"{fixed:,} of them{origin}"))
        for source in self.sources[1:]:
            frames = f"{source.settings.path_text}, {source.frames.description}"
            facts.append((f"source {source.label}", frames))
        facts += run_data.left_out(self.sources)
        expanded = [stage for stage in self.settings.stages for _ in stage.rollouts]
        for index, (stage, asked) in enumerate(zip(self.stages, expanded)):
            what = f"rollout {stage.rollout}"
            if asked.lead is not None:
                what = f"lead {asked.lead_text}"
            forced = asked.teacher_forcing
            if forced is not None:
                what += f", teacher forcing {forced.start:g} to {forced.end:g}"
            facts.append((f"stage {index}", f"{stage.steps} updates, {what}"))
        return facts

    @functools.cached_property
    def _fixed(self) -> dict[str, Any]:
        """The parameters that are never trained, or their shapes."""
        shapes = functools.partial(self._shapes, 0)
        return starting.fixed(self.family, self._model, self._held, shapes)

    def _check_data(self) -> None:
        """Compares data with tasks, statistics and the parameters they share."""
        resolution = getattr(self._model, "resolution", None)
        for source in self.sources:
            first = source.frames.starts(source.settings.train)[0]
            run_data.check(source, int(first), resolution)
        if len(self.sources) == 1:
            return
        expected = patterns.describe(self._shapes(0))
        for number, source in enumerate(self.sources):
            differences = patterns.compare(
                expected, patterns.describe(self._shapes(number))
            )
            if differences:
                lines = "; ".join(differences)
                raise ValueError(
                    f"data.sources, {source.label}: the model has other parameters for "
                    f"it than for {self.sources[0].label}: {lines}; take a family such "
                    "as climax, or a task of the same variables"
                )

    def _shapes(self, number: int) -> Any:
        """Returns names and shapes of the parameters, as a source gives them."""
        source, objective = self.sources[number], self._objectives[number]
        stage, targets = self.settings.stages[0], objective.frames_per_step
        return objective.shapes(run_stages.first_sample(source, stage, targets))[0]

    def _joined(self) -> Any:
        """Returns the objective of all sources, with adapters where there are any."""
        if len(self._objectives) == 1:
            return self._adapted(self._objectives[0])
        return self._adapted(mixing.MixedObjective(self._objectives))

    def _adapted(self, objective: Any) -> Any:
        settings = self.settings.adapters
        if settings is None:
            return objective
        trained = self.settings.optimizer.trained
        return adapters.Adapted(objective, settings, trained)

    def _plain(self, params: Any) -> Any:
        """Returns parameters without adapters, whose changes are added."""
        if isinstance(self.objective, adapters.Adapted):
            return self.objective.merge(params)
        return params

    def _objective(
        self, source: run_data.Source, *, is_training: bool
    ) -> training.Objective:
        config = self.settings
        precision = models.resolve_precision(config.precision)

        def make_predictor() -> Any:
            network = self.family.network(self._model, source.task, config.remat)
            return wrapping.wrap(
                network,
                source.statistics,
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

    def _make_stages(self) -> list[training.Stage]:
        config = self.settings
        expanded = [(stage, r) for stage in config.stages for r in stage.rollouts]
        epochs = []
        for stage, rollout in expanded:
            targets = rollout * self._objectives[0].frames_per_step
            counts = [run_stages.starts(s, stage, targets) for s in self.sources]
            per_epoch = sum(counts) / stage.batch_size
            epochs.append(per_epoch)
            steps = stage.steps or max(round((stage.epochs or 0) * per_epoch), 1)
            if steps >= 2**31:
                raise ValueError(
                    f"stages: {stage.epochs:g} epochs of {per_epoch:g} updates are "
                    "more than can be counted; make fewer"
                )
            self._lengths.append(steps)
        rate = self._rate(expanded, epochs)
        found, begin, origin = [], 0, 0
        for index, (stage, rollout) in enumerate(expanded):
            if stage.reset_optimizer:
                origin = begin
            found.append(
                training.Stage(
                    steps=self._lengths[index],
                    batches=run_stages.feed(
                        self.sources,
                        stage,
                        rollout * self._objectives[0].frames_per_step,
                        config,
                        index=index,
                        placement=self._placement,
                    ),
                    optimizer=self._optimizer(rate, origin),
                    reset_optimizer=stage.reset_optimizer and index > 0,
                    rate=rate,
                    rollout=rollout,
                    options=run_stages.loss_options(
                        self.family, stage, self._lengths[index], begin
                    ),
                )
            )
            begin += self._lengths[index]
        return found

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
            optimizer = optimizer.replace(layers=self.family.layers_of(self._model))
        if self.settings.adapters is not None:
            trained = (*optimizer.trained, *adapters.TRAINED)
            optimizer = optimizer.replace(frozen=("*",), trained=trained)
        optimizer = run_stages.with_held(optimizer, self._fixed)
        shifted = functools.partial(_shifted, rate, origin)
        return optimizers.make_optimizer(optimizer, shifted, self.abstract_params)

    def _validator(self) -> Any:
        if self.settings.data.validation is None:
            return None
        source = self.sources[0]
        objective = self._adapted(self._objective(source, is_training=False))
        try:
            return run_stages.validator(
                objective,
                source,
                self.settings,
                self.family,
                placement=self._placement,
            )
        except ValueError as error:
            raise ValueError(f"validation: {error}") from error

    def _first_params(self, params: Any) -> Any:
        """Returns the parameters of files in place of fresh ones."""
        init = self.settings.init_from
        # A path became a configuration when the settings were made.
        assert not isinstance(init, str)
        begin = functools.partial(
            starting.begin,
            init,
            self.family,
            held=self._held,
            fixed=self._fixed,
            model=self._model,
            say=self._say,
        )
        if not isinstance(self.objective, adapters.Adapted):
            return begin(params)
        plain, added = self.objective.split(params)
        return self.objective.join(begin(plain), added)

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
        skipped = sum(len(source.frames.skipped) for source in self.sources)
        if skipped:
            facts.append(("samples skipped", str(skipped)))
        report.write(
            self.folder,
            title=self.settings.description or f"Training in {self.folder.name}",
            facts=facts,
            settings=settings.dump(self.settings),
            records=records.read_records(self.folder),
        )


def _shifted(rate: schedules.Rate, origin: int, count: Any) -> Any:
    return rate(count + origin)
