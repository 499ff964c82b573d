"""What `weatherlib predict` starts from: model, statistics, data and dates."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import xarray

from weatherlib import data
from weatherlib.cli import (
    families,
    files,
    forecasting,
    models,
    predict_options,
    setups,
)
from weatherlib.data import fields
from weatherlib.data_utils import lexicon, times

__all__ = [
    "conform_noted",
    "load_model",
    "open_states",
    "require_units",
    "resolve_starts",
    "skip_noted",
    "steps",
]

Options = predict_options.Options


def load_model(options: Options) -> tuple[models.Model, models.Statistics]:
    """Returns the model and its statistics.

    Raises:
      FileNotFoundError: A file is missing.
      OSError: A file is damaged.
      ValueError: They do not go together.
    """
    if options.mode == "Random":
        model = models.random_model()
    else:
        model = models.load_model(options.pretrained)
        _require_forecasts(model)
    if options.lead is not None:
        model = _with_lead(model, options)
    else:
        _require_step(options, model)
    if options.sampler is not None or options.sampling_steps is not None:
        model = _with_sampler(model, options)
    statistics = models.find_statistics(
        model, options.stats, bundled_data=options.dataset is None
    )
    return model, statistics


def _require_forecasts(model: models.Model) -> None:
    """Makes sure that a model makes forecasts, and is no part of what does.

    Raises:
      ValueError: It does not.
    """
    family = families.FAMILIES[model.family]()
    if not family.forecasts:
        raise ValueError(
            f"{model.path}: holds an {family.title}, which makes no forecasts; give a "
            "checkpoint of the family prediff"
        )


def _with_lead(model: models.Model, options: Options) -> models.Model:
    """Returns the model with another length of its step.

    Raises:
      ValueError: It cannot have one.
    """
    lead = times.as_timedelta(options.lead or "")
    if options.time_step is not None:
        raise ValueError("give one of --lead and --time-step, not both")
    if not lead > pd.Timedelta(0):
        raise ValueError(
            "--lead must be a positive length of time such as 72h, "
            f"found {options.lead}"
        )
    if not families.FAMILIES[model.family]().any_lead(model.model_config):
        raise ValueError(
            f"--lead: this {model.family} model has one length of step, "
            f"{_hours(model.time_step) or 'that of its data'}; leave --lead out and "
            "ask for more --steps"
        )
    # A model of one frame reads as much of the past as its step is long.
    length = f"{lead.total_seconds() / 60:g}min"
    task = dataclasses.replace(model.task_config, input_duration=length)
    return dataclasses.replace(model, task_config=task, time_step=length)


def _require_step(options: Options, model: models.Model) -> None:
    """Checks that the time step asked for is that of the checkpoint, where it has one.

    Raises:
      ValueError: It is another one.
    """
    if options.time_step is None or model.time_step is None:
        return
    if times.as_timedelta(options.time_step) != times.as_timedelta(model.time_step):
        raise ValueError(
            f"--time-step {options.time_step}: the step of the checkpoint is "
            f"{_hours(model.time_step)}; leave --time-step out"
        )


def _hours(step: str | None) -> str:
    """Returns a length of time in hours, empty where there is none."""
    if step is None:
        return ""
    return f"{times.as_timedelta(step).total_seconds() / 3600:g} h"


def _with_sampler(model: models.Model, options: Options) -> models.Model:
    """Returns the model with another way of drawing forecasts.

    Raises:
      ValueError: It draws none, or cannot with such settings.
    """
    found = getattr(model.model_config, "sampler", None)
    if found is None:
        raise ValueError(
            f"--sampler, --sampling-steps: this {model.family} model does not draw its "
            "forecasts; leave them out"
        )
    if options.sampler is not None:
        # Whatever else was set belongs to the other sampler.
        found = type(found)(kind=options.sampler, clip=found.clip)
    if options.sampling_steps is not None:
        found = found.replace(steps=options.sampling_steps)
    changed = model.model_config.replace(sampler=found)
    most = changed.diffusion.schedule.steps
    if found.steps is not None and found.steps > most:
        raise ValueError(
            f"--sampling-steps {found.steps}: the model knows {most} steps of noise"
        )
    return dataclasses.replace(model, model_config=changed)


def steps(options: Options, model: models.Model, say: Callable[[str], None]) -> int:
    """Returns how many frames to forecast.

    Args:
      options: With the number asked for; by default one step of the model.
      model: Predicts some frames at a time, so that a whole number of steps is made.
      say: Is told where that is more than was asked for.
    """
    together = model.frames_per_step
    asked = options.steps
    if asked is None:
        asked = forecasting.DEFAULT_STEPS if options.is_bare else together
    whole = -(-asked // together) * together
    setups.require_steps(whole)
    if whole != asked:
        say(f"Steps: {whole} for {asked}, as the model predicts {together} at a time")
    return whole


def open_states(options: Options, model: models.Model) -> data.InitialStates:
    """Returns the states of the data, of which nothing is read yet.

    Raises:
      FileNotFoundError: A file is missing.
      OSError: A file is damaged.
      ValueError: The data have no dates, or none at the time step of the model.
    """
    static = None
    if options.static is not None:
        static = data.open_dataset(files.existing(options.static, "the static file"))
    source = files.open_lazily(options.dataset)
    require_units(options, source, model)
    states = data.InitialStates(
        source,
        model.task_config,
        time_step=options.time_step or model.time_step,
        static=static,
        conform=options.conform,
    )
    states.changes += files.conversions(source)
    return states


def require_units(
    options: Options, dataset: xarray.Dataset, model: models.Model
) -> None:
    """Checks that data given as they are to be read state the units of the model.

    With a date, or --conform, they are a source to convert from.

    Args:
      options: Say how the data are given.
      dataset: As `files.open_lazily` or `files.open_weather` returns it.
      model: Reads them.

    Raises:
      ValueError: They state others; the message names variables and units.
    """
    if options.init is not None or options.conform:
        return
    # Heights have names of their own, under which their unit is right.
    view, _ = lexicon.rename(dataset, lexicon.task_variables(model.task_config))
    _, heights = fields.convert(view, guess=False)
    changes = [*files.conversions(dataset), *heights]
    lines = files.other_units(changes, model.task_config)
    if lines:
        count = "1 variable is" if len(lines) == 1 else f"{len(lines)} variables are"
        raise ValueError(
            "\n  - ".join([f"{count} not in the unit of the model:", *lines])
            + "\nweatherlib.data.conform(dataset, task) converts them"
        )


def resolve_starts(
    options: Options, states: data.InitialStates, steps: int
) -> np.ndarray:
    """Returns the starts that the options ask for.

    Each of them is in the data, unless those that are not may be left out.

    Args:
      options: `init` names them; without it there is one, as late as the data hold
        truth for the forecast.
      states: The data.
      steps: Length of the forecast.

    Returns:
      datetime64[ns], ascending, shape [start].

    Raises:
      ValueError: A start is not in the data; the message names those near it.
    """
    setups.require_steps(steps, states.time_step)
    available = states.starts
    if options.init is not None:
        rule = data.parse_starts(options.init)
        found = rule.resolve(available, states.why_no_start)
    elif len(available):
        latest = states.times[-1] - steps * states.time_step
        place = max(0, int(available.searchsorted(latest, side="right")) - 1)
        found = available[place : place + 1].to_numpy().astype("datetime64[ns]")
    else:
        found = states.times[-1:].to_numpy().astype("datetime64[ns]")
    if not options.skip_missing:
        with skip_noted(options, bool(np.isin(found, available.to_numpy()).any())):
            states.require(found)
    return found


@contextlib.contextmanager
def skip_noted(options: Options, is_of_use: bool = True) -> Iterator[None]:
    """Adds to errors about some starts of a set how the others are made.

    Args:
      options: What is asked for.
      is_of_use: Whether there are others.
    """
    try:
        yield
    except ValueError as error:
        reasons = ("no forecast can start at", "values are NaN")
        can_skip = is_of_use and options.has_starts and not options.skip_missing
        if can_skip and any(reason in str(error) for reason in reasons):
            error.add_note(
                "--skip-missing makes the set without the starts whose frames are "
                "missing or have NaN"
            )
        raise


@contextlib.contextmanager
def conform_noted() -> Iterator[None]:
    """Adds to errors that functions of `data` would mend what to type for it."""
    try:
        yield
    except ValueError as error:
        if "data.conform" in str(error):
            error.add_note("on the command line: weatherlib predict --conform")
        if "data.subsample" in str(error):
            error.add_note("on the command line: --init with a date, or latest")
        raise
