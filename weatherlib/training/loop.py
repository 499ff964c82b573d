"""The loop of training: stages, records, checkpoints, validation, and how it ends."""

from __future__ import annotations

import collections
import contextlib
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import jax
import numpy as np

from weatherlib import host_memory
from weatherlib.training import checkpoints, faults, inspection, lock
from weatherlib.training.checkpoints import Checkpoints
from weatherlib.training.distributed_watch import LostWorkerError
from weatherlib.training.placement import Placement
from weatherlib.training.plan import LoopConfig, Result, Stage
from weatherlib.training.progress import Progress, Window
from weatherlib.training.records import Observer, Recorder
from weatherlib.training.step import TrainState, Update, first_state
from weatherlib.typing import PathLike, PyTree

__all__ = ["Trainer"]

Validate = Callable[[PyTree, PyTree], Mapping[str, Any]]
"""From parameters and Haiku state to a record with `metric`; smaller is better."""

Export = Callable[[PyTree, PyTree, int], None]
"""Takes the best parameters so far, their Haiku state, and the update."""

# Updates whose numbers have not been fetched yet: the device is never waited for, and
# never more than this far behind.
_LAG = 2


class Trainer:
    """Trains anything that has a loss, on anything that comes in batches.

    A killed run continues from its last checkpoint and gives the numbers of one that
    was never interrupted. SIGTERM and SIGINT keep the state first.
    """

    def __init__(  # noqa: PLR0913 (independent parts with defaults)
        self,
        objective: Any,
        stages: Sequence[Stage],
        settings: LoopConfig | None = None,
        *,
        folder: PathLike | None = None,
        first_params: Callable[[PyTree], PyTree] | None = None,
        validate: Validate | None = None,
        export: Export | None = None,
        observers: Sequence[Observer] = (),
        placement: Placement | None = None,
    ) -> None:
        """Takes the parts of a run.

        Args:
          objective: Has `init(key, batch)`, which returns parameters and Haiku state,
            and `loss(params, state, key, batch)`, as `Objective` does. Its loss also
            takes the options of stages that have any.
          stages: One after the other.
          settings: How often things are done.
          folder: Keeps checkpoints and records; None keeps nothing.
          first_params: Changes fresh parameters, for example to those of a file.
          validate: Judges averaged weights.
          export: Is given weights whenever they are the best so far; without `validate`
            at each checkpoint and at the end.
          observers: Are told what happens.
          placement: Devices and processes. The main process writes records and
            exports; checkpoints are written by all together.

        Raises:
          ValueError: There are no stages.
          ImportError: A package of the `train` extra is missing.
        """
        if not stages:
            raise ValueError("a run needs at least one stage")
        self._objective, self._stages = objective, tuple(stages)
        self._settings = settings or LoopConfig()
        self._folder = None if folder is None else pathlib.Path(folder)
        self._first_params = first_params or (lambda params: params)
        self._validate, self._export = validate, export
        self._placement = placement or Placement()
        self._is_main = self._placement.is_main
        self._observers = list(observers)
        if self._folder is not None and self._is_main:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._observers.insert(0, Recorder(self._folder))
        self._checkpoints: Checkpoints | None = None
        self._ends = np.cumsum([stage.steps for stage in self._stages]).tolist()

    @property
    def total(self) -> int:
        """Updates of all stages."""
        return self._ends[-1]

    def run(self, *, resume: bool = False) -> Result:
        """Trains to the end, or from where an earlier call got to.

        Args:
          resume: Whether to continue from the last checkpoint in the folder, if any.

        Raises:
          FileExistsError: The folder holds a run, and `resume` is not set.
          BlockingIOError: Another process trains in the folder.
          ValueError: The checkpoint is of another model.
          NonFiniteLossError: The loss is no number any more; batch and state are kept.
          Stopped: A signal arrived; the state is kept.
          OSError: A checkpoint or a batch could not be written or read.
          LostWorkerError: Another process of the run is gone.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._placement.activate())
            if self._folder is not None:
                if self._is_main:
                    stack.enter_context(lock.locked(self._folder))
                self._checkpoints = Checkpoints(
                    self._folder, keep=self._settings.keep, placement=self._placement
                )
                stack.push(self._close)
                if not resume:
                    checkpoints.require_new(self._folder)
            stack.enter_context(self._placement.guard())
            for observer in self._observers:
                stack.callback(observer.close)
            watch = stack.enter_context(faults.watch_signals())
            state, progress = self._begin()
            for observer in self._observers:
                observer.begin(progress.step, self.total)
            state = self._train(state, progress, watch)
            return self._end(state, progress)

    def _close(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the checkpoints, unless that would wait for a lost process."""
        del kind, trace
        if self._checkpoints is not None and not isinstance(error, LostWorkerError):
            self._checkpoints.close()

    def _begin(self) -> tuple[TrainState, Progress]:
        """Returns the state and progress of the last checkpoint, or the first ones."""
        settings, stage = self._settings, self._stages[0]
        key, noise = jax.random.split(jax.random.PRNGKey(settings.seed))
        iterator = stage.batches.iterate()
        try:
            params, model_state = self._objective.init(key, next(iterator)[0])
        finally:
            iterator.close()
        params = self._first_params(params)
        state = first_state(
            params, model_state, stage.optimizer, noise, ema=settings.ema
        )
        state = self._placement.place(state)
        found = None if self._checkpoints is None else self._checkpoints.restore(state)
        if found is None:
            return state, Progress()
        return found[0], Progress.from_json(found[1])

    def _train(
        self, state: TrainState, progress: Progress, watch: faults.Watch
    ) -> TrainState:
        while progress.step < self.total and not progress.ended:
            index = next(i for i, end in enumerate(self._ends) if progress.step < end)
            stage = self._stages[index]
            if progress.stage != index:
                progress.stage, progress.batches = index, None
                if stage.reset_optimizer:
                    fresh = jax.jit(stage.optimizer.init)(state.params)
                    state = self._placement.place(state._replace(optimizer=fresh))
            state = self._train_stage(state, progress, stage, watch)
        return state

    def _train_stage(
        self,
        state: TrainState,
        progress: Progress,
        stage: Stage,
        watch: faults.Watch,
    ) -> TrainState:
        """Runs the updates of a stage that are left."""
        host_memory.release_unused()
        loss = stage.loss or self._objective.loss
        update = Update(
            loss,
            stage.optimizer,
            ema=self._settings.ema,
            jit_options=self._placement.jit_options,
            constrain=self._placement.constrain,
            options=stage.options,
        )
        pending: collections.deque[tuple[int, jax.Array, Any]] = collections.deque()
        iterator = stage.batches.iterate(progress.batches)
        window = Window(progress, iterator)
        end = self._ends[progress.stage]
        try:
            while progress.step < end:
                batch = next(iterator)
                traces = update.traces
                state, numbers = update(state, batch)
                if update.traces > traces:
                    jax.block_until_ready(numbers)
                    host_memory.release_unused()
                    window.leave_out(progress.step + 1)
                progress.step += 1
                progress.batches = iterator.state
                pending.append((progress.step, numbers, batch))
                step = progress.step
                logs = step == end or step % self._settings.log_every == 0
                while len(pending) > (0 if logs else _LAG):
                    self._take(pending.popleft(), update.names, window, state)
                if logs:
                    self._tell(window.record(stage, self.total))
                stopped = self._stopped(watch)
                if not stopped and not self._is_due(step, end):
                    continue
                while pending:
                    self._take(pending.popleft(), update.names, window, state)
                window.pause()
                self._keep(state, progress, step == end, stopped)
                window.resume()
                if progress.ended:
                    break
        finally:
            window.pause()
            iterator.close()
        return state

    def _stopped(self, watch: faults.Watch) -> str | None:
        """Returns the signal that stops all processes after this update, or None."""
        told = watch.received
        if self._placement.agree(told is not None):
            return told or "a signal to another process"
        return None

    def _is_due(self, step: int, end: int) -> bool:
        settings = self._settings
        every = settings.checkpoint_every if self._checkpoints else self.total
        if self._validate is not None and step % settings.validate_every == 0:
            return True
        return step == end or step % every == 0

    def _take(
        self,
        entry: tuple[int, jax.Array, Any],
        names: Sequence[str],
        window: Window,
        state: TrainState,
    ) -> None:
        """Counts the numbers of an update made a little earlier.

        Raises:
          NonFiniteLossError: One of the first two is not finite.
        """
        step, numbers, batch = entry
        values = np.asarray(numbers)
        if not np.isfinite(values[:2]).all():
            where = ""
            if self._folder is not None:
                where = self._inspect(step, state, batch)
            raise faults.NonFiniteLossError(
                f"update {step}: the loss is {values[0]:g} and the norm of its "
                f"gradient {values[1]:g}{where}. A smaller learning rate, a longer "
                "warm-up, clipping or float32 may help",
                step,
            )
        window.add(dict(zip(names, values.tolist())))

    def _inspect(self, step: int, state: TrainState, batch: Any) -> str:
        """Keeps batch and state of a failed update, and says where."""
        assert self._folder is not None
        host = self._placement.fetch((state, batch))
        if self._is_main:
            inspection.keep(self._folder, step, *host)
        self._placement.wait("inspection")
        return (
            "; the batch and the state before it are in "
            f"{inspection.folder_of(self._folder, step)}"
        )

    def _keep(
        self,
        state: TrainState,
        progress: Progress,
        stage_ends: bool,
        stopped: str | None,
    ) -> None:
        """Validates and writes a checkpoint where it is time."""
        settings, step = self._settings, progress.step
        ends = step == self.total
        if self._validate is not None and (step % settings.validate_every == 0 or ends):
            self._judge(state, progress)
        due = step % settings.checkpoint_every == 0 or stage_ends or progress.ended
        if self._validate is None and due:
            self._export_best(state, step)
        if self._checkpoints is not None and (due or stopped):
            wait = bool(stopped) or ends or bool(progress.ended)
            self._checkpoints.save(step, state, progress.to_json(), wait=wait)
        if stopped and not ends:
            raise faults.Stopped(step, stopped)

    def _export_best(self, state: TrainState, step: int) -> None:
        if self._export is None:
            return
        params, model_state = self._placement.fetch(
            (state.best_params, state.model_state)
        )
        if self._is_main:
            self._export(params, model_state, step)

    def _judge(self, state: TrainState, progress: Progress) -> None:
        """Validates, keeps the best weights, and decides on an early end."""
        assert self._validate is not None
        began = time.perf_counter()
        found = dict(self._validate(state.best_params, state.model_state))
        host_memory.release_unused()
        metric = float(found["metric"])
        better = progress.best is None or (
            metric < progress.best - self._settings.min_change
        )
        if self._placement.decide(better and bool(np.isfinite(metric))):
            progress.best, progress.best_step = metric, progress.step
            progress.worse = 0
            if self._checkpoints is not None:
                best = {"params": state.best_params, "model_state": state.model_state}
                self._checkpoints.save_best(progress.step, best)
            self._export_best(state, progress.step)
        else:
            progress.worse += 1
        seconds = time.perf_counter() - began
        head = {"kind": "validation", "step": progress.step, "stage": progress.stage}
        self._tell({**head, **found, "seconds": round(seconds, 3)})
        patience = self._settings.patience
        if patience is not None and progress.worse >= patience:
            progress.ended = "no better result"

    def _tell(self, record: Mapping[str, Any]) -> None:
        if self._is_main:
            for observer in self._observers:
                observer.record(record)

    def _end(self, state: TrainState, progress: Progress) -> Result:
        if self._checkpoints is not None:
            self._checkpoints.wait()
        return Result(
            state=state,
            step=progress.step,
            best_step=progress.best_step,
            best_metric=progress.best,
            seconds=progress.seconds,
            waited=progress.waited,
            compiling=progress.compiling,
            ended=progress.ended or "complete",
        )
