"""Whether weather suits a model, and which options of `weatherlib predict` it needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import xarray

from weatherlib import data, data_utils
from weatherlib.cli import files, models, parameters, setups

__all__ = ["Fit", "judge"]

_AS_IT_IS, _CONFORM, _INIT = "", "--conform", "--init"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """How weather suits a model.

    Attributes:
      lines: What stands between the two, each thing with its remedy.
      verdict: What it comes to, in one line.
      weather: What a forecast would start from; None where there can be none.
    """

    lines: list[str]
    verdict: str
    weather: xarray.Dataset | None


class _Start(NamedTuple):
    """What a forecast can start from.

    Attributes:
      way: The option of `weatherlib predict` that it takes.
      weather: The frames, or more.
      time_step: Between frames; None for that of the weather.
    """

    way: str
    weather: xarray.Dataset
    time_step: data_utils.TimedeltaLike | None


def judge(dataset: xarray.Dataset, model: models.Model) -> Fit:
    """Returns how weather suits a model.

    Args:
      dataset: As `files.open_weather` returns it.
      model: From its checkpoint.

    Raises:
      OSError: Values cannot be read.
    """
    problems = _check(dataset, model)
    errors = [problem for problem in problems if problem.severity == "error"]
    units = files.other_units(files.conversions(dataset), model.task_config)
    lines = [
        *(f"{line}; weatherlib predict --conform converts them" for line in units),
        *map(_line, problems),
    ]
    found = list(_starts(dataset, model, errors, is_exact=not units))
    misfit = _misfit(found[0], model) if found else ""
    if misfit:
        return Fit(lines=[*lines, misfit], verdict="they do not fit", weather=None)
    return Fit(
        lines=lines,
        verdict=_verdict([start.way for start in found], lines),
        weather=found[0].weather if found else None,
    )


def _check(dataset: xarray.Dataset, model: models.Model) -> list[data_utils.Problem]:
    return data_utils.check(
        dataset,
        model.task_config,
        resolution=model.model_config.resolution,
        time_step=model.time_step,
    )


def _starts(
    dataset: xarray.Dataset,
    model: models.Model,
    errors: list[data_utils.Problem],
    *,
    is_exact: bool,
) -> Iterator[_Start]:
    """Yields what a forecast can start from, and with which option."""
    if not errors and is_exact:
        yield _Start(_AS_IT_IS, dataset, model.time_step)
        return
    state = _latest_state(dataset, model)
    if state is not None:
        yield state
    if all(problem.lossless for problem in errors):
        conformed, _ = data.conform(dataset, model.task_config)
        yield _Start(_CONFORM, conformed, model.time_step)


def _latest_state(dataset: xarray.Dataset, model: models.Model) -> _Start | None:
    """Returns what a forecast from the last possible date reads.

    None where it cannot be cut out, or does not suit the model.
    """
    task = model.task_config
    try:
        states = data.InitialStates(dataset, task, time_step=model.time_step)
        if not len(states.starts):
            return None
        state = states.state(states.starts.to_numpy()[-1])
        data_utils.require(
            state,
            task,
            resolution=model.model_config.resolution,
            time_step=states.time_step,
        )
    except ValueError:
        return None
    return _Start(_INIT, state, states.time_step)


def _misfit(start: _Start, model: models.Model) -> str:
    """Returns why the parameters of a model do not suit data that seem to fit.

    Those of GraphCast follow from its task and time step; tracing it takes long on a
    fine grid.
    """
    if model.family.startswith("graphcast") and model.time_step is not None:
        return ""
    try:
        step = setups.one_step(start.weather, model, start.time_step)
        parameters.require_parameters(model, *step)
    except ValueError as error:
        return str(error)
    return ""


def _line(problem: data_utils.Problem) -> str:
    by_conform = f" ({_CONFORM} does this)" if problem.lossless else ""
    return f"{problem.variable}: {problem.found}; {problem.fix}{by_conform}"


def _verdict(ways: list[str], lines: list[str]) -> str:
    """Returns what `weatherlib predict` needs."""
    if not ways:
        return "they do not fit before that is mended"
    if ways == [_AS_IT_IS]:
        return "they fit as they are" if lines else "yes"
    lost = "" if ways == [_INIT] else "; nothing is lost"
    return f"they fit with {' or '.join(ways)} of weatherlib predict{lost}"
