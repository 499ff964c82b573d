"""Sets of forecasts: many starts, perhaps many members, in one resumable file."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import pathlib
from collections.abc import Iterator

import numpy as np
import pandas as pd

from weatherlib import data, rollout
from weatherlib.cli import (
    console,
    describe,
    ensembles,
    families,
    files,
    forecasting,
    hindcast_parts,
    predict_options,
    setups,
    sources,
    spreading,
    start_blocks,
    usable_starts,
)
from weatherlib.training import distributed, sharding

__all__ = ["make_set"]

Options = predict_options.Options
Work = hindcast_parts.Work


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
    plans = (work.starts.tobytes(), list(work.left_out), work.steps, options)
    spreading.require_same(processes, work.model.digest, *plans)
    with (
        out.stage("forecast"),
        sources.skip_noted(options),
        contextlib.ExitStack() as closing,
    ):
        forecaster, work = _build(options, work, layout)
        writer = _open_writer(output, options, work) if processes.is_main else None
        followed = spreading.followed(processes, _plan(work), writer)
        with (
            processes.guard(),
            _unfinished_noted(writer, work),
            out.progress("Forecasts", work.forecasts * work.steps) as progress,
        ):
            # Closed once the others may go: a large set is copied for a while.
            if writer is not None:
                closing.enter_context(writer)
            guard = rollout.Guard(on_violation=options.on_violation)
            hindcast_parts.run_set(
                forecaster, work, followed, guard=guard, progress=progress
            )
        processes.shutdown()
    out.split_stage("forecast", "compile", forecaster.compile_seconds)
    usable_starts.print_left_out(out, work.starts, work.left_out)
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
            work.made.size,
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
    left_out = {}
    if options.skip_missing:
        earlier = ensembles.earlier_steps(ensemble)
        left_out = usable_starts.to_leave_out(states, starts, earlier=earlier)
    made = np.delete(starts, list(left_out))
    if not made.size:
        raise ValueError(
            f"--init {options.init}: none of the {starts.size} starts can be made with "
            f"these data; of the first of them, {left_out[0]}"
        )
    ensembles.require_earlier(states, made, ensemble)
    with sources.skip_noted(options):
        first = setups.prepare_start(model, statistics, states, made[0], steps=steps)
    return Work(
        model=model,
        statistics=statistics,
        states=states,
        starts=starts,
        left_out=left_out,
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
    writer = data.open_hindcasts(
        output,
        _plan(work),
        work.first.template,
        attrs=attrs,
        overwrite=options.overwrite or options.writes_unasked,
        derive=options.derive,
    )
    writer.leave_out(list(work.left_out))
    return writer


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
    starts = work.made
    if len(work.starts) > 1:
        first_start, last_start = pd.Timestamp(starts[0]), pd.Timestamp(starts[-1])
        text = f"{len(starts)} starts, {first_start} to {last_start} UTC"
        if work.left_out:
            text += f", {len(work.left_out)} left out"
        facts.append(("set", text))
    if work.ensemble is not None:
        facts.append(("members", str(work.ensemble.attrs["perturbation"])))
    out.facts([*facts, *layout])
    for change in work.states.changes:
        out.print(f"Data: {change}")
    out.print()


@contextlib.contextmanager
def _unfinished_noted(writer: data.HindcastWriter | None, work: Work) -> Iterator[None]:
    """Adds to whatever stops a set where its finished forecasts are."""
    try:
        yield
    except BaseException as error:
        if writer is None:
            raise
        error.add_note(
            f"{writer.parts_written} of {work.forecasts} forecasts are complete in "
            f"{writer.path}.partial; the same command continues from there"
        )
        raise
