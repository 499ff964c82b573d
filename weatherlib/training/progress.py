"""How far a run is, and what the updates since the last record came to."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

__all__ = ["Progress", "Window"]


@dataclasses.dataclass
class Progress:
    """All of a run that is not arrays. A checkpoint holds it as JSON.

    Attributes:
      step: Updates made.
      stage: Index of the stage.
      batches: Position in the batches of the stage; None for its start.
      best: Best result of validation.
      best_step: Its update.
      worse: Validations since then.
      sums: Sums of the numbers of updates since the last record.
      count: How many these are.
      seconds: Time spent so far.
      waited: Of these, waiting for batches.
      compiling: Of these, up to the end of the first update of a stage.
      ended: Why the run ended early; empty otherwise.
    """

    step: int = 0
    stage: int = 0
    batches: Mapping[str, Any] | None = None
    best: float | None = None
    best_step: int | None = None
    worse: int = 0
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    count: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    compiling: float = 0.0
    ended: str = ""

    def to_json(self) -> dict[str, Any]:
        """Returns what JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Progress:
        """Returns the progress that `to_json` described."""
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: found[name] for name in found if name in names})


class Window:
    """Averages updates into records and keeps the time, validation left out."""

    def __init__(self, progress: Progress, iterator: Any) -> None:
        self._progress, self._iterator = progress, iterator
        self._began: float | None = time.perf_counter()
        self._waited = 0.0
        # Since the last record.
        self._seconds = self._wait = 0.0
        self._first = progress.step

    def add(self, numbers: Mapping[str, float]) -> None:
        """Adds the numbers of an update."""
        sums = self._progress.sums
        for name, value in numbers.items():
            sums[name] = sums.get(name, 0.0) + value
        self._progress.count += 1

    def record(self, stage: Any, total: int) -> dict[str, Any]:
        """Returns the means since the last record, and begins anew."""
        self.pause()
        self.resume()
        progress = self._progress
        means = {name: value / progress.count for name, value in progress.sums.items()}
        rate = None
        if progress.step > self._first and self._seconds > 0:
            rate = (progress.step - self._first) / self._seconds
        record = {
            "kind": "train",
            "step": progress.step,
            "stage": progress.stage,
            "rollout": stage.rollout,
            **{name: means.pop(name) for name in ("loss", "gradient_norm")},
            "learning_rate": (
                float(stage.rate(progress.step - 1)) if stage.rate else None
            ),
            "steps_per_second": rate and round(rate, 4),
            "data_wait": rate and round(self._wait / self._seconds, 5),
            "seconds_left": rate and round((total - progress.step) / rate, 1),
            "losses": means,
        }
        if stage.options is not None:
            found = stage.options(progress.step - 1)
            record["options"] = {name: float(value) for name, value in found.items()}
        progress.sums, progress.count = {}, 0
        self._seconds = self._wait = 0.0
        self._first = progress.step
        return record

    def leave_out(self, step: int) -> None:
        """Takes the time since the last record, spent on compiling, out of rates."""
        self.pause()
        self.resume()
        self._progress.compiling += self._seconds
        self._seconds = self._wait = 0.0
        self._first = step

    def pause(self) -> None:
        """Stops the clock."""
        if self._began is None:
            return
        seconds = time.perf_counter() - self._began
        waited = self._iterator.waited - self._waited
        self._began = None
        self._waited = self._iterator.waited
        self._seconds += seconds
        self._wait += waited
        self._progress.seconds += seconds
        self._progress.waited += waited

    def resume(self) -> None:
        """Starts the clock again."""
        self._began = time.perf_counter()
