"""Sets of forecasts: many starts, perhaps many members, in one resumable file."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import xarray

from weatherlib import data, rollout
from weatherlib.cli import (
    console,
    describe,
    ensembles,
    families,
    files,
    forecasting,
    models,
    predict_options,
    setups,
    sources,
    spreading,
    start_blocks,
)
from weatherlib.training import distributed, sharding

__all__ = ["Work", "make_set", "run_set"]

Options = predict_options.Options


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """What a set is made of, checked.

    Attributes:
      model: The model.
      statistics: What it normalises with.
      states: The data.
      starts: Dates of the forecasts, datetime64[ns].
      steps: Of each forecast.
      ensemble: How members are made; None for single forecasts.
      first: All that the first forecast needs.
    """

    model: models.Model
    statistics: models.Statistics
    states: data.InitialStates
    starts: np.ndarray
    steps: int
    ensemble: ensembles.Ensemble | None
    first: setups.Setup


def make_set(
    options: Options, processes: distributed.Run | None = None
) -> pathlib.Path:
    """Makes the set that the options describe and prints what it did.

    Args:
      options: What to do.
      processes: Those that make it together; None is this one alone.

    Returns:
      The file.

    Raises:
      ValueError: The model, the data, the statistics or an option do not go together.
      FileNotFoundError: A file is missing.
      OSError: A file is damaged or cannot be written.
    """
    processes = processes or distributed.Run()
    options.require_consistent()
    out = console.Console(quiet=not processes.is_main)
    output = _output(options)
    with out.stage("load"), sources.conform_noted():
        work = _gather(options, out)
    layout = spreading.make(options, work.model, processes)
    _print_setup(out, options, work, spreading.facts(layout, processes))
    spreading.require_same(
        processes, work.model.digest, work.starts.tobytes(), work.steps, options
    )
    with out.stage("forecast"), contextlib.ExitStack() as closing:
        forecaster, work = _build(options, work, layout)
        writer = _open_writer(output, options, work) if processes.is_main else None
        followed = spreading.followed(processes, _plan(work), writer)
        parts = followed.plan.parts
        with (
            processes.guard(),
            _unfinished_noted(writer),
            out.progress("Forecasts", parts * work.steps) as progress,
        ):
            # Closed once the others may go: a large set is copied for a while.
            if writer is not None:
                closing.enter_context(writer)
            guard = rollout.Guard(on_violation=options.on_violation)
            run_set(forecaster, work, followed, guard=guard, progress=progress)
        processes.shutdown()
    out.split_stage("forecast", "compile", forecaster.compile_seconds)
    out.heading("Files")
    out.print(f"  {output}")
    out.print()
    out.print_times()
    return output


def _build(
    options: Options, work: Work, layout: sharding.Layout | None
) -> tuple[rollout.Forecaster, Work]:
    """Returns what makes the forecasts, and the work with parameters."""
    if work.ensemble is not None:
        together = work.ensemble.per_batch
    else:
        together = start_blocks.batch_size(
            options.batch_size,
            work.first,
            work.starts.size,
            parts=1 if layout is None else layout.parts("sample"),
        )
    model = forecasting.initialise(
        work.model, work.statistics, work.first, cache=options.cache
    )
    forecaster = forecasting.build_forecaster(
        model,
        work.statistics,
        precision=options.precision,
        members_per_batch=together,
        cache=options.cache,
        layout=layout,
    )
    return forecaster, dataclasses.replace(work, model=model)


def _gather(options: Options, out: console.Console) -> Work:
    """Opens model and data, and prepares the first forecast."""
    start_blocks.require_size(options.batch_size)
    model, statistics = sources.load_model(options)
    steps = sources.steps(options, model, out.print)
    ensemble = None
    if options.members is not None:
        ensemble = ensembles.Ensemble(
            options,
            options.members,
            statistics,
            is_drawn=families.FAMILIES[model.family]().is_generative,
        )
    states = sources.open_states(options, model)
    starts = sources.resolve_starts(options, states, steps)
    ensembles.require_earlier(states, starts, ensemble)
    first = setups.prepare_start(model, statistics, states, starts[0], steps=steps)
    return Work(
        model=model,
        statistics=statistics,
        states=states,
        starts=starts,
        steps=steps,
        ensemble=ensemble,
        first=first,
    )


def _plan(work: Work) -> data.HindcastPlan:
    """Returns the axes of the set."""
    return data.HindcastPlan(
        starts=work.starts,
        lead_times=work.first.template["time"].values,
        members=None if work.ensemble is None else work.ensemble.members,
    )


def _open_writer(
    output: pathlib.Path, options: Options, work: Work
) -> data.HindcastWriter:
    """Returns the writer of the set, which may hold parts of an earlier run."""
    ensemble = work.ensemble
    attrs = {
        **forecasting.origin_attrs(work.model),
        "title": "Weather forecasts",
        **_data_attrs(options, work),
        **({} if ensemble is None else ensemble.attrs),
    }
    return data.open_hindcasts(
        output,
        _plan(work),
        work.first.template,
        attrs=attrs,
        overwrite=options.overwrite or options.writes_unasked,
        derive=options.derive,
    )


def _data_attrs(options: Options, work: Work) -> dict[str, str]:
    """Returns what a set says about the data that it starts from, and of draws."""
    source = options.dataset or "the bundled sample"
    digest = hashlib.sha256()
    for name, field in sorted(work.first.inputs.data_vars.items()):
        digest.update(str(name).encode())
        digest.update(np.ascontiguousarray(field.values).data)
    found = {
        "initial_conditions": pathlib.PurePath(source).name or source,
        "initial_state_sha256": digest.hexdigest(),
    }
    sampler = getattr(work.model.model_config, "sampler", None)
    if sampler is not None:
        set_values = {k: v for k, v in sampler.items() if v is not None}
        found["sampler"] = ", ".join(f"{k} {v}" for k, v in set_values.items())
    return found


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
    meter = _Meter(progress, _missing(writer, ensemble) * work.steps)
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


def _missing(
    writer: data.HindcastWriter | spreading.Follower,
    ensemble: ensembles.Ensemble | None,
) -> int:
    """Returns how many forecasts are to be made."""
    return sum(
        1 if members is None else len(members)
        for number in range(writer.plan.starts.size)
        for members in ensembles.batches(ensemble)
        if not writer.is_complete(number, members)
    )


def _blocks(
    work: Work, writer: data.HindcastWriter | spreading.Follower, batch_size: int
) -> Iterator[_Part]:
    """Yields the starts that are not complete yet, several at a time."""
    places = range(work.starts.size)
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


def _output(options: Options) -> pathlib.Path:
    """Returns the file to write.

    Raises:
      ValueError: None is named, or an option makes no sense for a set.
    """
    if options.animate:
        raise ValueError(
            "--animate: a set of forecasts is not drawn; use weatherlib plot on its "
            "file"
        )
    if options.output is not None:
        return files.forecast_path(options.output)
    if options.writes_unasked:
        return files.writable_folder(options.out_dir) / "forecasts.zarr"
    raise ValueError(
        "--output: many starts or members are written to a file, such as --output "
        "forecasts.zarr; none is named"
    )


def _print_setup(
    out: console.Console,
    options: Options,
    work: Work,
    layout: list[tuple[str, str]],
) -> None:
    """Prints the model, the data and what will be forecast."""
    out.heading("Model")
    out.facts(describe.model_facts(work.model, variables=False))
    out.heading("Data")
    facts = [("file", options.dataset or "the bundled sample")]
    facts += describe.setup_facts(work.first)
    starts = work.starts
    if len(starts) > 1:
        first_start, last_start = pd.Timestamp(starts[0]), pd.Timestamp(starts[-1])
        facts.append(
            ("set", f"{len(starts)} starts, {first_start} to {last_start} UTC")
        )
    if work.ensemble is not None:
        facts.append(("members", str(work.ensemble.attrs["perturbation"])))
    out.facts([*facts, *layout])
    for change in work.states.changes:
        out.print(f"Data: {change}")
    out.print()


@contextlib.contextmanager
def _unfinished_noted(writer: data.HindcastWriter | None) -> Iterator[None]:
    """Adds to whatever stops a set where its finished forecasts are."""
    try:
        yield
    except BaseException as error:
        if writer is None:
            raise
        error.add_note(
            f"{writer.parts_written} of {writer.plan.parts} forecasts are complete in "
            f"{writer.path}.partial; the same command continues from there"
        )
        raise
