"""A model with a solution in closed form, from its settings to its checkpoint."""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from weatherlib import training
from weatherlib.baselines import capture, grid_predictor, linear_fit, linear_layout
from weatherlib.cli import (
    console,
    families,
    files,
    models,
    radar_frames,
    run_data,
    run_stages,
    settings,
)
from weatherlib.training import lock, records, report, wrapping

__all__ = ["Fitting", "run"]

# Samples that are read at a time.
_BATCH = 32


class Fitting:
    """A fit, made ready.

    Attributes:
      folder: Where results go.
      samples: How many samples there are to fit to.
    """

    def __init__(
        self, config: training.TrainConfig, *, say: Callable[[str], None] = print
    ) -> None:
        """Opens the data, and makes statistics where there are none.

        Args:
          config: The configuration, without stages.
          say: Told what is done.

        Raises:
          ValueError: Settings, data and statistics do not fit each other, or the fit
            does not fit into memory.
          OSError: Data cannot be read, or the folder cannot be written.
        """
        _require_fit_only(config)
        self._settings = config
        self.folder: pathlib.Path = config.output
        self._family, self._model = families.find_family(config.model)
        run_data.warn_overlaps(config.data)
        placement = training.Placement()
        self._source = run_data.open_sources(config, placement, say=say)[0]
        frames, targets = self._source.frames, self._model.output_length
        starts = frames.starts(config.data.train, targets=targets)
        run_data.check(self._source, int(starts[0]), self._model.resolution or None)
        self._starts, self._held_out, self._gap = self._ordered(starts)
        self.samples = len(starts)
        sample = frames.batch(starts[:1], targets)
        self._read = capture.reader(self._captured)
        self._channels = capture.channels_of(sample)
        self._plan = linear_fit.plan(
            self._read(sample), self._model, self._channels, samples=self.samples
        )

    def plan(self) -> list[tuple[str, str]]:
        """Returns what will be done, as names and values."""
        plan, shape = self._plan, self._plan.load.shape
        frames, data = self._source.frames, self._settings.data
        stored = "two matrices" if plan.storage == "factors" else "one matrix"
        how = (
            f"{self.samples} samples of {shape.features:,} features and "
            f"{shape.outputs:,} outputs in the {plan.form} form, about "
            f"{plan.bytes / 2**30:.2g} GiB of memory"
        )
        facts = [
            ("data", f"{data.path}, {frames.description}"),
            ("model", f"{self._name}, {plan.weights:,} weights in {stored}"),
            ("fit", how),
        ]
        if self._model.fit.candidates:
            listed = ", ".join(f"{alpha:g}" for alpha in self._model.fit.candidates)
            facts.append(("penalty", f"one of {listed}, by {self._held_out} samples"))
        return facts

    def fit(self, progress: Callable[[int], None] | None = None) -> linear_fit.Fit:
        """Fits the model, and writes its published file.

        Args:
          progress: Told how many samples have been read.

        Raises:
          ValueError: As for `linear_fit.fit`.
          OSError: Data cannot be read, or the file cannot be written.
        """
        found = linear_fit.fit(
            self._batches(),
            self._model,
            self._channels,
            samples=self.samples,
            held_out=self._held_out,
            gap=self._gap,
            progress=progress,
        )
        alphas = ", ".join(f"{a:g}" for a in dict.fromkeys(found.alphas.values()))
        given = self._settings.description or f"{self._name} fitted by weatherlib train"
        self._family.save(
            self.folder / "checkpoint.npz",
            found.params,
            found.config,
            self._source.task,
            families.Grid.of(self._source.frames),
            description=f"{given} ({found.samples} samples, penalty {alphas})",
            license=self._settings.license,
        )
        return found

    def judge(self, found: linear_fit.Fit) -> dict[str, Any] | None:
        """Returns errors on the validation period; None where there is none.

        Args:
          found: From `fit`.

        Raises:
          ValueError: The period has no sample.
        """
        config = self._settings
        if config.data.validation is None:
            return None
        precision = models.resolve_precision(config.precision)

        def make_predictor() -> Any:
            network = self._family.network(found.config, self._source.task, False)
            return wrapping.wrap(
                network,
                self._source.statistics,
                config.wrappers,
                loss=config.loss,
                precision=precision,
                is_training=False,
            )

        validator = run_stages.validator(
            training.Objective(make_predictor),
            self._source,
            config,
            self._family,
            placement=training.Placement(),
        )
        record = validator(jax.device_put(found.params), {})
        return {"step": found.samples, "kind": "validation", **record}

    def write_report(
        self, record: dict[str, Any] | None, facts: list[tuple[str, str]]
    ) -> None:
        """Writes what was measured, and the report.

        Args:
          record: From `judge`.
          facts: What to say of the fit.
        """
        recorder = records.Recorder(self.folder, tensorboard=False)
        recorder.begin(0, self.samples)
        if record is not None:
            recorder.record(record)
        recorder.close()
        report.write(
            self.folder,
            title=self._settings.description or f"Fit in {self.folder.name}",
            facts=[*self.plan(), *facts],
            settings=settings.dump(self._settings),
            records=records.read_records(self.folder),
        )

    @property
    def _name(self) -> str:
        return self._settings.model["family"]

    def _captured(self, network: capture.Capture) -> Any:
        task, source = self._source.task, self._source
        predictor = grid_predictor.GridPredictor(self._model, network, task)
        own = training.LossConfig()
        wrappers = self._settings.wrappers
        return wrapping.wrap(predictor, source.statistics, wrappers, loss=own)

    def _batches(self) -> Iterator[tuple[linear_layout.HostFields, Any]]:
        frames, targets = self._source.frames, self._model.output_length
        for first in range(0, len(self._starts), _BATCH):
            part = self._starts[first : first + _BATCH]
            yield self._read(frames.batch(part, targets))

    def _ordered(self, starts: np.ndarray) -> tuple[np.ndarray, int, int]:
        """Returns starts with those last that judge, and before them what overlaps.

        Returns:
          First frames of the samples, how many judge, and how many share frames with
          those that do.

        Raises:
          ValueError: No sample lies in the period of those that judge.
        """
        how, frames = self._model.fit, self._source.frames
        if not how.candidates:
            return starts, 0, 0
        if isinstance(frames, radar_frames.RadarFrames):
            raise ValueError(
                "model.fit.candidates: penalties are not chosen on radar pictures, "
                "whose tiles have the same times; give one in model.fit.alpha"
            )
        if how.held_out_period is None:
            judging = starts[-max(1, round(how.held_out * len(starts))) :]
        else:
            begin, end = how.held_out_period
            period = training.Period(start=begin, end=end)
            targets = self._model.output_length
            judging = np.intersect1d(starts, frames.starts(period, targets=targets))
            if not judging.size:
                raise ValueError(
                    f"model.fit.held_out_period: no sample of the training period lies "
                    f"in {begin} to {end}"
                )
        reach = (frames.inputs + self._model.output_length - 1) * frames.step
        times = frames.datetimes[starts]
        near = (times + reach >= frames.datetimes[judging[0]]) & (
            times <= frames.datetimes[judging[-1]] + reach
        )
        judges = np.isin(starts, judging)
        ordered = [starts[~near & ~judges], starts[near & ~judges], judging]
        return np.concatenate(ordered), len(judging), len(ordered[1])


def run(
    config: training.TrainConfig, *, resume: bool, dry_run: bool, processes: int
) -> None:
    """Fits a model, and prints and writes what comes of it.

    Args:
      config: The configuration, without stages.
      resume: Whether an earlier fit in the folder may be replaced.
      dry_run: Whether to stop before the fit.
      processes: How many work on the run.

    Raises:
      ValueError: Settings, data and statistics do not fit each other.
      FileExistsError: The folder holds a model, and `resume` is not set.
      BlockingIOError: Another process works in the folder.
      OSError: Something cannot be read or written.
    """
    if processes > 1:
        raise ValueError(
            f"model.family {config.model['family']}: the fit in closed form runs in "
            f"one process, found {processes}"
        )
    out, began = console.Console(), time.time()
    with contextlib.ExitStack() as stack:
        files.writable_folder(config.output)
        stack.enter_context(lock.locked(config.output))
        if (config.output / "checkpoint.npz").exists() and not (resume or dry_run):
            raise FileExistsError(
                f"{config.output}: holds a model already; fit it anew with --resume, "
                "or choose another output"
            )
        with out.stage("preparation"):
            fitting = Fitting(config, say=out.print)
            out.facts(fitting.plan())
        if dry_run:
            return
        text = settings.dump(config)
        (config.output / "config.yaml").write_text(text, encoding="utf8")
        with out.stage("fit"), out.progress("Samples", fitting.samples) as bar:
            found = fitting.fit(
                lambda done: bar(done, fitting.samples, time.time() - began)
            )
        with out.stage("validation"):
            record = fitting.judge(found)
        facts = _facts(found)
        fitting.write_report(record, facts)
    out.facts(facts)
    if record is not None:
        out.print(f"validation loss {record['loss']:.5g}")
        for line in console.error_lines(record):
            out.print(line)
    out.print(f"{config.output}/checkpoint.npz, report.html, curves.png, metrics.jsonl")
    radar = config.data.radar is not None
    out.print(console.what_next(config.output, config.data.path, radar=radar))
    out.print_times()


def _facts(found: linear_fit.Fit) -> list[tuple[str, str]]:
    """Returns the penalties, and how candidates did."""
    different = set(found.alphas.values())
    if len(different) == 1:
        facts = [("penalty", f"{different.pop():g}")]
    else:
        facts = [("penalty", ", ".join(f"{n} {a:g}" for n, a in found.alphas.items()))]
    for name, errors in found.errors.items():
        listed = ", ".join(f"{alpha:g}: {error:.4g}" for alpha, error in errors.items())
        facts.append((f"errors, {name}", listed))
    for name, alpha in found.at_end.items():
        facts.append(
            ("note", f"{name}: {alpha:g} is the best of all and at the end of the "
             "candidates; a better one may lie beyond"),
        )  # fmt: skip
    return facts


def _require_fit_only(config: training.TrainConfig) -> None:
    """Checks that nothing is asked for that only gradients can do.

    Raises:
      ValueError: Something is.
    """
    wrong = {
        "loss": not config.loss.is_own,
        "init_from": config.init_from is not None,
        "adapters": config.adapters is not None,
        "data.sources": bool(config.data.sources),
        "wrappers.noise_level": bool(config.wrappers.noise_level),
    }
    named = [name for name, is_set in wrong.items() if is_set]
    if named:
        raise ValueError(
            f"{', '.join(named)}: without stages the model is fitted in closed form, "
            "which minimises the mean square over one source; leave it out, or add "
            "stages to train by gradients"
        )
