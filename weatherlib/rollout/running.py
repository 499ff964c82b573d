"""Drives a forecast to its end: into memory, or into a writer beside the computing."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import xarray

from weatherlib.rollout.background import Background
from weatherlib.rollout.execution import Execution, Flight
from weatherlib.rollout.guard import Violation
from weatherlib.rollout.placement import Placement
from weatherlib.rollout.request import Request

__all__ = ["Progress", "RunSummary", "Writer", "collected", "resume", "write"]

# On the device at once: a chunk being written, one that waits, one being computed.
_WAITING_CHUNKS = 1
CHUNKS_IN_FLIGHT = _WAITING_CHUNKS + 2


class Progress(Protocol):
    """Told how far a forecast is."""

    def __call__(self, step: int, total: int, seconds: float, /) -> None:
        """Takes the steps finished, the steps in all and the seconds spent."""
        ...


class Writer(Protocol):
    """What a forecast is written to; see `weatherlib.data.writers`."""

    @property
    def frames_written(self) -> int:
        """Frames that are safely there already."""
        ...

    def write(self, chunk: xarray.Dataset) -> None:
        """Appends frames along time."""
        ...

    def last_frames(self, n: int) -> xarray.Dataset:
        """Returns the last `n` frames written."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What `Forecaster.run` did.

    Attributes:
      steps: Steps of the whole forecast.
      first_step: Steps that an earlier run had made already.
      seconds: Time for everything, compilation included.
      compile_seconds: Part of it spent on tracing and compiling.
      violations: What the guard found, in order.
    """

    steps: int
    first_step: int
    seconds: float
    compile_seconds: float
    violations: tuple[Violation, ...] = ()

    @property
    def steps_per_second(self) -> float:
        """Steps of this run per second, compilation left out."""
        spent = max(self.seconds - self.compile_seconds, 1e-9)
        return (self.steps - self.first_step) / spent


def collected(job: Execution) -> Iterator[xarray.Dataset]:
    """Yields the chunks of a forecast, each while the next one is computed."""
    known: set[Any] = set()
    flights = job.dispatch(job.request.window, 0)
    pending = next(flights)
    while pending is not None:
        failure = following = None
        try:
            following = next(flights, None)
        except Exception as error:
            failure = error
        chunk, violations = job.collect(pending)
        if job.guard is not None:
            job.guard.report(violations, known)
        yield chunk
        del chunk
        if failure is not None:
            raise failure
        pending = following


def resume(
    request: Request, writer: Writer | None, place: Placement
) -> tuple[int, Mapping[str, np.ndarray]]:
    """Returns the steps a writer holds, and the input frames of the next one.

    Args:
      request: The forecast.
      writer: That of the main process counts, and tells the others.
      place: Where the forecast is made.

    Raises:
      ValueError: The writer holds another forecast, part of a step, or more than was
        asked for.
    """
    written, window = 0, request.window
    if writer is not None and place.is_main:
        written, window = _left(request, writer)
    written = int(place.shared(np.int32(written)))
    if not written:
        return 0, request.window
    return written // request.layout.frames_per_step, place.shared(dict(window))


def _left(request: Request, writer: Writer) -> tuple[int, Mapping[str, np.ndarray]]:
    """Returns the frames a writer holds, and the input frames of the next step.

    Raises:
      ValueError: As `resume`.
    """
    written = writer.frames_written
    if not written:
        return 0, request.window
    per_step = request.layout.frames_per_step
    if written % per_step or written > request.frames:
        raise ValueError(
            f"the forecast to continue has {written} frames; expected at most "
            f"{request.frames}, and a multiple of the {per_step} frame(s) of a step"
        )
    wanted = min(written, len(request.layout.input_times))
    return written, request.window_after(writer.last_frames(wanted), written)


def write(
    job: Execution,
    window: Mapping[str, np.ndarray],
    first_step: int,
    writer: Writer | None,
    progress: Progress | None,
) -> list[Violation]:
    """Writes the rest of a forecast; returns what the guard found.

    Args:
      job: The forecast.
      window: Input frames of the first step to make.
      first_step: Steps made before.
      writer: Takes the frames, in a thread of its own; None drops them.
      progress: Told after each chunk, in this thread.
    """
    began = time.perf_counter()
    known: set[Any] = set()
    found: list[Violation] = []

    def store(flight: Flight) -> tuple[int, list[Violation]]:
        chunk, violations = job.collect(flight)
        if job.guard is not None and job.guard.on_violation == "raise":
            # Before the chunk is written, so that the file ends with a good one.
            job.guard.report(violations, known)
        if writer is not None:
            writer.write(chunk)
        return flight.first_step + flight.steps, violations

    def tell() -> None:
        for step, violations in worker.results():
            found.extend(violations)
            if job.guard is not None:
                job.guard.report(violations, known)
            if progress is not None:
                progress(step, job.request.steps, time.perf_counter() - began)

    if progress is not None:
        progress(first_step, job.request.steps, 0.0)
    with (
        Background(store, depth=_WAITING_CHUNKS) as worker,
        contextlib.closing(job.dispatch(window, first_step)) as flights,
    ):
        for flight in flights:
            worker.submit(flight)
            del flight
            tell()
        worker.finish(tell)
    return found
