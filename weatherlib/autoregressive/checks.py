"""Checks that inputs, targets and forcings can be fed back step by step."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import xarray as xr

__all__ = ["check_feedback", "check_roles", "check_spacing", "check_times"]


def check_roles(inputs: xr.Dataset, targets: xr.Dataset, forcings: xr.Dataset) -> None:
    """Checks that each variable can play its part at every step.

    Raises:
      ValueError: A variable is both target and forcing, lacks a time, or an input that
        moves is neither.
    """
    both = sorted(str(name) for name in targets if name in forcings)
    if both:
        raise ValueError(f"{both} cannot be both targets and forcings")
    for role, data in (("target", targets), ("forcing", forcings)):
        for name, array in data.items():
            if "time" not in array.dims:
                raise ValueError(
                    f"the {role} {name!r} must have the dimension 'time', found "
                    f"{array.dims}"
                )
    for name, array in inputs.items():
        if "time" in array.dims and name not in targets and name not in forcings:
            raise ValueError(
                f"the time-dependent input {name!r} must also be a target or a "
                "forcing, so that later steps have values for it"
            )


def check_times(
    targets: xr.Dataset, forcings: xr.Dataset, frames_per_step: int
) -> None:
    """Checks that targets fill whole steps and forcings are known at their times.

    Raises:
      ValueError: They do not, or are not.
    """
    frames = targets.sizes.get("time", 0)
    if not frames or frames % frames_per_step:
        raise ValueError(
            f"targets must be a multiple of {frames_per_step} frame(s) long, as one "
            f"step is; found {frames}"
        )
    if not len(forcings):
        return
    if "time" in targets.indexes and "time" in forcings.indexes:
        want, have = targets.indexes["time"], forcings.indexes["time"]
        if not have.equals(want):
            raise ValueError(
                f"forcings must have the times of the targets, in their order; missing "
                f"{_list(want.difference(have))}, not asked for "
                f"{_list(have.difference(want))}"
            )
    elif forcings.sizes["time"] != frames:
        raise ValueError(
            f"forcings have {forcings.sizes['time']} times, targets {frames}"
        )


def check_spacing(inputs: xr.Dataset, targets: xr.Dataset) -> None:
    """Checks that a moved window has the spacing of the first one.

    Raises:
      ValueError: The times of inputs and targets are not evenly spaced.
    """
    if "time" not in inputs.indexes or "time" not in targets.indexes:
        return
    times = [*inputs.indexes["time"], *targets.indexes["time"]]
    steps = {later - earlier for earlier, later in itertools.pairwise(times)}
    if len(steps) > 1 or not all(steps):
        raise ValueError(
            "several steps need evenly spaced times from the first input to the last "
            f"target, found {_list(times)}"
        )


def check_feedback(window: xr.DataArray, source: xr.DataArray) -> None:
    """Checks that frames of `source` can take the place of frames of the window.

    Args:
      window: A variable of the inputs, with `time` and any other dimensions.
      source: The same among the targets or forcings.

    Raises:
      ValueError: They differ in dimensions or coordinates.
    """
    name = window.name
    if "time" not in window.dims:
        raise ValueError(
            f"the input {name!r} has no time but is predicted or forced over time"
        )
    for dim in window.dims:
        if dim == "time":
            continue
        if dim not in source.dims or window.sizes[dim] != source.sizes[dim]:
            raise ValueError(
                f"{name}: inputs have the shape {dict(window.sizes)}, the values of "
                f"later times {dict(source.sizes)}"
            )
        labelled = dim in window.indexes and dim in source.indexes
        if labelled and not window.indexes[dim].equals(source.indexes[dim]):
            raise ValueError(
                f"{name}: inputs and the values of later times differ in {dim!r}"
            )


def _list(labels: Iterable[Any]) -> str:
    return ", ".join(map(str, labels)) or "none"
