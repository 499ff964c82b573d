"""Checks what a user hands to a forecast and makes one request of it."""

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import pandas as pd
import xarray

from weatherlib import data_utils, predictor_base
from weatherlib.data_utils import times
from weatherlib.rollout.layout import Field, Layout, field_of, static_coords
from weatherlib.rollout.request import Forcings, Request, forcing_frames
from weatherlib.task import TaskConfig

__all__ = ["make_request"]

_Fields = tuple[tuple[str, Field], ...]


def make_request(
    inputs: xarray.Dataset,
    forcings: Forcings | None = None,
    *,
    steps: int | None = None,
    targets_template: xarray.Dataset | None = None,
    frames_per_step: int = 1,
    task: TaskConfig | None = None,
    members: int | range | None = None,
    crop: Callable[[xarray.Dataset], xarray.Dataset] = lambda dataset: dataset,
) -> Request:
    """Returns the checked request.

    Args:
      inputs: Initial frames and static variables; with a task, any dataset that ends
        with the initial frames.
      forcings: Forcings at the target times, or None to compute what `task` names.
      steps: Steps to predict; None for all of `targets_template`.
      targets_template: What to predict; None to follow `task`, or else the
        time-dependent inputs that are not forced.
      frames_per_step: Frames of one step.
      task: Variables of the model.
      members: Ensemble members, or a range of their numbers; None for the size of
        `sample` in `inputs`, if any.
      crop: Returns the part of the grid that the model predicts.

    Raises:
      ValueError: Anything is missing, uneven or too short; the message says what.
    """
    whole = data_utils.decode_time(inputs)
    inputs = whole
    if task is not None:
        single = whole.sizes.get("time") == 1
        step = _first_lead(targets_template, forcings) if single else None
        inputs = data_utils.split_initial(whole, task, time_step=step)
    time_step = _time_step(inputs, targets_template, task)
    steps = _count_steps(steps, targets_template, frames_per_step)
    forcings = _forcings(
        forcings, whole, task, steps * frames_per_step, time_step, inputs
    )
    first_forcings = forcing_frames(forcings, 0, frames_per_step)
    template = _template(targets_template, inputs, first_forcings, task, time_step)
    template, part = _cropped(template, inputs, crop)
    _check_grids("forcings", inputs, first_forcings)
    first_member = _first_member(members)
    members = _count_members(inputs, first_forcings, members)
    layout = _layout(inputs, template, first_forcings, frames_per_step, time_step, part)
    if steps > 1:
        layout.check_renewal()
    window = {
        name: _array(inputs[name].variable, field, members, every_member=True)
        for name, field in layout.window.items()
    }
    static = {
        name: _array(inputs[name].variable, field, members, every_member=False)
        for name, field in layout.static.items()
    }
    return Request(
        layout=layout,
        steps=steps,
        members=members,
        first_member=first_member,
        window=window,
        static=static,
        sampled=_sampled(inputs, static) | _sampled(first_forcings, first_forcings),
        forcings=forcings,
        origin=_origin(whole, targets_template, time_step),
        attrs={
            str(name): (inputs if name in inputs else template)[name].attrs
            for name in template
        },
    )


def _layout(
    inputs: xarray.Dataset,
    template: xarray.Dataset,
    forcings: xarray.Dataset,
    frames_per_step: int,
    time_step: np.timedelta64,
    part: tuple[Any, ...],
) -> Layout:
    """Returns how the arrays of one step are laid out."""
    coords = {entry.name: entry for entry in static_coords(template)}
    coords |= {entry.name: entry for entry in static_coords(inputs)}
    return Layout(
        inputs=_fields(inputs),
        targets=_fields(template, frames_per_step),
        forcings=_fields(forcings, frames_per_step),
        coords=tuple(coords.values()),
        input_times=_multiples(time_step, range(1 - inputs.sizes["time"], 1)),
        target_times=_multiples(time_step, range(1, frames_per_step + 1)),
        part=part,
    )


def _cropped(
    template: xarray.Dataset, inputs: xarray.Dataset, crop: Any
) -> tuple[xarray.Dataset, tuple[Any, ...]]:
    """Returns the template on what is predicted, and the coordinates of a part.

    Raises:
      ValueError: The template lies on neither the whole grid nor the part.
    """
    part: tuple[Any, ...] = ()
    grid = inputs.coords.to_dataset()
    if predictor_base.predicts_part(crop, inputs):
        grid = crop(grid)
        if any(template.sizes.get(dim) != grid.sizes[dim] for dim in ("lat", "lon")):
            template = crop(template)
        part = static_coords(grid[["lat", "lon"]])
    _check_grids("targets template", grid, template)
    return template, part


def _first_lead(
    template: xarray.Dataset | None, forcings: Forcings | None
) -> pd.Timedelta | None:
    """Returns the time from a single input frame to the first prediction, if told.

    The times of forcings and template count from the last input frame.
    """
    for known in (template, forcings):
        if isinstance(known, xarray.Dataset) and "time" in known.coords:
            leads = data_utils.decode_time(known).coords["time"].values
            if leads.size and leads.dtype.kind == "m":
                return times.as_timedelta(leads[0])
    return None


def _time_step(
    inputs: xarray.Dataset, template: xarray.Dataset | None, task: TaskConfig | None
) -> np.timedelta64:
    if "time" not in inputs.coords or "time" not in inputs.dims:
        raise ValueError(
            "time: the inputs have no such dimension with a coordinate, so there is no "
            "state to start from"
        )
    known = inputs.coords["time"]
    if known.size > 1:
        return data_utils.infer_time_step(known).to_timedelta64()
    if template is not None:
        first = template.coords["time"].values[0] - known.values[0]
        return first.astype("timedelta64[ns]")
    if task is not None:
        return pd.to_timedelta([task.input_duration]).to_numpy()[0]
    raise ValueError(
        "time: a single input frame does not show the time step; give targets_template"
    )


def _count_steps(
    steps: int | None, template: xarray.Dataset | None, frames_per_step: int
) -> int:
    if template is None:
        if steps is None:
            raise ValueError("give steps, or a targets_template")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        return steps
    frames = template.sizes.get("time", 0)
    if not frames or frames % frames_per_step:
        raise ValueError(
            f"the targets template has {frames} times; the model predicts "
            f"{frames_per_step} frame(s) a step, so it must be a multiple of that"
        )
    available = frames // frames_per_step
    if steps is not None and not 1 <= steps <= available:
        raise ValueError(
            f"steps is {steps}, but the targets template holds 1 to {available}"
        )
    return available if steps is None else steps


def _forcings(
    forcings: Forcings | None,
    whole: xarray.Dataset,
    task: TaskConfig | None,
    frames: int,
    time_step: np.timedelta64,
    inputs: xarray.Dataset,
) -> Forcings:
    """Returns forcings of the whole forecast, computed by the task if not given."""
    if forcings is None:
        if task is None:
            return xarray.Dataset()
        return data_utils.forcings(whole, task, frames, pd.Timedelta(time_step))
    if not isinstance(forcings, xarray.Dataset):
        return forcings
    forcings = data_utils.decode_time(forcings)
    found = forcings.sizes.get("time", frames)
    if found < frames:
        raise ValueError(
            f"the forcings have {found} times, too few for a forecast of {frames} "
            "frames"
        )
    _check_times("forcings", forcings, inputs, time_step)
    return forcings.drop_vars("datetime", errors="ignore")


def _check_times(
    label: str, dataset: xarray.Dataset, inputs: xarray.Dataset, step: np.timedelta64
) -> None:
    """Checks that times are the first multiples of the step after the inputs."""
    if "time" not in dataset.coords:
        return
    found = dataset.coords["time"].values - inputs.coords["time"].values[-1]
    expected = step * np.arange(1, found.size + 1)
    wrong = np.flatnonzero(found != expected)
    if wrong.size:
        first = wrong[0]
        raise ValueError(
            f"time: the {label} must follow the inputs at even steps of "
            f"{pd.Timedelta(step)}; number {first} is at lead time "
            f"{pd.Timedelta(found[first])}, expected {pd.Timedelta(expected[first])}"
        )


def _template(
    template: xarray.Dataset | None,
    inputs: xarray.Dataset,
    forcings: xarray.Dataset,
    task: TaskConfig | None,
    time_step: np.timedelta64,
) -> xarray.Dataset:
    if template is not None:
        template = data_utils.decode_time(template)
        _check_times("targets template", template, inputs, time_step)
        timeless = [str(n) for n, v in template.items() if "time" not in v.dims]
        if timeless:
            raise ValueError(f"targets without a time dimension: {timeless}")
        return template.drop_vars("datetime", errors="ignore")
    if task is not None:
        return data_utils.targets_template(inputs, task, 1, pd.Timedelta(time_step))
    names = [
        name
        for name, variable in inputs.items()
        if "time" in variable.dims and name not in forcings
    ]
    template = inputs[names].isel(time=slice(1))
    return template.drop_vars("datetime", errors="ignore")


def _check_grids(label: str, grid: xarray.Dataset, other: xarray.Dataset) -> None:
    for name, index in other.indexes.items():
        if name in ("time", "sample") or name not in grid.indexes:
            continue
        if not index.equals(grid.indexes[name]):
            raise ValueError(
                f"{name}: the inputs and the {label} differ in values or order"
            )


def _first_member(members: int | range | None) -> int:
    """Returns the number of the first member.

    Raises:
      ValueError: A range of members leaves numbers out or begins below zero.
    """
    if not isinstance(members, range):
        return 0
    if members.step != 1 or members.start < 0:
        raise ValueError(
            f"members must be consecutive numbers from 0 on, not {members}"
        )
    return members.start


def _count_members(
    inputs: xarray.Dataset, forcings: xarray.Dataset, members: int | range | None
) -> int | None:
    if isinstance(members, range):
        members = len(members)
    if members is not None and members < 1:
        raise ValueError(f"members must be at least 1, not {members}")
    for label, dataset in (("inputs", inputs), ("forcings", forcings)):
        found = dataset.sizes.get("sample")
        if found is None:
            continue
        if members is not None and members != found:
            raise ValueError(
                f"members is {members}, but the {label} have {found} along sample"
            )
        members = found
    return members


def _fields(dataset: xarray.Dataset, frames: int | None = None) -> _Fields:
    """Returns the fields of one member sorted by name, as after a jit boundary."""
    fields = []
    for name in sorted(dataset.data_vars, key=str):
        variable = dataset[name].variable
        try:
            field = field_of(variable, drop="sample")
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        if frames is not None:
            if not field.has_time:
                field = Field(("time", *field.dims), (1, *field.shape), field.dtype)
            field = field.with_frames(frames)
        fields.append((str(name), field))
    return tuple(fields)


def _array(
    variable: xarray.Variable, field: Field, members: int | None, *, every_member: bool
) -> np.ndarray:
    """Returns a variable as an array of its field, led by members where it has them."""
    leading = ("sample",) if "sample" in variable.dims else ()
    ordered = variable.transpose(*leading, *field.dims)
    array = np.asarray(ordered.values, np.dtype(field.dtype))
    if members is None or leading or not every_member:
        return array
    return np.broadcast_to(array, (members, *array.shape))


def _sampled(dataset: xarray.Dataset, names: Any) -> frozenset[str]:
    return frozenset(str(name) for name in names if "sample" in dataset[name].dims)


def _multiples(step: np.timedelta64, counts: range) -> tuple[int, ...]:
    nanoseconds = int(step.astype("timedelta64[ns]").astype(np.int64))
    return tuple(nanoseconds * count for count in counts)


def _origin(
    whole: xarray.Dataset, template: xarray.Dataset | None, step: np.timedelta64
) -> xarray.Variable | None:
    """Returns the UTC time of the last input frame, where it is known."""
    candidates: tuple[tuple[Hashable, xarray.Dataset | None, int], ...] = (
        ("inputs", whole, -1),
        ("template", template, 0),
    )
    for label, dataset, index in candidates:
        if dataset is None or "datetime" not in dataset.coords:
            continue
        dates = dataset.coords["datetime"].variable.astype("datetime64[ns]")
        if "time" not in dates.dims:
            continue
        date = dates.isel(time=index)
        return date if label == "inputs" else date - step
    return None
