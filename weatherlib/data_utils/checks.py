"""Everything that keeps a dataset from suiting a model, found before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import xarray

from weatherlib.data_utils import (
    check_fields,
    check_grid,
    check_statistics,
    check_times,
    lexicon,
    problems,
    progress,
    times,
)
from weatherlib.task import TaskConfig

__all__ = ["check", "require"]

Problem = problems.Problem

# Missing over land by nature; models that read it fill the gaps themselves.
_NAN_BY_NATURE = ("sea_surface_temperature",)


def check(
    dataset: xarray.Dataset,
    task: TaskConfig,
    *,
    frames: int | None = None,
    truth: bool = False,
    statistics: Mapping[str, xarray.Dataset] | None = None,
    resolution: float | None = None,
    time_step: Any = None,
    nan_allowed: Collection[str] = _NAN_BY_NATURE,
) -> list[Problem]:
    """Returns everything in the data that does not suit the model.

    Variables and axes under a known other name are reported, and then checked as if
    they had ours, so that one look shows all there is to do.

    Args:
      dataset: What the user has. Not changed; its values are read once.
      task: Variables, levels and input duration of the model.
      frames: Frames that there must be; as many as the input takes, and one more with
        `truth`, if None.
      truth: Targets are needed to compare with, not only inputs.
      statistics: Normalisation by the names `mean_by_level`, `stddev_by_level` and
        `diffs_stddev_by_level`.
      resolution: Grid spacing of the model in degrees; 0 or None for any.
      time_step: Time step of the model; None for any.
      nan_allowed: Variables that may have NaN.

    Returns:
      Errors first, then notes. Empty where all is well.
    """
    names = lexicon.task_variables(task)
    view, renamed = lexicon.rename(dataset, names)
    step = None if time_step is None else times.as_timedelta(time_step)
    present = [name for name in names if name in view]
    computed = progress.COMPUTABLE_FORCINGS.intersection(names).difference(present)
    found = [
        *_check_names(renamed),
        *_check_batch(view),
        *check_grid.check_grid(view, resolution),
        *_check_levels(view, task, present),
        *check_times.check_times(
            view,
            task,
            frames=frames,
            truth=truth,
            time_step=step,
            needs_dates=bool(computed),
        ),
        *check_fields.check_missing(view, task, truth=truth),
    ]
    scans: dict[str, check_fields.Scan] = {}
    for name in present:
        is_input = name in task.input_variables or name in task.forcing_variables
        allowed = {name} if name in nan_allowed else ()
        found += _check_field(
            name,
            view[name],
            scans,
            nan_allowed=allowed,
            is_input=is_input,
            on_levels=bool(task.pressure_levels),
        )
    if statistics is not None:
        found += check_statistics.check_statistics(statistics, task, scans)
    return sorted(found, key=lambda problem: problem.severity)


def require(dataset: xarray.Dataset, task: TaskConfig, **options: Any) -> None:
    """Raises one error that lists all that keeps the model from working.

    Args:
      dataset: What the user has.
      task: Variables, levels and input duration of the model.
      **options: As for `check`.

    Raises:
      ValueError: The data has at least one problem that is more than a note.
    """
    errors = [p for p in check(dataset, task, **options) if p.severity == "error"]
    if not errors:
        return
    count = "1 problem" if len(errors) == 1 else f"{len(errors)} problems"
    lines = [f"the data does not suit the model, {count}:"]
    for problem in errors:
        lines.append(f"  - {problem.variable}: {problem.found}")
        lines.append(f"      fix: {problem.fix}")
    if any(problem.lossless for problem in errors):
        names = dict.fromkeys(p.variable for p in errors if p.lossless)
        lines.append(
            "weatherlib.data.conform(dataset, task) does this for: "
            f"{problems.listed(names)}"
        )
    raise ValueError("\n".join(lines))


def _check_names(renamed: Mapping[str, str]) -> Iterator[Problem]:
    """Yields a problem for each axis and variable under another name."""
    for ours, theirs in renamed.items():
        yield Problem(
            kind="name",
            variable=ours,
            found=f"called `{theirs}`",
            fix=f"rename it to `{ours}`",
            lossless=True,
        )


def _check_batch(dataset: xarray.Dataset) -> Iterator[Problem]:
    """Yields a problem where the data has no batch."""
    if "batch" not in dataset.dims:
        yield Problem(
            kind="dims",
            variable="batch",
            found="the dimension is missing",
            fix="give variables that change in time a leading dimension of length 1",
            lossless=True,
        )


def _check_levels(
    dataset: xarray.Dataset, task: TaskConfig, present: list[str]
) -> Iterator[Problem]:
    """Yields what is wrong with levels, where a variable of the task has them."""
    if any("level" in dataset[name].dims for name in present) or (
        "level" in dataset.coords and "level" not in dataset.dims
    ):
        yield from check_grid.check_levels(dataset, task)


def _check_field(
    name: str,
    array: xarray.DataArray,
    scans: dict[str, check_fields.Scan],
    *,
    nan_allowed: Collection[str],
    is_input: bool,
    on_levels: bool,
) -> Iterator[Problem]:
    """Yields what is wrong with one variable, and keeps what its values are like."""
    yield from check_fields.check_dims(name, array, on_levels=on_levels)
    kind = array.dtype.kind
    if kind in "iub" and {"scale_factor", "add_offset"} & set(array.attrs):
        yield Problem(
            kind="dtype",
            variable=name,
            found=f"packed as {array.dtype}",
            fix="open the file with mask_and_scale=True",
            lossless=True,
        )
        return
    if kind not in "iubf":
        yield Problem(
            kind="dtype",
            variable=name,
            found=f"holds {array.dtype}, expected float32",
            fix="convert the values to numbers",
        )
        return
    found = check_fields.scan(array)
    scans[name] = found
    yield from check_fields.check_units(name, array, found)
    yield from check_fields.check_values(
        name, array, found, nan_allowed=nan_allowed, is_input=is_input
    )
