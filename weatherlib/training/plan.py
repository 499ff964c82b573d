"""What a training loop is given, and what it gives back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import optax

from weatherlib import config
from weatherlib.training.step import LossFunction, TrainState

__all__ = ["Batches", "LoopConfig", "Result", "Stage"]


class Batches(Protocol):
    """Batches with a position, such as a `Feed`."""

    def iterate(self, state: Mapping[str, Any] | None = None) -> Any:
        """Returns an iterator over batches, each a sequence of parts.

        It has `state`, which JSON can hold and from which `iterate` goes on, `waited`,
        the seconds spent waiting so far, and `close()`.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of training with one loss, one source of batches and one optimiser.

    Attributes:
      steps: Updates.
      batches: Where batches come from.
      optimizer: From gradients to changes of the weights. Its state goes from stage to
        stage, so it has one structure in all.
      loss: Of a batch; None takes that of the trainer.
      reset_optimizer: Whether the optimiser begins anew.
      rate: Learning rate by updates made, for the records.
      rollout: Forecast steps in the loss, for the records.
      options: Keyword arguments of the loss, numbers by updates made, such as
        `teacher_forcing_ratio`. None gives none.
    """

    steps: int
    batches: Batches
    optimizer: optax.GradientTransformation
    loss: LossFunction | None = None
    reset_optimizer: bool = False
    rate: Callable[[int], Any] | None = None
    rollout: int = 1
    options: Callable[[Any], Mapping[str, Any]] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopConfig(config.Mapping):
    """How often things are done, in updates.

    Attributes:
      checkpoint_every: Between checkpoints.
      keep: Last checkpoints that stay.
      log_every: Averaged in one record.
      validate_every: Between validations.
      patience: Validations without a better result until the run ends; None for all.
      min_change: How much better a result must be.
      ema: Decay of the running average of the weights; 0 keeps none.
      seed: Of first weights and noise.
    """

    checkpoint_every: int = 500
    keep: int = 2
    log_every: int = 50
    validate_every: int = 500
    patience: int | None = None
    min_change: float = 0.0
    ema: float = 0.999
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What a run came to.

    Attributes:
      state: The last state.
      step: Updates made, over all calls.
      best_step: Update of the best validation; None without validation.
      best_metric: Its result.
      seconds: Time of all calls together.
      waited: Of these, waiting for batches.
      compiling: Of these, compiling.
      ended: "complete", or "no better result" after early stopping.
    """

    state: TrainState
    step: int
    best_step: int | None
    best_metric: float | None
    seconds: float
    waited: float
    compiling: float
    ended: str

    @property
    def waited_share(self) -> float:
        """Share of the time spent waiting for batches."""
        return self.waited / max(self.seconds, 1e-9)
