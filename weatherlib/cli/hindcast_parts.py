"""What a set of forecasts is made of, and the runs of the model that make it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray

from weatherlib import data, rollout
from weatherlib.cli import ensembles, models, setups, spreading, start_blocks

__all__ = ["Work", "run_set"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """What a set is made of, checked.

    Attributes:
      model: The model.
      statistics: What it normalises with.
      states: The data.
      starts: Dates of the forecasts, datetime64[ns].
      left_out: Places of those that are not made, and why.
      steps: Of each forecast.
      ensemble: How members are made; None for single forecasts.
      first: All that the first forecast needs.
    """

    model: models.Model
    statistics: models.Statistics
    states: data.InitialStates
    starts: np.ndarray
    left_out: dict[int, str]
    steps: int
    ensemble: ensembles.Ensemble | None
    first: setups.Setup

    @property
    def made(self) -> np.ndarray:
        """The starts that are made."""
        return np.delete(self.starts, list(self.left_out))

    @property
    def forecasts(self) -> int:
        """Forecasts in all, those that are complete included."""
        members = 1 if self.ensemble is None else self.ensemble.members
        return self.made.size * members


def run_set(
    forecaster: rollout.Forecaster,
    work: Work,
    writer: data.HindcastWriter | spreading.Follower,
    *,
    guard: rollout.Guard | None = None,
    progress: rollout.Progress | None = None,
) -> None:
    """Makes the forecasts of a set that are not complete yet.

    Args:
      forecaster: From `forecasting.build_forecaster`, with the ensemble's members per
        batch; without one, with as many starts as are to be computed at a time.
      work: What the set is made of, with the parameters of the model.
      writer: Takes the forecasts, in the process that writes.
      guard: Watches for fields that are no weather.
      progress: Is told the steps done, of all, and the seconds.

    Raises:
      ValueError: A state is missing or does not suit the model.
      OSError: A forecast cannot be written.
    """
    ensemble, frames = work.ensemble, forecaster.frames_per_step
    meter = _Meter(progress, _missing(work, writer) * work.steps)
    if ensemble is None and forecaster.members_per_batch > 1:
        parts = _blocks(work, writer, forecaster.members_per_batch)
    else:
        parts = _single_parts(forecaster, work, writer)
    for part in parts:
        forecaster.run(
            part.inputs,
            part.slot,
            part.forcings,
            steps=work.steps // frames,
            rng=part.rng,
            members=part.members,
            guard=guard,
            progress=meter.begin(part.width * frames),
        )
        if part.slot is not None:
            part.slot.finish()
        meter.finish(work.steps * part.width)


class _Meter:
    """Counts the steps of all forecasts of a set, while each counts its own."""

    def __init__(self, progress: rollout.Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._began = time.perf_counter()
        self._done = 0

    def begin(self, width: int) -> rollout.Progress:
        """Returns what the next forecast, of so many members, tells its steps to."""

        def tell(step: int, total: int, seconds: float) -> None:
            del total, seconds
            if self._progress is not None:
                spent = time.perf_counter() - self._began
                self._progress(self._done + step * width, self._total, spent)

        return tell

    def finish(self, steps: int) -> None:
        """Counts the steps of a forecast that is complete."""
        self._done += steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Part:
    """What one run of the model makes: a start, some of its members, or more starts.

    Attributes:
      inputs: What it starts from.
      forcings: Of all its steps.
      slot: Where it goes; None in a process that does not write.
      rng: Random key, or one for each start.
      members: Members, or as many as there are starts; None for one forecast.
      width: Forecasts.
    """

    inputs: xarray.Dataset
    forcings: xarray.Dataset
    slot: data.HindcastSlot | None
    rng: Any
    members: range | None
    width: int


def _missing(work: Work, writer: data.HindcastWriter | spreading.Follower) -> int:
    """Returns how many forecasts are to be made."""
    return sum(
        1 if members is None else len(members)
        for number in range(writer.plan.starts.size)
        for members in ensembles.batches(work.ensemble)
        if number not in work.left_out and not writer.is_complete(number, members)
    )


def _blocks(
    work: Work, writer: data.HindcastWriter | spreading.Follower, batch_size: int
) -> Iterator[_Part]:
    """Yields the starts that are not complete yet, several at a time."""
    places = [n for n in range(work.starts.size) if n not in work.left_out]
    missing = [n for n in places if not writer.is_complete(n)]
    for block in start_blocks.blocks(missing, batch_size):
        starts = work.starts[block.start : block.stop]
        inputs, forcings = start_blocks.prepare(
            work.model, work.statistics, work.states, starts, steps=work.steps
        )
        yield _Part(
            inputs=inputs,
            forcings=forcings,
            slot=writer.block(block),
            rng=rollout.start_keys(0, starts),
            members=range(len(block)),
            width=len(block),
        )


def _single_parts(
    forecaster: rollout.Forecaster,
    work: Work,
    writer: data.HindcastWriter | spreading.Follower,
) -> Iterator[_Part]:
    """Yields the forecasts that are not complete yet, start by start."""
    ensemble = work.ensemble
    seed = 0 if ensemble is None else ensemble.seed
    for number, start in enumerate(work.starts):
        if number in work.left_out:
            continue
        setup: setups.Setup | None = None
        for members in ensembles.batches(ensemble):
            if writer.is_complete(number, members):
                continue
            if setup is None:
                setup = setups.prepare_start(
                    work.model, work.statistics, work.states, start, steps=work.steps
                )
            inputs = setup.inputs
            if ensemble is not None and members is not None:
                inputs = ensemble.inputs(
                    forecaster, work.model, work.states, start, members
                )
            yield _Part(
                inputs=inputs,
                forcings=setup.forcings,
                slot=writer.slot(number, members),
                rng=rollout.start_key(seed, start),
                members=members,
                width=1 if members is None else len(members),
            )
