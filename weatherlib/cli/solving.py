"""Models without training by gradients, from their settings to their checkpoints."""

from __future__ import annotations

import abc
import contextlib
import pathlib
import time
from collections.abc import Callable
from typing import Any, Protocol

import jax

from weatherlib import training
from weatherlib.cli import (
    console,
    families,
    files,
    models,
    run_data,
    run_stages,
    settings,
)
from weatherlib.training import lock, records, report, wrapping

__all__ = ["Found", "Solving", "run"]


class Found(Protocol):
    """What `Solving.solve` returns."""

    @property
    def params(self) -> Any:
        """Haiku parameters."""

    @property
    def config(self) -> Any:
        """Configuration of the model."""

    @property
    def samples(self) -> int:
        """How many samples went in."""
        ...


class Solving(abc.ABC):
    """A model whose weights are found in one pass, made ready.

    Attributes:
      folder: Where results go.
      samples: How many samples there are.
    """

    samples: int

    def __init__(
        self, config: training.TrainConfig, *, say: Callable[[str], None] = print
    ) -> None:
        """Opens the data, and makes statistics where there are none.

        Args:
          config: The configuration, without stages.
          say: Told what is done.

        Raises:
          ValueError: Settings, data and statistics do not fit each other.
          OSError: Data cannot be read, or the folder cannot be written.
        """
        self._require_only_what_counts(config)
        self._settings = config
        self.folder: pathlib.Path = config.output
        self._family, self._model = families.find_family(config.model)
        run_data.warn_overlaps(config.data)
        placement = training.Placement()
        self._source = run_data.open_sources(config, placement, say=say)[0]
        frames, targets = self._source.frames, self._model.output_length
        self._starts = frames.starts(config.data.train, targets=targets)
        self.samples = len(self._starts)
        first = int(self._starts[0])
        run_data.check(self._source, first, self._model.resolution or None)

    @abc.abstractmethod
    def plan(self) -> list[tuple[str, str]]:
        """Returns what will be done, as names and values."""

    def planned(self) -> list[tuple[str, str]]:
        """Returns the plan, and what was left out of the data."""
        return [*self.plan(), *run_data.left_out([self._source])]

    @abc.abstractmethod
    def solve(self, progress: Callable[[int], None]) -> Found:
        """Finds the weights.

        Args:
          progress: Told how many samples have been read.

        Raises:
          ValueError: There are no such weights.
          OSError: Data cannot be read.
        """

    @abc.abstractmethod
    def facts(self, found: Found) -> list[tuple[str, str]]:
        """Returns what to say of the weights, as names and values."""

    @abc.abstractmethod
    def describe(self, found: Found) -> str:
        """Returns the description that the published file carries."""

    @staticmethod
    @abc.abstractmethod
    def _require_only_what_counts(config: training.TrainConfig) -> None:
        """Checks that nothing is asked for that only gradients can do.

        Raises:
          ValueError: Something is.
        """

    def save(self, found: Found) -> None:
        """Writes the published file.

        Raises:
          OSError: It cannot be written.
        """
        self._family.save(
            self.folder / "checkpoint.npz",
            found.params,
            found.config,
            self._source.task,
            families.Grid.of(self._source.frames),
            description=self.describe(found),
            license=self._settings.license,
        )

    def judge(self, found: Found) -> dict[str, Any] | None:
        """Returns errors on the validation period; None where there is none.

        Args:
          found: From `solve`.

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
          facts: From `facts`.
        """
        recorder = records.Recorder(self.folder, tensorboard=False)
        recorder.begin(0, self.samples)
        if record is not None:
            recorder.record(record)
        recorder.close()
        report.write(
            self.folder,
            title=self._settings.description or f"Fit in {self.folder.name}",
            facts=[*self.planned(), *facts],
            settings=settings.dump(self._settings),
            records=records.read_records(self.folder),
        )

    @property
    def _name(self) -> str:
        return self._settings.model["family"]


def run(
    kind: type[Solving],
    config: training.TrainConfig,
    *,
    resume: bool,
    dry_run: bool,
    processes: int,
) -> None:
    """Finds the weights of a model, and prints and writes what comes of it.

    Args:
      kind: How they are found.
      config: The configuration, without stages.
      resume: Whether an earlier model in the folder may be replaced.
      dry_run: Whether to stop before the work.
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
            job = kind(config, say=out.print)
            out.facts(job.planned())
        if dry_run:
            return
        text = settings.dump(config)
        (config.output / "config.yaml").write_text(text, encoding="utf8")
        with out.stage("fit"), out.progress("Samples", job.samples) as bar:
            found = job.solve(lambda done: bar(done, job.samples, time.time() - began))
            job.save(found)
        with out.stage("validation"):
            record = job.judge(found)
        facts = job.facts(found)
        job.write_report(record, facts)
    out.facts(facts)
    if record is not None:
        out.print(f"validation loss {record['loss']:.5g}")
        for line in console.error_lines(record):
            out.print(line)
    out.print(f"{config.output}/checkpoint.npz, report.html, curves.png, metrics.jsonl")
    radar = config.data.radar is not None
    out.print(console.what_next(config.output, config.data.path, radar=radar))
    out.print_times()
